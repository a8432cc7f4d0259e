"""Read a table, fit, print the summary: what a user's first script does."""

import sys

import pandas as pd

import glmm_bayes as gb

data = pd.read_csv(sys.argv[1], dtype={"Subject": "str"})
print(gb.Model("Reaction ~ Days + (1 + Days | Subject)", data).fit("reml").summary())
