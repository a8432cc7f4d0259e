"""The joint density of `joint.py` laid out for one compiled pass, where its parts have kernels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.engine.density.joint import Joint
from glmm_bayes.engine.density.whitening import Whitening


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
    sizes, then the arrays: float64, or int64 in the same bits. With a whitening, the coordinates
    are its z.
    """

    memory: np.ndarray
    is_whitened: bool

    @property
    def functions(self) -> tuple[Any, Any]:
        """The C functions: the density, and x of the coordinates."""
        from glmm_bayes.engine.density import passes

        if self.is_whitened:
            from glmm_bayes.engine.density import whitening_passes

            return whitening_passes.c_functions()
        return passes.c_functions()

    def __call__(self, x: np.ndarray) -> tuple[float, np.ndarray]:
        """Evaluate the log density at x `(size,)` and its gradient."""
        from glmm_bayes.engine.density.passes import DOUBLE_P

        x = np.ascontiguousarray(x, dtype=float)
        gradient, value = np.empty_like(x), np.empty(1)
        at = [array.ctypes.data_as(DOUBLE_P) for array in (x, gradient, value)]
        self.functions[0].ctypes(len(x), *at, self.memory.ctypes.data)
        return value[0], gradient

    def place(self, z: np.ndarray) -> np.ndarray:
        """Give the joint density's x `(size,)`."""
        from glmm_bayes.engine.density.passes import DOUBLE_P

        z = np.ascontiguousarray(z, dtype=float)
        x = np.empty_like(z)
        at = [array.ctypes.data_as(DOUBLE_P) for array in (z, x)]
        self.functions[1].ctypes(len(z), len(z), *at, self.memory.ctypes.data)
        return x


def compile_joint(joint: Joint, parts: Parts, whitening: Whitening | None = None) -> Compiled:
    """Lay out a joint density for compiled evaluation; safe in threads."""
    terms, shares, weights = _effects(joint, parts)
    arrays = [
        *_outer(joint, parts),
        *_predictors(joint, parts),
        terms,
        np.array([parts.family, len(joint.outer.dependences)]),
        parts.y,
        parts.trials,
        parts.weights,
        shares,
        weights,
    ]
    if whitening is not None:
        arrays += _whitening(whitening)
    elif joint.outer.dependences:
        arrays += _dependents(joint)
    return Compiled(_packed(arrays), whitening is not None)


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
    rows, shares, weights = [], [np.zeros((0, 2), dtype=np.int64)], [np.empty(0)]
    first, begin = 0, 0
    for term, kind in zip(joint.effects, parts.structures, strict=True):
        sd = term.theta["sd"].start
        partial = next((at.start for name, at in term.theta.items() if name != "sd"), 0)
        own = term.shares
        at = (term.at.start, term.q, term.p, int(term.centered))
        rows.append((*at, kind, sd, partial, first, len(own.outer), begin))
        shares.append(np.column_stack([own.column, own.outer]))
        weights.append(own.weight.ravel())
        first, begin = first + len(own.outer), begin + own.weight.size
    terms = np.array(rows, dtype=np.int64).reshape(-1, 10)
    return terms, np.vstack(shares).astype(np.int64), np.concatenate(weights)


def _dependents(joint: Joint) -> tuple[np.ndarray, ...]:
    """Lay out what depends on others, as `dependent_passes` reads it."""
    from glmm_bayes.engine.density.dependent_passes import DEPENDENTS

    rows, first = [], 0
    for each in joint.outer.dependences:
        kind, k = DEPENDENTS.index(each.formula.compiled), len(each.at)
        starts = [part.start for part in each.given]
        sigma = starts.pop() if each.formula.scaled else -1
        rows.append([kind, first, k, *[*starts, 0, 0, 0][:4], sigma])
        first += k
    return (
        np.array(rows, dtype=np.int64),
        np.concatenate([each.at for each in joint.outer.dependences]).astype(np.int64),
        np.concatenate([each.formula.spreads for each in joint.outer.dependences]),
        np.array([each.formula.reach for each in joint.outer.dependences], dtype=float),
    )


def _whitening(whitening: Whitening) -> tuple[np.ndarray, ...]:
    return (
        whitening.centre,
        whitening.axes,
        whitening.coefficients.astype(np.int64),
        whitening.at,
        *whitening.chains,
        whitening.blocks,
        whitening.right,
        whitening.slopes,
        np.array([*whitening.sizes, whitening.noise], dtype=np.int64),
        np.array([whitening.noise_at]),
        *whitening.turn,
    )
