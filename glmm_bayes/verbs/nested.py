"""Whether one model is a case of another, and how far it stands at the other's edge."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from glmm_bayes.errors import DataError
from glmm_bayes.fit import Fit, ModeFit
from glmm_bayes.model import Model
from glmm_bayes.modes.normal import span
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.compare import check_alike

LIKELIHOODS = ("ml", "reml")
TOLERANCE = 1e-8  # of the length of what should lie in a span


@dataclass(frozen=True, eq=False)
class Place:
    """
    Where a smaller model's terms stand in one term of a larger one.

    Attributes
    ----------
    term
        The larger model's.
    parts
        The numbers of the smaller model's terms, and which of the term's columns they have.
    open
        The columns that no smaller term has: their variances are zero there.
    """

    term: RandomTerm
    parts: Sequence[tuple[int, np.ndarray]]
    open: np.ndarray

    def covariance(self, smaller: Sequence[np.ndarray]) -> np.ndarray:
        """Give the term's `(p, p)` from the smaller model's covariances."""
        found = np.zeros((self.term.size, self.term.size))
        for number, at in self.parts:
            found[np.ix_(at, at)] += smaller[number]
        return found


def checked_pair(fit: ModeFit, other: Fit) -> tuple[ModeFit, ModeFit]:
    """
    Give the larger fit and the smaller one.

    Raises
    ------
    DataError
        If they are not of the same rows and family, or neither is a case of the other.
    """
    named: dict[str, Fit] = {"this fit": fit, "the other": other}
    check_alike(named, *named)
    for name, each in named.items():
        if not isinstance(each, ModeFit) or each.method not in LIKELIHOODS:
            raise DataError(f"{name} is by {each.method!r}; tests compare fits by 'ml' or 'reml'.")
    assert isinstance(other, ModeFit)  # noqa: S101  just seen
    if not _are_alike(fit.model, other.model):
        raise DataError(
            f"The fits have different families or links ({fit.model.family.name!r} and "
            f"{other.model.family.name!r}), so neither is a case of the other; gb.compare ranks "
            f"them by AIC."
        )
    larger, smaller = (fit, other) if fit.df >= other.df else (other, fit)
    if larger.df == smaller.df:
        raise DataError(
            f"Both fits have {fit.df} parameters, so neither model is a smaller case of the "
            f"other; gb.compare ranks them by AIC."
        )
    _check_residuals(larger.model, smaller.model)
    _check_fixed(larger.model, smaller.model)
    places(larger.model, smaller.model)
    return larger, smaller


def _are_alike(a: Model, b: Model) -> bool:
    """Tell whether families and links are, but for correlations that one of the models lacks."""
    ours, theirs = (
        set(m.family.responses.correlations if m.family.responses else ()) for m in (a, b)
    )
    one, other = (
        {name: link for name, link in m.links.items() if name not in ours ^ theirs} for m in (a, b)
    )
    return a.family.name == b.family.name and one == other


def _check_residuals(larger: Model, smaller: Model) -> None:
    ours, theirs = (m.formula.residual for m in (larger, smaller))
    if theirs is not None and (ours is None or ours.text != theirs.text):
        raise DataError(
            f"The smaller model's residuals have the structure {theirs.text!r}, which the larger's "
            f"have not, so neither is a case of the other; gb.compare ranks them by AIC."
        )


def _check_fixed(larger: Model, smaller: Model) -> None:
    for name in (p.name for p in smaller.family.parameters):
        X, X0 = (_columns(m, name) for m in (larger, smaller))
        rest = X0 - X @ np.linalg.lstsq(X, X0)[0]
        if np.linalg.norm(rest) > TOLERANCE * max(np.linalg.norm(X0), 1.0):
            raise DataError(
                f"The smaller model has fixed effects on {name!r} that the larger lacks, so it is "
                f"no case of the other; gb.compare ranks them by AIC."
            )


def _columns(model: Model, name: str) -> np.ndarray:
    if name in model.constants:
        return np.ones((model.nobs, 1))
    return model.design.predictors[name].X


def places(larger: Model, smaller: Model) -> list[Place]:
    """
    Find the smaller model's terms in the larger one's.

    Raises
    ------
    DataError
        If one of them is in none.
    """
    homes: dict[int, list[tuple[int, np.ndarray]]] = {}
    for number, term in enumerate(smaller.design.terms):
        home = next(
            (k for k, t in enumerate(larger.design.terms) if _fits(term, t, homes.get(k, []))),
            None,
        )
        if home is None:
            raise DataError(
                f"The smaller model's {term.text!r} is no case of a term of the larger one, so "
                f"neither model is a case of the other; gb.compare ranks them by AIC."
            )
        at = np.array([larger.design.terms[home].columns.index(c) for c in term.columns])
        homes.setdefault(home, []).append((number, at))
    found = []
    for k, term in enumerate(larger.design.terms):
        parts = homes.get(k, [])
        taken = np.concatenate([np.empty(0, int), *(at for _, at in parts)])
        found.append(Place(term, parts, np.setdiff1d(np.arange(term.size), taken)))
    return found


def _fits(term: RandomTerm, larger: RandomTerm, parts: Sequence[tuple[int, np.ndarray]]) -> bool:
    """Tell whether a term is one of a larger one's cases, beside those that are in it already."""
    if term.levels != larger.levels or not np.array_equal(term.index, larger.index):
        return False
    if not set(term.columns) <= set(larger.columns):
        return False
    if type(term.level_structure) is not type(larger.level_structure):
        return False
    at = np.array([larger.columns.index(c) for c in term.columns])
    if any(np.intersect1d(at, taken).size for _, taken in parts):
        return False
    alike = type(term.structure) is type(larger.structure) and term.columns == larger.columns
    return alike or _spanned(term, larger, at)


def _spanned(term: RandomTerm, larger: RandomTerm, at: np.ndarray) -> bool:
    """Tell whether a term's covariances are among those of a structure linear in its parameters."""
    size = sum(p.size for p in larger.structure.parameters(larger.size))
    basis = span(larger, size)
    if basis is None:
        return False
    B = np.stack([part.ravel() for part in basis])
    rng = np.random.default_rng(0)
    m = sum(p.size for p in term.structure.parameters(term.size))
    for _ in range(3):
        L = term.structure.loose_factor(rng.normal(size=m), term.size)
        G = np.zeros((larger.size, larger.size))
        G[np.ix_(at, at)] = L @ L.T
        rest = G.ravel() - B.T @ (B @ G.ravel())
        if np.linalg.norm(rest) > TOLERANCE * np.linalg.norm(G):
            return False
    return True
