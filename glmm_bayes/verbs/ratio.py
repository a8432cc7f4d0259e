"""The likelihood ratio of two fits, against chi-squared, its mixtures at an edge, and drawn."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import chi2

from glmm_bayes.engine.cones import cone_gains
from glmm_bayes.engine.directions import Direction
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.fit import ModeFit
from glmm_bayes.inference.checks import check_counts
from glmm_bayes.modes.normal import is_marginally_normal, read_sums, span
from glmm_bayes.verbs.bootstrap_test import compare_by_bootstrap
from glmm_bayes.verbs.compare import check_restricted
from glmm_bayes.verbs.nested import Place, places
from glmm_bayes.verbs.profile import of_likelihood

DRAWS = 5000
REPLICATES = 1000
FALLEN = 1e-4  # of log likelihood: by so much the larger may end below the smaller


def ratio_test(larger: ModeFit, smaller: ModeFit, *, nsim: int | None, seed: int) -> pd.DataFrame:
    """Compare twice the difference in log likelihood with what it is under the smaller model."""
    check_counts(1, nsim=DRAWS if nsim is None else nsim)
    statistic = checked_statistic(larger, smaller)
    found = places(larger.model, smaller.model)
    null = _null(larger, smaller, found, DRAWS if nsim is None else nsim, seed)
    p, error = null.p_value(statistic)
    columns = {"df": [np.nan, null.df], "p_value": [np.nan, p]}
    if np.isfinite(error):
        columns["mc_error"] = [np.nan, error]
    table = pair_table(larger, smaller, statistic).assign(**columns)
    table.attrs["notes"] = [null.words]
    return table


def pair_table(larger: ModeFit, smaller: ModeFit, statistic: float) -> pd.DataFrame:
    """Put both fits' `parameters, loglik` and the ratio's `statistic` side by side."""
    return pd.DataFrame(
        {
            "parameters": [smaller.df, larger.df],
            "loglik": [smaller.loglik, larger.loglik],
            "statistic": [np.nan, statistic],
        },
        index=pd.Index(["smaller", "larger"], name="model"),
    )


def checked_statistic(larger: ModeFit, smaller: ModeFit) -> float:
    """Give twice the difference in log likelihood, if the two can be compared."""
    named = {"the larger fit": larger, "the smaller": smaller}
    check_restricted(named, *named)
    gap = larger.loglik - smaller.loglik
    if gap < -FALLEN:
        raise DataError(
            f"The larger model has the lower log likelihood, by {-gap:.3g}: its search ended below "
            f"the maximum; look at fit.diagnostics() of both."
        )
    return 2 * max(gap, 0.0)


@dataclass(frozen=True, eq=False)
class _Null:
    """
    The ratio's distribution under the smaller model.

    Attributes
    ----------
    df
        The parameters that it lacks.
    p_value
        From a ratio to the probability of as much or more, and its Monte Carlo error, NaN if exact.
    words
        What the distribution is.
    """

    df: int
    p_value: Callable[[float], tuple[float, float]]
    words: str


def _null(larger: ModeFit, smaller: ModeFit, found: list[Place], draws: int, seed: int) -> _Null:
    """Find the ratio's distribution under the smaller model."""
    df = larger.df - smaller.df
    cones = [_cones(place) for place in found]
    count = sum(len(own) for own in cones)
    if not count:
        return _Null(df, lambda t: (_tail(t, df), np.nan), f"chi-squared, {df} df.")
    if count == 1 and all(len(entries) == 1 for own in cones for entries in own):
        words = f"A variance is zero in the smaller model: 1/2 chi-squared({df - 1}) + 1/2 ({df})."
        return _Null(df, lambda t: (0.5 * _tail(t, df - 1) + 0.5 * _tail(t, df), np.nan), words)
    rng = np.random.default_rng(seed)
    u, precision = _at_edge(larger, smaller, found, draws, rng)
    sizes = [_size(len(entries)) for own in cones for entries in own]
    gains = cone_gains(u, precision, sizes)
    beside = rng.chisquare(df - u.shape[1], size=draws) if df > u.shape[1] else 0.0
    # How far a normal vector is from the tip says nothing of its direction, and is integrated out.
    share = (gains + beside) / (np.einsum("si,ij,sj->s", u, precision, u) + beside)

    def p_value(t: float) -> tuple[float, float]:
        with np.errstate(divide="ignore"):
            tails = np.where(share > 0, chi2.sf(t / share, df), float(t <= 0))
        return float(tails.mean()), float(tails.std(ddof=1) / np.sqrt(draws))

    edges = ", ".join(place.term.text for place in found if len(place.open))
    words = (
        f"In the smaller model variances of {edges} are zero, at the edge of the larger: the null "
        f"distribution is drawn, {draws} times, by projection on the cone of covariances."
    )
    return _Null(df, p_value, words)


def _tail(statistic: float, df: int) -> float:
    """Give the probability of chi-squared of as much or more; of 0 df it is zero itself."""
    return float(chi2.sf(statistic, df)) if df else float(statistic <= 0)


def _size(entries: int) -> int:
    return round((np.sqrt(8 * entries + 1) - 1) / 2)


def _cones(place: Place) -> list[list[np.ndarray]]:
    """
    List, by cone, what is zero in the smaller model and lies in it: weights `(p, p)` of entries.

    A cone's are those of the lower triangle of a matrix that is positive semidefinite.
    """
    at, p = [int(k) for k in place.open], place.term.size
    between = place.term.level_structure
    if at and between.parameters(len(place.term.levels)):
        raise _undescribed(
            f"what is between the levels of {place.term.text!r} means nothing without a variance"
        )

    def entry(a: int, b: int) -> np.ndarray:
        return np.outer(np.eye(p)[a], np.eye(p)[b])

    if len(at) <= 1:
        return [[entry(k, k)] for k in at]
    images = np.stack([part[np.ix_(at, at)] for part in _basis(place)])
    rank = np.linalg.matrix_rank(images.reshape(len(images), -1), tol=1e-8)
    if rank == len(at) * (len(at) + 1) // 2:
        return [[entry(a, b) for i, a in enumerate(at) for b in at[: i + 1]]]
    spaces = _eigenspaces(images)
    if spaces is None or len(spaces) != rank:
        raise _undescribed(f"the covariances of {place.term.text!r} are no cone that is built")
    found = []
    for P in spaces:
        weights = np.zeros((p, p))
        weights[np.ix_(at, at)] = P / np.trace(P)
        found.append([weights])
    return found


def _eigenspaces(images: np.ndarray) -> list[np.ndarray] | None:
    """
    Give projections on the eigenspaces that all matrices `(m, d, d)` share; None if they do not.

    Where there are as many as dimensions, each space's eigenvalue is a variance of its own, as
    those of the mean and of what is left of it in `homcs`.
    """
    mixed = np.tensordot(np.random.default_rng(0).uniform(1, 2, len(images)), images, axes=1)
    values, vectors = np.linalg.eigh(mixed)
    parts = np.split(np.arange(len(values)), np.flatnonzero(np.diff(values) > 1e-6) + 1)
    spaces = [vectors[:, own] @ vectors[:, own].T for own in parts]
    for image in images:
        rest = image - sum(np.sum(P * image) / np.trace(P) * P for P in spaces)
        if np.abs(rest).max() > 1e-8:
            return None
    return spaces


def _basis(place: Place) -> list[np.ndarray]:
    term = place.term
    basis = span(term, sum(p.size for p in term.structure.parameters(term.size)))
    if basis is None:
        raise _undescribed(f"the covariances of {term.text!r} are not linear in parameters")
    return basis


def _undescribed(why: str) -> NotSupportedError:
    return NotSupportedError(
        f"The ratio's distribution where the smaller model is at the edge is not known: {why}; "
        f"use test='bootstrap'."
    )


def _at_edge(
    larger: ModeFit, smaller: ModeFit, found: list[Place], draws: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """
    Draw the covariances that are zero in the smaller model as they are estimated without bounds.

    Returns
    -------
    u
        `(draws, c)` normal, the lower triangles of the cones' matrices.
    precision
        `(c, c)` of u, from the information at the smaller fit.
    """
    if not is_marginally_normal(larger.model):
        raise _undescribed("several variances are zero, and the response is not normal")
    if larger.model.constants != smaller.model.constants or "sigma" not in larger.model.constants:
        raise _undescribed("several variances are zero, and sigma has a formula")
    c0, x0 = smaller.mode.coordinates, smaller.mode.x
    covariances = [L @ L.T for L in c0.Lambdas(x0)]
    Gs = [place.covariance(covariances) for place in found]
    x = larger.mode.x.copy()
    x[larger.mode.coordinates.coefficients[1]] = x0[c0.coefficients[1]]
    sums = read_sums(larger.mode.coordinates, x, Gs)
    none = [np.zeros_like(G) for G in Gs]
    # Sigma squared's direction: what V has beside the terms.
    directions = [Direction(1.0, [-G for G in Gs])]
    rows: list[np.ndarray] = []
    basis = [(t, part) for t, place in enumerate(found) for part in _basis(place)]
    directions += [
        Direction(0.0, [part if s == t else z for s, z in enumerate(none)]) for t, part in basis
    ]
    restricted = larger.method == "reml"
    cross = sums.restricted_cross if restricted else sums.trace_cross
    information = 0.5 * np.array([[cross(i, j) for j in directions] for i in directions])
    covariance = np.linalg.inv(information)
    for t, place in enumerate(found):
        for weights in (weights for cone in _cones(place) for weights in cone):
            own = [float(np.sum(weights * part)) if s == t else 0.0 for s, part in basis]
            rows.append(np.array([0.0, *own]))
    A = np.stack(rows)
    spread = A @ covariance @ A.T
    u = rng.multivariate_normal(np.zeros(len(A)), spread, size=draws, method="cholesky")
    return u, np.linalg.inv(spread)


def bootstrap_test(
    larger: ModeFit, smaller: ModeFit, *, nsim: int | None, seed: int
) -> pd.DataFrame:
    """Compare the ratio with those of responses drawn from the smaller fit: by likelihood."""
    larger, smaller = of_likelihood(larger), of_likelihood(smaller)
    count = REPLICATES if nsim is None else nsim
    found = compare_by_bootstrap(larger, smaller, count, seed=seed)
    tests, used = found.table["p_value"], int(found.statistics.notna().sum())
    table = pair_table(larger, smaller, float(found.table["statistic"].loc["PBtest"])).assign(
        df=[np.nan, larger.df - smaller.df],
        p_value=[np.nan, tests["PBtest"]],
        mc_error=[np.nan, found.std_error],
    )
    others = ", ".join(f"{name} {tests[name]:.4g}" for name in ("LRT", "Bartlett", "Gamma", "F"))
    table.attrs["notes"] = [f"By {used} responses drawn from the smaller fit; else {others}."]
    return table
