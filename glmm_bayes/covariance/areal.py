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
from glmm_bayes.errors import DataWarning, FormulaError
from glmm_bayes.priors import Prior

MOST_DENSE = 2000  # areas whose eigenvalues are all found
REAL, NONE = 1e-9, 1e-12  # an imaginary part, and an eigenvalue, that are rounding
ALONE = "rho is the same everywhere, and an area alone is independent"
NEAREST, BEYOND = 4, 1.001  # eigenvalues that are found near an end; how far beyond it


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
    """
    A structure with rho, between one over the extreme real eigenvalues of a matrix M.

    Attributes
    ----------
    eigenvalues
        All of M's, by which log |Q| is a sum; None of large maps, where it is had by factoring Q.
    ends
        Between which rho lies.
    """

    eigenvalues: np.ndarray | None
    ends: tuple[float, float]

    def _read(self, M: Any, *, symmetric: bool) -> None:
        """Find the eigenvalues of sparse M."""
        if M.shape[0] > MOST_DENSE:
            self.eigenvalues, real = None, np.array(_extremes(M, symmetric=symmetric))
        else:
            dense = M.toarray()
            found = np.linalg.eigvalsh(dense) if symmetric else np.linalg.eigvals(dense)
            self.eigenvalues, real = found, found.real[np.abs(found.imag) < REAL]
        self.ends = 1.0 / min(float(min(real)), -NONE), 1.0 / max(float(max(real)), NONE)

    @override
    def parameters(self, size: int) -> tuple[CovarianceParameter, ...]:
        return (CovarianceParameter("rho", "rho", 1, False, self.ends),)

    @override
    def default_prior(self, key: str) -> Prior | None:
        low, high = self.parameters(0)[0].support
        return Prior("Uniform", lower=low, upper=high)

    @override
    def start(self) -> dict[str, np.ndarray]:
        return {"rho": np.full(1, 0.4 * self.parameters(0)[0].support[1])}


def _extremes(M: Any, *, symmetric: bool) -> list[float]:
    """Give the least and the largest real eigenvalue of a sparse matrix, as far as they are had."""
    from scipy.sparse.linalg import ArpackError, eigs, eigsh

    # Beyond every eigenvalue's size, from where the nearest ones are the extremes.
    bound, find = float(abs(M).sum(axis=1).max()), eigsh if symmetric else eigs
    ends: list[float] = []
    for side in (-1.0, 1.0):
        try:
            found = find(
                M.tocsc(), k=NEAREST, sigma=side * bound * BEYOND, return_eigenvectors=False
            )
        except ArpackError:
            found = np.empty(0)
        real = found.real[np.abs(found.imag) < REAL]
        ends.append(side * bound if not len(real) else side * float((side * real).max()))
    return ends


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
        from scipy.sparse import csr_array, diags_array

        super().__init__(places, W)
        degree = np.asarray(self.graph.W.sum(axis=1)).ravel()
        self._warn_of_islands(ALONE)
        self._own = np.where(degree > 0, degree, 1.0) if style == "degree" else 0 * degree + 1.0
        root = diags_array(1.0 / np.sqrt(self._own))
        self._read(csr_array(root @ self.graph.W @ root), symmetric=True)

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
        if self.eigenvalues is None:
            return Entries(values, xp.log_determinant(values, self.pairs, len(self.nodes)))
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
        from scipy.sparse import csr_array, diags_array

        super().__init__(places, W, directed=True)
        self._warn_of_islands(ALONE)
        total = np.asarray(self.graph.W.sum(axis=1)).ravel()
        scale = 1.0 / np.where(total > 0, total, 1.0) if standardise else np.ones(len(total))
        self._W = csr_array(diags_array(scale) @ self.graph.W)
        self._read(self._W, symmetric=False)

    @cached_property
    def _polynomial(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The pairs, and Q's entries there: a - rho b + rho^2 c."""
        from scipy.sparse import eye_array, tril

        b, c = (self._W + self._W.T).tocsr(), (self._W.T @ self._W).tocsr()
        there = tril(abs(b) + abs(c) + eye_array(len(self.nodes)), format="csr")
        there.sort_indices()
        i, j = there.nonzero()
        own, product = (np.asarray(part[i, j]).ravel() for part in (b, c))
        return np.column_stack([i, j]), (i == j).astype(float), own, product

    @property
    @override
    def pairs(self) -> np.ndarray:
        return self._polynomial[0]

    @override
    def entries(self, theta: Mapping[str, Any], xp: Any = NUMPY) -> Entries:
        rho, (pairs, a, b, c) = theta["rho"][0], self._polynomial
        values = a - rho * b + rho * rho * c
        if self.eigenvalues is None:
            return Entries(values, xp.log_determinant(values, pairs, len(self.nodes)))
        re, im = self.eigenvalues.real, self.eigenvalues.imag
        squares = (1.0 - rho * re) * (1.0 - rho * re) + (rho * im) * (rho * im)
        return Entries(values, xp.sum(xp.log(squares)))


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
