"""The likelihood of a Gaussian response whose residuals are correlated."""

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from glmm_bayes.engine.algebra.dense import Dense
from glmm_bayes.engine.correlated import CorrelatedNormal
from glmm_bayes.engine.correlated_student import CorrelatedStudent
from glmm_bayes.engine.gaussian import Gaussian
from glmm_bayes.engine.latent import Pattern, Precision
from glmm_bayes.engine.turning import Turning
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.gaussian import GaussianObjective
from glmm_bayes.modes.reading import centred_columns, read_latent

MOST_ROWS = 3000  # that vary together, whose precision, if no band, is factored as a dense matrix
MOST_ENTRIES = 20_000_000  # of the columns of effects, written out


def read_turning(model: Model) -> Turning:
    """
    Read which rows vary together.

    Raises
    ------
    NotSupportedError
        If there are too many rows or effects to be written out.
    """
    residual, size = model.design.residual, read_latent(model).size
    assert residual is not None
    turning = Turning(Pattern(model.nobs, residual.pairs), residual.rank)
    most = 1 if turning.is_narrow else int(np.bincount(turning.label).max())
    if most > MOST_ROWS or model.nobs * size > MOST_ENTRIES:
        raise NotSupportedError(
            f"{residual.text!r} has {np.bincount(turning.label).max()} rows that vary together, "
            f"beside {size} effects, which is too many for the dense matrices this "
            f"takes; as a random term in the first formula it has no such limit."
        )
    return turning


def read_correlated(model: Model) -> CorrelatedNormal | CorrelatedStudent:
    """Build the exact likelihood by all parameters; it has what Laplace's method has."""
    return read_normal(model) if model.family.degrees is None else _read_student(model)


def _read_student(model: Model) -> CorrelatedStudent:
    if model.design.terms:
        raise NotSupportedError(
            f"Random effects beside t residuals of {model.design.residual.text!r} "  # type: ignore[union-attr]
            f"are not integrated out, so that there is no maximum: use fit('nuts'), which draws "
            f"them, or family='gaussian'."
        )
    names = [p.name for p in model.family.parameters]
    predictors, links = model.design.predictors, [model.links[name] for name in names[1:]]
    offset = [predictors[p].offset if p in predictors else np.zeros(model.nobs) for p in names]
    X = [centred_columns(model, p) for p in names]
    return CorrelatedStudent(
        model.design.y, X, np.stack(offset), [link.linkinv for link in links],
        [link.slope for link in links], Dense.build(read_latent(model), X[0]),
        read_turning(model), names[2],
    )  # fmt: skip


def refuse_student(model: Model, what: str) -> None:
    """Raise NotSupportedError where residuals are t together, for which `what` is not built."""
    residual = model.design.residual
    if residual is not None and model.family.degrees is not None:
        raise NotSupportedError(
            f"With 'residual ~ {residual.text}' of a {model.family.name!r} response, {what} is not "
            f"built: use fit('nuts') or, without random effects, fit('ml') or fit('map')."
        )


def read_normal(model: Model) -> CorrelatedNormal:
    """Build that of a normal response."""
    turning, predictors = read_turning(model), model.design.predictors
    X = [centred_columns(model, p) for p in ("mu", "sigma")]
    offset = [predictors[p].offset if p in predictors else 0.0 for p in ("mu", "sigma")]
    y, link = model.family.working(model.design.y), model.links["sigma"]
    system = Dense.build(read_latent(model), X[0])
    return CorrelatedNormal(
        y, X, np.stack(np.broadcast_arrays(*offset, y)[:2]),
        link.linkinv, link.slope, system, turning,
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class Residual:
    """
    What of a model does not change while the residuals' precision Q does.

    Notes
    -----
    Turned by Q's root, rows have independent residuals; log |Q| / 2 is what the change of
    variables adds. Where sigma is times something known, all is divided by that first.

    Attributes
    ----------
    scale
        `(n,)` times what sigma is each row's.
    """

    dense: Dense
    y: np.ndarray
    scale: np.ndarray
    turning: Turning

    @classmethod
    def of(cls, model: Model) -> "Residual":
        """Write a model's columns out; errors as those of `read_turning`."""
        turning = read_turning(model)
        whole = Dense.build(read_latent(model), centred_columns(model, "mu"))
        y = model.family.working(model.design.y) - model.design.predictors["mu"].offset
        sigma = model.design.predictors.get("sigma")
        scale = np.ones(model.nobs) if sigma is None else np.exp(sigma.offset)
        Z = whole.Z / scale[:, None]
        return cls(Dense(whole.latent, whole.X / scale[:, None], Z), y / scale, scale, turning)

    def with_response(self, y: np.ndarray) -> "Residual":
        """Put another response `(n,)`, less its offset, in place."""
        return replace(self, y=y / self.scale)

    def whitened(self, Q: Precision) -> Gaussian:
        """Turn rows so that their residuals are independent."""
        roots = self.turning.roots(Q)
        X, y, Z = (
            self.turning.turned(roots, part) for part in (self.dense.X, self.y, self.dense.Z[0])
        )
        system = replace(self.dense, X=X, Z=Z[None])
        return Gaussian(system, X, y, np.ones(len(y)), float(len(y)))

    def slopes(
        self, found: Any, gamma: np.ndarray, *, restricted: bool
    ) -> tuple[Precision, Precision]:
        """Give the slopes of the profile, and of the squares over sigma^2, by Q."""
        spread = self.dense.at(found.factor.spread.Lambdas, found.factor.spread.precisions)
        r = (self.y - self.dense.X @ gamma - spread.eta(found.u)[0]) / found.sigma
        used = found.factor if restricted else found.factor.effects_only()
        columns = np.hstack([spread.J[0], self.dense.X]) if restricted else spread.J[0]
        K = columns @ np.linalg.inv(np.linalg.cholesky(used.H)).T if columns.size else columns
        squares = self.turning.slopes(r, K[:, :0])
        both = self.turning.slopes(r, K)
        return Precision(-0.5 * both, 0.5), Precision(squares, 0.0)


@dataclass(eq=False)
class CorrelatedObjective(GaussianObjective):
    """The likelihood by the factors over sigma and by the residuals' parameters."""

    residual: Residual | None = None
    _slopes: tuple[Precision, Precision] | None = field(default=None, init=False)

    def gaussian_at(self, x: np.ndarray) -> Gaussian:
        """Give the response with independent residuals that the one at x is."""
        assert self.residual is not None
        return self.residual.whitened(self.coordinates.residual_precision(x))

    def evaluated(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Give value and gradient at x, sigma and the coefficients profiled."""
        c, residual = self.coordinates, self.residual
        assert residual is not None
        Q = c.residual_precision(x)
        self.gaussian = residual.whitened(Q)
        found = self.gaussian.profile(c.Lambdas(x), c.precisions(x), restricted=self.restricted)
        volume = 0.5 * Q.log_determinant - float(np.log(residual.scale).sum())
        self.last = replace(found, value=found.value + volume)
        self._slopes = residual.slopes(found, found.gamma, restricted=self.restricted)
        by_precision = [*found.by_precision, self._slopes[0]]
        return self.last.value, c.pull(x, self.blank, found.by_Lambda, by_precision)

    def squares_slope(self, x: np.ndarray) -> np.ndarray:
        """Give the slopes of the squares over sigma^2 where it was evaluated last."""
        assert self.last is not None
        assert self._slopes is not None
        by_precision = [*self.last.squares_by_precision, self._slopes[1]]
        return self.coordinates.pull(x, self.blank, self.last.squares_by, by_precision)

    def predicted(self) -> np.ndarray:
        """Give the mean's predictor `(n,)`, the offset left out, where it was evaluated last."""
        assert self.last is not None
        assert self.residual is not None
        dense = self.residual.dense
        spread = dense.at(self.last.factor.spread.Lambdas)
        return self.residual.scale * (dense.X @ self.last.gamma + spread.eta(self.last.u)[0])


def gaussian_objective(
    gaussian: Gaussian, coordinates: Coordinates, *, restricted: bool
) -> GaussianObjective:
    """Give the objective of a model with a normal response, its residuals independent or not."""
    model = coordinates.model
    if model.design.residual is None:
        return GaussianObjective(gaussian, coordinates, restricted)
    return CorrelatedObjective(gaussian, coordinates, restricted, residual=Residual.of(model))
