"""
Coverage of intervals where groups are few or responses binary: the numbers of `which_interval.md`.

`python docs/interval_study.py [DATA_SETS [KEPT]]` simulates, fits and writes
`_static/intervals.csv`: how many intervals there were, how many held the truth, how many the truth
was below and above, how many were not there, and the median width where it is finite. The intervals
themselves are kept in the file KEPT as they come; called again, it goes on with those of KEPT.
"""

import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

import glmm_bayes as gb

FILE = Path(__file__).parent / "_static" / "intervals.csv"
KEPT = Path(__file__).parent / "_build" / "intervals.csv"
LEVEL = 0.95
NSIM = 499  # bootstrap replicates of each data set
POSTERIORS = 130  # of the first so many data sets, as they take longer than all else together
KEYS = ["case", "method", "parameter"]
COLUMNS = [*KEYS, "number", "lower", "upper", "truth"]

# Name, groups, rows a group, family, truth of the coefficients and of the standard deviation.
CASES = {
    "6 groups, normal": (6, 5, "gaussian", 0.0, 0.5, 1.0),
    "20 groups, normal": (20, 5, "gaussian", 0.0, 0.5, 1.0),
    "10 groups, yes or no": (10, 8, "bernoulli", 0.0, 0.7, 1.0),
    "40 groups, yes or no": (40, 8, "bernoulli", 0.0, 0.7, 1.0),
}

# By family, the methods for degrees of freedom that there are.
DDF = {
    "gaussian": {"t, Satterthwaite": "satterthwaite", "t, Kenward-Roger": "kenward-roger"},
    "bernoulli": {"t, inner-outer": "inner-outer"},
}


def simulated(case: str, rng: np.random.Generator) -> tuple[pd.DataFrame, dict[str, float]]:
    """Draw a table with a predictor that differs within groups, z, and one between them, w."""
    q, m, family, intercept, slope, sd = CASES[case]
    g = np.repeat(np.arange(q), m)
    z, w = rng.normal(size=q * m), (np.arange(q) % 2)[g] - 0.5
    eta = intercept + slope * z + slope * w + sd * rng.normal(size=q)[g]
    y = (
        eta + rng.normal(size=q * m)
        if family == "gaussian"
        else rng.uniform(size=q * m) < expit(eta)
    )
    data = pd.DataFrame({"y": y.astype(float), "z": z, "w": w, "g": [f"g{k:02d}" for k in g]})
    return data, {"z": slope, "w": slope, "sd_g[Intercept]": sd}


def expit(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def intervals(case: str, data: pd.DataFrame, seed: int) -> Iterator[tuple[str, pd.DataFrame]]:
    """Give each method's table of intervals, as far as it has one."""
    family = CASES[case][2]
    model = gb.Model("y ~ z + w + (1 | g)", data, family)
    fit = model.fit("reml" if family == "gaussian" else "ml", seed=seed)
    names = ["z", "w", "sd_g[Intercept]"]
    yield "Wald", fit.confint(level=LEVEL, parm=names)
    yield "profile", fit.confint(method="profile", level=LEVEL, parm=names)
    found = gb.bootstrap(fit, n=NSIM, seed=seed, n_jobs=1, progressbar=False)
    yield "bootstrap, percentile", found.confint(level=LEVEL, parm=names)
    yield "bootstrap, BCa", found.confint(level=LEVEL, parm=names, interval="bca")
    # Degrees of freedom are the coefficients'; a standard deviation has none.
    for name, ddf in DDF[family].items():
        yield name, fit.ttest(ddf, level=LEVEL)
    if seed >= POSTERIORS:
        return
    posterior = model.fit("nuts", seed=seed, cores=1, progressbar=False)
    fixed = posterior.fixef(level=LEVEL).loc[["z", "w"], ["lower", "upper"]]
    spread = posterior.varcorr(level=LEVEL)[["lower", "upper"]].iloc[:1].set_axis(names[2:])
    yield "posterior", pd.concat([fixed, spread])


def study(case: str, number: int) -> pd.DataFrame:
    """Judge one data set's intervals; those that are not there count as misses."""
    rng = np.random.default_rng([number, list(CASES).index(case)])
    data, truth = simulated(case, rng)
    rows = []
    for method, ends in intervals(case, data, number):
        for name, value in truth.items():
            if name in ends.index:
                lower, upper = ends.loc[name, "lower"], ends.loc[name, "upper"]
                rows.append((case, method, name, number, lower, upper, value))
    return pd.DataFrame(rows, columns=COLUMNS)


def summary(found: pd.DataFrame) -> pd.DataFrame:
    """Count, by case, method and parameter."""
    found = found.assign(
        held=(found["lower"] <= found["truth"]) & (found["truth"] <= found["upper"]),
        below=found["truth"] < found["lower"],
        above=found["truth"] > found["upper"],
        missing=found["lower"].isna() | found["upper"].isna(),
        width=(found["upper"] - found["lower"]).where(np.isfinite(found["upper"])),
    )
    groups = found.groupby(KEYS, sort=False)
    table = groups[["held", "below", "above", "missing"]].sum()
    table.insert(0, "sets", groups.size())
    return table.assign(width=groups["width"].median().round(3))


def studied(number: int) -> pd.DataFrame:
    """Judge every case's data set of one number."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pd.concat([study(case, number) for case in CASES])


def main(data_sets: int, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    kept = pd.read_csv(path) if path.exists() else pd.DataFrame(columns=COLUMNS)
    done = set(kept["number"])
    for number in range(data_sets):
        if number not in done:
            studied(number).to_csv(path, mode="a", header=not path.exists(), index=False)
            print(number, flush=True)
    kept = pd.read_csv(path)
    summary(kept[kept["number"] < data_sets].sort_values("number", kind="stable")).to_csv(FILE)


if __name__ == "__main__":
    asked = sys.argv[1:]
    main(int(asked[0]) if asked else 500, Path(asked[1]) if len(asked) > 1 else KEPT)
