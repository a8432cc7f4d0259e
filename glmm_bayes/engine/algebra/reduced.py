"""The second block's Schur complement, by products with it alone."""

from dataclasses import dataclass
from functools import cached_property
from itertools import islice

import numpy as np

from glmm_bayes.engine.algebra import crossings
from glmm_bayes.engine.algebra.blocked import Blocked
from glmm_bayes.engine.algebra.krylov import conjugate_gradients
from glmm_bayes.engine.algebra.probes import Preconditioner, Probed, Prober, blockwise

EXACT = 1e-12  # of the residual where an answer is to be exact


@dataclass(frozen=True, eq=False)
class Products:
    """
    Weighted cross-products: of the first block, of both, and the second's own blocks.

    `C11` `(G, k, k)`, `C12` and `D22` `(q2, widest)` as in `crossings`; `ZX` `(N, p)` of all
    effects with the coefficients, `XX` `(p, p)` of these; `w` the weights.
    """

    w: np.ndarray
    C11: np.ndarray
    C12: np.ndarray
    D22: np.ndarray
    ZX: np.ndarray
    XX: np.ndarray


@dataclass(frozen=True, eq=False)
class Reduced:
    """
    S = H22 - B' A^-1 B, the Schur complement of the Hessian's first block A.

    Attributes
    ----------
    moved
        The rows' J `(n, e)` in the second block, where its effects meet each other.
    Ainv
        `(G, k, k)` the inverses of A's blocks.
    B
        What the first block has with the second, packed.
    H22
        `(q2, widest)` the second block's own blocks.
    P
        Those of S: the preconditioner.
    log_first
        Log |A|.
    """

    blocks: Blocked
    products: Products
    moved: np.ndarray | None
    Ainv: np.ndarray
    B: np.ndarray
    H22: np.ndarray
    P: Preconditioner
    log_first: float

    def __post_init__(self) -> None:
        # Found out here, where a caller awaits it: what is not positive definite. Products with S
        # tell, but weights that are not negative need not be asked.
        right = blockwise(self.P.roots, np.ones((self.blocks.q2, 1)))
        if (self.products.w < 0).any():
            conjugate_gradients(self.multiply, self.P.solve, right, EXACT)

    def multiply(self, x: np.ndarray) -> np.ndarray:
        """Give S x `(q2, c)`."""
        s, out = self.blocks, np.empty_like(x)
        if self.moved is None:
            crossings.own_products(self.H22, s.term, s.within, s.sizes, x, out)
        else:
            out[:] = x
            crossings.row_products(self.products.w, s.entries, self.moved, x, out)
        crossings.take_off(self.Ainv, self.B, s.tp, s.cols, x, out)
        return out

    def lift(self, x: np.ndarray) -> np.ndarray:
        """Give the first block's `(G, k, c)` that goes with x `(q2, c)`: -A^-1 B x."""
        s = self.blocks
        out = np.empty((s.G, s.k, x.shape[1]))
        crossings.lifted(self.Ainv, self.B, s.tp, s.cols, x, out)
        return out

    def solve(self, g1: np.ndarray, g2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Solve the effects' equations for both blocks' `(G, k, c)` and `(q2, c)`."""
        s, right = self.blocks, g2.copy()
        crossings.lowered(self.Ainv, self.B, s.tp, s.cols, g1, right)
        d2 = conjugate_gradients(self.multiply, self.P.solve, right, EXACT).x
        return self.Ainv @ g1 + self.lift(d2), d2

    def solve_root(self, z1: np.ndarray, z2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Turn standard normals `(G, k)` and `(q2,)` into effects of covariance H^-1."""
        right = blockwise(self.P.roots, z2[:, None])
        run = conjugate_gradients(self.multiply, self.P.solve, right, EXACT, keep=True)
        d2 = run.inverse_root()
        noise = np.einsum("gab,gb->ga", np.linalg.cholesky(self.Ainv), z1)
        return self.lift(d2)[:, :, 0] + noise, d2[:, 0]

    @property
    def _prober(self) -> Prober:
        return Prober(self.multiply, self.P)

    @cached_property
    def probed(self) -> Probed:
        """What the probes tell of S."""
        return self._prober.probe()

    def better_log_determinant(self, wanted: float, most: int) -> tuple[float, float]:
        """Give log |S| and its standard error, by batches of probes until it is as wanted."""
        found = self.probed.log_determinant, self.probed.error
        if found[1] > wanted:
            for found in islice(self._prober.log_determinants(), most):
                if found[1] <= wanted:
                    break
        return found
