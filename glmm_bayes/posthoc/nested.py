"""A posterior by nested approximations: outer parameters, then all else given these."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.draws import Draws, factors, split_outer
from glmm_bayes.engine.polynomials.composite import Interpolant, design_points
from glmm_bayes.engine.polynomials.surface import Guarded, Rest, fit_surface, in_units, systematic
from glmm_bayes.engine.polynomials.surrogate import fit_surrogate
from glmm_bayes.errors import ConvergenceError
from glmm_bayes.posthoc.given import Given, Node
from glmm_bayes.terms import RandomTerm

POOL = 8192  # draws of the outer parameters that stand for their density
MORE = 5  # draws of the surrogate for one of the density
KNEE = 1.2  # of a logarithm, from the middle: there the likelihood may begin to come to rest
ROUGH, BUDGET = 0.2, 60  # of a surrogate that only says about where the posterior is
MOST_SURVEYED, UNFIT = 5, 0.3  # variables of a surface; its error, where it does not fit
CLOSE, REACH = 0.05, 2.0  # a surrogate's error in its place; beyond sqrt(d), where it guesses
FEW = 0.3  # of the pool that is effective, below which it is drawn anew
LEAST = 1e-12  # of a variance
STEP = 1e-5  # between densities that make a slope

type Density = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Frame:
    """
    The outer parameters' own units, v = middle + root z, and how far their density reaches.

    Attributes
    ----------
    sorted_z
        `(P, d)` each column of the density's draws in these units, sorted.
    """

    rest: Rest
    middle: np.ndarray
    root: np.ndarray
    sorted_z: np.ndarray

    @classmethod
    def of(cls, psi: np.ndarray, rest: Rest) -> "Frame":
        """Take draws `(P, d)` apart along the principal axes of their covariance."""
        v = rest(rest.near(psi))
        middle, d = v.mean(axis=0), psi.shape[1]
        values, vectors = np.linalg.eigh(np.atleast_2d(np.cov(v.T)) if d else np.empty((0, 0)))
        root = vectors * np.sqrt(np.maximum(values, LEAST))
        return cls(rest, middle, root, np.sort(in_units(v, middle, root), axis=0))

    def z(self, psi: np.ndarray) -> np.ndarray:
        """Go to these units, `(S, d)`."""
        return in_units(self.rest(self.rest.near(psi)), self.middle, self.root)

    def points(self) -> np.ndarray:
        """Lay a design out, `(K, d)`, as far along each axis as the draws' quantiles are."""
        from scipy.special import ndtr

        wanted = design_points(len(self.middle))
        grid = (np.arange(len(self.sorted_z)) + 0.5) / len(self.sorted_z)
        z = np.empty_like(wanted)
        for j, column in enumerate(self.sorted_z.T):
            z[:, j] = np.interp(ndtr(wanted[:, j]), grid, column)
        return self.rest.inverse(self.middle + z @ self.root.T)


class Nested:
    """
    A posterior by integrating approximations over a design in the outer parameters psi.

    The log likelihood of psi is a polynomial through the target's (for many psi, a surrogate),
    plus one through what is gained at the points of a design. There effects and coefficients have
    mean, variance and skewness; in between, these are polynomials of psi.

    Parameters
    ----------
    target
        The log density of psi, with its gradient.
    given
        All else, given psi.
    surrogate
        Draws psi from about where its density is.

    Attributes
    ----------
    log_target, error
        The target's log density of many psi, without what is gained, and its standard error.
    nodes
        The points of the design.
    pool, weights
        `(P, d)` draws from the surrogate, and how much each counts, `(P,)` of sum one.

    Notes
    -----
    Rue, Martino & Chopin (2009), J. Royal Statistical Society B 71, 319-392; the mean is
    corrected as by van Niekerk, Krainski, Rustand & Rue (2023), Computational Statistics & Data
    Analysis 181, 107692.
    """

    def __init__(self, target: Any, given: Given, surrogate: Any) -> None:
        self.target, self.given, self.surrogate = target, given, surrogate
        self.pool, self.log_pool = surrogate.sample(np.random.default_rng(0), POOL)
        self.d = self.pool.shape[1]
        rest = find_rest(target, np.median(self.pool, axis=0))
        self.log_target, self.error = self._surveyed(rest, self._log_prior)
        self._first = self.pool, _weights(self.log_target(self.pool) - self.log_pool)
        self._design(rest, self._first[1])
        if 1.0 / np.square(self.weights).sum() < FEW * len(self.pool):
            self._start_again(rest)

    def _design(self, rest: Rest, weights: np.ndarray) -> None:
        self.frame = Frame.of(self.pool[systematic(weights, len(self.pool))], rest)
        nodes = [self.given.visit(point) for point in self.frame.points()]
        self.nodes: Sequence[Node] = [node for node in nodes if node is not None]
        if not self.nodes or nodes[0] is None:
            raise ConvergenceError(
                "Effects and coefficients have no normal approximation in the middle of the "
                "posterior; fit('nuts') needs none."
            )
        psi = np.stack([node.psi for node in self.nodes])
        variance = np.stack([n.variance for n in self.nodes]) / self._scales(psi) ** 2
        log_variance = np.log(np.maximum(variance, LEAST))
        values = [
            np.concatenate([[n.gain], n.mean, v, n.skewness])
            for n, v in zip(self.nodes, log_variance, strict=True)
        ]
        self.through = Interpolant.through(self.frame.z(psi), np.stack(values))
        self.weights = _weights(self.log_density(self.pool) - self.log_pool)

    def _start_again(self, rest: Rest) -> None:
        """Draw from about where the density has turned out to be, and lay the design out there."""
        middle, covariance = moments_of(self.pool, self.weights)
        root = np.linalg.cholesky(covariance + LEAST * np.eye(self.d))
        self.surrogate = fit_surrogate(self._density_with_slope, middle, root, tolerance=ROUGH)
        self.pool, self.log_pool = self.surrogate.sample(np.random.default_rng(0), POOL)
        weights = _weights(self.log_density(self.pool) - self.log_pool)
        if self.d <= MOST_SURVEYED:
            self.log_target, self.error = self._surveyed(
                rest, lambda psi: self._log_prior(psi) + self.gain(psi)
            )
        self._design(rest, weights)

    def _density_with_slope(self, psi: np.ndarray) -> tuple[float, np.ndarray]:
        """Give the log density at one psi and its slope, by differences: it costs little."""
        return _with_slope(self.log_density, psi)

    # ---- outer parameters

    def _surveyed(self, rest: Rest, beside: Density) -> tuple[Density, float]:
        """
        Give the target's log density `(S,)` as a function of psi `(S, d)`, and its error.

        A surface of the log likelihood, and the prior; of many variables, or where no surface
        fits, a closer surrogate.
        """
        if not self.d:
            return lambda psi: np.zeros(len(psi)), 0.0
        if self.d <= MOST_SURVEYED:
            surface = fit_surface(self._log_likelihood, rest, self.pool, self.log_pool, beside)
            if surface.error < UNFIT:
                return lambda psi: surface(psi) + self._log_prior(psi), surface.error
        middle, covariance = moments_of(self.pool, np.full(len(self.pool), 1 / len(self.pool)))
        root = np.linalg.cholesky(covariance)
        close = fit_surrogate(self.target, np.median(self.pool, axis=0), root, tolerance=CLOSE)
        return Guarded(close, middle, root, np.sqrt(self.d) + REACH), close.error

    def _log_likelihood(self, psi: np.ndarray) -> tuple[float, np.ndarray]:
        value, slope = self.target(psi)
        prior, by_psi = _with_slope(self._log_prior, psi)
        return value - prior, slope - by_psi

    def _log_prior(self, psi: np.ndarray) -> np.ndarray:
        return np.asarray(self.target.log_prior.densities(self.target.tiled(psi))[1])

    def gain(self, psi: np.ndarray) -> np.ndarray:
        """Give what the log density of psi `(S, d)` has beyond the target's, up to a constant."""
        return self.through(self.frame.z(psi), slice(0, 1))[:, 0]

    def log_density(self, psi: np.ndarray) -> np.ndarray:
        """Give the log density of psi `(S, d)`, up to a constant."""
        return self.log_target(psi) + self.gain(psi)

    def sample(self, rng: np.random.Generator, size: int) -> np.ndarray:
        """Draw psi `(size, d)`: by resampling from more draws of the surrogate."""
        if not self.d:
            return np.zeros((size, 0))
        psi, log_proposal = self.surrogate.sample(rng, MORE * size)
        weights = _weights(self.log_density(psi) - log_proposal)
        return psi[rng.permutation(systematic(weights, size))]

    @cached_property
    def moved(self) -> float:
        """How far gains move the means of psi, at most, in standard deviations."""
        if not self.d:
            return 0.0
        middle, covariance = moments_of(*self._first)
        gap = self.weights @ self.pool - middle
        return float(np.abs(gap / np.sqrt(np.diag(covariance))).max())

    # ---- effects and coefficients

    @property
    def size(self) -> int:
        """How many numbers have moments: see `Node`."""
        return len(self.nodes[0].mean)

    def moments(
        self, psi: np.ndarray, columns: slice | np.ndarray = slice(None)
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Give mean, standard deviation and skewness `(S, m)` of some numbers given psi."""
        z, at = self.frame.z(psi), np.arange(self.size)[columns]
        mean, log_variance, skewness = (self.through(z, 1 + j * self.size + at) for j in range(3))
        return mean, self._scales(psi)[:, at] * np.exp(0.5 * log_variance), skewness

    def _scales(self, psi: np.ndarray) -> np.ndarray:
        """Give the effects' standard deviations without any data `(S, M)`; 1 for coefficients."""
        found = np.ones((len(psi), len(self.nodes[0].mean)))
        theta = self.target.log_prior.densities(self.target.tiled(psi))[0]
        named = {name: theta[:, at] for name, at in self.target.model.layout.items()}
        k = self.given.k
        for term, at in zip(self.target.model.design.terms, self.given.latent.places, strict=True):
            spread = prior_spread(term, named)
            found[:, k + at.start : k + at.stop] = np.tile(spread, len(term.levels))
        return found

    def draw(self, rng: np.random.Generator, chains: int, draws: int) -> tuple[Draws, Any]:
        """
        Draw everything, independently.

        Returns
        -------
        draws, statistics
            `log_marginal` is the log density of psi, up to a constant.
        """
        import xarray as xr

        psi = self.sample(rng, chains * draws)
        given = self._drawn(rng, psi)
        gamma = _inside(given[:, : self.given.k], self.target.prior)
        effects = given[:, self.given.k :]
        model = self.target.model
        beta, constants, structures = split_outer(model, self.target.theta(psi, gamma))
        b = {
            term.name: effects[:, at].reshape(-1, len(term.levels), term.size)
            for term, at in zip(model.design.terms, self.given.latent.places, strict=True)
        }
        value = (["chain", "draw"], self.log_density(psi).reshape(chains, draws))
        coords = {"chain": np.arange(chains), "draw": np.arange(draws)}
        statistics = xr.Dataset({"log_marginal": value}, coords)
        return Draws(beta, constants, structures, b, chains), statistics

    def _drawn(self, rng: np.random.Generator, psi: np.ndarray) -> np.ndarray:
        """
        Draw coefficients and effects `(S, k + N)` given psi `(S, d)`.

        Deviations from the mean are those at the nearest point of the design, in the standard
        deviations at psi itself.
        """
        nearest, Q = self._nearest(psi), self.given.k + self.given.N
        found = np.empty((len(psi), Q))
        for j, node in enumerate(self.nodes):
            at = np.flatnonzero(nearest == j)
            if len(at):
                deviations = self.given.deviations(node, rng, len(at))
                mean, sd, _ = self.moments(psi[at], slice(0, Q))
                own = self.moments(node.psi[None], slice(0, Q))[1]
                found[at] = mean + deviations * sd / own
        return found

    def _nearest(self, psi: np.ndarray) -> np.ndarray:
        z = self.frame.z(psi)
        points = self.frame.z(np.stack([node.psi for node in self.nodes]))
        apart = np.square(points).sum(axis=1) - 2 * z @ points.T
        return np.asarray(apart.argmin(axis=1))


def find_rest(target: Any, middle: np.ndarray) -> Rest:
    """
    Tell which outer parameters lead to simpler models, and about where.

    The logarithms of terms' standard deviations on the left; on the right those of the family's
    constants that have no unit, such as the negative binomial's, which goes to Poisson's.
    """
    model, c = target.model, target.coordinates
    low, high = np.full(c.size, np.nan), np.full(c.size, np.nan)
    for parameter, at in zip(model.family.parameters, c.coefficients, strict=True):
        endless = parameter.support[1] == np.inf and not parameter.scaled
        if parameter.name in model.constants and endless:
            high[at] = KNEE
    for term, at in zip(model.design.terms, c.factors, strict=True):
        parameters = term.structure.parameters(term.size)
        places = [model.layout[f"{p.name}_{term.name}"] for p in parameters]
        value = np.concatenate([np.empty(0), *(c.outer.value[s] for s in places)])
        logs = np.repeat(
            [p.support == (0.0, np.inf) for p in parameters], [p.size for p in parameters]
        )
        low[at] = np.where(logs[np.isnan(value)], -KNEE, np.nan)
    return Rest(low[target.outer] + middle, high[target.outer] + middle)


def prior_spread(term: RandomTerm, theta: dict[str, np.ndarray]) -> np.ndarray:
    """Give the standard deviations `(S, p)` of a term's columns, without any data."""
    name = f"sd_{term.name}"
    if name in theta:
        return np.broadcast_to(theta[name], (len(theta[name]), term.size))
    return np.asarray(np.sqrt(np.square(factors(term, theta)).sum(axis=2)))


def moments_of(psi: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Give mean `(d,)` and covariance `(d, d)` of weighted draws."""
    middle = weights @ psi
    return middle, (psi - middle).T @ (weights[:, None] * (psi - middle))


def _with_slope(density: Any, psi: np.ndarray) -> tuple[float, np.ndarray]:
    moves = STEP * np.vstack([np.zeros(len(psi)), np.eye(len(psi)), -np.eye(len(psi))])
    value, *beside = density(psi + moves)
    up, down = np.split(np.array(beside), 2)
    return float(value), (up - down) / (2 * STEP)


def _weights(log_weights: np.ndarray) -> np.ndarray:
    found = np.exp(log_weights - log_weights.max())
    return found / found.sum()


def _inside(gamma: np.ndarray, prior: Any) -> np.ndarray:
    """Turn back what has left the prior's support."""
    gamma = np.where(gamma > prior.lower, gamma, 2 * prior.lower - gamma)
    return np.where(gamma < prior.upper, gamma, 2 * prior.upper - gamma)
