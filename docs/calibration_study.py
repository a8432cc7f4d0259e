"""
Ranks of the truth among draws around the mode: the numbers of `recovery.md`.

`python docs/calibration_study.py [REPLICATES [FOLDER]]` draws parameters from the prior, responses
given these, and the posterior given the responses, for every family and every kind of random
effects below, and writes `_static/calibration.csv`: how often each rank was found, p-values of
uniform ranks, and how many 95% intervals held the truth. Replicates are kept in the folder as they
come; called again, it goes on with those that are there.
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import glmm_bayes as gb

FILE = Path(__file__).parent / "_static" / "calibration.csv"
FOLDER = Path(__file__).parent / "_build" / "calibration"
BINS = 20  # of the ranks among 99 draws

TERMS = {
    "intercepts": "(1 | g)",
    "slopes": "(1 + x | g)",
    "crossed": "(1 | g) + (1 | h)",
}
PRIORS = {
    "intercept": gb.Prior("Normal", mu=0.5, sigma=0.7),
    "beta[x]": gb.Prior("Normal", mu=0, sigma=0.7),
    "sd": gb.Prior("HalfNormal", sigma=0.7),
}
OWN = {
    "gaussian": {"sigma": gb.Prior("LogNormal", mu=0.0, sigma=0.4)},
    "bernoulli": {},
    "binomial": {},
    "poisson": {},
    "negbinomial": {"alpha": gb.Prior("LogNormal", mu=1.0, sigma=0.4)},
    "gamma": {"alpha": gb.Prior("LogNormal", mu=1.0, sigma=0.4)},
}


def model_of(family: str, terms: str) -> gb.Model:
    """Make a model of 64 rows: 8 levels of g, 6 of h, and a predictor that differs within both."""
    g, h = np.divmod(np.arange(64), 8)
    x = np.tile(np.linspace(-1, 1, 8), 8)
    data = pd.DataFrame({"g": g, "h": (h + g) % 6, "x": x, "n": 6, "y": 1 + (g + h) % 2})
    response = "y | trials(n)" if family == "binomial" else "y"
    if family == "bernoulli":
        data["y"] -= 1
    link = {"mu": "log"} if family == "gamma" else None
    formula = f"{response} ~ x + {TERMS[terms]}"
    return gb.Model(formula, data, family, link=link, priors=PRIORS | OWN[family])


def checked(family: str, terms: str, replicates: int, path: Path) -> Any:
    """Draw the truths, fit, and rank."""
    return gb.check_recovery(
        model_of(family, terms), replicates, method="posthoc", seed=1, draws=250, path=path,
        n_jobs=1, progressbar=False,
    )  # fmt: skip


def rows(family: str, terms: str, check: Any) -> Iterator[dict[str, Any]]:
    """Give a row a quantity."""
    status = check.replicates["status"].value_counts()
    for quantity, own in check.estimates.groupby("parameter", sort=False):
        edges = np.linspace(0, 1, BINS + 1)
        found = own["pit"].dropna()
        counts = np.histogram(found, edges)[0]
        held = ((own["lower_95"] <= own["truth"]) & (own["truth"] <= own["upper_95"])).sum()
        yield {
            "family": family,
            "effects": terms,
            "quantity": quantity,
            "n": len(found),
            "doubtful": int(status.get("doubtful", 0)),
            "failed": int(status.get("failed", 0)),
            "p_value": check.table.loc[quantity, "p_value"],
            "held_95": int(held),
            **{f"rank_{k:02d}": int(count) for k, count in enumerate(counts)},
        }


def main(replicates: int, folder: Path) -> None:
    """Check all pairs, and write the file as far as it goes."""
    folder.mkdir(parents=True, exist_ok=True)
    table: list[dict[str, Any]] = []
    for family in OWN:
        for terms in TERMS:
            check = checked(family, terms, replicates, folder / f"{family}-{terms}.jsonl")
            table += rows(family, terms, check)
            pd.DataFrame(table).to_csv(FILE, index=False, float_format="%.4g")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asked = sys.argv[1:]
    main(int(asked[0]) if asked else 500, Path(asked[1]) if len(asked) > 1 else FOLDER)
