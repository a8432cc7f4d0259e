"""NUTS over the few parameters that are left when the random effects are integrated out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import xarray as xr

from glmm_bayes.density import read_density
from glmm_bayes.draws import Draws, beta_name, split_outer
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.density.joint import Joint, Placed
from glmm_bayes.engine.laplace import Laplace
from glmm_bayes.engine.latent import Precision, Precisions
from glmm_bayes.engine.normal_marginal import NormalMarginal
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.inference.by_nutpie import NO_MODE, by_chain, python_model, run
from glmm_bayes.inference.classes import ByMasses
from glmm_bayes.model import Model
from glmm_bayes.modes.correlated import read_normal, refuse_student
from glmm_bayes.modes.reading import has_masses, read_gaussian, read_laplace
from glmm_bayes.modes.search import FAILURES
from glmm_bayes.modes.whitening import outer_frame
from glmm_bayes.posthoc.weighed import Weights

type Slopes = tuple[float, Sequence[Any], Sequence[np.ndarray], Precisions]


class Marginal(Protocol):
    """
    What is left of the likelihood.

    Attributes
    ----------
    is_exact
        Whether the effects are integrated out, and drawn, exactly.
    """

    is_exact: bool

    def value_and_slopes(
        self, coefficients: list[np.ndarray], Lambdas: list[np.ndarray], precisions: Precisions
    ) -> Slopes:
        """
        Give log p(y) and its slopes by every predictor's coefficients, Lambda and precision.

        Precisions are those between the levels of each term, None where these are independent;
        and last, if residuals have a structure, theirs.
        """

    def draw(
        self,
        coefficients: list[np.ndarray],
        Lambdas: list[np.ndarray],
        precisions: Precisions,
        z: np.ndarray,
    ) -> tuple[list[np.ndarray], float]:
        """Make a draw of every term's effects of standard normals `(N,)`; its log weight."""


class ByNormal:
    """A normal response, on cross-products."""

    is_exact = True

    def __init__(self, model: Model) -> None:
        gaussian = read_gaussian(model)
        _refuse_without_root(gaussian.system)
        self._marginal, self._link = NormalMarginal(gaussian), model.links["sigma"]

    def value_and_slopes(
        self, coefficients: list[np.ndarray], Lambdas: list[np.ndarray], precisions: Precisions
    ) -> Slopes:
        """See `Marginal`."""
        gamma, constant = coefficients
        value, by_gamma, by_sigma, by_Lambda = self._marginal(
            gamma, float(self._link.linkinv(constant)[0]), Lambdas
        )
        by_coefficients = [by_gamma, by_sigma * self._link.slope(constant)]
        return value, by_coefficients, by_Lambda, precisions

    def draw(
        self,
        coefficients: list[np.ndarray],
        Lambdas: list[np.ndarray],
        precisions: Precisions,
        z: np.ndarray,
    ) -> tuple[list[np.ndarray], float]:
        """See `Marginal`."""
        gamma, constant = coefficients
        sigma = float(self._link.linkinv(constant)[0])
        return self._marginal.draw_effects(gamma, sigma, Lambdas, z), 0.0


class ByLaplace:
    """Any response, by Laplace's approximation."""

    is_exact = False

    def __init__(self, model: Model) -> None:
        self._laplace: Laplace = read_laplace(model)
        _refuse_without_root(self._laplace.system)

    def value_and_slopes(
        self, coefficients: list[np.ndarray], Lambdas: list[np.ndarray], precisions: Precisions
    ) -> Slopes:
        """See `Marginal`."""
        found = self._tried_twice(
            lambda: self._laplace.marginal(coefficients, Lambdas, precisions, joint=False)
        )
        return found.value, found.by_coefficients, found.by_Lambda, found.by_precision

    def draw(
        self,
        coefficients: list[np.ndarray],
        Lambdas: list[np.ndarray],
        precisions: Precisions,
        z: np.ndarray,
    ) -> tuple[list[np.ndarray], float]:
        """See `Marginal`."""
        ascent, at, factor = self._tried_twice(
            lambda: self._laplace.ascended(coefficients, Lambdas, precisions, joint=False)
        )
        step, _ = factor.solve_root(z, np.empty(0))
        eta = at.eta.copy()
        eta[ascent.random] += ascent.spread.eta(step)
        drawn = ascent.point(at.u + step, at.gamma, eta)
        effects = self._laplace.system.latent.effects(drawn.u, Lambdas)
        return list(effects), drawn.value - (at.value - 0.5 * float(z @ z))

    def _tried_twice[T](self, climb: Callable[[], T]) -> T:
        """Climb from the last mode, or from zero where that does not lead to one."""
        try:
            return climb()
        except FAILURES:
            self._laplace.u = np.zeros_like(self._laplace.u)
            return climb()


class ByCorrelated:
    """A normal response whose residuals vary together."""

    is_exact = True

    def __init__(self, model: Model) -> None:
        self._normal = read_normal(model)

    def value_and_slopes(
        self, coefficients: list[np.ndarray], Lambdas: list[np.ndarray], precisions: Precisions
    ) -> Slopes:
        """See `Marginal`."""
        found = self._normal.marginal(coefficients, Lambdas, precisions, joint=False)
        return found.value, found.by_coefficients, found.by_Lambda, found.by_precision

    def draw(
        self,
        coefficients: list[np.ndarray],
        Lambdas: list[np.ndarray],
        precisions: Precisions,
        z: np.ndarray,
    ) -> tuple[list[np.ndarray], float]:
        """See `Marginal`."""
        found = self._normal.solved(coefficients, Lambdas, precisions, joint=False)
        u, _ = found.draw(z, np.empty(0))
        return list(self._normal.system.latent.effects(u, Lambdas)), 0.0


def _refuse_without_root(system: Any) -> None:
    if not system.has_root:
        raise NotSupportedError(
            "So many levels meet that the random effects have no factor to draw them by; "
            "use sampler='nutpie'."
        )


def read_marginal(model: Model) -> Marginal:
    """
    Choose how the effects are integrated out.

    Raises
    ------
    NotSupportedError
        If their equations have no exact factor.
    """
    if has_masses(model):
        return ByMasses(model)
    refuse_student(model, "sampler='collapsed'")
    if model.design.residual is not None:
        return ByCorrelated(model)
    independent = all(term.level_structure.pairs is None for term in model.design.terms)
    alone = set(model.design.predictors) == {"mu"}
    if model.family.normal and model.links["mu"].name == "identity" and alone and independent:
        return ByNormal(model)
    return ByLaplace(model)


@dataclass(frozen=True, eq=False)
class OuterDensity:
    """
    The log density of the outer parameters, along axes from a centre.

    Attributes
    ----------
    centre, axes
        `(d,)` and `(d, d)`, on the unconstrained scale.
    """

    model: Model
    joint: Joint
    marginal: Marginal
    centre: np.ndarray
    axes: np.ndarray

    def place(self, z: np.ndarray) -> np.ndarray:
        """Give the outer parameters `(d,)` on the unconstrained scale."""
        return self.centre + self.axes @ z

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate at z `(d,)`, up to a constant, with the gradient; minus infinity for failure."""
        # The sampler's threads do not have the caller's settings.
        with np.errstate(all="ignore"):
            return self._evaluated(z)

    def _evaluated(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        outer, x = self.joint.outer, self.place(z)
        theta = outer.constrain(x)
        log_jacobian, score, slope = outer.jacobian(x, theta)
        prior, by_theta = outer.log_prior(theta)
        try:
            value, by_coefficients, by_Lambda, by_precision = self.marginal.value_and_slopes(
                *self.parts(theta)
            )
        except FAILURES:
            return -np.inf, np.zeros_like(z)
        for parameter, by in zip(self.model.family.parameters, by_coefficients, strict=True):
            name = parameter.name
            if name in self.model.constants:
                at, link = self.model.layout[name], self.model.links[name]
                by_theta[at] += by / link.slope(link.linkfun(theta[at]))
            else:
                by_theta[self.model.layout.get(beta_name(name), slice(0, 0))] += by
        for term, by in zip(self.joint.effects, by_Lambda, strict=True):
            given = {key: theta[at] for key, at in term.theta.items()}
            for key, part in term.structure.pullback(given, term.p, by).items():
                by_theta[term.theta[key]] += part
        for between, by_Q in zip(self._betweens, by_precision, strict=True):
            if between is not None and by_Q is not None:
                found = between.back(theta, by_Q.values, by_Q.log_determinant)
                for key, part in found.items():
                    by_theta[between.theta[key]] += part
        total = value + prior + log_jacobian
        return float(total), self.axes.T @ (outer.pull(by_theta, theta, slope) + score)

    @property
    def _betweens(self) -> list[Placed | None]:
        """How the levels of each term vary together, and last the residuals, if these do."""
        found = [term.placed for term in self.joint.effects]
        return found if self.joint.together is None else [*found, self.joint.together.between]

    def parts(
        self, theta: np.ndarray
    ) -> tuple[list[np.ndarray], list[np.ndarray], list[Precision | None]]:
        """Give every predictor's coefficients or constant, linked; the factors; the precisions."""
        model, coefficients = self.model, []
        for parameter in model.family.parameters:
            name = parameter.name
            if name in model.constants:
                coefficients.append(model.links[name].linkfun(theta[model.layout[name]]))
            else:
                coefficients.append(theta[model.layout.get(beta_name(name), slice(0, 0))])
        precisions = [None if b is None else b.precision(theta) for b in self._betweens]
        return coefficients, [term.factor(theta) for term in self.joint.effects], precisions


def sample(
    model: Model, seed: int, settings: Mapping[str, Any], options: Mapping[str, Any]
) -> tuple[Draws, xr.Dataset]:
    """
    Draw the outer parameters by nutpie, then the effects given them.

    Raises
    ------
    ConvergenceError
        If there is no mode to start from.
    NotSupportedError
        If the effects' equations have no exact factor, or no parameter is left.
    """
    joint = read_density(model, dict.fromkeys([term.name for term in model.design.terms], False))
    if joint.outer.size == 0:
        raise NotSupportedError("No parameter is left to sample; use sampler='nutpie'.")
    with one_thread(), np.errstate(all="ignore"):
        read_marginal(model)  # before the search, which takes longer than to refuse
        try:
            centre, axes = outer_frame(model, joint)
        except NO_MODE as error:
            raise ConvergenceError(
                f"There is no mode to start from ({error}); use sampler='nutpie'."
            ) from error

        def density() -> OuterDensity:
            # Of its own for each chain: where Newton's method starts is where it has been last.
            return OuterDensity(model, joint, read_marginal(model), centre, axes)

        first = density()
        compiled = python_model(len(centre), density, first.place, by_chain(_start(first)))
        x, statistics = run(compiled, seed, settings, options)
        # Not by `first`: where it has been last depends on which chain started last.
        draws, log_weights = _with_effects(density(), x, np.random.default_rng(seed))
    statistics.attrs["notes"] = _said(first.marginal, log_weights)
    return draws, statistics


def _start(density: OuterDensity) -> Callable[[np.random.Generator], np.ndarray]:
    """Make starts that are spread wider than the posterior."""

    def start(rng: np.random.Generator) -> np.ndarray:
        for shrink in (1.0, 0.5, 0.1, 0.01) * 5:
            point = shrink * rng.uniform(-2.0, 2.0, len(density.centre))
            if np.isfinite(density(point)[0]):
                return point
        raise ConvergenceError(
            "The marginal posterior is not finite around its mode; use sampler='nutpie'."
        )

    return start


def _with_effects(
    density: OuterDensity, x: np.ndarray, rng: np.random.Generator
) -> tuple[Draws, np.ndarray]:
    """Draw the effects given outer parameters `(chains, draws, d)`; and the log weights `(S,)`."""
    joint, model = density.joint, density.model
    theta = joint.outer.constrain(x.reshape(-1, x.shape[2]))
    names = [term.name for term in model.design.terms]
    effects = {
        name: np.empty((len(theta), term.q, term.p))
        for name, term in zip(names, joint.effects, strict=True)
    }
    log_weights = np.zeros(len(theta))
    for i, row in enumerate(theta):
        z = rng.standard_normal(joint.size - joint.outer.size)
        drawn, log_weights[i] = density.marginal.draw(*density.parts(row), z)
        for name, b in zip(names, drawn, strict=True):
            effects[name][i] = b
    beta, constants, structures = split_outer(model, theta)
    return Draws(beta, constants, structures, effects, len(x)), log_weights


def _said(marginal: Marginal, log_weights: np.ndarray) -> str:
    if marginal.is_exact:
        return "Random effects integrated out, and drawn given the other parameters, exactly."
    weights = Weights(log_weights)
    told = (
        "Random effects integrated out, and drawn, by Laplace's approximation: fit('posthoc') is "
        f"exact. Weights that would make these draws exact have {weights}"
    )
    if weights.reliable:
        return f"{told}: the approximation is close."
    return f"{told}, which does not bear the approximation out: see fit('ml').laplace_check()."
