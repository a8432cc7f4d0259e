"""Parameters that are functions of others, and those others: coefficients that shrink together."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.parameters import Block, Scale
from glmm_bayes.priors import POSITIVE, REAL, Prior
from glmm_bayes.priors.formulas import (
    R2D2,
    Decomposed,
    Formula,
    Horseshoe,
    stick_concentrations,
)


@dataclass(frozen=True, eq=False)
class Dependent:
    """
    Entries of a block that are a function of other blocks, which are sampled in their place.

    `formula.value` takes the blocks that are `given`, by name, each `(…, size)`.
    """

    block: str
    entries: np.ndarray
    given: tuple[str, ...]
    formula: Formula


@dataclass(frozen=True, eq=False)
class Circumstances:
    """
    What priors of several coefficients ask of a model.

    Attributes
    ----------
    n
        The number of rows.
    scales
        By parameter of the family.
    sigma
        Whether the mean's coefficients are in units of a constant `sigma`.
    """

    n: int
    scales: Mapping[str, Scale]
    sigma: bool


def with_dependents(
    blocks: Sequence[Block], around: Circumstances
) -> tuple[tuple[Block, ...], tuple[Dependent, ...]]:
    """
    Add the blocks that coefficients which shrink together are a function of.

    Raises
    ------
    NotSupportedError
        If one such prior speaks of coefficients of several predictors.
    DataError
        If shares of a variance do not have one concentration each.
    """
    found: list[Dependent] = []
    added: list[Block] = []
    spoken: dict[str, str] = {}
    for block in blocks:
        for number, (key, entries) in enumerate(_shrinking(block).items()):
            if spoken.setdefault(key, block.name) != block.name:
                raise NotSupportedError(
                    f"The prior of {key!r} shrinks coefficients of several predictors together, "
                    f"which is not built; give it to some of them by their own names."
                )
            name = f"{block.name}_{number + 1}" if number else block.name
            dependent, own = _shrunk(block, np.array(entries), name, around)
            found.append(dependent)
            added += own
    decompositions(blocks)  # which is to be refused now, if it is
    return (*blocks, *added), tuple(found)


def _shrinking(block: Block) -> dict[str, list[int]]:
    """List the entries that shrink together, by the name that their prior was given under."""
    found: dict[str, list[int]] = {}
    for k, (prior, source) in enumerate(zip(block.priors, block.sources, strict=True)):
        if prior.distribution in SHRUNK:
            found.setdefault(source, []).append(k)
    return found


def _shrunk(
    block: Block, entries: np.ndarray, name: str, around: Circumstances
) -> tuple[Dependent, list[Block]]:
    prior = block.priors[entries[0]]
    param = "mu" if block.name == "beta" else block.name.removeprefix("beta_")
    making = _Making(
        name,
        tuple(block.labels[k] for k in entries),
        np.array(block.spreads)[entries],
        around.n,
        around.scales[param].reach,
        around.sigma and param == "mu",
    )
    formula, own = SHRUNK[prior.distribution](prior.arguments, making)
    given = (*(each.name for each in own), *(("sigma",) if making.scaled else ()))
    return Dependent(block.name, entries, given, formula), own


@dataclass(frozen=True, eq=False)
class _Making:
    """Coefficients that shrink together, as makers see them."""

    name: str
    labels: tuple[str, ...]
    spreads: np.ndarray
    n: int
    reach: float
    scaled: bool

    def hidden(self, name: str, support: tuple[float, float], priors: Sequence[Prior]) -> Block:
        """Make a block that is not reported."""
        labels = tuple(str(k) for k in range(len(priors)))
        return _made(f"{name}_{self.name}", labels, None, support, priors)

    def alone(self, name: str, support: tuple[float, float], prior: Prior) -> Block:
        """Make a single parameter."""
        return _made(f"{name}_{self.name}", (), None, support, [prior])


def _made(
    name: str,
    labels: tuple[str, ...],
    dim: str | None,
    support: tuple[float, float],
    priors: Sequence[Prior],
) -> Block:
    size = len(priors)
    return Block(name, labels, dim, ((),) * size, support, tuple(priors), ("default",) * size)


def _horseshoe(given: Mapping[str, Any], making: _Making) -> tuple[Formula, list[Block]]:
    k = len(making.labels)
    scale = given["scale_global"]
    if "par_ratio" in given:
        scale = given["par_ratio"] / np.sqrt(making.n)
    local = Prior("HalfStudentT", nu=given["df"], sigma=1.0)
    wide = Prior("HalfStudentT", nu=given["df_global"], sigma=scale)
    half = 0.5 * given["df_slab"]
    dim = f"local_{making.name}__coef"
    blocks = [
        making.hidden("z", REAL, [Prior("Normal", mu=0.0, sigma=1.0)] * k),
        _made(f"local_{making.name}", making.labels, dim, POSITIVE, [local] * k),
        making.alone("global", POSITIVE, wide),
        making.alone("slab", POSITIVE, Prior("InverseGamma", alpha=half, beta=half)),
    ]
    return Horseshoe(making.spreads, given["scale_slab"] * making.reach / 2.5), blocks


def _r2d2(given: Mapping[str, Any], making: _Making) -> tuple[Formula, list[Block]]:
    k, mean, precision = len(making.labels), given["mean_R2"], given["prec_R2"]
    R2 = Prior("Beta", alpha=mean * precision, beta=(1 - mean) * precision)
    blocks = [
        making.hidden("z", REAL, [Prior("Normal", mu=0.0, sigma=1.0)] * k),
        making.alone("R2", (0.0, 1.0), R2),
    ]
    if k > 1:
        blocks.append(sticks(f"stick_{making.name}", np.full(k, given["cons_D2"])))
    return R2D2(making.spreads, making.scaled), blocks


def sticks(name: str, concentrations: np.ndarray) -> Block:
    """Make the block of the K - 1 sticks whose shares are Dirichlet with concentrations `(K,)`."""
    pairs = zip(*stick_concentrations(concentrations), strict=True)
    priors = [Prior("Beta", alpha=float(a), beta=float(b)) for a, b in pairs]
    return _made(name, tuple(str(k) for k in range(len(priors))), None, (0.0, 1.0), priors)


# By name, what makes formula and blocks.
SHRUNK = {"Horseshoe": _horseshoe, "R2D2": _r2d2}


def decompositions(blocks: Sequence[Block]) -> list[tuple[Decomposed, np.ndarray]]:
    """
    Collect the standard deviations whose total has a prior, with their places among all entries.

    Raises
    ------
    DataError
        If there is not one concentration for each of them.
    """
    places: dict[str, list[tuple[int, float, Prior, str]]] = {}
    at = 0
    for block in blocks:
        for k, prior in enumerate(block.priors):
            if prior.distribution == "Decomposed":
                label = block.keys[k][0]
                own = places.setdefault(block.sources[k], [])
                own.append((at + k, block.spreads[k], prior, label))
        at += block.size
    found = []
    for key, entries in places.items():
        given = entries[0][2].arguments
        a, size = np.asarray(given["concentration"], dtype=float), len(entries)
        if a.ndim and a.shape != (size,):
            raise DataError(
                f"The prior of {key!r} has {a.size} concentrations, but it speaks of {size}: "
                f"{', '.join(label for *_, label in entries)}."
            )
        weights = np.array([spread for _, spread, _, _ in entries])
        form = Decomposed(given["total"], np.broadcast_to(a, (size,)), weights)
        found.append((form, np.array([place for place, *_ in entries])))
    return found
