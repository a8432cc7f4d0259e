"""Choose how NUTS sees a term's effects: as they are, or as standard normals times their scale."""

from collections.abc import Mapping

import numpy as np

from glmm_bayes.design import Design
from glmm_bayes.errors import UnknownNameError
from glmm_bayes.families import Family, Link
from glmm_bayes.registry import suggestion
from glmm_bayes.terms import RandomTerm

CHOICES = ("auto", "centered", "noncentered")
# Times the prior's: below it the effects' scale and the effects are all but independent a priori.
ENOUGH_INFORMATION = 2.0


def resolve_centering(
    family: Family, links: Mapping[str, Link], design: Design, asked: str | Mapping[str, str]
) -> dict[str, bool]:
    """
    Decide for each term, by name, whether its effects are centred.

    Raises
    ------
    UnknownNameError
        If a choice or a term is not known.
    """
    names = [term.name for term in design.terms]
    if not isinstance(asked, Mapping) and asked not in CHOICES:
        raise UnknownNameError(
            f"centering={asked!r} is not known. {suggestion(str(asked), CHOICES)}"
        )
    chosen = asked if isinstance(asked, Mapping) else dict.fromkeys(names, asked)
    for name, choice in chosen.items():
        if name not in names:
            raise UnknownNameError(f"There is no random term {name!r}. {suggestion(name, names)}")
        if choice not in CHOICES:
            raise UnknownNameError(
                f"centering={choice!r} is not known. {suggestion(str(choice), CHOICES)}"
            )
    resolved = {}
    for term in design.terms:
        choice = chosen.get(term.name, "auto")
        informed = choice == "auto" and information(family, links["mu"], design, term)
        resolved[term.name] = choice == "centered" or (
            choice == "auto" and informed > ENOUGH_INFORMATION
        )
    return resolved


def information(family: Family, link: Link, design: Design, term: RandomTerm) -> float:
    """
    Compare what the data say of one level with what the others say of it.

    Returns
    -------
    float
        tau^2 times the median level's information: large where centring mixes better. Zero for
        a term that has no constant column in the mean's predictor, or several members a row.

    Notes
    -----
    By one quasi-score step from the overall mean, the fixed part taken out by least squares and
    the noise within the levels; tau^2 by the moments of DerSimonian & Laird (1986), Controlled
    Clinical Trials 7, 177-188.
    """
    loading = next((g for g in term.loadings if g.param == "mu"), None)
    if loading is None or term.index.shape[1] > 1 or family.variance is None:
        return 0.0
    if not (np.ptp(loading.Z, axis=0) == 0).any():
        return 0.0
    trials = design.response.trials
    n = np.ones(design.n) if trials is None else trials
    y = family.working(design.y)
    mean = y.sum() / n.sum()
    if not link.support[0] < mean < link.support[1]:
        return 0.0
    slope = link.slope(np.asarray(link.linkfun(mean)))
    root, X = np.sqrt(n), design.predictors["mu"].X
    residual = (y - n * mean) / np.maximum(root, 1e-300)  # of variance alike in every row
    if X.shape[1]:
        A = X * root[:, None]
        residual = residual - A @ np.linalg.lstsq(A, residual, rcond=None)[0]
    q, level = len(term.levels), term.index[:, 0]
    size = np.maximum(np.bincount(level, n, q), 1e-300)
    effect = np.bincount(level, residual * root, q) / size
    spare = design.n - q
    noise = np.sum((residual - root * effect[level]) ** 2) / spare if spare > 0 else 0.0
    if noise <= 0:
        return 0.0
    found = size * slope**2 / noise
    effect = effect / slope
    spread = found.sum() - (found**2).sum() / found.sum()
    tau2 = ((found * effect**2).sum() - (q - 1)) / spread if spread > 0 else 0.0
    return float(max(0.0, tau2) * np.median(found))
