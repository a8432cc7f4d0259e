"""A change of variables that is linear: by the normal approximation of a whole posterior."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.density.joint import Joint


@dataclass(frozen=True, eq=False)
class Affine:
    """
    The density of z, independent standard normals where the posterior is normal, and x of z.

    The outer parameters are `centre + axes z`; the effects in standard units their mode, which
    moves with these by `slopes`, plus what they vary given them, by the factor of their negative
    Hessian at the mode.

    Attributes
    ----------
    centre, axes
        `(d,)` and `(d, d)`, on the unconstrained scale.
    middle, slopes
        `(N,)` and `(N, d)`.
    """

    joint: Joint
    centre: np.ndarray
    axes: np.ndarray
    middle: np.ndarray
    slopes: np.ndarray
    factor: Any

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate the log density at z `(size,)`, up to a constant, and its gradient."""
        d = len(self.centre)
        value, by_x = self.joint.value_and_gradient(self.place(z))
        outer = self.axes.T @ by_x[:d] + self.slopes.T @ by_x[d:]
        return value, np.concatenate([outer, self.factor.root_slopes(by_x[d:], np.empty(0))[0]])

    def place(self, z: np.ndarray) -> np.ndarray:
        """Give x `(size,)` of z."""
        d = len(self.centre)
        noise = self.factor.solve_root(z[d:], np.empty(0))[0]
        effects = self.middle + self.slopes @ z[:d] + noise
        return np.concatenate([self.centre + self.axes @ z[:d], effects])
