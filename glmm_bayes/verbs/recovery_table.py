"""From replicates to tables: bias, coverage and ranks, each with its simulation error."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd

from glmm_bayes.verbs.recovery_replicate import COLUMNS, LEVELS, Outcome

ALPHA = 0.01  # of what is said to depart, over all that is tested


def estimates_of(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """
    List what is known of every quantity in every replicate.

    Returns
    -------
    DataFrame
        `replicate, parameter`, then `COLUMNS`; NaN where a fit failed or says nothing.
    """
    columns = ["replicate", "parameter", *COLUMNS]
    if not outcomes:
        return pd.DataFrame(columns=columns)
    labels = [(o.k, name) for o in outcomes for name in o.names]
    numbers = pd.DataFrame(np.vstack([o.numbers for o in outcomes]), columns=list(COLUMNS))
    return pd.concat([pd.DataFrame(labels, columns=columns[:2]), numbers], axis=1)


def replicates_of(outcomes: Sequence[Outcome]) -> pd.DataFrame:
    """List what became of every replicate; its `words` are sentences, one a line."""
    rows = [(o.k, o.status, "\n".join(o.words), o.elapsed) for o in outcomes]
    columns = ["replicate", "status", "words", "elapsed"]
    return pd.DataFrame(rows, columns=columns).set_index("replicate")


def table_of(estimates: pd.DataFrame) -> pd.DataFrame:
    """
    Summarise the replicates of every quantity.

    Returns
    -------
    DataFrame
        One row a `parameter`. `n` estimates; `bias`, the mean of estimate less truth, with
        `bias_se`; `rmse`; `se_ratio`, the fits' standard errors (root mean square) over it; `z`,
        the mean of estimate less truth in the fit's own standard errors; `intervals`, how many
        fits had them; `coverage_50`, `coverage_50_se` and so on, the shares that held the truth.
        Where truths have ranks among draws: `ranks`, how many; `deviation`, the largest distance
        of their distribution function from the uniform one; `p_value` of the test that they are
        uniform. Of an exact posterior, truths drawn from the prior, bias and z are 0 but for
        chance, and `se_ratio` is 1.

    Notes
    -----
    Standard errors are those of the simulation. Of a share k of n it is the standard deviation
    of Beta(k + 1/2, n - k + 1/2), Jeffreys's posterior: Brown, Cai & DasGupta (2001), Statistical
    Science 16, 101-133. The test is ArviZ's `pot_c`: Tesso et al. (2026), arXiv:2603.02928.
    """
    known = estimates[estimates["estimate"].notna()]
    rows = {name: _row(part) for name, part in known.groupby("parameter", sort=False)}
    found = pd.DataFrame.from_dict(rows, orient="index").rename_axis("parameter")
    counts = [name for name in ("n", "intervals", "ranks") if name in found]
    return found.astype(dict.fromkeys(counts, int))


def _row(part: pd.DataFrame) -> dict[str, float]:
    error = (part["estimate"] - part["truth"]).to_numpy()
    n = len(error)
    spread, rmse = part["std_error"].to_numpy(), float(np.sqrt(np.mean(error**2)))
    z = error[spread > 0] / spread[spread > 0]
    inside = part[part["lower_95"].notna()]
    row = {
        "n": n,
        "bias": error.mean(),
        "bias_se": _sd(error) / np.sqrt(n),
        "rmse": rmse,
        "se_ratio": np.sqrt(np.nanmean(spread**2)) / rmse if len(z) else np.nan,
        "z": z.mean() if len(z) else np.nan,
        "intervals": len(inside),
    }
    for level in LEVELS:
        name = f"{100 * level:.0f}"
        share = covered(inside, level)
        row[f"coverage_{name}"] = share.mean() if len(share) else np.nan
        row[f"coverage_{name}_se"] = _share_error(int(share.sum()), len(share))
    pit = part["pit"].dropna().to_numpy()
    if len(pit):
        row |= {"ranks": len(pit), "deviation": _deviation(pit), "p_value": uniformity(pit)}
    return row


def covered(part: pd.DataFrame, level: float) -> np.ndarray:
    """Tell which intervals hold the truth."""
    lower, upper = (part[f"{end}_{100 * level:.0f}"] for end in ("lower", "upper"))
    return ((lower <= part["truth"]) & (part["truth"] <= upper)).to_numpy()


def _sd(values: np.ndarray) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else np.nan


def _share_error(k: int, n: int) -> float:
    a, b = k + 0.5, n - k + 0.5
    return float(np.sqrt(a * b / (a + b + 1)) / (a + b)) if n else np.nan


def _deviation(pit: np.ndarray) -> float:
    ordered, n = np.sort(pit), len(pit)
    above = np.arange(1, n + 1) / n - ordered
    return float(max(above.max(), 1 / n - above.min()))


def uniformity(pit: np.ndarray) -> float:
    """Give the p-value of the test that numbers on (0, 1) are uniform, by ArviZ."""
    from arviz_stats.base import array_stats

    return float(array_stats.uniformity_test(pit)[0])


# ---- what departs from what it should be


def not_uniform(table: pd.DataFrame) -> pd.Series:
    """Give the adjusted p-values of the ranks that are not uniform."""
    p = holm(table["p_value"].dropna())
    return p[p < ALPHA]


def miscovered(table: pd.DataFrame) -> Iterator[tuple[str, float, float]]:
    """Give quantity, level and share of the intervals that hold the truth too rarely or often."""
    from scipy.stats import binomtest

    tested = []
    for level in LEVELS:
        shares = table[[f"coverage_{100 * level:.0f}", "intervals"]]
        tested += [
            (str(name), level, float(share), int(n)) for name, share, n in shares.itertuples() if n
        ]
    p = [binomtest(round(share * n), n, level).pvalue for _, level, share, n in tested]
    for (name, level, share, _), adjusted in zip(tested, holm(pd.Series(p)), strict=True):
        if adjusted < ALPHA:
            yield name, level, share


def holm(p: pd.Series) -> pd.Series:
    """
    Adjust p-values for their number, after Holm (1979), Scandinavian J. of Statistics 6, 65-70.

    Examples
    --------
    >>> holm(pd.Series([0.01, 0.04, 0.03], index=["a", "b", "c"])).to_dict()
    {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    ordered = p.sort_values(kind="stable")
    steps = ordered * np.arange(len(p), 0, -1)
    return steps.cummax().clip(upper=1.0).reindex(p.index)
