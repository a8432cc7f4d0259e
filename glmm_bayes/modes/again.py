"""A maximum found before, with what it takes to be evaluated again, when that is first needed."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import has_masses, is_gaussian, is_shaped, read_gaussian, read_laplace

NUMBERS = ("loglik", "decrement", "joint", "scale", "evaluations")
WORDS = ("problems", "cautions", "notes")
ARRAYS = ("x", "covariance", "gradient", "u", "eta")


class Deferred:
    """Stands for an object until something is asked of it."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make

    def __getattr__(self, name: str) -> Any:
        if name == "_made":
            self._made = self._make()
            return self._made
        return getattr(self._made, name)


def found_before(
    model: Model,
    numbers: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    effects: Mapping[str, np.ndarray],
    variances: Mapping[str, np.ndarray],
    Lambdas: Sequence[np.ndarray],
) -> Mode:
    """
    Put a mode together from its parts.

    Parameters
    ----------
    numbers, arrays
        What `NUMBERS` and `ARRAYS` list, `problems`, the coordinates' `strict`, the star's `axes`.
    effects, variances
        By term, `Mode.star_effects` and `Mode.effect_variances`.
    Lambdas
        Each term's factor over the mode's `scale`, to the last digit.
    """
    coordinates = Coordinates.of(model)
    if coordinates.strict != tuple(numbers["strict"]):
        coordinates = Coordinates.unconstrained(model)
    parts: dict[str, Any] = {name: tuple(numbers[name]) for name in WORDS}
    parts |= {name: numbers[name] for name in NUMBERS} | {name: arrays[name] for name in ARRAYS}
    mode = Mode(
        coordinates=coordinates,
        factor=Deferred(lambda: _factor(mode, Lambdas)),
        effects_at=lambda x: _effects_at(mode, x),
        **parts,
    )
    # Kept, and not computed anew: another machine's axes may have other signs.
    mode.__dict__.update(
        axes=arrays["axes"],
        star_effects=dict(effects),
        effects={name: b[0] for name, b in effects.items()},
        effect_variances=dict(variances),
    )
    return mode


def _factor(mode: Mode, Lambdas: Sequence[np.ndarray]) -> Any:
    """Factor the effects' Hessian at the maximum again."""
    c = mode.coordinates
    if _is_quasi(mode) or _profiled(mode):
        gaussian = _objective(mode).gaussian_at(mode.x)
        spread = gaussian.system.at(Lambdas, c.precisions(mode.x))
        return spread.factor_products(gaussian.products, joint=mode.joint)
    if has_masses(c.model) or is_shaped(c.model):
        integral = _read(mode)
        integral.u = mode.u
        return integral.factor(c.split(mode.x), Lambdas, c.precisions(mode.x))
    laplace = read_laplace(c.model, restricted=mode.joint)
    if c.model.design.residual is not None:
        at = c.split(mode.x), Lambdas, c.all_precisions(mode.x)
        return laplace.solved(*at, joint=mode.joint).factor
    R = laplace.random
    W = -laplace.rows(mode.eta, 2).second[np.ix_(R, R)]
    return laplace.system.at(Lambdas, c.precisions(mode.x)).factor(W, joint=mode.joint)


def _read(mode: Mode) -> Any:
    """Build what gives the effects' mode."""
    from glmm_bayes.modes.masses import read_masses
    from glmm_bayes.modes.shaped import read_shaped

    model = mode.coordinates.model
    if has_masses(model):
        return read_masses(model)
    # The mode is the same whatever the number of nodes.
    return read_shaped(model, 1) if is_shaped(model) else read_laplace(model, restricted=mode.joint)


def _is_quasi(mode: Mode) -> bool:
    """Tell whether the mode is a quasi-likelihood's, which has no likelihood."""
    return bool(np.isnan(mode.loglik))


def _objective(mode: Mode) -> Any:
    """Give the objective whose sigma was profiled out."""
    if _is_quasi(mode):
        from glmm_bayes.modes.pql import quasi_objective

        return quasi_objective(mode)
    from glmm_bayes.modes.correlated import gaussian_objective

    c = mode.coordinates
    return gaussian_objective(read_gaussian(c.model), c, restricted=mode.joint)


def _profiled(mode: Mode) -> bool:
    """Tell whether sigma was profiled out, as in no mode of the effects alone."""
    return is_gaussian(mode.coordinates.model) and mode.joint


def _effects_at(mode: Mode, x: np.ndarray) -> Sequence[np.ndarray]:
    from glmm_bayes.modes.laplace import LaplaceObjective

    c = mode.coordinates
    if _is_quasi(mode) or _profiled(mode):
        return _objective(mode).effects_at(x)
    laplace = _read(mode)
    laplace.u = mode.u
    return LaplaceObjective(laplace, c, mode.joint).effects_at(x)
