"""Covariances of coefficients that hold where the model's own does not: by clusters."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from glmm_bayes.data import labels
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.cluster_scores import Alone
from glmm_bayes.modes.clusters import Cluster, check_apart, clusters, independent_rows
from glmm_bayes.modes.normal import embedding, is_linear
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.sandwich import Sandwich
from glmm_bayes.verbs.small_sample import JointTest, SmallSample, of_mean, with_mean
from glmm_bayes.verbs.tables import vcov as model_vcov

KINDS = ("model", "CR0", "CR1", "CR2")
NONE = 1e-10  # of the largest: an eigenvalue that is zero but for rounding
LEAST = 0.25  # of what is left of a cluster's share in a direction: what is less is as unsure


def vcov(fit: ModeFit, kind: str = "model", *, cluster: str | None = None) -> pd.DataFrame:
    """
    Give the covariance of the coefficients, the model's or by how clusters differ.

    Parameters
    ----------
    kind
        `"model"`; or a sandwich, which holds where the distribution of the responses within
        clusters is not the model's, as long as clusters are independent: `"CR0"` of the residuals
        as they are, `"CR1"` times m / (m - 1) for m clusters, `"CR2"` adjusted so that it is
        unbiased where the model holds. Of responses that are not normal the slopes of each
        cluster's log likelihood, effects integrated out, stand for residuals, and `"CR2"` is
        unbiased as far as the estimates are linear in them.
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
        If there is no such sandwich for the method, or clusters are too large.

    Notes
    -----
    Liang & Zeger (1986), Biometrika 73, 13-22; Bell & McCaffrey (2002), Survey Methodology 28,
    169-181; in the form of Pustejovsky & Tipton (2018), J. Bus. Econ. Stat. 36, 672-683. Of other
    responses H^-1 (sum of s s') H^-1, with s the slopes by all parameters and H the curvature, of
    which the coefficients' part is given: White (1982), Econometrica 50, 1-25; for `"CR2"` see
    `by_scores`.
    """
    if kind not in KINDS:
        raise UnknownNameError(f"kind={kind!r} is not known. {suggestion(kind, KINDS)}")
    found = model_vcov(fit)
    if kind == "model":
        return found
    sandwich = sandwich_of(fit, kind, cluster).covariance
    whole = len(sandwich) == len(found)
    covariance = sandwich if whole else with_mean(fit, sandwich)
    return pd.DataFrame(covariance, found.index, found.columns)


def sandwich_of(fit: ModeFit, kind: str, cluster: str | None) -> Sandwich:
    """Give the sandwich of a fit: of the mean's coefficients if linear, else of all."""
    if is_linear(fit.model) and fit.method in ("ml", "reml"):
        return by_residuals(fit, kind, cluster)
    return by_scores(fit, kind, cluster)


def by_scores(fit: ModeFit, kind: str, cluster: str | None) -> Sandwich:
    """
    Give the sandwich of all coefficients by the slopes of the clusters' likelihoods.

    Notes
    -----
    The clusters' slopes s are turned so that their sum has the covariance I: with h what a
    cluster's curvature is there, `"CR2"` takes (I - h)^-1/2 s. Its square has the expectation h,
    as it should, to the order that leaves the estimate's error linear. 1 - h is not taken for
    smaller than 1/4. Fay & Graubard (2001), Biometrics 57, 1198-1206; Kauermann & Carroll (2001),
    J. Am. Stat. Assoc. 96, 1387-1396.
    """
    label = cluster_labels(fit, cluster)
    alone = _alone(fit, label, cluster or "clusters")
    root, embed = _turned(fit)
    d, m = root.shape[1], int(label.max()) + 1
    check_enough(m, d, "parameters")
    scores = alone.scores() @ root
    shares = np.zeros((m, d, d))
    if kind == "CR2":
        shares = root.T @ alone.curvatures() @ root
    values, vectors = np.linalg.eigh(0.5 * (shares + np.swapaxes(shares, 1, 2)))
    adjustment = (vectors / np.sqrt(np.maximum(1 - values, LEAST))[:, None]) @ np.swapaxes(
        vectors, 1, 2
    )
    moved = np.einsum("cjk,ck->cj", adjustment, scores) @ embed.T
    reaches = adjustment @ shares
    covariance = moved.T @ moved * (m / (m - 1) if kind == "CR1" else 1.0)
    return Sandwich(covariance, reaches @ adjustment, reaches, np.eye(d), embed)


def _turned(fit: ModeFit) -> tuple[np.ndarray, np.ndarray]:
    """
    Give a root `(m, d)` of the estimates' covariance, and its coefficients' part `(K, d)`.

    What is at an edge has no part in it.
    """
    mode = fit.mode
    free = ~mode.coordinates.idle(mode.x)
    root = np.zeros((len(free), int(free.sum())))
    root[free] = np.linalg.cholesky(mode.covariance[np.ix_(free, free)])
    return root, mode.coefficients_of(root.T).T


def _alone(fit: ModeFit, label: np.ndarray, name: str) -> Alone:
    """
    Read the clusters' likelihoods.

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
    return Alone(fit.mode, label, int(fit.options.get("nagq", 1)))


def moves_by_cluster(fit: ModeFit, label: np.ndarray, name: str) -> np.ndarray:
    """
    Give how far each cluster pulls the coefficients, `(c, K)`: the curvature's inverse by slopes.

    Errors are those of `_alone`.
    """
    alone = _alone(fit, label, name)
    root, embed = _turned(fit)
    found: np.ndarray = alone.scores() @ root @ embed.T
    return found


def by_residuals(fit: ModeFit, kind: str, cluster: str | None) -> Sandwich:
    """Give the sandwich of the mean's coefficients of a normal response."""
    label = cluster_labels(fit, cluster)
    parts = list(clusters(fit.mode, label, cluster or "clusters"))
    m, k = len(parts), parts[0].X.shape[1]
    check_enough(m, k, "coefficients")
    Phi = least_squares(parts)
    scores, spreads, reaches = [], [], []
    for part in parts:
        weighted = np.linalg.solve(part.V, part.X)
        adjusted = ADJUSTED[kind](part, Phi).T @ weighted
        scores.append(adjusted.T @ part.e)
        spreads.append(adjusted.T @ part.V @ adjusted)
        reaches.append(adjusted.T @ part.X)
    embed = embedding(fit.mode.coordinates)
    meat = np.einsum("cj,ck->jk", scores, scores) * (m / (m - 1) if kind == "CR1" else 1.0)
    covariance = embed @ Phi @ meat @ Phi @ embed.T
    return Sandwich(covariance, np.stack(spreads), np.stack(reaches), Phi, embed)


def least_squares(parts: Sequence[Cluster]) -> np.ndarray:
    """Give the covariance `(k, k)` of the coefficients of centred columns, (X'V^-1 X)^-1."""
    total = sum(part.X.T @ np.linalg.solve(part.V, part.X) for part in parts)
    return np.linalg.inv(total)


def check_enough(m: int, k: int, of: str) -> None:
    """Refuse a sandwich of no more clusters than it has to tell."""
    if m == 1:
        raise DataError(
            "All rows share random effects, some by way of others, as with crossed groups or one "
            "process: that is one cluster, and a sandwich compares many; use kind='model'."
        )
    if m <= k:
        raise DataError(f"There are {m} clusters for {k} {of}; a sandwich needs more of them.")


def cluster_labels(fit: ModeFit, cluster: str | None) -> np.ndarray:
    """Give the number of every row's cluster `(n,)`, from 0."""
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
    See `Sandwich`; of other responses than normal ones with the slopes of clusters' likelihoods
    in the place of residuals.
    """
    sandwich = sandwich_of(fit, "CR2", None)
    k = len(sandwich.covariance)
    if k == len(fit.coefficient_covariance()):
        return SmallSample(sandwich.covariance, sandwich.df, sandwich.joint)

    def joint(L: np.ndarray) -> JointTest:
        return sandwich.joint(L[:, :k])

    def df(L: np.ndarray) -> np.ndarray:
        return of_mean(fit, L, sandwich.df)

    return SmallSample(with_mean(fit, sandwich.covariance), df, joint)
