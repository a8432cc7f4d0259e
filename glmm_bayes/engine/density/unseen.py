"""Predictors and responses with values that are not in the data, as the density has them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from glmm_bayes.engine.density.joint import Linear

type Array = np.ndarray

RESPONSE = "y"  # among the values that a likelihood takes, the responses that are not data


class Source(Protocol):
    """
    Unknown values `(q, D)` of D variables, and how they are sampled.

    `at` is where their coordinates z stand in x.
    """

    @property
    def at(self) -> slice:
        """Where their coordinates stand."""

    def placed(self, z: Array, theta: Array) -> tuple[float, Array, Any]:
        """
        Give their log density with that of the coordinates' volume, themselves, and what is kept.

        Responses have no density here: the likelihood is theirs.
        """

    def back(self, by_value: Array, kept: Any, theta: Array, grad_theta: Array) -> Array:
        """Carry slopes by the values back to z, and add those by theta."""


@dataclass(frozen=True, eq=False)
class Variable:
    """
    One variable in the rows: `seen` `(n,)`, but entry `index` `(n,)` of a source's column d.

    Where `index` is -1 the row's value is in the data.
    """

    source: int
    d: int
    seen: Array
    index: Array

    def rows(self, values: Sequence[Array]) -> Array:
        """Give the values `(n,)`."""
        return np.where(self.index < 0, self.seen, values[self.source][self.index, self.d])

    def back(self, by_row: Array, by_value: Sequence[Array]) -> None:
        """Add slopes by the rows' values to those by the unknown ones."""
        there = self.index >= 0
        np.add.at(by_value[self.source][:, self.d], self.index[there], by_row[there])


@dataclass(frozen=True, eq=False)
class Product:
    """Column k of a predictor: `weight` `(n,)` times variables, by number, less `mean`."""

    k: int
    weight: Array
    of: tuple[int, ...]
    mean: float


@dataclass(frozen=True, eq=False)
class Widening:
    """
    What a source that is integrated out adds to the variance of a normal response: c' V c.

    Attributes
    ----------
    source
        Its number.
    param, sigma
        The parameters of the response, of which `sigma` is a constant.
    columns
        Which columns k of the predictor of `param` a variable d has, with what weight `(n,)`: c is
        the sum of these weights times coefficients.
    """

    source: int
    param: str
    sigma: str
    columns: Sequence[tuple[int, int, Array]]

    def slope(self, gamma: Array, size: int) -> Array:
        """Give c `(n, D)`."""
        c = np.zeros((len(self.columns[0][2]), size))
        for k, d, weight in self.columns:
            c[:, d] += gamma[k] * weight
        return c


@dataclass(frozen=True, eq=False)
class Unseen:
    """
    All unknown values, and what of a model is made of them.

    Attributes
    ----------
    products
        By predictor.
    y
        The responses `(n, R)` that are in the data; `responses` maps columns of it to variables.
    widening
        If a source is integrated out, what that does to a response.
    """

    sources: Sequence[Source]
    variables: Sequence[Variable]
    products: Mapping[str, Sequence[Product]]
    y: Array
    responses: Mapping[int, int]
    widening: Widening | None = None

    def placed(self, x: Array, theta: Array) -> "Placed":
        """Evaluate at one x."""
        found = [source.placed(x[source.at], theta) for source in self.sources]
        values = [each[1] for each in found]
        rows = [variable.rows(values) for variable in self.variables]
        total = float(sum(each[0] for each in found))
        return Placed(self, total, rows, [each[2] for each in found], values)

    def values(self, x: Array, theta: Array) -> list[Array]:
        """Give each source's values `(S, q, D)` at `(S, size)` draws."""
        drawn = [
            [source.placed(own[source.at], each)[1] for source in self.sources]
            for own, each in zip(x, theta, strict=True)
        ]
        return [np.stack([each[k] for each in drawn]) for k in range(len(self.sources))]


NOTHING = Unseen((), (), {}, np.empty((0, 0)), {})


@dataclass(frozen=True, eq=False)
class Placed:
    """What is unknown, at one point: the sources' log density, and the variables' rows."""

    unseen: Unseen
    value: float
    rows: Sequence[Array]
    kept: Sequence[Any]
    values: Sequence[Array]

    def linear(self, param: str, linear: "Linear") -> "Linear":
        """Put the values into a predictor's columns."""
        products = self.unseen.products.get(param, ())
        if not products:
            return linear
        X = linear.X.copy(order="F")
        for product in products:
            X[:, product.k] = product.weight * self._times(product.of) - product.mean
        return replace(linear, X=X)

    def completed(
        self, values: dict[str, Array], predictors: Mapping[str, "Linear"], theta: Array
    ) -> dict[str, Array]:
        """Put unknown responses, and a wider sigma, among the values that a likelihood takes."""
        wide = self.unseen.widening
        if self.unseen.responses:
            y = self.unseen.y.copy()
            for r, number in self.unseen.responses.items():
                y[:, r] = self.rows[number]
            values = values | {RESPONSE: y}
        if wide is not None:
            values = values | {
                wide.sigma: self._wider(wide, values[wide.sigma], predictors, theta)[0]
            }
        return values

    def _wider(
        self, wide: Widening, sigma: Array, predictors: Mapping[str, "Linear"], theta: Array
    ) -> tuple[Array, Array, Array]:
        """Give the standard deviations `(n,)`, with c and V c, both `(n, D)`."""
        V = self.kept[wide.source].V
        c = wide.slope(theta[predictors[wide.param].gamma], V.shape[1])
        Vc = (V @ c[:, :, None])[:, :, 0]
        return np.sqrt(sigma**2 + (c * Vc).sum(axis=1)), c, Vc

    def back(
        self,
        scores: dict[str, Array],
        predictors: Mapping[str, "Linear"],
        theta: Array,
        grad_theta: Array,
        gradient: Array,
    ) -> dict[str, Array]:
        """
        Write the slopes by the coordinates, and add those by theta.

        Parameters
        ----------
        scores
            The likelihood's slopes by what it takes.

        Returns
        -------
        scores
            By what there was before `completed`.
        """
        by_value = [np.zeros_like(v) for v in self.values]
        for param, products in self.unseen.products.items():
            gamma = theta[predictors[param].gamma]
            for product in products:
                by_column = scores[param] * gamma[product.k] * product.weight
                for number in product.of:
                    others = tuple(other for other in product.of if other != number)
                    by_row = by_column * self._times(others)
                    self.unseen.variables[number].back(by_row, by_value)
        for r, number in self.unseen.responses.items():
            self.unseen.variables[number].back(scores[RESPONSE][:, r], by_value)
        for source, slopes, kept in zip(self.unseen.sources, by_value, self.kept, strict=True):
            gradient[source.at] = source.back(slopes, kept, theta, grad_theta)
        return self._narrowed(scores, predictors, theta, grad_theta)

    def _narrowed(
        self,
        scores: dict[str, Array],
        predictors: Mapping[str, "Linear"],
        theta: Array,
        grad_theta: Array,
    ) -> dict[str, Array]:
        """Carry slopes by the wider sigma back to sigma, the coefficients and V."""
        wide = self.unseen.widening
        if wide is None:
            return scores
        kept, at = self.kept[wide.source], predictors[wide.param].gamma
        sigma = theta[kept.sigma]
        wider, c, Vc = self._wider(wide, sigma, predictors, theta)
        by_square = scores[wide.sigma] / (2 * wider)
        by_gamma = grad_theta[at]
        for k, d, weight in wide.columns:
            by_gamma[k] += 2 * np.sum(by_square * Vc[:, d] * weight)
        kept.from_covariances(by_square[:, None, None] * c[:, :, None] * c[:, None, :], grad_theta)
        return scores | {wide.sigma: np.array(2 * sigma * by_square.sum())}

    def _times(self, numbers: Sequence[int]) -> Any:
        total: Any = 1.0
        for number in numbers:
            total = total * self.rows[number]
        return total
