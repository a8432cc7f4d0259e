"""The maximum under monotonic effects: steps of one sign, those against it held at zero."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product

import numpy as np

from glmm_bayes.draws import beta_name
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.model import Model
from glmm_bayes.modes.another import changed
from glmm_bayes.modes.mode import Mode
from glmm_bayes.parameters import Block
from glmm_bayes.priors import Prior

type Search = Callable[[Model], Mode]
type Place = tuple[str, int]  # a block and an entry of it
MOST = 4  # effects whose direction is tried both ways
RISE = 1e-7  # of the log likelihood, that is worth another set


def maximise_monotone(model: Model, search: Search) -> Mode:
    """
    Maximise so that the steps of each monotonic effect have one sign.

    Parameters
    ----------
    model
        With its steps as ordinary coefficients: see `modes.plain`.
    search
        Maximises a model.

    Returns
    -------
    Mode
        Where steps would go against the others, these are held at zero in its model.

    Raises
    ------
    NotSupportedError
        If more than four effects are not monotonic by themselves.

    Notes
    -----
    An active set for each way the effects may go: steps against it are held, and let go again
    where the likelihood rises with them. Of normal responses with fixed effects only this is
    isotonic regression.
    """
    groups, mode = list(_groups(model)), search(model)
    free = [group for group in groups if not _agrees(_steps(mode, group))]
    if not free:
        return mode
    if len(free) > MOST:
        raise NotSupportedError(
            f"{len(free)} effects are not monotonic by themselves, and more than {MOST} are not "
            f"tried both ways; use fit('nuts'), or fewer mo( )."
        )
    found = []
    for signs in product((1.0, -1.0), repeat=len(free)):
        wanted = {place: s for group, s in zip(free, signs, strict=True) for place in group}
        for group in groups:
            if group not in free:
                sign = np.sign(_steps(mode, group).sum()) or 1.0
                wanted |= dict.fromkeys(group, float(sign))
        found.append(_along(model, search, wanted))
    mode = max(found, key=lambda each: each.loglik)
    return replace(mode, notes=(*mode.notes, _words(mode.coordinates.model)))


def refuse_against(mode: Mode, method: str) -> None:
    """
    Refuse a maximum at which an effect is not monotonic.

    Raises
    ------
    NotSupportedError
        If there is one.
    """
    model = mode.coordinates.model
    for group in _groups(model):
        if not _agrees(_steps(mode, group)):
            block = next(block for block in model.blocks if block.name == group[0][0])
            names = ", ".join(block.labels[k] for _, k in group)
            raise NotSupportedError(
                f"The maximum of {method} is not monotonic in {names}; fit('ml') holds steps at "
                f"zero where that is so, and fit('nuts') has a prior of them."
            )


def hold(model: Model, places: Sequence[Place]) -> Model:
    """Hold coefficients at zero, in a model whose `whole` is this one."""
    if not places:
        return model
    at = {block.name: [k for name, k in places if name == block.name] for block in model.blocks}
    blocks = tuple(_held(block, at[block.name]) for block in model.blocks)
    held = tuple((str(name), int(k)) for name, k in places)
    return changed(model, blocks=blocks, whole=model.whole or model, held=held)


def _held(block: Block, entries: Sequence[int]) -> Block:
    priors = [Prior.fixed(0.0) if k in entries else p for k, p in enumerate(block.priors)]
    return replace(block, priors=tuple(priors))


def _groups(model: Model) -> Iterator[list[Place]]:
    for param, predictor in model.design.predictors.items():
        for term in predictor.monotonic:
            yield [(beta_name(param), int(k)) for k in term.columns]


def _steps(mode: Mode, places: Sequence[Place]) -> np.ndarray:
    layout = mode.coordinates.model.layout
    return np.array([mode.theta[layout[name].start + k] for name, k in places])


def _agrees(steps: np.ndarray) -> bool:
    return bool((steps >= 0).all() or (steps <= 0).all())


def _along(model: Model, search: Search, wanted: Mapping[Place, float]) -> Mode:
    """Maximise with every step of the sign that is wanted, or zero."""
    places, signs = list(wanted), np.array(list(wanted.values()))

    def climbed(held: Sequence[Place]) -> tuple[list[Place], Mode]:
        """Hold further steps until none goes the wrong way."""
        kept = list(held)
        while True:
            mode = search(hold(model, kept))
            wrong = np.flatnonzero(_steps(mode, places) * signs < 0)
            if not len(wrong):
                return kept, mode
            kept += [places[k] for k in wrong]

    held, mode = climbed([])
    tried = list(held)
    while tried:
        place = tried.pop()
        others, other = climbed([each for each in held if each != place])
        if other.loglik > mode.loglik + RISE:
            held, mode = others, other
            tried = [each for each in held if each != place]
    return mode


def _words(model: Model) -> str:
    blocks = {block.name: block for block in model.blocks}
    names = ", ".join(blocks[name].labels[k] for name, k in model.held)
    return (
        f"Steps that would not be monotonic are held at zero, and have no standard error: {names}. "
        f"Those of the others are as if that were known."
    )
