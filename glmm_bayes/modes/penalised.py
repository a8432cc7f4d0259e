"""The priors as a penalty of the likelihood, on the scale on which no parameter has an end."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from glmm_bayes.draws import beta_name
from glmm_bayes.modes.coordinates import COLUMNS, LEVELS, Coordinates, places
from glmm_bayes.modes.laplace import maximise_laplace
from glmm_bayes.modes.masses import maximise_masses
from glmm_bayes.modes.mode import Mode
from glmm_bayes.modes.reading import has_masses


@dataclass(frozen=True, eq=False)
class LogPrior:
    """
    The log density of the priors on the parameters' unconstrained scale, as a function of x.

    On that scale the density is that of the parameter times the slope of the parameter by it, so
    that it falls off to nothing towards every end of a support.

    Parameters
    ----------
    coordinates
        With every term on its parameters' unconstrained scale: `Coordinates.unconstrained`.
    """

    coordinates: Coordinates

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log density up to a constant, and its slope `(m,)`; minus infinity outside."""
        outer = self.coordinates.outer
        with np.errstate(all="ignore"):
            theta = self.coordinates.theta(x)
            z = outer.unconstrain(theta)
            if not np.isfinite(z).all():
                return -np.inf, np.zeros_like(x)
            jacobian, score, slope = outer.jacobian(z, theta)
            prior, by_theta = outer.log_prior(theta)
            by_z = outer.pull(by_theta, theta, slope) + score
            by_free = outer.push(by_z, slope)
            by_x = np.where(self._is_z, by_z[self._order], by_free[self._order] * self._slope(x))
        return prior + jacobian, by_x

    def density(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """
        Give the log density of x itself, and its slope `(m,)`.

        It differs from that on the unconstrained scale where a constant's link is not the
        transform of its support, or a coefficient has ends.
        """
        value, slope = self(x)
        step = 1e-5
        up, down = (self._log_rate(x + move) for move in (step, -step))
        with np.errstate(all="ignore"):
            # One coordinate's rate is its own affair: all can be moved at once.
            slope = slope + np.where(up == down, 0.0, (up - down) / (2 * step))
            # But that of a threshold, whose rate is one over its distance from the one before.
            outer = self.coordinates.outer
            by_free = outer.log_distances(self.coordinates.theta(x))[1][outer.free]
            slope = slope - by_free[self._order]
            return value + float(self._log_rate(x).sum()), slope

    def _log_rate(self, x: np.ndarray) -> np.ndarray:
        """Give log |dz / dx| `(m,)` of the unconstrained z."""
        outer = self.coordinates.outer
        with np.errstate(all="ignore"):
            theta = self.coordinates.theta(x)
            slope = outer.jacobian(outer.unconstrain(theta), theta)[2]
            return np.log(np.abs(np.where(self._is_z, 1.0, self._slope(x) / slope[self._order])))

    def densities(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """
        Give the parameters and the log density of x itself, for many x at once.

        Parameters
        ----------
        x
            `(S, m)`.

        Returns
        -------
        theta, log_density
            In the model's layout, and `(S,)` up to a constant; minus infinity outside.
        """
        c = self.coordinates
        outer, model = c.outer, c.model
        z = np.zeros((len(x), outer.size))
        z[:, self._order] = x
        total = np.zeros(len(x))
        with np.errstate(all="ignore"):
            theta = outer.constrain(z)
            log_slopes = outer.log_slopes(z)[:, self._order]
            total += log_slopes[:, self._is_z].sum(axis=1)
            theta[:, outer.free[self._order[~self._is_z]]] = x[:, ~self._is_z]
            for parameter, at in zip(model.family.parameters, c.coefficients, strict=True):
                if parameter.name in model.constants and at.stop > at.start:
                    link = model.links[parameter.name]
                    theta[:, model.layout[parameter.name]] = link.linkinv(x[:, at])
                    total += np.log(np.abs(link.slope(x[:, at]))).sum(axis=1)
            total += outer.log_priors(theta)
        free = theta[:, outer.free]
        inside = (free > outer.lower[outer.free]) & (free < outer.upper[outer.free])
        inside = inside.all(axis=1) & outer.ascend(theta)
        return theta, np.where(inside, total, -np.inf)

    def coordinates_of(self, theta: np.ndarray) -> np.ndarray:
        """Give x `(m,)` of outer parameters in the model's layout; not finite at an edge."""
        c = self.coordinates
        with np.errstate(all="ignore"):
            x = c.outer.unconstrain(theta)[self._order]
            x[~self._is_z] = theta[c.outer.free[self._order[~self._is_z]]]
            for parameter, at in zip(c.model.family.parameters, c.coefficients, strict=True):
                if parameter.name in c.model.constants and at.stop > at.start:
                    x[at] = c.model.links[parameter.name].linkfun(x[at])
        return x

    @cached_property
    def _order(self) -> np.ndarray:
        """Where each coordinate's parameter `(m,)` stands among the free ones."""
        c, model = self.coordinates, self.coordinates.model
        found = []
        for parameter in model.family.parameters:
            name = (
                parameter.name if parameter.name in model.constants else beta_name(parameter.name)
            )
            found.append(model.layout.get(name, slice(0, 0)))
        for side in (COLUMNS, LEVELS):
            found += [at for term in model.design.terms for at in places(model, term, side)]
        if model.design.residual is not None:
            found += places(model, model.design.residual, LEVELS)
        at = np.concatenate([np.arange(s.start, s.stop) for s in found])
        return np.searchsorted(c.outer.free, at[np.isnan(c.outer.value[at])])

    @cached_property
    def _is_z(self) -> np.ndarray:
        """Tell which coordinates `(m,)` are the unconstrained scale: those of the terms."""
        found = np.zeros(self.coordinates.size, dtype=bool)
        c = self.coordinates
        for at in (*c.factors, *c.between, c.residual):
            found[at] = True
        return found

    def _slope(self, x: np.ndarray) -> np.ndarray:
        """Give the slope `(m,)` of coefficients and constants by their coordinates."""
        c, slope = self.coordinates, np.ones_like(x)
        for parameter, at in zip(c.model.family.parameters, c.coefficients, strict=True):
            if parameter.name in c.model.constants:
                slope[at] = c.model.links[parameter.name].slope(x[at])
        return slope


def maximise_penalised(coordinates: Coordinates, *, nagq: int = 1) -> Mode:
    """Maximise the likelihood times the density of the priors on the unconstrained scale."""
    if has_masses(coordinates.model):
        return maximise_masses(coordinates.model, LogPrior)
    return maximise_laplace(coordinates, restricted=False, penalty=LogPrior(coordinates), nagq=nagq)
