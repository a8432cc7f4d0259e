"""A star about a maximum whose points also stand apart along what effects vary by themselves."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from glmm_bayes.draws import Draws
from glmm_bayes.modes.star import widened

if TYPE_CHECKING:
    from glmm_bayes.modes.mode import Mode


def wide_star(mode: "Mode") -> Draws:
    """
    Give the star of the parameters, with an axis for each effect added.

    Along the first d axes the effects' modes move with the parameters; along the others, a root of
    the effects' conditional covariance, the parameters stay. So the delta method by these draws has
    the whole covariance of parameters and effects.
    """
    star = mode.star()
    if not mode.effects:
        return star
    only, none = mode.factor.effects_only(), np.empty(0)
    latent = only.spread.system.latent
    axes = [
        latent.effects(mode.scale * only.solve_root(unit, none)[0], only.spread.Lambdas)
        for unit in np.eye(latent.size)
    ]
    roots = {name: np.stack([axis[k] for axis in axes]) for k, name in enumerate(mode.effects)}
    effects = {name: widened(star.effects[name], root) for name, root in roots.items()}
    beta, constants, theta = (
        _repeated(part, latent.size) for part in (star.beta, star.constants, star.theta)
    )
    return Draws(beta, constants, theta, effects, chains=1)


def common_star(mode: "Mode") -> Draws:
    """
    Give the star of the parameters, with axes for the effects that are common to all groups.

    Along these the effects of groups stay: they have no part in what is of the population.
    """
    star, terms = mode.star(), mode.coordinates.model.design.terms
    if not any(term.common for term in terms):
        return star
    only, none = mode.factor.effects_only(), np.empty(0)
    latent = only.spread.system.latent
    own = [
        np.arange(latent.size)[at] for at, t in zip(latent.places, terms, strict=True) if t.common
    ]
    at = np.concatenate(own)
    covariance = np.stack([only.solve(np.eye(1, latent.size, k)[0], none)[0][at] for k in at])
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    axes = np.zeros((len(at), latent.size))
    axes[:, at] = (vectors * np.sqrt(np.maximum(values, 0.0))).T
    roots = [latent.effects(mode.scale * axis, only.spread.Lambdas) for axis in axes]
    effects = {
        term.name: widened(star.effects[term.name], np.stack([root[k] for root in roots]))
        for k, term in enumerate(terms)
        if term.common
    }
    beta, constants, theta = (
        _repeated(part, len(at)) for part in (star.beta, star.constants, star.theta)
    )
    return Draws(beta, constants, theta, effects, chains=1)


def _repeated(part: Mapping[str, np.ndarray], size: int) -> dict[str, np.ndarray]:
    """Let values `(1 + 2d, …)` stay where they are along further axes."""
    return {
        name: widened(values, np.zeros((size, *values.shape[1:]))) for name, values in part.items()
    }
