"""What all replicates of a recovery check share, and how it travels to other processes."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from glmm_bayes.draws import Draws
from glmm_bayes.errors import DataError
from glmm_bayes.fit import Fit
from glmm_bayes.inference import METHODS
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed
from glmm_bayes.predictive import all_effects
from glmm_bayes.verbs.intervals import IDENTITY, Scale, link_scale
from glmm_bayes.verbs.prior_predictive import _prior_draws
from glmm_bayes.verbs.tables import components, outer_draws

EFFECTS = 3  # of a term, that are followed
PROBE = 8  # prior draws that tell what is held fixed


@dataclass(frozen=True)
class Effect:
    """A random effect that is followed: its term, its place in b, and what it is called."""

    term: str
    level: int
    column: int
    name: str


@dataclass(frozen=True, eq=False)
class Study:
    """
    What all replicates share.

    Attributes
    ----------
    model
        The model whose design and priors they have.
    method, function, options
        How they are fitted.
    seed
        From which each replicate has random streams of its own.
    known
        Draws that the truths are chosen from; None for the prior.
    scales
        By outer parameter that is estimated, the scale of its interval.
    effects
        The random effects that are followed.
    home
        The process that started it.
    """

    model: Model
    method: str
    function: Callable[..., Fit]
    options: Mapping[str, Any]
    seed: int
    known: Draws | None
    scales: Mapping[str, Scale]
    effects: tuple[Effect, ...]
    home: int

    @classmethod
    def of(
        cls, model: Model, method: str, options: Mapping[str, Any], seed: int, known: Draws | None
    ) -> "Study":
        """
        Choose what is followed.

        Raises
        ------
        DataError
            If every parameter is held fixed.
        """
        drawn = _prior_draws(model, PROBE, np.random.default_rng(0))
        values = outer_values(model, drawn)
        scales = zip(values, _scales(model, drawn), strict=True)
        free = {name for name, v in values.items() if np.ptp(v) > 1e-9 * np.max(np.abs(v))}
        if not free:
            raise DataError("Every parameter is held fixed by `priors`: nothing is estimated.")
        return cls(
            # Of the data only the rows and columns used travel to other processes.
            changed(model, data=model.design.rows.whole),
            method,
            METHODS[method],
            dict(options),
            seed,
            known,
            {name: scale for name, scale in scales if name in free},
            tuple(_followed(model)),
            os.getpid(),
        )

    @property
    def names(self) -> tuple[str, ...]:
        """The quantities that every fit has."""
        return (*self.scales, *(effect.name for effect in self.effects))

    def truth(self, rng: np.random.Generator) -> Draws:
        """Draw parameters, and effects from their distribution, as one draw."""
        if self.known is None:
            return _prior_draws(self.model, 1, rng)
        row = self.known.thinned(rng.integers(self.known.size, size=1))
        terms = self.model.design.terms
        effects = {term.name: all_effects(term, row, rng) for term in terms}
        return replace(row, effects=effects)

    def values(self, draws: Draws) -> np.ndarray:
        """Give the quantities that every fit has, `(S, K)`, at random draws."""
        outer = outer_values(self.model, draws)
        effects = [draws.effects[e.term][:, e.level, e.column] for e in self.effects]
        return np.stack([*(outer[name] for name in self.scales), *effects], axis=1)


def outer_values(model: Model, draws: Draws) -> dict[str, np.ndarray]:
    """Give the values `(S,)` of every single outer parameter, named as those of a fit."""
    return outer_draws(cast(Fit, SimpleNamespace(model=model, draws=draws)))


def _scales(model: Model, draws: Draws) -> Iterator[Scale]:
    """Give the scales of the outer parameters' intervals, in the order of `outer_values`."""
    for beta in draws.beta.values():
        yield from [IDENTITY] * beta.shape[1]
    yield from (scale for _, (_, _, scale) in components(model, draws))
    yield from (link_scale(model.links[name]) for name in draws.constants)


def _followed(model: Model) -> Iterator[Effect]:
    """Choose a few effects of each term: those of levels far apart, the columns in turn."""
    for term in model.design.terms:
        q = len(term.levels)
        for k, i in enumerate(np.linspace(0, q - 1, min(q, EFFECTS)).round().astype(int)):
            j = k % term.size
            name = f"b_{term.name}[{term.levels[i]}, {term.columns[j]}]"
            yield Effect(term.name, int(i), j, name)
