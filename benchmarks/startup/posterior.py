"""Read a table, draw from the posterior, print the summary."""

import sys

import pandas as pd

import glmm_bayes as gb

data = pd.read_csv(sys.argv[1], dtype={"Subject": "str"})
model = gb.Model("Reaction ~ Days + (1 + Days | Subject)", data)
print(model.fit("posthoc", seed=1, progressbar=False).summary())
