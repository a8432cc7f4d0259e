"""Values that are not in the data: measured with an error, sampled or integrated out; missing."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

type Array = np.ndarray


@dataclass(frozen=True, eq=False)
class Measured:
    """
    True values xi `(q, D)` with a normal distribution, N(mean, Lambda Lambda'), seen with errors.

    Attributes
    ----------
    x, error
        `(q, D)` what was measured, and the known standard deviations of its errors.
    mean
        Where the D means stand among the outer parameters.
    structure, theta
        Of Lambda, with its parameters' places.

    Notes
    -----
    Sampled are z = (xi - m) / s, where m and s are mean and standard deviation of xi given its
    measurement and its own mean and variance, w x + (1 - w) mean and error sqrt(w) with
    w = sd^2 / (sd^2 + error^2). Of one variable z is then standard normal, whatever the
    parameters, before the response is seen.
    """

    at: slice
    x: Array
    error: Array
    mean: slice
    structure: Any
    theta: Mapping[str, slice]

    def placed(self, z: Array, theta: Array) -> tuple[float, Array, Any]:
        """See `unseen.Source`."""
        q, D = self.x.shape
        z, mean = z.reshape(q, D), theta[self.mean]
        Lambda = self.structure.factor({k: theta[s] for k, s in self.theta.items()}, D)
        sd = theta[self.theta["sd"]]
        w = sd**2 / (sd**2 + self.error**2)
        xi = w * self.x + (1 - w) * mean + np.sqrt(w) * self.error * z
        inverse = np.linalg.inv(Lambda)
        u, off = (xi - mean) @ inverse.T, (self.x - xi) / self.error
        value = -0.5 * (np.vdot(u, u) + np.vdot(off, off)) + 0.5 * np.log(w).sum()
        value -= q * np.log(np.diag(Lambda)).sum()
        return float(value), xi, (z, w, sd, inverse, u, off)

    def back(self, by_value: Array, kept: Any, theta: Array, grad_theta: Array) -> Array:
        """See `unseen.Source`."""
        z, w, sd, inverse, u, off = kept
        q, D = self.x.shape
        pull = u @ inverse
        by_xi = by_value + off / self.error - pull
        grad_theta[self.mean] += pull.sum(axis=0) + (by_xi * (1 - w)).sum(axis=0)
        by_w = by_xi * (self.x - theta[self.mean] + 0.5 * self.error * z / np.sqrt(w)) + 0.5 / w
        grad_theta[self.theta["sd"]] += (by_w * 2 * w * (1 - w) / sd).sum(axis=0)
        by_Lambda = inverse.T @ (u.T @ u - q * np.eye(D))
        given = {k: theta[s] for k, s in self.theta.items()}
        for k, g in self.structure.pullback(given, D, by_Lambda).items():
            grad_theta[self.theta[k]] += g
        return (by_xi * np.sqrt(w) * self.error).ravel()


@dataclass(frozen=True, eq=False)
class Integrated:
    """
    The same true values where they are integrated out: only their mean given the measurements.

    Of a normal response that is linear in them, its mean is that at their mean E, and its variance
    is wider by their covariance V: see `Widening`. `sigma` is where its standard deviation stands.

    Notes
    -----
    With P = Lambda Lambda' and R = (P + error²)⁻¹, E = m + P R (x - m) and V = P - P R P; x is
    normal with mean m and covariance P + error².
    """

    x: Array
    error: Array
    mean: slice
    structure: Any
    theta: Mapping[str, slice]
    sigma: int
    at: slice = slice(0, 0)

    def placed(self, z: Array, theta: Array) -> tuple[float, Array, Any]:
        """See `unseen.Source`."""
        D = self.x.shape[1]
        given = {k: theta[s] for k, s in self.theta.items()}
        Lambda = self.structure.factor(given, D)
        P = Lambda @ Lambda.T
        whole = P + np.square(self.error)[:, :, None] * np.eye(D)
        R = np.linalg.inv(whole)
        off = self.x - theta[self.mean]
        r = (R @ off[:, :, None])[:, :, 0]
        PR = P @ R
        value = -0.5 * (np.vdot(off, r) + np.linalg.slogdet(whole)[1].sum())
        # r is symmetric's: E = m + P r.
        E = theta[self.mean] + r @ P
        return float(value), E, GivenMeasurements(self, given, Lambda, R, r, PR, P - PR @ P)

    def back(self, by_value: Array, kept: Any, theta: Array, grad_theta: Array) -> Array:
        """See `unseen.Source`."""
        kept.from_means(by_value, grad_theta)
        return np.empty(0)


@dataclass(frozen=True, eq=False)
class GivenMeasurements:
    """The distribution of true values given measurements, at one theta; all but Lambda by row."""

    source: Integrated
    given: Mapping[str, Array]
    Lambda: Array
    R: Array
    r: Array
    PR: Array
    V: Array

    @property
    def sigma(self) -> int:
        """Where the response's standard deviation stands among the outer parameters."""
        return self.source.sigma

    def from_means(self, by_E: Array, grad_theta: Array) -> None:
        """Carry slopes by E, and those of the measurements' own density, back to theta."""
        # I - P R, transposed, is what is left of a slope after the measurements.
        rest = by_E - (by_E[:, None, :] @ self.PR)[:, 0, :]
        grad_theta[self.source.mean] += (rest + self.r).sum(axis=0)
        by_P = rest[:, :, None] * self.r[:, None, :]
        by_P = by_P + 0.5 * (self.r[:, :, None] * self.r[:, None, :] - self.R)
        self._from_whole(by_P.sum(axis=0), grad_theta)

    def from_covariances(self, by_V: Array, grad_theta: Array) -> None:
        """Carry slopes by V `(n, D, D)` back to theta."""
        left = np.eye(len(self.Lambda)) - self.PR
        self._from_whole((left.transpose(0, 2, 1) @ by_V @ left).sum(axis=0), grad_theta)

    def _from_whole(self, by_P: Array, grad_theta: Array) -> None:
        by_Lambda = (by_P + by_P.T) @ self.Lambda
        size, structure = len(self.Lambda), self.source.structure
        for k, g in structure.pullback(self.given, size, by_Lambda).items():
            grad_theta[self.source.theta[k]] += g


@dataclass(frozen=True, eq=False)
class Missing:
    """
    Values `(q, 1)` of a response that are not in the data, or are there with an error.

    Attributes
    ----------
    support
        `"real"`, `"positive"` or `"unit"`: z is the value itself, its logarithm or its log odds,
        less `centre` and divided by `scale`, both `(q,)`.
    measured, error
        `(q,)` what was measured, with the errors' standard deviations: NaN and infinity where
        nothing was.
    """

    at: slice
    support: str
    centre: Array
    scale: Array
    measured: Array
    error: Array

    def placed(self, z: Array, theta: Array) -> tuple[float, Array, Any]:
        """See `unseen.Source`."""
        t = self.centre + self.scale * z
        value, slope, log_volume, volume_slope = _PLACES[self.support](t)
        there = np.isfinite(self.error)
        off = np.where(there, np.where(there, self.measured, 0.0) - value, 0.0) / self.error
        total = float(log_volume.sum() - 0.5 * np.vdot(off, off))
        return total, value[:, None], (slope, volume_slope, off)

    def back(self, by_value: Array, kept: Any, theta: Array, grad_theta: Array) -> Array:
        """See `unseen.Source`."""
        slope, volume_slope, off = kept
        found: Array = self.scale * ((by_value[:, 0] + off / self.error) * slope + volume_slope)
        return found


def _real(t: Array) -> tuple[Array, ...]:
    return t, np.ones_like(t), np.zeros_like(t), np.zeros_like(t)


def _positive(t: Array) -> tuple[Array, ...]:
    value = np.exp(t)
    return value, value, t, np.ones_like(t)


def _unit(t: Array) -> tuple[Array, ...]:
    value = 1 / (1 + np.exp(-t))
    slope = value * (1 - value)
    log_slope = -np.logaddexp(0, t) - np.logaddexp(0, -t)
    return value, slope, log_slope, 1 - 2 * value


# Of t: the value, its slope, the log of that, and the slope of the log.
_PLACES = {"real": _real, "positive": _positive, "unit": _unit}
