"""What a search found: the maximum, its curvature, and whether it can be trusted."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.density import rising
from glmm_bayes.design import Design
from glmm_bayes.draws import Draws, split_outer, uncentred
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.rows import row_arms
from glmm_bayes.modes.star import ARM, Later
from glmm_bayes.terms import RandomTerm


@dataclass(frozen=True, eq=False)
class Mode:
    """
    A maximum of a model's (restricted, penalised) marginal likelihood.

    Attributes
    ----------
    coordinates, x
        The free parameters `(m,)` there.
    loglik
        The natural logarithm of the likelihood, every constant included; without any prior.
    covariance
        `(m, m)` the inverse of minus the Hessian by x, of what was maximised; NaN for coordinates
        at an edge.
    gradient
        `(m,)` of what was maximised, in standard errors of each coordinate.
    decrement
        How much higher, in log likelihood, a quadratic of this curvature would still rise.
    u
        `(N,)` the conditional mode of the effects, in standard units.
    factor
        The effects' negative Hessian there (with the coefficients, if `joint`), factored; over
        `scale` squared.
    scale
        The effects' unit: sigma where it is profiled out, else 1.
    eta
        `(P, n)` the predictors at the mode, rows in the order of the effects' linear algebra.
    evaluations
        Of the marginal likelihood.
    problems
        In words, with their remedies; empty where the maximum can be trusted.
    effects_at
        Gives the conditional modes of every term's effects at another x.
    notes
        In words, what is to be known of the method itself.
    cautions
        In words, what the maximum says little of, though it is one.
    """

    coordinates: Coordinates
    x: np.ndarray
    loglik: float
    covariance: np.ndarray
    gradient: np.ndarray
    decrement: float
    u: np.ndarray
    factor: Any
    joint: bool
    scale: float
    eta: np.ndarray
    evaluations: int
    problems: tuple[str, ...]
    effects_at: Callable[[np.ndarray], Sequence[np.ndarray]]
    notes: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def converged(self) -> bool:
        """Whether the search ended at a maximum."""
        return not self.problems

    @cached_property
    def theta(self) -> np.ndarray:
        """The outer parameters in the model's layout."""
        return self.coordinates.theta(self.x)

    @cached_property
    def named_theta(self) -> dict[str, np.ndarray]:
        """The parameters of the terms' structures, by name as `Draws.theta` has them."""
        values = split_outer(self.coordinates.model, self.theta[None])[2]
        return {name: value[0] for name, value in values.items()}

    @cached_property
    def Lambdas(self) -> dict[str, np.ndarray]:
        """Every term's factor, by its name."""
        names = [term.name for term in self.coordinates.model.design.terms]
        return dict(zip(names, self.coordinates.Lambdas(self.x), strict=True))

    @cached_property
    def effects(self) -> dict[str, np.ndarray]:
        """Every term's b `(q, p)`, by its name."""
        latent = self.factor.spread.system.latent
        # Where sigma is profiled, u is in units of sigma Lambda, and was solved for times sigma.
        b = latent.effects(self.u, self.factor.spread.Lambdas)
        return dict(zip(self.Lambdas, b, strict=True))

    @cached_property
    def effect_variances(self) -> dict[str, np.ndarray]:
        """Every term's `(q, p, p)`, the variances of its levels' effects given the parameters."""
        only = self.factor.effects_only()
        return {
            name: self.scale**2 * (L @ part @ L.T)
            for name, L, part in zip(
                self.Lambdas, only.spread.Lambdas, only.variances(), strict=True
            )
        }

    # ---- the curvature

    @cached_property
    def determined(self) -> bool:
        """Whether the curvature gives a variance to whatever is not at an edge."""
        inside = ~self.coordinates.idle(self.x)
        return bool(np.isfinite(self.covariance[np.ix_(inside, inside)]).all())

    @cached_property
    def gamma_covariance(self) -> dict[str, np.ndarray]:
        """By predictor, the covariance `(k, k)` of its centred coefficients; 0 for those held."""
        return {
            name: self._covariance_of(places, places) for name, places in self._coefficients.items()
        }

    @cached_property
    def beta_covariance(self) -> np.ndarray:
        """The covariance `(K, K)` of all predictors' coefficients, in order; 0 for those held."""
        at = np.concatenate(
            [self._coefficients[p] for p in self.coordinates.model.design.predictors]
        )
        return self._turn.T @ self._covariance_of(at, at) @ self._turn

    def coefficients_of(self, moves: np.ndarray) -> np.ndarray:
        """Give all predictors' coefficients' part `(S, K)` of moves `(S, m)` along x."""
        at = np.concatenate(
            [self._coefficients[p] for p in self.coordinates.model.design.predictors]
        )
        return np.where(at < 0, 0.0, moves[:, at]) @ self._turn

    @property
    def _all_coefficients(self) -> np.ndarray:
        places = self._coefficients
        return np.concatenate([places[name] for name in self.coordinates.model.design.predictors])

    @cached_property
    def _turn(self) -> np.ndarray:
        """What turns rows of centred coefficients into those of the columns themselves."""
        model, places = self.coordinates.model, self._coefficients
        sizes = [len(places[name]) for name in model.design.predictors]
        units = np.split(np.eye(sum(sizes)), np.cumsum(sizes)[:-1], axis=1)
        named = dict(zip(model.design.predictors, units, strict=True))
        return np.hstack(list(uncentred(model, named).values()))

    @property
    def _coefficients(self) -> dict[str, np.ndarray]:
        """By predictor, where its coefficients stand in x; -1 for those held."""
        c, found = self.coordinates, {}
        for parameter, at, held in zip(
            c.model.family.parameters, c.coefficients, c.held, strict=True
        ):
            if parameter.name not in c.model.constants:
                found[parameter.name] = np.full(len(held), -1)
                found[parameter.name][np.isnan(held)] = np.arange(at.start, at.stop)
        return found

    def _covariance_of(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        held = (rows < 0)[:, None] | (columns < 0)
        return np.where(held, 0.0, self.covariance[np.ix_(rows, columns)])

    @cached_property
    def axes(self) -> np.ndarray:
        """A root `(m, d)` of the covariance; what is at an edge does not move."""
        if not self.determined:
            return np.full((len(self.x), 1), np.nan)
        inside = np.flatnonzero(~self.coordinates.idle(self.x))
        axes = np.zeros((len(self.x), len(inside)))
        values, vectors = np.linalg.eigh(self.covariance[np.ix_(inside, inside)])
        axes[inside] = vectors * np.sqrt(np.maximum(values, 0.0))
        return axes

    # ---- as draws

    def estimates(self) -> Draws:
        """Give the maximum as one draw, the effects at their modes."""
        effects = Later(list(self.Lambdas), lambda: {k: b[None] for k, b in self.effects.items()})
        return self._named(self.x[None], effects)

    def at(self, x: np.ndarray) -> Draws:
        """Give the outer parameters at other x `(S, m)`, as S draws without effects."""
        return self._named(x, {})

    def star(self) -> Draws:
        """
        Give the maximum, and two points beside it along every principal axis, as 1 + 2d draws.

        The points stand `ARM` standard deviations off, the effects at their modes there, which
        are computed when they are asked for: half the differences of a function of the parameters
        between two opposite points, over `ARM`, are its slopes along the axes, whose squares sum
        to its variance by the delta method. All are NaN where the curvature gives none.
        """
        return self._named(self._points, Later(list(self.Lambdas), lambda: self.star_effects))

    def sample(self, rng: np.random.Generator, size: int) -> Draws:
        """
        Draw from the normal approximation at the maximum.

        The parameters are normal in the search's coordinates; the effects' modes move linearly
        with them, and about these the effects are normal with their conditional covariance at
        the maximum.

        Raises
        ------
        NotSupportedError
            If the curvature gives no variance.
        """
        if not self.determined:
            raise NotSupportedError(
                "There is no normal approximation to draw from: the likelihood has no proper "
                "maximum here; simplify the model, or give it priors and use fit('map')."
            )
        z = rng.standard_normal((size, self.axes.shape[1]))
        while len(crossed := np.flatnonzero(self._cross(self.x + z @ self.axes.T))):
            z[crossed] = rng.standard_normal((len(crossed), z.shape[1]))
        return self._named(self.x + z @ self.axes.T, self._sampled_effects(rng, z))

    def _cross(self, x: np.ndarray) -> np.ndarray:
        """Tell where what has to ascend, as thresholds, does not."""
        ascending = rising(self.coordinates.model)
        if not len(ascending):
            return np.zeros(len(x), dtype=bool)
        theta = np.stack([self.coordinates.theta(point)[ascending] for point in x])
        return (np.diff(theta, axis=1) <= 0).any(axis=1)

    def row_arms(self, design: Design, groups: str) -> dict[str, np.ndarray]:
        """Give how rows vary with the effects, the parameters given: see `modes.rows.row_arms`."""
        return row_arms(self, design, groups)

    @cached_property
    def star_effects(self) -> dict[str, np.ndarray]:
        """By term, the effects' modes `(1 + 2d, q, p)` at the points of the star."""
        points = self._points[1:]
        if self.determined and self.effects:
            found = [self.effects_at(point) for point in points]
        else:
            found = [[np.full_like(b, np.nan) for b in self.effects.values()] for _ in points]
        return {
            name: np.stack([b, *(part[k] for part in found)])
            for k, (name, b) in enumerate(self.effects.items())
        }

    @property
    def _points(self) -> np.ndarray:
        arms = ARM * self.axes.T
        return np.concatenate([self.x[None], self.x + arms, self.x - arms])

    def _named(self, x: np.ndarray, effects: Mapping[str, np.ndarray]) -> Draws:
        theta = np.stack([self.coordinates.theta(point) for point in x])
        beta, constants, structures = split_outer(self.coordinates.model, theta)
        return Draws(beta, constants, structures, effects, chains=1)

    def _sampled_effects(self, rng: np.random.Generator, z: np.ndarray) -> dict[str, np.ndarray]:
        if not self.effects:
            return {}
        d, only = z.shape[1], self.factor.effects_only()
        latent, none = only.spread.system.latent, np.empty(0)
        # What is drawn about the modes, a term after the other.
        noise = [
            latent.effects(
                self.scale * only.solve_root(rng.standard_normal(latent.size), none)[0],
                only.spread.Lambdas,
            )
            for _ in z
        ]
        found = {}
        for k, (name, b) in enumerate(self.star_effects.items()):
            slopes = (b[1 : 1 + d] - b[1 + d :]) / (2 * ARM)
            moved = np.tensordot(z, slopes, axes=1)
            found[name] = b[0] + moved + np.stack([part[k] for part in noise])
        return found


@dataclass(frozen=True, eq=False)
class Singular:
    """A component at the edge: a zero variance, or a singular covariance of a term's columns."""

    term: str
    words: str


def singular_parts(coordinates: Coordinates, x: np.ndarray) -> tuple[Singular, ...]:
    """List the components at an edge, in words."""
    terms = coordinates.model.design.terms
    return tuple(
        part
        for term, L in zip(terms, coordinates.Lambdas(x), strict=True)
        for part in _edges_of(term, L)
    )


def _edges_of(term: RandomTerm, L: np.ndarray) -> Iterator[Singular]:
    sd = np.sqrt((L * L).sum(axis=1))
    if term.common and not sd.any():
        yield Singular(term.name, f"the standard deviation of {term.label} is estimated as zero")
        return
    for column in [c for c, s in zip(term.columns, sd, strict=True) if s == 0]:
        yield Singular(
            term.name,
            f"the standard deviation of {column} between levels of {term.label} is estimated "
            f"as zero",
        )
    inside = np.flatnonzero(sd > 0)
    if not len(inside):
        return
    corr = (L @ L.T)[np.ix_(inside, inside)] / np.outer(sd[inside], sd[inside])
    values = np.linalg.eigvalsh(corr)
    rank = min(term.structure.rank(term.size), len(values))
    if values[-rank] < 1e-10 * values[-1]:
        columns = " and ".join(term.columns[k] for k in inside)
        found = "as perfectly correlated" if rank == len(values) else f"of less than {rank} factors"
        yield Singular(term.name, f"the effects of {columns} on {term.label} are estimated {found}")
