"""Conjugate gradients for many right-hand sides at once, and what their Lanczos matrices tell."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from glmm_bayes.errors import ConvergenceError

MOST_STEPS = 2000

type Product = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Krylov:
    """
    Solutions of S x = r, and the steps that led to them.

    Attributes
    ----------
    x
        `(q, c)`.
    squares
        `(c,)` of the right-hand sides, r' P^-1 r.
    alphas, betas
        `(steps, c)` of the method; zero from where a column has converged.
    residuals
        The preconditioned residuals `(q, c)` of every step, if they were to be kept.
    """

    x: np.ndarray
    squares: np.ndarray
    alphas: np.ndarray
    betas: np.ndarray
    residuals: list[np.ndarray]

    def lanczos(self) -> tuple[np.ndarray, np.ndarray]:
        """
        Give eigenvalues `(c, K)` and vectors `(c, K, K)` of every column's Lanczos matrix.

        It is the preconditioned matrix in an orthonormal basis of the Krylov space that begins
        with the right-hand side; what lies beyond a column's last step is padded with ones, of
        no weight. Saad (2003), Iterative Methods for Sparse Linear Systems, section 6.7.3.
        """
        steps, c = self.alphas.shape
        taken = self.alphas > 0
        inverse = np.divide(1.0, self.alphas, out=np.ones((steps, c)), where=taken)
        carried = np.where(taken[1:], self.betas[:-1] * inverse[:-1], 0.0)
        T = np.zeros((c, steps, steps))
        at = np.arange(steps)
        T[:, at, at] = inverse.T
        T[:, at[1:], at[1:]] += carried.T
        beside = np.where(taken[1:], np.sqrt(self.betas[:-1]) * inverse[:-1], 0.0).T
        T[:, at[1:], at[:-1]] = T[:, at[:-1], at[1:]] = beside
        values, vectors = np.linalg.eigh(T)
        if not (values > 0).all():
            raise np.linalg.LinAlgError("the Hessian of the effects is not positive definite")
        return values, vectors

    def quadrature(self, function: Product) -> np.ndarray:
        """
        Give z' f(M) z of every column `(c,)`, M and z the preconditioned matrix and column.

        Gauss's rule of Lanczos: Golub & Meurant (2010), Matrices, Moments and Quadrature;
        Ubaru, Chen & Saad (2017), SIAM J. Matrix Anal. Appl. 38(4), 1075-1099.
        """
        if not len(self.alphas):
            return np.zeros(len(self.squares))
        values, vectors = self.lanczos()
        return self.squares * (function(values) * vectors[:, 0] ** 2).sum(axis=1)

    def inverse_root(self) -> np.ndarray:
        """
        Give L^-T M^-1/2 z `(q, c)`, with P = L L', M = L^-1 S L^-T and r = L z.

        The residuals, whose signs alternate, are Lanczos's basis, and must have been kept.
        """
        if not len(self.alphas):
            return np.zeros_like(self.x)
        values, vectors = self.lanczos()
        weights = np.einsum("cij,cj,cj->ci", vectors, values**-0.5, vectors[:, 0])
        found, size = np.zeros_like(self.x), self.squares.copy()
        for j, residual in enumerate(self.residuals):
            scale = np.divide(self.squares, size, out=np.zeros_like(size), where=size > 0)
            found += (-1) ** j * np.sqrt(scale) * weights[:, j] * residual
            size = size * self.betas[j]
        return found


def conjugate_gradients(
    multiply: Product,
    precondition: Product,
    right: np.ndarray,
    tolerance: float,
    *,
    keep: bool = False,
) -> Krylov:
    """
    Solve S x = r for the columns of `right` `(q, c)`, each with steps of its own.

    Parameters
    ----------
    multiply, precondition
        Give S x and P^-1 x.
    tolerance
        Of the residual over the right-hand side, in the norm of P^-1.
    keep
        Whether the preconditioned residuals are kept.

    Raises
    ------
    LinAlgError
        If S or P is found not to be positive definite.
    ConvergenceError
        If `MOST_STEPS` steps are not enough.
    """
    x, r = np.zeros_like(right), right.copy()
    z = precondition(r)
    direction, size = z.copy(), np.einsum("qc,qc->c", r, z)
    squares, active = size, size > 0
    alphas, betas, residuals = [], [], []
    for _ in range(MOST_STEPS):
        if not active.any():
            break
        if keep:
            residuals.append(z)
        moved = multiply(direction)
        curved = np.einsum("qc,qc->c", direction, moved)
        if not (curved[active] > 0).all():
            raise np.linalg.LinAlgError("the Hessian of the effects is not positive definite")
        alpha = np.divide(size, curved, out=np.zeros_like(size), where=active)
        x += alpha * direction
        r -= alpha * moved
        z = precondition(r)
        new = np.einsum("qc,qc->c", r, z)
        beta = np.divide(new, size, out=np.zeros_like(size), where=active)
        alphas.append(alpha)
        betas.append(beta)
        active = active & (new > tolerance**2 * squares)
        size = new
        direction *= beta
        direction += z
    else:
        left = float(np.sqrt(np.max(size / np.maximum(squares, 1e-300))))
        raise ConvergenceError(
            f"The effects' equations were not solved in {MOST_STEPS} steps of conjugate gradients "
            f"(a residual of {left:.2g} is left); scale the predictors."
        )
    shape = (len(alphas), right.shape[1])
    return Krylov(x, squares, np.reshape(alphas, shape), np.reshape(betas, shape), residuals)
