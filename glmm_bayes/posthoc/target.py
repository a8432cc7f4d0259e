"""A model's posterior around its mode, in the outer parameters psi, coefficients and effects."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.engine.algebra.systems import build_for_sampling
from glmm_bayes.engine.around.corrected import correct
from glmm_bayes.engine.around.whitened import Problem, Whole
from glmm_bayes.engine.laplace import Laplace
from glmm_bayes.engine.latent import Latent
from glmm_bayes.engine.newton import Normal
from glmm_bayes.model import Model
from glmm_bayes.modes.reading import centred_columns, read_rows
from glmm_bayes.posthoc.mean_prior import MeanPrior
from glmm_bayes.posthoc.outer import OuterPosterior, Reading, find_mode


@dataclass(eq=False)
class Target(OuterPosterior):
    """
    The posterior of a model: psi are the coordinates of all but the mean's coefficients gamma.

    As a function of psi it is the marginal posterior by Laplace's method, effects and
    coefficients integrated out, with its gradient; `setting` is the way to the exact one.

    Attributes
    ----------
    integrated
        Whether gamma is integrated out with the effects. If not, it is part of psi.
    """

    laplace: Laplace
    integrated: bool

    @property
    def latent(self) -> Latent:
        """The effects, as the engine has them."""
        return self.laplace.system.latent

    @property
    def stand_in(self) -> Normal:
        """The normal in the place of the coefficients' prior."""
        assert self.laplace.prior is not None
        return self.laplace.prior

    @stand_in.setter
    def stand_in(self, normal: Normal) -> None:
        self.laplace.prior = normal

    @property
    def mean(self) -> slice:
        """Where the coefficients that are integrated out stand among the coordinates."""
        return self.coordinates.coefficients[0] if self.integrated else slice(0, 0)

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log marginal posterior of psi by Laplace's method, and its slope."""
        full = self.tiled(x)
        prior = self.coordinates.Lambdas(full), self.coordinates.precisions(full)
        found = self.laplace.marginal(self._split(full), *prior, joint=self.integrated)
        log_prior, by_x = self.log_prior.density(full)
        by_coefficients = list(found.by_coefficients)
        if self.integrated:
            self.gamma = np.asarray(found.coefficients[0])
            by_coefficients[0] = np.zeros(len(self.coordinates.held[0]))
        slope = self.coordinates.pull(full, by_coefficients, found.by_Lambda, found.by_precision)
        return found.value + log_prior, (slope + by_x)[self.outer]

    def _split(self, x: np.ndarray) -> list[np.ndarray]:
        coefficients = self.coordinates.split(x)
        if self.integrated:
            coefficients[0] = self.gamma
        return coefficients

    def ascended(self, psi: np.ndarray) -> tuple[Any, Any, Any]:
        """Climb to the mode of what is integrated out: see `Laplace.ascended`."""
        x = self.tiled(psi)
        c = self.coordinates
        return self.laplace.ascended(
            self._split(x), c.Lambdas(x), c.precisions(x), joint=self.integrated
        )

    def fixed(self, psi: np.ndarray) -> np.ndarray:
        """Give the predictors' `(P, n)` part without what is integrated out."""
        coefficients = self.coordinates.split(self.tiled(psi))
        found = self.laplace.offset.copy()
        for a, (X, c) in enumerate(zip(self.laplace.X, coefficients, strict=True)):
            if a > 0 or not self.integrated:
                found[a] += X @ c
        return found

    def fixed_at(self, psi: np.ndarray) -> np.ndarray:
        """Give the same `(P, S, n)` for psi `(S, d)`; S is 1 where it does not depend on them."""
        base = self.laplace.offset[:, None]
        if len(base) == 1 and self.integrated:
            return base
        return np.stack([self.fixed(row) for row in psi], axis=1)


def read_target(model: Model, *, integrated: bool = True) -> Target:
    """
    Read a model, with the mean's coefficients integrated out or as part of psi.

    Integrated, those that are held fixed by their priors become part of the offset.
    """
    read = Reading.of(model)
    inner = read.columns if integrated else read.columns[:, :0]
    system = build_for_sampling(read.latent, inner)
    names, predictors = [p.name for p in model.family.parameters], model.design.predictors
    offset = np.stack(
        [predictors[p].offset if p in predictors else np.zeros(model.nobs) for p in names]
    )
    X = [centred_columns(model, p) for p in names]
    if integrated:
        offset[0] += read.fixed
        X[0] = inner
    ordered = [np.ascontiguousarray(part[system.order]) for part in X]
    laplace = Laplace(read_rows(model, system.order), ordered, offset[:, system.order], system)
    prior = MeanPrior.of(read.coordinates) if integrated else MeanPrior.none()
    return Target(read.coordinates, prior, read.reference, laplace, integrated)


@dataclass(frozen=True, eq=False)
class Around:
    """
    A posterior's mode in psi, its curvature, and the corrected normal approximation there.

    Attributes
    ----------
    psi
        `(d,)` the mode.
    axes
        `(d, d)` a root of the covariance of psi by the curvature there.
    """

    target: Target
    psi: np.ndarray
    axes: np.ndarray
    problem: Problem

    def settings(self, psi: np.ndarray) -> "Callable[[int], Any]":
        """
        Prepare for outer parameters `(S, d)`.

        Returns
        -------
        Callable
            Gives effects and coefficients as normals at the i-th of them; None where the density
            is zero or the equations cannot be factored.
        """
        target = self.target
        theta, log_prior = target.log_prior.densities(target.tiled(psi))
        Lambdas = target.factors(theta)

        def setting(i: int) -> Any:
            if not np.isfinite(log_prior[i]):
                return None
            try:
                with np.errstate(all="ignore"):
                    found = self._kind.build(
                        self.problem,
                        [L[i] for L in Lambdas],
                        target.coordinates.precisions(target.tiled(psi[i])),
                        target.fixed(psi[i]),
                        float(log_prior[i]),
                    )
            except np.linalg.LinAlgError:
                return None
            return found if np.isfinite(found.log_outer) else None

        return setting

    @cached_property
    def _kind(self) -> Any:
        if not self.problem.system.moves_by_levels:
            return Whole
        from glmm_bayes.engine.around.whitened_blocks import Blocks

        return Blocks


def find_around(target: Target, start: np.ndarray | None = None) -> Around:
    """
    Climb to the mode of psi, and correct the normal approximation there.

    Parameters
    ----------
    start
        `(m,)` the outer parameters to start from, in the model's layout; by default the search
        starts from the data.

    Raises
    ------
    ConvergenceError
        If the posterior cannot be evaluated where the search starts, or has no curvature.
    """
    mode = find_mode(target, start)
    return Around(target, mode.psi, mode.axes, _problem(target, mode.psi))


def _problem(target: Target, psi: np.ndarray) -> Problem:
    laplace = target.laplace
    corrected = correct(*target.ascended(psi), target.prior)
    # Other predictors with effects have coefficients of their own in psi.
    varies = len(laplace.random) > 1 or not target.integrated
    return Problem(
        laplace.system, laplace.system.X, laplace.rows, corrected, target.fixed(psi), varies,
        target.stand_in, target.prior.log_density, target.prior.slope,
    )  # fmt: skip
