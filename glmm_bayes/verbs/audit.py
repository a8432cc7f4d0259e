"""Look at a model's data before fitting, for what the data cannot tell or the sampler dislikes."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np

from glmm_bayes.design import Predictor
from glmm_bayes.families import Link
from glmm_bayes.model import Model
from glmm_bayes.observed import Observed
from glmm_bayes.response import Response
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.columns import Angles, left_over, listed
from glmm_bayes.verbs.printing import Page, Sentences
from glmm_bayes.verbs.separation import Separation, separation

FEW_LEVELS = 5
INFLATED = 30.0
SCALES = (1e-3, 1e3)
EXACT = 1e-10
ENDLESS = 1e10  # beyond it, a link's value counts as infinite

type Severity = Literal["fatal", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("fatal", "warning", "note")


@dataclass(frozen=True)
class Note:
    """
    One thing found.

    `severity` is "fatal" where the posterior is improper, "warning" where some parameters are known
    only by their priors, "note" where it is good to know; `what` is the term or the columns
    in question, `words` a sentence with the remedy.
    """

    severity: Severity
    what: str
    words: str


@dataclass(frozen=True)
class Audit:
    """What was found, the gravest first."""

    notes: tuple[Note, ...]

    @property
    def ok(self) -> bool:
        """Whether there is nothing graver than notes."""
        return all(note.severity == "note" for note in self.notes)

    @property
    def sentences(self) -> Sentences:
        """The notes as printed."""
        lines = tuple(f"{note.severity}: {note.words}" for note in self.notes)
        return Sentences("Audit", lines or ("No problem found.",))

    def text(self, width: int | None = None) -> str:
        """Lay the notes out as text."""
        return self._page.text(width)

    def html(self) -> str:
        """Write the notes as HTML."""
        return self._page.html()

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.html()

    @property
    def _page(self) -> Page:
        return Page("Before fitting", (self.sentences,))


def audit(model: Model) -> Audit:
    """
    Check a model's design, its groups and its response.

    Returns
    -------
    Audit
        Rank and collinearity of the fixed parts, scales of columns, few levels, terms confounded
        with the family's own dispersion or within groups, separation, responses without noise,
        unused levels.
    """
    notes: list[Note] = []
    angles = {name: Angles.of(p.X, p.names) for name, p in model.design.predictors.items()}
    for param, predictor in model.design.predictors.items():
        notes += _columns(predictor, angles[param])
    for term in (term for term in model.design.terms if not term.common):
        notes += _levels(term)
        notes += _confounded(model, term)
        notes += _slopes(term)
    for part in model.observed:
        notes += _response(model, part)
    notes += _unused(model)
    return Audit(tuple(sorted(notes, key=lambda note: SEVERITIES.index(note.severity))))


# ---- the fixed part


def _columns(predictor: Predictor, angles: Angles) -> Iterator[Note]:
    X, names = predictor.X, predictor.names
    where = f"The fixed part of {predictor.param}"
    for name, others in angles.aliases.items():
        same = f"is a combination of {listed(others)}" if others else "is zero in every row"
        yield Note(
            "warning",
            name,
            f"{where}: {name} {same}; its coefficient is known only by its prior: leave the column "
            f"out, or join levels.",
        )
    near = angles.inflation(INFLATED)
    if near:
        worst = max(near.values())
        yield Note(
            "note",
            ", ".join(near),
            f"{where}: {listed(near)} are nearly collinear (variance inflation {worst:.0f}); "
            f"their coefficients can hardly be told apart: centre the predictors with center(x), "
            f"use poly(x, 2) for powers, or leave one out.",
        )
    for k, name in enumerate(names):
        spread = float(np.std(X[:, k]))
        if (
            spread > 0
            and not np.isin(X[:, k], (0.0, 1.0)).all()
            and not SCALES[0] < spread < SCALES[1]
        ):
            yield Note(
                "note",
                name,
                f"{where}: {name} has standard deviation {spread:.2g}, and so a coefficient of an "
                f"unhandy size; use scale({name}), or another unit.",
            )


# ---- random terms


def _levels(term: RandomTerm) -> Iterator[Note]:
    count = len(term.levels)
    if count == 1:
        yield Note(
            "warning",
            term.text,
            f"The group {term.label!r} of {term.text} has a single level; its standard "
            f"deviations are known only by their priors: leave the term out.",
        )
    elif count < FEW_LEVELS:
        yield Note(
            "note",
            term.text,
            f"The group {term.label!r} of {term.text} has only {count} levels, which say "
            f"little of a standard deviation; its prior matters: choose it, or use the group as a "
            f"fixed effect.",
        )


def _confounded(model: Model, term: RandomTerm) -> Iterator[Note]:
    effects = len(term.levels) * sum(g.Z.shape[1] for g in term.loadings if g.param == "mu")
    independent = term.structure.absorbs and term.level_structure.pairs is None
    if effects < model.nobs or term.index.shape[1] > 1 or not independent:
        return
    free = _dispersion(model)
    each = "a level for every row" if term.size == 1 else f"{effects} effects for {model.nobs} rows"
    if free:
        yield Note(
            "warning",
            term.text,
            f"The term {term.text} has {each}: it cannot be told from {listed(free)}, the family's "
            f"own variation; leave it out, or give groups of several rows.",
        )
    elif _is_binary(model):
        yield Note(
            "warning",
            term.text,
            f"The term {term.text} has {each}, and a single trial cannot vary within its row; its "
            f"standard deviation is known only by its prior: leave it out.",
        )
    elif len(term.levels) == model.nobs:
        yield Note(
            "note",
            term.text,
            f"The term {term.text} has {each}: it takes up overdispersion, where there is any.",
        )


def _slopes(term: RandomTerm) -> Iterator[Note]:
    index = term.index[:, 0]
    if term.index.shape[1] > 1 or np.bincount(index).max() == 1:
        return
    for loading in term.loadings:
        constant = np.ptp(loading.Z, axis=0) == 0
        within = _constant_within(loading.Z, index)
        names = [loading.matrix.names[k] for k in np.flatnonzero(within & ~constant)]
        if constant.any() and names:
            yield Note(
                "note",
                term.text,
                f"In {term.text}, {listed(names)} does not vary within any level of "
                f"{term.label}: its effects cannot be told from the level's intercept; use "
                f"it as a fixed effect only.",
            )


def _constant_within(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Tell which columns of `(n, c)` have one value within each level."""
    _, first, level = np.unique(index, return_index=True, return_inverse=True)
    return (values == values[first[level]]).all(axis=0)


# ---- the response


def _dispersion(model: Model) -> tuple[str, ...]:
    """Name the families' own parameters of variation that are estimated."""
    fixed = {block.name for block in model.blocks if block.scalar and block.priors[0].is_fixed}
    found = model.family.categories
    own = {part.main for part in model.observed} | set(() if found is None else found.parameters)
    return tuple(p.name for p in model.family.parameters if p.name not in {*fixed, *own})


def _is_binary(model: Model) -> bool:
    trials = model.design.response.trials
    one = model.family.categories is not None and not model.family.categories.counted
    return model.family.binary or one or (trials is not None and bool((trials <= 1).all()))


def _response(model: Model, part: Observed) -> Iterator[Note]:
    if not model.family.has_one_mean:
        return
    if part.family.discrete:
        yield from _separated(model, part)
    else:
        yield from _exact(model, part)


def fatal_notes(model: Model) -> Iterator[Note]:
    """Find a response that a predictor can equal: its density has no upper bound."""
    if model.family.discrete or not model.family.has_one_mean:
        return
    for part in model.observed:
        yield from _exact(model, part)


def _exact(model: Model, part: Observed) -> Iterator[Note]:
    free = set(_dispersion(model))
    left = [part.names[p.name] for p in part.family.parameters if part.names[p.name] in free]
    first = [part.names[p.name] for p in part.family.parameters[1:2]]
    if part.family.discrete or not free & set(first):
        return
    design, link = part.design, model.links[part.main]
    predictor = design.predictors["mu"]
    with np.errstate(all="ignore"):
        eta = link.linkfun(part.family.working(design.y)) - predictor.offset
    if not np.isfinite(eta).all():
        return
    remedy = (
        f"nothing is left for {listed(left)}, and the posterior is not proper: check "
        f"the response {design.response.name!r}"
    )
    k = len(predictor.names)
    if k >= design.n:
        yield Note(
            "warning",
            part.main,
            f"There are {k} coefficients for {design.n} rows: {listed(left)} is "
            f"known only by its prior; leave columns out.",
        )
    elif left_over(eta, predictor.X) < EXACT:
        same = "All responses are equal" if np.ptp(eta) == 0 else "The fixed part fits every row"
        yield Note("fatal", design.response.name, f"{same} exactly; {remedy}.")
        return
    for term in design.terms:
        loading = next((g for g in term.loadings if g.param == "mu"), None)
        if loading is None or term.index.shape[1] > 1:
            continue
        if len(np.unique(term.index)) == design.n:
            continue
        same = _constant_within(eta[:, None], term.index[:, 0])[0]
        if same and (np.ptp(loading.Z, axis=0) == 0).any():
            yield Note(
                "fatal",
                term.text,
                f"The response is the same in all rows of each level of {term.label}: with "
                f"{term.text} {remedy}, or keep one row a level and leave the term out.",
            )


def _edges(response: Response, link: Link, bounded: bool) -> tuple[np.ndarray, np.ndarray]:
    """Tell where the likelihood is largest for a predictor of minus, of plus infinity: `(n,)`."""
    trials = 1.0 if response.trials is None else response.trials
    with np.errstate(all="ignore"):
        endless_below = link.linkfun(np.asarray(0.0)) < -ENDLESS
        endless_above = bounded and link.linkfun(np.asarray(1.0)) > ENDLESS
    return (response.y == 0) & endless_below, (response.y == trials) & endless_above


def _separated(model: Model, part: Observed) -> Iterator[Note]:
    response, link = part.design.response, model.links[part.main]
    predictor = part.design.predictors[part.family.parameters[0].name]
    bounded = part.family.binary or part.family.needs_trials
    used = np.ones(part.design.n, dtype=bool)
    for counted in (response.trials, response.weights):
        used &= True if counted is None else counted > 0
    falls, rises = (edge[used] for edge in _edges(response, link, bounded))
    if falls.all() or rises.all():
        yield Note(
            "warning",
            response.name,
            f"Every response {response.name!r} is {'zero' if falls.all() else 'a success'}: the "
            f"coefficients of {part.main} are held by their priors only; check the response.",
        )
        return
    X = predictor.X[used]
    angles = Angles.of(X, predictor.names)
    kept = [k for k, name in enumerate(predictor.names) if name not in angles.aliases]
    if not kept or not (falls | rises).any():
        return
    found = separation(X[:, kept], falls, rises)
    if found is not None:
        names = [predictor.names[kept[k]] for k in found.columns]
        yield _separation_note(found, names, len(X) if bounded else None)


def _separation_note(found: Separation, names: list[str], responses: int | None) -> Note:
    one, kind = len(names) == 1, "complete" if found.complete else "quasi-complete"
    if responses is None:
        words = f"All counts are zero in the {found.rows} rows that {listed(names)} can tell apart"
    else:
        words = (
            f"Separation ({kind}): {listed(names)} foretell{'s' if one else ''} {found.rows} of "
            f"{responses} responses without error"
        )
    return Note(
        "warning",
        ", ".join(names),
        f"{words}; maximum likelihood has no finite estimate, and the priors alone hold "
        f"{'it' if one else 'them'}: choose them with care, or join levels.",
    )


def _unused(model: Model) -> Iterator[Note]:
    random = [g.matrix for term in model.design.terms for g in term.loadings]
    for name, unused in model.design.rows.unused_levels.items():
        # As a step of an order, a level is in the model though no row has it.
        known = {level for m in random if name in m.levels for level in m.levels[name].index}
        levels = [level for level in unused if level not in known]
        if not levels:
            continue
        yield Note(
            "note",
            name,
            f"No row used has {name} = {listed(levels, 'or')}; "
            f"{'this level is' if len(levels) == 1 else 'these levels are'} not in the model.",
        )
