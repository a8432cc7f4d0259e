"""The joint density of `joint.py` in one compiled pass, for models whose parts have kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine import kernels
from glmm_bayes.engine.joint import Joint
from glmm_bayes.engine.kernels import compiled

BLOCK = 256  # rows whose predictors stay in the nearest cache


@dataclass(frozen=True, eq=False)
class Parts:
    """
    The numbers of a model's kernels, in the order of its outer parameters, terms and predictors.

    Attributes
    ----------
    family
        In `kernels.FAMILIES`.
    links
        By predictor, in `kernels.LINKS`.
    slots
        The family's parameters in its kernel's order.
    structures
        By term, in `kernels.STRUCTURES`.
    priors
        By outer parameter, in `kernels.PRIORS`, with three arguments `(m, 3)`.
    y, trials, weights
        The response `(n,)`, with ones where it has no trials or weights.
    """

    family: int
    links: Mapping[str, int]
    slots: Sequence[str]
    structures: Sequence[int]
    priors: np.ndarray
    arguments: np.ndarray
    y: np.ndarray
    trials: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True, eq=False)
class Compiled:
    """
    A joint density ready to be evaluated: everything it needs stands in one block of memory.

    `memory` `(words,)` holds the block's length, then for each array where it starts and its two
    sizes, then the arrays: float64, or int64 in the same bits.
    """

    memory: np.ndarray

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate the log density at x `(size,)` and its gradient."""
        return evaluate(x, self.memory, self.memory.view(np.int64))


def compile_joint(joint: Joint, parts: Parts) -> Compiled:
    """Lay out a joint density for compiled evaluation; safe in threads."""
    arrays = [
        *_outer(joint, parts),
        *_predictors(joint, parts),
        *_effects(joint, parts),
        np.array([parts.family]),
        parts.y,
        parts.trials,
        parts.weights,
    ]
    return Compiled(_packed(arrays))


def _packed(arrays: Sequence[np.ndarray]) -> np.ndarray:
    start = 1 + 3 * len(arrays)
    memory = np.zeros(start + sum(a.size for a in arrays))
    numbers = memory.view(np.int64)
    numbers[0] = len(memory)
    for k, array in enumerate(arrays):
        rows, columns = array.shape if array.ndim == 2 else (array.size, 1)
        numbers[1 + 3 * k : 4 + 3 * k] = start, rows, columns
        into = numbers if array.dtype.kind == "i" else memory
        into[start : start + array.size] = array.ravel()
        start += array.size
    return memory


def _outer(joint: Joint, parts: Parts) -> tuple[Any, ...]:
    outer = joint.outer
    low, high = np.isfinite(outer.lower), np.isfinite(outer.upper)
    return (
        outer.free,
        (low * 1 + high * 2).astype(np.int64),
        outer.lower,
        outer.upper,
        outer.value,
        parts.priors,
        parts.arguments,
    )


def _predictors(joint: Joint, parts: Parts) -> tuple[Any, ...]:
    """Stack the predictors: one row of `slots` each; a parameter without one has link -1."""
    n = len(parts.y)
    X, gamma, owner = [np.empty((n, 0))], list[int](), list[int]()
    offsets = np.zeros((len(parts.slots), n))
    links = np.full(len(parts.slots), -1)
    places = np.zeros(len(parts.slots), dtype=np.int64)
    pointers, indices, data = [], [np.empty(0, np.int64)], [np.empty(0)]
    entries = 0
    for s, name in enumerate(parts.slots):
        pointer = np.full(n + 1, entries)
        if name in joint.constants:
            places[s] = joint.constants[name]
        else:
            linear = joint.predictors[name]
            links[s] = parts.links[name]
            offsets[s] = linear.offset
            X.append(linear.X)
            k = linear.X.shape[1]
            gamma += range(linear.gamma.start, linear.gamma.start + k)
            owner += [s] * k
            if linear.Z is not None:
                pointer = pointer + linear.Z.indptr
                indices.append(linear.Z.indices.astype(np.int64))
                data.append(linear.Z.data)
                entries += linear.Z.nnz
        pointers.append(pointer.astype(np.int64))
    return (
        np.ascontiguousarray(np.hstack(X).T),
        np.array(gamma, dtype=np.int64),
        np.array(owner, dtype=np.int64),
        offsets,
        links,
        places,
        np.array(pointers),
        np.concatenate(indices),
        np.concatenate(data),
    )


def _effects(joint: Joint, parts: Parts) -> tuple[Any, ...]:
    rows = []
    for term, kind in zip(joint.effects, parts.structures, strict=True):
        sd = term.theta["sd"].start
        partial = term.theta["partial"].start if "partial" in term.theta else 0
        rows.append((term.at.start, term.q, term.p, int(term.centered), kind, sd, partial))
    return (np.array(rows, dtype=np.int64).reshape(-1, 7),)


@compiled
def _constrain(x, free, kinds, lower, upper, value, priors, arguments):
    """Give theta, d theta/dx, the derivative of the log Jacobian, and with the priors their sum."""
    m = len(value)
    theta, slope, by_x, by_theta = value.copy(), np.ones(m), np.zeros(m), np.zeros(m)
    total = 0.0
    for k in range(len(free)):
        j = free[k]
        z = x[k]
        if kinds[j] == 0:
            theta[j] = z
        elif kinds[j] == 3:
            width, share = upper[j] - lower[j], kernels.expit(z)
            theta[j] = lower[j] + width * share
            slope[j], by_x[j] = width * share * (1.0 - share), 1.0 - 2.0 * share
            total += np.log(width) - kernels.softplus(z) - kernels.softplus(-z)
        else:
            step = np.exp(z)
            theta[j] = lower[j] + step if kinds[j] == 1 else upper[j] - step
            slope[j], by_x[j] = step if kinds[j] == 1 else -step, 1.0
            total += z
        a = arguments[j]
        part, by_theta[j] = kernels.prior(priors[j], theta[j], a[0], a[1], a[2])
        total += part
    return theta, slope, by_x, by_theta, total


@compiled
def _to_effects(x, theta, terms, b, Lambdas):
    """Write every term's b, and give the log density of its coordinates."""
    total, start = 0.0, 0
    for t in range(len(terms)):
        at, q, p, centered, kind, sd, partial = terms[t]
        Lambda = Lambdas[t, :p, :p]
        kernels.fill_factor(kind, p, theta[sd:], theta[partial:], Lambda)
        v = np.empty(p)
        for r in range(q):
            o, i0 = start + r * p, at + r * p
            for i in range(p):
                if centered:
                    left = x[i0 + i]
                    for j in range(i):
                        left -= Lambda[i, j] * v[j]
                    v[i] = left / Lambda[i, i]
                    b[o + i] = x[i0 + i]
                else:
                    v[i] = x[i0 + i]
                    value = 0.0
                    for j in range(i + 1):
                        value += Lambda[i, j] * v[j]
                    b[o + i] = value
                total -= 0.5 * v[i] * v[i]
        if centered:
            for i in range(p):
                total -= q * np.log(Lambda[i, i])
        start += q * p
    return total


@compiled
def _back_centered(p, Lambda, b, by_b, by_Lambda, gradient):
    """Carry one level's slopes back, where b itself is sampled: w = Lambda^-T Lambda^-1 b."""
    v, w = np.empty(p), np.empty(p)
    for i in range(p):
        left = b[i]
        for j in range(i):
            left -= Lambda[i, j] * v[j]
        v[i] = left / Lambda[i, i]
    for i in range(p - 1, -1, -1):
        left = v[i]
        for j in range(i + 1, p):
            left -= Lambda[j, i] * w[j]
        w[i] = left / Lambda[i, i]
    for i in range(p):
        gradient[i] = by_b[i] - w[i]
        for j in range(i + 1):
            by_Lambda[i, j] += w[i] * v[j]


@compiled
def _back_standard(p, Lambda, v, by_b, by_Lambda, gradient):
    """Carry one level's slopes back, where v is sampled: b = Lambda v."""
    for j in range(p):
        total = -v[j]
        for i in range(j, p):
            total += Lambda[i, j] * by_b[i]
            by_Lambda[i, j] += by_b[i] * v[j]
        gradient[j] = total


@compiled
def _from_effects(x, theta, terms, b, by_b, Lambdas, gradient, by_theta):
    """Carry slopes by b back to the coordinates and to the structures' parameters."""
    start = 0
    for t in range(len(terms)):
        at, q, p, centered, kind, sd, partial = terms[t]
        Lambda, by_Lambda = Lambdas[t, :p, :p], np.zeros((p, p))
        for r in range(q):
            o, i0 = start + r * p, at + r * p
            if centered:
                _back_centered(p, Lambda, b[o:], by_b[o:], by_Lambda, gradient[i0:])
            else:
                _back_standard(p, Lambda, x[i0:], by_b[o:], by_Lambda, gradient[i0:])
        if centered:
            for i in range(p):
                by_Lambda[i, i] -= q / Lambda[i, i]
        by_sd, by_partial = by_theta[sd:], by_theta[partial:]
        kernels.pull_factor(
            kind, p, theta[sd:], theta[partial:], Lambda, by_Lambda, by_sd, by_partial
        )
        start += q * p


@compiled
def _binary_rows(y, trials, weights, eta, slope):
    """Evaluate successes with a logit link, in eta: no probability is rounded to 0 or 1."""
    total = 0.0
    for i in range(len(y)):
        z = eta[0, i]
        e = np.exp(-abs(z))
        p = (1.0 if z >= 0 else e) / (1.0 + e)
        total += weights[i] * (y[i] * z - trials[i] * (max(z, 0.0) + np.log1p(e)))
        slope[0, i] = weights[i] * (y[i] - trials[i] * p)
    return total


@compiled
def _poisson_rows(y, weights, eta, slope):
    """Evaluate counts with a log link."""
    total = 0.0
    for i in range(len(y)):
        mu = np.exp(eta[0, i])
        total += weights[i] * (y[i] * eta[0, i] - mu)
        slope[0, i] = weights[i] * (y[i] - mu)
    return total


@compiled
def _gaussian_rows(y, weights, eta, sigma, slope):
    """Evaluate normal responses with one standard deviation; its slope stands in one row."""
    total, by_sigma, constant = 0.0, 0.0, np.log(sigma)
    for i in range(len(y)):
        r = (y[i] - eta[0, i]) / sigma
        total -= weights[i] * (0.5 * r * r + constant)
        slope[0, i] = weights[i] * r / sigma
        slope[1, i] = 0.0
        by_sigma += weights[i] * (r * r - 1.0)
    slope[1, 0] = by_sigma / sigma
    return total


@compiled
def _general_rows(family, links, y, trials, weights, eta, value, slope):
    """Evaluate any family with any links."""
    P, total = len(links), 0.0
    params, by_eta, by_param = value.copy(), np.ones(3), np.empty(3)
    for i in range(len(y)):
        for s in range(P):
            if links[s] >= 0:
                params[s], by_eta[s] = kernels.inverse_link(links[s], eta[s, i])
        part, by_param[0], by_param[1], by_param[2] = kernels.point(
            family, y[i], trials[i], params[0], params[1], params[2]
        )
        total += weights[i] * part
        for s in range(P):
            slope[s, i] = weights[i] * by_param[s] * by_eta[s]
    return total


@compiled
def _likelihood(family, links, y, trials, weights, eta, value, slope):
    """Give a run of rows' log likelihood, and write its slopes by eta (or constants) `(P, m)`."""
    if links[0] == 2 and (family == 1 or family == 2):
        return _binary_rows(y, trials, weights, eta, slope)
    if links[0] == 1 and family == 3:
        return _poisson_rows(y, weights, eta, slope)
    if links[0] == 0 and family == 0 and links[1] < 0:
        return _gaussian_rows(y, weights, eta, value[1], slope)
    return _general_rows(family, links, y, trials, weights, eta, value, slope)


@compiled
def _predict_rows(start, m, coefs, b, X, owner, offsets, pointers, indices, data, eta):
    """Write eta = offset + X gamma + Z b of m rows."""
    for s in range(len(eta)):
        for i in range(m):
            eta[s, i] = offsets[s, start + i]
    for k in range(len(coefs)):
        row = owner[k]
        for i in range(m):
            eta[row, i] += X[k, start + i] * coefs[k]
    for s in range(len(eta)):
        if pointers[s, -1] > pointers[s, 0]:
            for i in range(m):
                part = 0.0
                for e in range(pointers[s, start + i], pointers[s, start + i + 1]):
                    part += data[e] * b[indices[e]]
                eta[s, i] += part


@compiled
def _collect_rows(start, m, slope, X, owner, pointers, indices, data, by_coefs, by_b):
    """Add X' slope and Z' slope of m rows."""
    for k in range(len(by_coefs)):
        row, part = owner[k], 0.0
        for i in range(m):
            part += X[k, start + i] * slope[row, i]
        by_coefs[k] += part
    for s in range(len(slope)):
        if pointers[s, -1] > pointers[s, 0]:
            for i in range(m):
                for e in range(pointers[s, start + i], pointers[s, start + i + 1]):
                    by_b[indices[e]] += data[e] * slope[s, i]


@compiled
def _rows(
    theta, b, X, gamma, owner, offsets, links, places, pointers, indices, data,
    family, y, trials, weights, by_theta, by_b,
):  # fmt: skip
    """Pass over the rows: likelihood, and its slopes by gamma, the constants and b."""
    P, n, total = len(links), len(y), 0.0
    coefs, by_coefs = theta[gamma], np.zeros(len(gamma))
    value, by_value = np.ones(3), np.zeros(3)
    eta, slope = np.empty((P, BLOCK)), np.empty((P, BLOCK))
    for s in range(P):
        if links[s] < 0:
            value[s] = theta[places[s]]
    for start in range(0, n, BLOCK):
        m = min(BLOCK, n - start)
        rows = slice(start, start + m)
        _predict_rows(start, m, coefs, b, X, owner, offsets, pointers, indices, data, eta)
        total += _likelihood(
            family, links, y[rows], trials[rows], weights[rows], eta, value, slope[:, :m]
        )
        _collect_rows(start, m, slope, X, owner, pointers, indices, data, by_coefs, by_b)
        for s in range(P):
            if links[s] < 0:
                by_value[s] += slope[s, :m].sum()
    for k in range(len(gamma)):
        by_theta[gamma[k]] += by_coefs[k]
    for s in range(P):
        if links[s] < 0:
            by_theta[places[s]] += by_value[s]
    return total


@compiled
def _joint(
    x, free, kinds, lower, upper, fixed, priors, arguments,
    X, gamma, owner, offsets, links, places, pointers, indices, data,
    terms, family, y, trials, weights,
):  # fmt: skip
    theta, slope, by_x, by_theta, total = _constrain(
        x, free, kinds, lower, upper, fixed, priors, arguments
    )
    size, widest = 0, 1
    for t in range(len(terms)):
        size += terms[t, 1] * terms[t, 2]
        widest = max(widest, terms[t, 2])
    b, by_b = np.empty(size), np.zeros(size)
    Lambdas = np.zeros((len(terms), widest, widest))
    total += _to_effects(x, theta, terms, b, Lambdas)
    total += _rows(
        theta, b, X, gamma, owner, offsets, links, places, pointers, indices, data,
        family, y, trials, weights, by_theta, by_b,
    )  # fmt: skip
    gradient = np.empty(len(x))
    _from_effects(x, theta, terms, b, by_b, Lambdas, gradient, by_theta)
    for k in range(len(free)):
        j = free[k]
        gradient[k] = by_theta[j] * slope[j] + by_x[j]
    return total, gradient


@compiled
def _vector(k, values, numbers):
    start = numbers[1 + 3 * k]
    return values[start : start + numbers[2 + 3 * k]]


@compiled
def _matrix(k, values, numbers):
    start, rows, columns = numbers[1 + 3 * k], numbers[2 + 3 * k], numbers[3 + 3 * k]
    return values[start : start + rows * columns].reshape(rows, columns)


@compiled
def evaluate(x, floats, ints):
    """Evaluate the density laid out in a block of memory, seen as floats and as integers."""
    return _joint(
        x, _vector(0, ints, ints), _vector(1, ints, ints), _vector(2, floats, ints),
        _vector(3, floats, ints), _vector(4, floats, ints), _vector(5, ints, ints),
        _matrix(6, floats, ints), _matrix(7, floats, ints), _vector(8, ints, ints),
        _vector(9, ints, ints), _matrix(10, floats, ints), _vector(11, ints, ints),
        _vector(12, ints, ints), _matrix(13, ints, ints), _vector(14, ints, ints),
        _vector(15, floats, ints), _matrix(16, ints, ints), _vector(17, ints, ints)[0],
        _vector(18, floats, ints), _vector(19, floats, ints), _vector(20, floats, ints),
    )  # fmt: skip
