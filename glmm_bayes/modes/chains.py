"""Model to adaptive quadrature: which random effects it can integrate, and why not others."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from glmm_bayes.engine.integrals.adaptive import Density
from glmm_bayes.engine.integrals.chain import Chain, crossing
from glmm_bayes.engine.integrals.quadrature import Quadrature
from glmm_bayes.engine.laplace import Laplace
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.families.expansion import expand
from glmm_bayes.model import Model
from glmm_bayes.modes.reading import has_masses, read_latent
from glmm_bayes.terms import RandomTerm

MOST, MOST_COLUMNS, MOST_NODES = 100, 4, 20_000
INSTEAD = "fit('ml') without nagq takes Laplace's method, and fit('nuts') integrates by sampling"


def checked_nagq(nagq: Any) -> int:
    """
    Check a number of nodes.

    Raises
    ------
    UnknownNameError
        If it is not a whole number from 1 to `MOST`.
    """
    whole = isinstance(nagq, int | np.integer) and not isinstance(nagq, bool)
    if not (whole and 1 <= nagq <= MOST):
        raise UnknownNameError(f"nagq={nagq!r} must be a whole number from 1 to {MOST}.")
    return int(nagq)


def refuse_nodes(model: Model, nagq: int) -> None:
    """Refuse nodes where the likelihood takes none: NotSupportedError."""
    if nagq > 1 and has_masses(model):
        raise NotSupportedError(
            f"The likelihood of effects of a few classes is a sum over these, and exact: leave "
            f"nagq={nagq} out."
        )
    if nagq > 1 and laplace_is_exact(model):
        raise NotSupportedError(
            f"The likelihood of a Gaussian response is exact already: leave nagq={nagq} out."
        )


def laplace_is_exact(model: Model) -> bool:
    """Tell whether the joint density is Gaussian in the effects: they shift a normal mean."""
    if any(term.level_structure.distribution is not None for term in model.design.terms):
        return False
    loaded = {loading.param for term in model.design.terms for loading in term.loadings}
    means = [part.main for part in model.observed]
    normal = all(part.family.normal for part in model.observed)
    return normal and loaded <= set(means) and all(model.links[m].name == "identity" for m in means)


def chain_problem(model: Model) -> str | None:
    """Say why quadrature cannot integrate a model's effects; None if it can."""
    terms = model.design.terms
    if not terms:
        return "there are no random effects"
    for term in terms:
        if term.index.shape[1] > 1:
            return f"a row of {_written(term)} belongs to several levels at once"
        if term.level_structure.pairs is not None:
            return f"the levels of {_written(term)} are not independent"
    latent = read_latent(model)
    pair = crossing(latent)
    if pair is not None:
        one, other = (_written(terms[i]) for i in pair)
        return f"{one} and {other} are crossed, neither nested in the other"
    for grouping in Chain.build(latent).groupings:
        if grouping.k > MOST_COLUMNS:
            names = " and ".join(_written(terms[i]) for i in grouping.terms)
            return f"{names} have {grouping.k} effects a level, and a grid is for {MOST_COLUMNS}"
    return None


def _written(term: RandomTerm) -> str:
    return f"'({term.text})'" if not term.text.endswith(")") else f"'{term.text}'"


def read_quadrature(model: Model, laplace: Laplace, nagq: int) -> Quadrature:
    """
    Build the quadrature that stands in for a model's Laplace approximation.

    Raises
    ------
    NotSupportedError
        If the effects cannot be integrated by it, or the grid would be too large.
    """
    problem = chain_problem(model)
    if problem is not None:
        raise NotSupportedError(f"Quadrature cannot integrate here: {problem}; {INSTEAD}.")
    found = Quadrature(laplace, read_density(model), Chain.build(laplace.system.latent), nagq)
    if found.nodes > MOST_NODES:
        raise NotSupportedError(
            f"nagq={nagq} needs {found.nodes:,} nodes for each row here, more than {MOST_NODES:,}; "
            f"take nagq={most_nagq(found)} or less."
        )
    return found


def most_nagq(quadrature: Quadrature) -> int:
    """Give the largest nagq whose grid is not too large."""
    sizes = [g.k for g in quadrature.chain.groupings]
    return max(int(MOST_NODES ** (1 / sum(sizes))), 1)


def read_density(model: Model) -> Density:
    """Give the log density of any rows, by position, and its derivatives by the predictors."""
    family, response = model.family, model.design.response
    names = [p.name for p in family.parameters]

    def density(eta: np.ndarray, order: int, at: np.ndarray, among: Sequence[int] | None) -> Any:
        trials, weights = (None if x is None else x[at] for x in (response.given, response.weights))
        y = response.y[at]
        return expand(family, model.links, names, y, trials, weights, eta, order, among)

    return density
