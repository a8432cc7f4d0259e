"""A change of variables by the normal approximation of a whole posterior; linear but for easing."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy.special import expit, log_ndtr, ndtri

from glmm_bayes.engine.density.joint import Joint


@dataclass(frozen=True, eq=False)
class Affine:
    """
    The density of z, independent standard normals where the posterior is normal, and x of z.

    The outer parameters are `centre + axes z`; the effects in standard units their mode, which
    moves with these by `slopes`, plus what they vary given them, by the factor of their negative
    Hessian at the mode. Parameters between two bounds are normal quantiles there, whose tails are
    shorter than those of log odds. Of terms that are *eased* this is said of other coordinates of
    their effects, which depend less on the outer parameters.

    Attributes
    ----------
    centre, axes
        `(d,)` and `(d, d)`, on the unconstrained scale.
    middle, slopes
        `(N,)` and `(N, d)`.
    easings
        By term, a structure's `easing`; None for the effects themselves.
    """

    joint: Joint
    centre: np.ndarray
    axes: np.ndarray
    middle: np.ndarray
    slopes: np.ndarray
    factor: Any
    easings: Sequence[Any]

    def __call__(self, z: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate the log density at z `(size,)`, up to a constant, and its gradient."""
        d, joint = len(self.centre), self.joint
        outer, w = self._coordinates(z)
        t = self._start + self._turned @ z[:d]
        theta = joint.outer.constrain(outer)
        value, by_x = joint.value_and_gradient(self._placed(outer, w))
        by_w, by_theta = by_x[d:].copy(), np.zeros_like(theta)
        for own, easing, at in self._eased:
            given = {k: theta[s] for k, s in own.between.theta.items()}
            shape = (own.q, own.p)
            back, moves = easing.node_slopes(given, w[at].reshape(shape), by_w[at].reshape(shape))
            volume, pulls = easing.log_volume(given, own.q)
            value += own.p * volume
            by_w[at] = back.ravel()
            for k, s in own.between.theta.items():
                by_theta[s] += moves[k] + own.p * pulls[k]
        slope = joint.outer.jacobian(outer, theta)[2]
        by_outer = by_x[:d] + joint.outer.pull(by_theta, theta, slope)
        noise = self.factor.root_slopes(self._noise_slopes(by_w), np.empty(0))[0]
        _, stretch, by_stretch = _probits(t[self._shares])
        value += float(np.log(stretch).sum())
        by_outer[self._shares] = by_outer[self._shares] * stretch + by_stretch
        return value, np.concatenate([self._turned.T @ by_outer + self.slopes.T @ by_w, noise])

    def place(self, z: np.ndarray) -> np.ndarray:
        """Give x `(size,)` of z."""
        return self._placed(*self._coordinates(z))

    @property
    def _eased(self) -> list[tuple[Any, Any, slice]]:
        """The terms that are eased, how, and where they stand among the effects."""
        d = len(self.centre)
        return [
            (own, easing, slice(own.at.start - d, own.at.stop - d))
            for own, easing in zip(self.joint.effects, self.easings, strict=True)
            if easing is not None
        ]

    def _coordinates(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        d = len(self.centre)
        noise = self.factor.solve_root(z[d:], np.empty(0))[0]
        theta = self.joint.outer.constrain(self.centre)
        for own, easing, at in self._eased:
            given = {k: theta[s] for k, s in own.between.theta.items()}
            noise[at] = easing.coordinates(given, noise[at].reshape(own.q, own.p)).ravel()
        outer = self._start + self._turned @ z[:d]
        outer[self._shares] = _probits(outer[self._shares])[0]
        return outer, self.middle + self.slopes @ z[:d] + noise

    @cached_property
    def _shares(self) -> np.ndarray:
        """Where parameters between two bounds stand, whose log odds have long tails."""
        free = self.joint.outer.free
        both = np.isfinite(self.joint.outer.lower[free]) & np.isfinite(self.joint.outer.upper[free])
        return np.flatnonzero(both)

    @cached_property
    def _start(self) -> np.ndarray:
        """The centre, with the normal quantile of shares in place of their log odds."""
        found = self.centre.copy()
        found[self._shares] = ndtri(expit(self.centre[self._shares]))
        return found

    @cached_property
    def _turned(self) -> np.ndarray:
        """The axes there."""
        found = self.axes.copy()
        found[self._shares] /= _probits(self._start[self._shares])[1][:, None]
        return found

    def _noise_slopes(self, by_w: np.ndarray) -> np.ndarray:
        found, theta = by_w.copy(), self.joint.outer.constrain(self.centre)
        for own, easing, at in self._eased:
            given = {k: theta[s] for k, s in own.between.theta.items()}
            part = by_w[at].reshape(own.q, own.p)
            found[at] = easing.coordinate_slopes(given, part).ravel()
        return found

    def _placed(self, outer: np.ndarray, w: np.ndarray) -> np.ndarray:
        theta, v = self.joint.outer.constrain(outer), w.copy()
        for own, easing, at in self._eased:
            given = {k: theta[s] for k, s in own.between.theta.items()}
            v[at] = easing.nodes(given, w[at].reshape(own.q, own.p)).ravel()
        return np.concatenate([outer, v])


def _probits(t: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Give the log odds x of the normal probability of t, dx / dt, and the slope of its log."""
    below, above = log_ndtr(t), log_ndtr(-t)
    log_normal = -0.5 * t * t - 0.5 * np.log(2 * np.pi)
    one, other = np.exp(log_normal - below), np.exp(log_normal - above)
    return below - above, one + other, -t - one + other
