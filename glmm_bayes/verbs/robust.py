"""Covariances of coefficients that hold where the model's own does not: by clusters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from glmm_bayes.data import labels
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.cluster_scores import cluster_scores
from glmm_bayes.modes.clusters import Cluster, check_apart, clusters, independent_rows
from glmm_bayes.modes.normal import is_marginally_normal, is_normal, read_normal
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.small_sample import JointTest, SmallSample, check_normal, of_mean, with_mean
from glmm_bayes.verbs.tables import vcov as model_vcov

KINDS = ("model", "CR0", "CR1", "CR2")
NONE = 1e-10  # of the largest: an eigenvalue that is zero but for rounding


def vcov(fit: ModeFit, kind: str = "model", *, cluster: str | None = None) -> pd.DataFrame:
    """
    Give the covariance of the coefficients, the model's or by how clusters differ.

    Parameters
    ----------
    kind
        `"model"`; or a sandwich, which holds where the distribution of the responses within
        clusters is not the model's, as long as clusters are independent: `"CR0"` of the residuals
        as they are, `"CR1"` times m / (m - 1) for m clusters, `"CR2"` adjusted so that it is
        unbiased where the model holds, which only normal responses have, with independent levels.
        Of others the slopes of each cluster's log likelihood, effects integrated out, stand for
        residuals.
    cluster
        The column that says which cluster a row is in, such as a group; by default rows that share
        a random effect are in one.

    Returns
    -------
    DataFrame
        `(k, k)`, as `Fit.vcov`; of normal responses, that of other parameters than the mean is
        the model's.

    Raises
    ------
    UnknownNameError
        If there is no such kind or column.
    DataError
        If clusters share random effects, or there are not more than coefficients.
    NotSupportedError
        If there is no such sandwich for the model or the method.

    Notes
    -----
    Liang & Zeger (1986), Biometrika 73, 13-22; Bell & McCaffrey (2002), Survey Methodology 28,
    169-181; in the form of Pustejovsky & Tipton (2018), J. Bus. Econ. Stat. 36, 672-683. Of other
    responses H^-1 (sum of s s') H^-1, with s the slopes by all parameters and H the curvature, of
    which the coefficients' part is given: White (1982), Econometrica 50, 1-25.
    """
    if kind not in KINDS:
        raise UnknownNameError(f"kind={kind!r} is not known. {suggestion(kind, KINDS)}")
    found = model_vcov(fit)
    if kind == "model":
        return found
    model = fit.model
    linear = is_normal(model) if kind == "CR2" else is_marginally_normal(model)
    if linear or model.design.residual is not None:
        covariance = with_mean(fit, sandwiched(fit, kind, cluster).covariance)
    else:
        covariance = by_scores(fit, kind, cluster)
    return pd.DataFrame(covariance, found.index, found.columns)


def by_scores(fit: ModeFit, kind: str, cluster: str | None) -> np.ndarray:
    """Give the sandwich `(K, K)` of all coefficients by the slopes of clusters' likelihoods."""
    if kind == "CR2":
        raise NotSupportedError(
            "The sandwich 'CR2' adjusts residuals of a linear model; of other responses there are "
            "kind='CR0' and 'CR1', and gb.bootstrap(fit, kind='cases') draws clusters."
        )
    label = _labels(fit, cluster)
    moved = moves_by_cluster(fit, label, cluster or "clusters")
    m, k = len(moved), fit.mode.coordinates.size
    if m <= k:
        raise DataError(f"There are {m} clusters for {k} parameters; a sandwich needs more.")
    return moved.T @ moved * (m / (m - 1) if kind == "CR1" else 1.0)


def moves_by_cluster(fit: ModeFit, label: np.ndarray, name: str) -> np.ndarray:
    """
    Give how far each cluster pulls the coefficients, `(c, K)`: the curvature's inverse by slopes.

    Raises
    ------
    DataError
        If clusters share random effects.
    NotSupportedError
        If the fit is not by 'ml', or has no proper maximum.
    """
    if fit.method != "ml" or not fit.mode.determined:
        raise NotSupportedError(
            f"Slopes by clusters are those of a maximum of the likelihood, not of a fit by "
            f"{fit.method!r} or of one without standard errors; use fit('ml')."
        )
    check_apart(independent_rows(fit.model), label, name)
    scores = cluster_scores(fit.mode, label, int(fit.options.get("nagq", 1)))
    idle = fit.mode.coordinates.idle(fit.mode.x)
    covariance = np.where(idle[:, None] | idle, 0.0, fit.mode.covariance)
    return fit.mode.coefficients_of(scores @ covariance)


@dataclass(frozen=True, eq=False)
class Sandwich:
    """
    A covariance by clusters, of the coefficients as they are.

    Attributes
    ----------
    covariance
        `(K, K)` of the mean's coefficients.
    spreads, reaches
        By cluster, `(k, k)` and `(k, k)`: X'V^-1 A V A' V^-1 X and X'A'V^-1 X, with A the
        adjustment, which say how the covariance itself varies.
    Phi, embed
        As in `NormalMode`.
    """

    covariance: np.ndarray
    spreads: np.ndarray
    reaches: np.ndarray
    Phi: np.ndarray
    embed: np.ndarray

    def df(self, L: np.ndarray) -> np.ndarray:
        """Give Satterthwaite's degrees of freedom of the variance of each row of L `(r, K)`."""
        weights = L @ self.embed @ self.Phi
        own = np.einsum("rj,cjk,rk->rc", weights, self.spreads, weights)
        across = np.einsum("rj,cjk->rck", weights, self.reaches)
        P = -np.einsum("rcj,jk,rdk->rcd", across, self.Phi, across)
        P[:, np.arange(P.shape[1]), np.arange(P.shape[1])] += own
        return np.trace(P, axis1=1, axis2=2) ** 2 / np.square(P).sum(axis=(1, 2))


def sandwiched(fit: ModeFit, kind: str, cluster: str | None) -> Sandwich:
    """Sum the clusters' parts."""
    check_normal(
        fit,
        f"The sandwich {kind!r}",
        "vcov(kind='CR1') is for other responses, and gb.bootstrap(fit, kind='cases') draws "
        "clusters instead",
    )
    normal = read_normal(fit.mode)
    label = _labels(fit, cluster)
    Phi = normal.sums.Phi
    scores, spreads, reaches = [], [], []
    for part in clusters(fit.mode, label, cluster or "clusters"):
        weighted = np.linalg.solve(part.V, part.X)
        adjusted = ADJUSTED[kind](part, Phi).T @ weighted
        scores.append(adjusted.T @ part.e)
        spreads.append(adjusted.T @ part.V @ adjusted)
        reaches.append(adjusted.T @ part.X)
    m = len(scores)
    if m <= len(Phi):
        raise DataError(
            f"There are {m} clusters for {len(Phi)} coefficients; a sandwich needs more of them."
        )
    meat = np.einsum("cj,ck->jk", scores, scores) * (m / (m - 1) if kind == "CR1" else 1.0)
    found = normal.embed @ Phi @ meat @ Phi @ normal.embed.T
    return Sandwich(found, np.stack(spreads), np.stack(reaches), Phi, normal.embed)


def _labels(fit: ModeFit, cluster: str | None) -> np.ndarray:
    if cluster is None:
        return independent_rows(fit.model)
    whole = fit.model.design.rows
    frame = pd.DataFrame(fit.model.data) if cluster not in whole.frame else whole.frame
    if cluster not in frame:
        raise UnknownNameError(
            f"There is no column {cluster!r} to cluster by. {suggestion(cluster, frame.columns)}"
        )
    column = frame[cluster] if cluster in whole.frame else frame[cluster].iloc[whole.kept]
    return np.unique(np.asarray(labels(column)[0]), return_inverse=True)[1]


def _as_it_is(part: Cluster, Phi: np.ndarray) -> np.ndarray:
    return np.eye(len(part.e))


def _unbiased(part: Cluster, Phi: np.ndarray) -> np.ndarray:
    """Give A `(m, m)`, with which residuals have the covariance V where the model holds."""
    D = np.linalg.cholesky(part.V).T
    B = D @ (part.V - part.X @ Phi @ part.X.T) @ D.T
    values, vectors = np.linalg.eigh(B)
    kept = values > NONE * values[-1]
    root = (vectors[:, kept] / np.sqrt(values[kept])) @ vectors[:, kept].T
    return D.T @ root @ D


ADJUSTED: Mapping[str, Callable[[Cluster, np.ndarray], np.ndarray]] = {
    "CR0": _as_it_is,
    "CR1": _as_it_is,
    "CR2": _unbiased,
}


def clustered(fit: ModeFit) -> SmallSample:
    """
    Test by the sandwich CR2 of clusters that share no random effect.

    Notes
    -----
    Bell & McCaffrey (2002); Pustejovsky & Tipton (2018), equation 12.
    """
    sandwich = sandwiched(fit, "CR2", None)

    def joint(L: np.ndarray) -> JointTest:
        if len(L) == 1:
            return JointTest(1.0, float(df(L)[0]))
        raise NotSupportedError(
            "ddf='CR2' tests one combination at a time; for several use ddf='kenward-roger'."
        )

    def df(L: np.ndarray) -> np.ndarray:
        return of_mean(fit, L, sandwich.df)

    return SmallSample(with_mean(fit, sandwich.covariance), df, joint)
