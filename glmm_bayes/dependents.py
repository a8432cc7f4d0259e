"""Parameters that are functions of others, and those others: coefficients that shrink together."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from glmm_bayes.design import Design, Predictor
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.monotonic import CALL, MonotonicTerm
from glmm_bayes.parameters import Block, Scale
from glmm_bayes.priors import POSITIVE, REAL, Prior
from glmm_bayes.priors.formulas import (
    R2D2,
    Decomposed,
    Formula,
    Horseshoe,
    Monotonic,
    stick_concentrations,
)


@dataclass(frozen=True, eq=False)
class Dependent:
    """
    Entries of a block that are a function of other blocks, which are sampled in their place.

    `formula.value` takes the blocks that are `given`, by name, each `(…, size)`. `text` says what
    makes them so; `own` are those of `given` that are there for them alone.
    """

    block: str
    entries: np.ndarray
    own: tuple[str, ...]
    given: tuple[str, ...]
    formula: Formula
    text: str


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


def monotonic_blocks(predictor: Predictor, scale: Scale) -> list[Block]:
    """Describe what the monotonic effects of one predictor are made of: mean steps, and shares."""
    blocks = []
    for term in predictor.monotonic:
        name, suffix = _monotonic_name(predictor.param, term), _suffix(predictor.param)
        spread = float(np.std(predictor.X[:, term.columns].sum(axis=1))) or 1.0
        prior = Prior("Normal", mu=0.0, sigma=float(f"{2.5 * scale.reach / spread:.3g}"))
        keys = (f"beta{suffix}[{term.label}]", f"beta{suffix}")
        block = _made(name, (), None, REAL, [prior])
        blocks.append(replace(block, keys=(keys,), spreads=(spread,)))
        if len(term.levels) > 1:
            blocks.append(_shares_block(name, term))
    return blocks


def _monotonic_name(param: str, term: MonotonicTerm) -> str:
    return f"{term.name}{_suffix(param)}"


def _suffix(param: str) -> str:
    return "" if param == "mu" else f"_{param}"


def _shares_block(name: str, term: MonotonicTerm) -> Block:
    size, key = len(term.levels), f"simo_{name.removeprefix('mo_')}"

    def expand(prior: Prior) -> tuple[Prior, ...]:
        a = np.asarray(prior.arguments.get("a", 1.0), dtype=float)
        if prior.distribution != "Dirichlet" or a.shape not in ((), (size,)):
            raise DataError(
                f"The prior of {key!r}, {prior!r}, has to be gb.Prior('Dirichlet', a=…), a a "
                f"number or {size} of them, for the steps up to {', '.join(term.levels)}."
            )
        return sticks("", np.broadcast_to(a, (size,))).priors

    block = sticks(f"stick_{name}", np.ones(size))
    keys = ((key, "simo"),) * (size - 1)
    return replace(block, keys=keys, structure=expand, stated=Prior("Dirichlet", a=1.0))


def _monotonic(design: Design) -> Iterator[Dependent]:
    for param, predictor in design.predictors.items():
        for term in predictor.monotonic:
            name = _monotonic_name(param, term)
            own = (name, f"stick_{name}") if len(term.levels) > 1 else (name,)
            formula = Monotonic(len(term.levels))
            text = f"{term.label} makes"
            yield Dependent(f"beta{_suffix(param)}", term.columns, own, own, formula, text)


def refuse_random_steps(design: Design) -> None:
    """
    Refuse monotonic effects that vary between groups.

    Raises
    ------
    NotSupportedError
        If a random term has such columns.
    """
    for term in design.terms:
        if any(CALL in column for column in term.columns):
            raise NotSupportedError(
                f"Monotonic effects in {term.text!r} are not built: let the levels' numbers vary "
                f"between groups, as (x | group), beside mo(x)."
            )


def with_dependents(
    blocks: Sequence[Block], design: Design, around: Circumstances
) -> tuple[tuple[Block, ...], tuple[Dependent, ...]]:
    """
    Mark the coefficients that are functions of other parameters, and add the blocks of these.

    Raises
    ------
    NotSupportedError
        If one such prior speaks of coefficients of several predictors.
    DataError
        If shares of a variance do not have one concentration each.
    """
    refuse_random_steps(design)
    found = list(_monotonic(design))
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
    return (*(_marked(block, found) for block in blocks), *added), tuple(found)


def _marked(block: Block, dependents: Sequence[Dependent]) -> Block:
    """Let steps say that they are functions of others."""
    priors = list(block.priors)
    for each in dependents:
        for k in each.entries if each.block == block.name else ():
            if not priors[k].is_whole:
                priors[k] = Prior.whole("Monotonic", {})
    return replace(block, priors=tuple(priors))


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
    names = tuple(each.name for each in own)
    given = (*names, *(("sigma",) if making.scaled else ()))
    text = f"The prior of {block.sources[entries[0]]!r}, {prior!r}, makes"
    return Dependent(block.name, entries, names, given, formula, text), own


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
    reach = given["scale_slab"] * making.reach / 2.5
    return Horseshoe(making.spreads, reach, making.scaled), blocks


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
