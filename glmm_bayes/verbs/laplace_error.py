"""Measure Laplace's error at a fit: by quadrature, or by importance sampling about the mode."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.engine.integrals.quadrature import Quadrature
from glmm_bayes.engine.latent import Precision
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.chains import MOST_NODES, read_quadrature
from glmm_bayes.modes.reading import read_laplace
from glmm_bayes.modes.search import STEP

LADDER = (1, 3, 5, 7, 9, 15, 25, 35, 49, 75, 100)
SETTLED = 1e-4  # of log likelihood, from one step of the ladder to the next
DRAWS, FEWEST, CELLS = 1000, 50, 10_000_000  # pairs of draws, and rows times pairs


@dataclass(frozen=True, eq=False)
class Point:
    """The point at which the integral is looked at: coefficients, factors, and the mode there."""

    quadrature: Quadrature
    coefficients: list[np.ndarray]
    Lambdas: list[np.ndarray]
    u: np.ndarray

    @classmethod
    def of(cls, fit: ModeFit) -> "Point":
        """Take a fit's estimates."""
        mode = fit.mode
        laplace = read_laplace(fit.model)
        laplace.u = mode.u
        coefficients, Lambdas = mode.coordinates.split(mode.x), mode.coordinates.Lambdas(mode.x)
        u = laplace.effects_mode(coefficients, Lambdas, mode.coordinates.precisions(mode.x))
        return cls(read_quadrature(fit.model, laplace, 1), coefficients, Lambdas, u)

    @property
    def point(self) -> tuple[list[np.ndarray], list[np.ndarray], np.ndarray]:
        """What a quadrature takes."""
        return self.coefficients, self.Lambdas, self.u


def climbed(at: Point) -> Iterator[tuple[Quadrature, np.ndarray]]:
    """Take more and more nodes, until the integral settles or the grid is too large."""
    before = np.inf
    for nagq in LADDER:
        quadrature = replace(at.quadrature, nagq=nagq)
        if quadrature.nodes > MOST_NODES:
            return
        values = quadrature.by_level(*at.point)
        yield quadrature, values
        if abs(values.sum() - before) < SETTLED:
            return
        before = values.sum()


def shift_by_quadrature(fit: ModeFit, exact: Quadrature) -> pd.Series:
    """
    Estimate Laplace's estimates less the exact ones, in standard errors.

    By Newton's step from the fit, which is at the one, to the other.
    """
    mode, c = fit.mode, fit.mode.coordinates
    at_laplace = fit.options.get("nagq", 1) == 1
    here, there = (exact.laplace, exact) if at_laplace else (exact, exact.laplace)

    def slope(integral: Any, x: np.ndarray) -> np.ndarray:
        found = integral.marginal(c.split(x), c.Lambdas(x), c.precisions(x), joint=False)
        return c.pull(x, found.by_coefficients, found.by_Lambda, found.by_precision)

    before, axes = slope(there, mode.x), mode.axes
    moved = [before - slope(there, mode.x + STEP * axis) for axis in axes.T]
    H = axes.T @ np.array(moved).T.reshape(len(before), len(moved)) / STEP
    values, vectors = np.linalg.eigh(0.5 * (H + H.T))
    root = axes @ (vectors / np.sqrt(values)) if (values > 0).all() else axes
    step = root @ (root.T @ (before - slope(here, mode.x)))
    known = np.isfinite(np.diag(mode.covariance))
    errors = np.sqrt((np.square(root if at_laplace else axes)).sum(axis=1))
    names = np.array(list(coordinate_names(fit)), dtype=object)[known]
    shift = (-step if at_laplace else step)[known] / errors[known]
    return pd.Series(shift, index=names, name="shift")


def coordinate_names(fit: ModeFit) -> Iterator[str]:
    """Name every free parameter of the search."""
    c, model = fit.mode.coordinates, fit.model
    for parameter, held in zip(model.family.parameters, c.held, strict=True):
        name = parameter.name
        if name in model.constants:
            own: tuple[str, ...] = (name,)
        else:
            prefix = "" if name == "mu" else f"{name}: "
            own = tuple(prefix + column for column in model.design.predictors[name].names)
        yield from (text for text, value in zip(own, held, strict=True) if np.isnan(value))
    for words, sides in (("covariance", c.factors), ("structure between levels", c.between)):
        for term, at in zip(model.design.terms, sides, strict=True):
            yield from [f"{words} of {term.name}"] * (at.stop - at.start)


@dataclass(frozen=True, eq=False)
class Sampled:
    """
    Draws of Laplace's normal, in S pairs about the mode.

    Attributes
    ----------
    laplace
        The log likelihood by Laplace's method.
    ratios
        `(S, 2)` the log of the joint density over the normal, both over their maximum.
    gaps
        `(S, 2, m)` the slopes of the joint density by x, less that of `laplace`.
    """

    laplace: float
    ratios: np.ndarray
    gaps: np.ndarray

    @property
    def weights(self) -> np.ndarray:
        """The ratios `(S, 2)` over the largest."""
        return np.exp(self.ratios - self.ratios.max())

    @property
    def exact(self) -> tuple[float, float]:
        """The log likelihood, with its standard error."""
        w = self.weights.mean(axis=1)
        value = self.laplace + float(self.ratios.max() + np.log(w.mean()))
        return value, float(w.std(ddof=1) / w.mean() / np.sqrt(len(w)))

    @property
    def effective(self) -> float:
        """How many pairs of equal weight tell as much."""
        w = self.weights.mean(axis=1)
        return float(w.sum() ** 2 / (w * w).sum())

    @property
    def gap(self) -> tuple[np.ndarray, np.ndarray]:
        """The slope `(m,)` less Laplace's, and its Monte Carlo covariance."""
        w = self.weights / self.weights.sum()
        mean = np.einsum("sj,sjm->m", w, self.gaps)
        pairs = np.einsum("sj,sjm->sm", w, self.gaps - mean)
        return mean, pairs.T @ pairs


def sample(fit: ModeFit, seed: int) -> Sampled:
    """
    Draw from Laplace's normal, and weigh the draws.

    Notes
    -----
    log p(y) = log p_L(y) + log E exp(r), with r a log ratio; its slope is the expectation of the
    joint density's under the weights exp(r). A draw and its mirror image together have no terms
    of odd order.
    """
    mode, n = fit.mode, fit.model.nobs
    laplace, c = read_laplace(fit.model), fit.mode.coordinates
    laplace.u = mode.u
    prior = c.Lambdas(mode.x), c.precisions(mode.x)
    at = laplace.marginal(c.split(mode.x), *prior, joint=False)
    spread, latent, R = at.factor.spread, laplace.system.latent, laplace.random
    fixed = at.eta.copy()
    fixed[R] -= spread.eta(at.u)

    def joint(u: np.ndarray) -> tuple[float, np.ndarray]:
        eta = fixed.copy()
        eta[R] += spread.eta(u)
        rows = laplace.rows(eta, 1)
        by_coefficients = [X.T @ row for X, row in zip(laplace.X, rows.first, strict=True)]
        scores = zip(spread.collect(rows.first[R]), latent.split(u), strict=True)
        by_precision = [
            None
            if term.pattern is None
            else Precision(-0.5 * term.pattern.products(v, v), 0.5 * term.p)
            for term, v in zip(latent.terms, latent.split(u), strict=True)
        ]
        slope = c.pull(mode.x, by_coefficients, [s.T @ v for s, v in scores], by_precision)
        return float(rows.value.sum() - 0.5 * u @ spread.times_prior(u)), slope

    top = joint(at.u)[0]
    pairs, rng = int(np.clip(CELLS // n, FEWEST, DRAWS)), np.random.default_rng(seed)
    ratios, slopes = np.empty((pairs, 2)), np.empty((pairs, 2, c.size))
    for k in range(pairs):
        z = rng.standard_normal(latent.size)
        away = at.factor.solve_root(z, np.empty(0))[0]
        for j, u in enumerate((at.u + away, at.u - away)):
            height, slopes[k, j] = joint(u)
            ratios[k, j] = height - top + 0.5 * z @ z
    slope = c.pull(mode.x, at.by_coefficients, at.by_Lambda, at.by_precision)
    return Sampled(at.value, ratios, slopes - slope)


def shift_by_sampling(fit: ModeFit, found: Sampled) -> tuple[pd.Series, pd.Series]:
    """Estimate Laplace's estimates less the exact ones, and the Monte Carlo errors of that."""
    mode = fit.mode
    known = np.isfinite(np.diag(mode.covariance))
    covariance = mode.covariance[np.ix_(known, known)]
    units = covariance / np.sqrt(np.diag(covariance))[:, None]
    gap, noise = found.gap
    names = np.array(list(coordinate_names(fit)), dtype=object)[known]
    spread = np.sqrt(np.diag(units @ noise[np.ix_(known, known)] @ units.T))
    return pd.Series(-units @ gap[known], index=names), pd.Series(spread, index=names)
