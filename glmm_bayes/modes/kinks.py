"""The posterior's mode where priors of coefficients have a kink at zero, as Laplace's has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmm_bayes.draws import beta_name
from glmm_bayes.engine.density.outer import Outer
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.monotone import Place, hold
from glmm_bayes.modes.penalised import maximise_penalised
from glmm_bayes.modes.reading import read_laplace

TOGETHER = 5  # rounds in which all coefficients that want to leave zero do
SLACK = 1e-5  # of the kink: a slope at its edge


@dataclass(frozen=True, eq=False)
class Slopes:
    """The log density of coefficients that stay on one side of the kink: linear there."""

    slope: np.ndarray

    def core(self, x: np.ndarray) -> np.ndarray:
        """Evaluate it."""
        return self.slope * x

    def score(self, x: np.ndarray) -> np.ndarray:
        """Differentiate it."""
        return self.slope


def maximise_posterior(model: Model, *, nagq: int = 1) -> Mode:
    """
    Maximise the likelihood times the priors, also where these have kinks.

    Parameters
    ----------
    nagq
        As in `maximise_penalised`.

    Returns
    -------
    Mode
        Its model holds the coefficients at zero that a kink keeps there.

    Raises
    ------
    ConvergenceError
        If the coefficients at zero do not settle.
    NotSupportedError
        If no parameter but such coefficients is free.

    Notes
    -----
    An active set: coefficients off zero have a side, on which the prior is linear; one that
    crosses is held at zero, and one is let go where the likelihood rises more steeply than the
    prior falls. Of normal responses with fixed sigma this is the lasso: Tibshirani (1996), J. R.
    Statist. Soc. B 58, 267-288.
    """
    scales = _kinks(model)
    if not scales:
        return maximise_penalised(Coordinates.unconstrained(model), nagq=nagq)
    sides: dict[Place, float] = {}
    for number in range(4 * TOGETHER + 4 * len(scales)):
        held = [place for place in scales if place not in sides]
        mode = _on_sides(hold(model, held), {k: -s / scales[k] for k, s in sides.items()}, nagq)
        crossed = [place for place, side in sides.items() if _value(mode, place) * side < 0]
        if crossed:
            sides = {place: side for place, side in sides.items() if place not in crossed}
            continue
        steep = {k: v for k, v in _likelihood_slopes(mode, held).items() if _leaves(v, scales[k])}
        if not steep:
            return replace(mode, notes=(*mode.notes, *_words(mode, held)))
        if number >= TOGETHER:
            most = max(steep, key=lambda place: abs(steep[place]) * scales[place])
            steep = {most: steep[most]}
        sides |= {place: float(np.sign(slope)) for place, slope in steep.items()}
    raise ConvergenceError(
        f"Which of the {len(scales)} coefficients with Laplace priors are zero at the mode did "
        f"not settle; scale the predictors, or use fit('nuts')."
    )


def _leaves(slope: float, scale: float) -> bool:
    return abs(slope) * scale > 1 + SLACK


def _kinks(model: Model) -> dict[Place, float]:
    """Give the scale of each coefficient's Laplace prior about zero."""
    names = [beta_name(param) for param in model.design.predictors]
    return {
        (block.name, k): float(prior.tabled[1]["b"])
        for block in model.blocks
        if block.name in names
        for k, prior in enumerate(block.priors)
        if prior.distribution == "Laplace" and prior.tabled and prior.tabled[1]["mu"] == 0
    }


def _on_sides(model: Model, slopes: Mapping[Place, float], nagq: int) -> Mode:
    coordinates = Coordinates.unconstrained(model)
    if not coordinates.size:
        raise NotSupportedError(
            "With all coefficients at zero nothing is left to be estimated, which the lasso's mode "
            "starts from: keep an Intercept, or do not hold the other parameters fixed."
        )
    at = np.array([model.layout[name].start + k for name, k in slopes], dtype=int)
    outer = _without(coordinates.outer, at)
    forms = [*outer.forms, (Slopes(np.array(list(slopes.values()))), at)]
    outer = replace(outer, forms=forms if len(at) else outer.forms)
    return maximise_penalised(replace(coordinates, outer=outer), nagq=nagq)


def _without(outer: Outer, at: np.ndarray) -> Outer:
    """Leave out the priors of some places."""
    forms: list[tuple[Any, np.ndarray]] = []
    for prior, places in outer.forms:
        if not np.isin(places, at).any():
            forms.append((prior, places))
            continue
        for k in np.flatnonzero(~np.isin(places, at)):
            forms.append((prior.element(k, len(places)), places[k : k + 1]))
    return replace(outer, forms=forms)


def _value(mode: Mode, place: Place) -> float:
    name, k = place
    return float(mode.theta[mode.coordinates.model.layout[name].start + k])


def _likelihood_slopes(mode: Mode, places: Sequence[Place]) -> dict[Place, float]:
    """Give the slopes of the marginal log likelihood by coefficients that are held."""
    model = mode.coordinates.model
    objective = LaplaceObjective(read_laplace(model), mode.coordinates, False)
    found = objective.marginal(mode.x).by_coefficients
    names = [beta_name(parameter.name) for parameter in model.family.parameters]
    return {(name, k): float(found[names.index(name)][k]) for name, k in places}


def _words(mode: Mode, held: Sequence[Place]) -> list[str]:
    if not held:
        return []
    blocks = {block.name: block for block in mode.coordinates.model.blocks}
    names = ", ".join(blocks[name].labels[k] for name, k in held)
    return [
        f"The prior holds these coefficients at zero, without a standard error: {names}. Those of "
        f"the others are as if that were known."
    ]
