"""Areas that vary with their neighbours."""

import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Any, override

import numpy as np

from glmm_bayes.arrays import NUMPY
from glmm_bayes.covariance.easing import Apart
from glmm_bayes.covariance.graph import Graph, read_graph
from glmm_bayes.covariance.intrinsic import Intrinsic, Part, typical_scales
from glmm_bayes.covariance.levels import Entries, LevelCovariance, Places, WithoutParameters
from glmm_bayes.covariance.structure import CovarianceParameter
from glmm_bayes.errors import DataError, DataWarning, FormulaError
from glmm_bayes.priors import Prior

MOST_DENSE = 2500  # areas whose eigenvalues are found
REAL, NONE = 1e-9, 1e-12  # an imaginary part, and an eigenvalue, that are rounding


class Areal(LevelCovariance):
    """A structure on a graph of areas: those without data are nodes too."""

    def __init__(self, places: Places, W: Any, *, directed: bool = False) -> None:
        super().__init__(places)
        found = read_graph(W, places.names, places.text).ordered(places.names, places.text)
        self.graph: Graph = found if directed else found.symmetric(places.text)

    @property
    @override
    def nodes(self) -> tuple[str, ...]:
        return self.graph.names

    @property
    @override
    def shown(self) -> int:
        return len(self.nodes)

    def _warn_of_islands(self, meaning: str) -> None:
        sizes = np.bincount(self.graph.parts)
        alone = int((sizes == 1).sum())
        words = [f"{alone} area{'s' * (alone > 1)} without neighbours"] if alone else []
        if (sizes > 1).sum() > 1:
            words.append(f"{int((sizes > 1).sum())} parts that do not touch")
        if words:
            warnings.warn(
                f"{self.places.text!r} has {' and '.join(words)}; {meaning}.",
                DataWarning,
                stacklevel=2,
            )


class IntrinsicAutoregression(Areal, WithoutParameters):
    """
    `icar(x | area, W)`: differences of neighbours are N(0, 1 / w); each part sums to zero.

    No parameters. Scaled so that the geometric mean of the areas' variances is one in every
    connected part: then sd is that of a typical area (Sorbye & Rue 2014, Spatial Statistics 8,
    39-51). With `scale=False`, Q = D - W. An area without neighbours is N(0, 1).

    Notes
    -----
    Parts that do not touch have a sum, and a scale, of their own: Freni-Sterrantino, Ventrucci &
    Rue (2018), Statistics & Probability Letters 135, 54-59. The sum of a part has a variance of
    `HELD` to the minus one instead of zero.
    """

    name = "icar"

    def __init__(self, places: Places, W: Any, *, scale: bool = True) -> None:
        super().__init__(places, W)
        self._intrinsic = of_neighbours(self.graph, scaled=scale)
        self._warn_of_islands("each part sums to zero, and an area alone is independent")

    @property
    @override
    def pairs(self) -> np.ndarray:
        return self._intrinsic.pairs

    @property
    @override
    def held(self) -> tuple[np.ndarray, np.ndarray] | None:
        return self._intrinsic.held

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        return Entries(self._intrinsic.values, self._intrinsic.log_determinant)


def of_neighbours(graph: Graph, *, scaled: bool) -> Intrinsic:
    """Give D - W with the sum of every connected part held; of an area alone it is one."""
    from scipy.sparse import csr_array, diags_array

    parts = []
    order = np.argsort(graph.parts, kind="stable")
    for nodes in np.split(order, np.flatnonzero(np.diff(graph.parts[order])) + 1):
        m, W = len(nodes), graph.W[nodes][:, nodes]
        degree = np.asarray(W.sum(axis=1)).ravel()
        if m == 1:
            parts.append(Part(nodes, csr_array(np.eye(1)), np.empty((1, 0)), np.empty(0, int)))
            continue
        Q = csr_array(diags_array(degree) - W)
        null = np.full((m, 1), 1.0 / np.sqrt(m))
        parts.append(Part(nodes, Q, null, np.array([degree.argmax()])))
    scales = typical_scales(parts) if scaled else np.ones(len(parts))
    return Intrinsic.of(parts, len(graph.names), scales=scales)


class OneCorrelation(Areal):
    """A structure with rho, between one over the extreme real eigenvalues of a matrix."""

    eigenvalues: np.ndarray

    def __init__(self, places: Places, W: Any, *, directed: bool = False) -> None:
        super().__init__(places, W, directed=directed)
        if len(self.graph.names) > MOST_DENSE:
            raise DataError(
                f"{places.text!r} has {len(self.graph.names)} areas, and the most is {MOST_DENSE}: "
                f"take icar or bym2, leave out areas far from the data, or merge some."
            )

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        values = self.eigenvalues
        real = values.real[np.abs(values.imag) < REAL]
        low, high = 1.0 / min(real.min(), -NONE), 1.0 / max(real.max(), NONE)
        return (CovarianceParameter("rho", "rho", 1, False, (float(low), float(high))),)

    @override
    def default_prior(self, key: str) -> Prior | None:
        low, high = self.parameters(0)[0].support
        return Prior("Uniform", lower=low, upper=high)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"rho": np.full(1, 0.4 * self.parameters(0)[0].support[1])}


class ConditionalAutoregression(OneCorrelation):
    """
    `car(x | area, W)`: each area is rho times its neighbours' mean, plus N(0, 1 / d); proper.

    Q = D - rho W, d the sum of an area's weights (1 for an area alone). Parameters: `rho`, less
    than one, at which it is intrinsic, and more than the least for which Q is positive definite.
    With `style="binary"`, Q = I - rho W, and rho lies between one over W's eigenvalues.

    Notes
    -----
    Besag (1974), J. Royal Statistical Society B 36, 192-236.
    """

    name = "car"

    def __init__(self, places: Places, W: Any, *, style: str = "degree") -> None:
        if style not in ("degree", "binary"):
            raise FormulaError(
                f"The style of {places.text!r} should be 'degree' or 'binary', not {style!r}."
            )
        super().__init__(places, W)
        degree = np.asarray(self.graph.W.sum(axis=1)).ravel()
        self._own = np.where(degree > 0, degree, 1.0) if style == "degree" else 0 * degree + 1.0
        root = 1.0 / np.sqrt(self._own)
        scaled = root[:, None] * self.graph.W.toarray() * root
        self.eigenvalues = np.linalg.eigvalsh(scaled)

    @cached_property
    def _edges(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        from scipy.sparse import tril

        lower = tril(self.graph.W, -1).tocoo()
        return lower.row.astype(np.intp), lower.col.astype(np.intp), lower.data

    @cached_property
    @override
    def pairs(self) -> np.ndarray:
        each, (i, j, _) = np.arange(len(self.nodes)), self._edges
        return np.concatenate([np.column_stack([each, each]), np.column_stack([i, j])])

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        rho = theta["rho"][0]
        values = xp.concatenate([self._own, -rho * self._edges[2]])
        log_own = float(np.log(self._own).sum())
        return Entries(values, log_own + xp.sum(xp.log(1.0 - rho * self.eigenvalues)))


class SimultaneousAutoregression(OneCorrelation):
    """
    `sar(x | area, W)`: v = rho W v + N(0, 1), Q = (I - rho W)'(I - rho W).

    W's rows are divided by their sums unless `standardise=False`. Parameters: `rho`, between one
    over W's least and one over its largest real eigenvalue.

    Notes
    -----
    Whittle (1954), Biometrika 41, 434-449; log |I - rho W| by W's eigenvalues: Ord (1975), J.
    American Statistical Association 70, 120-126.
    """

    name = "sar"

    def __init__(self, places: Places, W: Any, *, standardise: bool = True) -> None:
        super().__init__(places, W, directed=True)
        W = self.graph.W.toarray()
        total = W.sum(axis=1)
        self._W = W / np.where(total > 0, total, 1.0)[:, None] if standardise else W
        self.eigenvalues = np.linalg.eigvals(self._W)

    @cached_property
    def _polynomial(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The pairs, and Q's entries there: a - rho b + rho^2 c."""
        b, c = self._W + self._W.T, self._W.T @ self._W
        i, j = np.nonzero(np.tril((b != 0) | (c != 0) | np.eye(len(b), dtype=bool)))
        return np.column_stack([i, j]), (i == j).astype(float), b[i, j], c[i, j]

    @property
    @override
    def pairs(self) -> np.ndarray:
        return self._polynomial[0]

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        rho, (_, a, b, c) = theta["rho"][0], self._polynomial
        re, im = self.eigenvalues.real, self.eigenvalues.imag
        squares = (1.0 - rho * re) * (1.0 - rho * re) + (rho * im) * (rho * im)
        return Entries(a - rho * b + rho * rho * c, xp.sum(xp.log(squares)))


class BesagYorkMollie(Areal):
    """
    `bym2(x | area, W)`: b = sqrt(1 - rho) e + sqrt(rho) s, e independent, s as `icar`, scaled.

    Parameters: `rho` in (0, 1), the share of variance that neighbours have in common. Nodes are
    the areas, and then their spatial parts s.

    Notes
    -----
    Riebler, Sorbye, Simpson & Rue (2016), Statistical Methods in Medical Research 25, 1145-1165,
    where rho is called phi.
    """

    name = "bym2"

    def __init__(self, places: Places, W: Any) -> None:
        super().__init__(places, W)
        self._intrinsic = of_neighbours(self.graph, scaled=True)
        self._warn_of_islands("each part sums to zero and has its own scale")

    @cached_property
    @override
    def nodes(self) -> tuple[str, ...]:
        return (*self.graph.names, *(f"{name} (spatial)" for name in self.graph.names))

    @property
    @override
    def shown(self) -> int:
        return len(self.graph.names)

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (CovarianceParameter("rho", "rho", 1, False, (0.0, 1.0)),)

    @override
    def default_prior(self, key: str) -> Prior | None:
        return Prior("Beta", alpha=1.0, beta=1.0)

    @property
    @override
    def easing(self) -> Apart:
        return Apart()

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"rho": np.full(1, 0.5)}

    @cached_property
    @override
    def pairs(self) -> np.ndarray:
        q = len(self.graph.names)
        each = np.arange(q)
        own, across = np.column_stack([each, each]), np.column_stack([each + q, each])
        return np.concatenate([own, across, q + self._intrinsic.pairs])

    @cached_property
    @override
    def held(self) -> tuple[np.ndarray, np.ndarray] | None:
        if self._intrinsic.held is None:
            return None
        rows, pins = self._intrinsic.held
        return np.concatenate([np.zeros_like(rows), rows], axis=1), pins + len(self.graph.names)

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        rho, q = theta["rho"][0], len(self.graph.names)
        one, left = np.ones(q), 1.0 - theta["rho"][0]
        spatial, pairs = self._intrinsic.values, self._intrinsic.pairs
        is_own = (pairs[:, 0] == pairs[:, 1]).astype(float)
        values = xp.concatenate(
            [one / left, -xp.sqrt(rho) / left * one, spatial + rho / left * is_own]
        )
        return Entries(values, self._intrinsic.log_determinant - q * xp.log(left))
