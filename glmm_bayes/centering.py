"""Choose how NUTS sees a term's effects: as they are, or as standard normals times their scale."""

from collections.abc import Mapping, Sequence

import numpy as np

from glmm_bayes.design import Design
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.families import Family, Link
from glmm_bayes.observed import Observed
from glmm_bayes.registry import suggestion
from glmm_bayes.terms import RandomTerm

CHOICES = ("auto", "centered", "noncentered")


def read_centering(design: Design, asked: str | Mapping[str, str]) -> dict[str, str]:
    """
    Give each term's choice by name.

    Raises
    ------
    UnknownNameError
        If a choice or a term is not known.
    NotSupportedError
        If effects cannot be centred, as their covariance has no inverse.
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
    for term in design.terms:
        if _is_structured(term) and chosen.get(term.name) == "centered":
            raise NotSupportedError(
                f"The levels of {term.text!r} depend on each other, or are not normal, and cannot "
                f"be centred: leave {term.name!r} out of centering."
            )
        if _is_singular(term) and chosen.get(term.name) == "centered":
            raise NotSupportedError(
                f"The effects of {term.text!r} are made of fewer factors than there are columns, "
                f"so that they cannot be centred: leave {term.name!r} out of centering."
            )
    return {name: chosen.get(name, "auto") for name in names}


def _is_singular(term: RandomTerm) -> bool:
    return term.structure.rank(term.size) < term.size


def _is_structured(term: RandomTerm) -> bool:
    structure = term.level_structure
    return structure.pairs is not None or structure.distribution is not None


def resolve_centering(
    parts: Sequence[Observed],
    links: Mapping[str, Link],
    design: Design,
    choices: Mapping[str, str],
) -> dict[str, bool]:
    """Decide for each term, by name, whether its effects are centred."""
    resolved = {}
    for term in design.terms:
        choice = choices[term.name]
        if _is_singular(term) or _is_structured(term):
            resolved[term.name] = False
        elif choice == "auto":
            found = min(
                information(part.family, links[part.main], part.design, own)
                for part in parts
                for own in part.design.terms
                if own.name == term.name
            )
            resolved[term.name] = found > enough_information(len(term.levels))
        else:
            resolved[term.name] = choice == "centered"
    return resolved


def enough_information(q: int) -> float:
    """
    Give the information of a level from which on centring a term of q levels pays.

    It grows with q, since what centring disentangles, the levels' mean and the coefficient they
    share, is the less confounded the more levels there are. By trial on a dozen data sets.
    """
    return 1 + float(np.sqrt(q)) / 10


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
    By one quasi-score step from the overall mean. The fixed part and the coarser terms are taken
    out first; the noise is that within the levels; tau^2 is by the moments of DerSimonian & Laird
    (1986), Controlled Clinical Trials 7, 177-188, less one standard error, since centring a term
    whose variance may be zero costs more than not centring another.
    """
    response = _rows_to_compare(family, link, design) if _has_intercepts(term) else None
    if response is None:
        return 0.0
    residual, root, slope = response
    level, spent = term.index[:, 0], 0
    for other in sorted(design.terms, key=lambda t: len(t.levels)):
        if len(other.levels) < len(term.levels) and _has_intercepts(other):
            residual = residual - _fitted(other.index[:, 0], residual, root)[0]
            spent += len(other.levels)
    within = _nested_in(term, design)
    if within is not None:
        # Each of the finer levels is one observation of its coarser one.
        _, residual, size = _fitted(within, residual, root)
        level = level[np.unique(within, return_index=True)[1]]
        root = np.ones(len(size))
    fitted, effect, size = _fitted(level, residual, root)
    q, spare = len(size) - min(spent, len(size) - 1), len(level) - len(size)
    noise = np.sum((residual - fitted) ** 2) / spare if spare > 0 else 0.0
    if noise <= 0 or q < 2:
        return 0.0
    found, effect = size * slope**2 / noise, effect / slope
    spread = (found.sum() - (found**2).sum() / found.sum()) * q / len(size)
    beyond = (found * effect**2).sum() - (q - 1) - np.sqrt(2 * (q - 1))
    return float(max(0.0, beyond / spread) * np.median(found))


def _nested_in(term: RandomTerm, design: Design) -> np.ndarray | None:
    """Give the levels `(n,)` of the coarsest term whose levels lie each in one of this term's."""
    for other in sorted(design.terms, key=lambda t: len(t.levels)):
        if len(term.levels) < len(other.levels) < design.n and _has_intercepts(other):
            pairs = np.column_stack([other.index[:, 0], term.index[:, 0]])
            if len(np.unique(pairs, axis=0)) == len(np.unique(pairs[:, 0])):
                return np.unique(pairs[:, 0], return_inverse=True)[1]
    return None


def _rows_to_compare(
    family: Family, link: Link, design: Design
) -> tuple[np.ndarray, np.ndarray, float] | None:
    """Give residuals of one variance `(n,)`, the roots of the trials, and d mu / d eta."""
    trials = design.response.trials
    n = np.ones(design.n) if trials is None else trials
    y, slope = family.working(design.y), 1.0
    if link.name == "log" and trials is None and (y >= 0).all():
        # On the log scale: a few large counts would speak for all levels.
        y = np.log(y + 0.5 * (y == 0).any())
        mean = y.mean()
    else:
        mean = y.sum() / n.sum()
        if family.variance is None or not link.support[0] < mean < link.support[1]:
            return None
        slope = float(link.slope(np.asarray(link.linkfun(mean))))
    root, X = np.sqrt(n), design.predictors["mu"].X
    residual = (y - n * mean) / np.maximum(root, 1e-300)
    if X.shape[1]:
        A = X * root[:, None]
        residual = residual - A @ np.linalg.lstsq(A, residual, rcond=None)[0]
    return residual, root, slope


def _has_intercepts(term: RandomTerm) -> bool:
    loading = next((g for g in term.loadings if g.param == "mu"), None)
    alone = term.index.shape[1] == 1
    return loading is not None and alone and bool((np.ptp(loading.Z, axis=0) == 0).any())


def _fitted(
    level: np.ndarray, residual: np.ndarray, root: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the fit by the levels' means `(n,)`, the means and their weights `(q,)`."""
    size = np.maximum(np.bincount(level, root**2), 1e-300)
    mean = np.bincount(level, residual * root) / size
    return root * mean[level], mean, size
