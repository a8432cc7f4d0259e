"""Averages of what follows from rows' predictions, for every draw, over all rows or groups."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from scipy.sparse import csr_array

from glmm_bayes.data import Frame, column_names, complete_columns
from glmm_bayes.design import Design
from glmm_bayes.draws import Draws
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.modes.star import delta_slopes, widened
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.by_response import refuse_several
from glmm_bayes.verbs.datagrid import GRIDS, datagrid, grouping_variables
from glmm_bayes.verbs.describe import predictor_label
from glmm_bayes.verbs.intervals import Scale
from glmm_bayes.verbs.new_rows import with_any_group
from glmm_bayes.verbs.predict import PARAM, category_labels, check_names, in_parts
from glmm_bayes.verbs.sources import drawn
from glmm_bayes.verbs.survival import SURVIVAL

GROUPS = ("population", "conditional", "marginal")
CATEGORY = "category"
# Numbers that values of single rows may be: 0.8 GB.
MOST = 100_000_000

type Combine = Callable[[list[np.ndarray], pd.DataFrame], Sequence[np.ndarray]]


@dataclass(frozen=True)
class Target:
    """What is predicted for rows, and for which groups: `kind` and `groups` of `predict`."""

    model: Model
    kind: str
    groups: str

    def __post_init__(self) -> None:
        check_names(self.model, self.kind, self.groups)
        if not self.kind.startswith(PARAM):
            refuse_several(
                self.model,
                f"What is averaged, of kind={self.kind!r},",
                f"ask for kind='{PARAM}{self.model.main}', or use predict(response=…)",
            )
        if self.kind == "response":
            raise DataError(
                "kind='response' is random; ask for kind='mean', or use predict and simulate."
            )
        if self.kind == SURVIVAL:
            raise NotSupportedError(
                "kind='survival' is of each row's own response, and is not built for averages and "
                "comparisons; ask for kind='linear', or take differences of what "
                "predict(kind='survival', draws=True) gives."
            )
        if self.groups not in GROUPS:
            raise UnknownNameError(
                f"groups={self.groups!r} is not for averages. {suggestion(self.groups, GROUPS)}"
            )

    @property
    def words(self) -> str:
        """What is predicted."""
        response = self.model.design.response
        name = response.name.strip("`")
        if self.kind == "linear":
            return f"{predictor_label(self.model, 'mu')} of {name}"
        if self.kind == "mean":
            counted = self.model.family.binary or response.trials is not None or self.categories
            return f"{'probability' if counted else 'mean'} of {name}"
        return f"{self.kind.removeprefix(PARAM)} of {name}"

    @property
    def categories(self) -> tuple[str, ...] | None:
        """The categories that each have a prediction, if it is so."""
        return category_labels(self.model, self.kind)

    @property
    def within(self) -> tuple[str, ...]:
        """The columns within which predictions are compared."""
        return () if self.categories is None else (CATEGORY,)

    @property
    def where(self) -> str:
        """The groups, where linear predictors average to those of the population."""
        linear = self.kind == "linear" and self.groups == "marginal"
        return "population" if linear else self.groups


@dataclass(frozen=True, eq=False)
class Groups:
    """
    Which rows are averaged together.

    Attributes
    ----------
    labels
        k rows that say what each group is.
    codes
        `(n,)` each row's group.
    """

    labels: pd.DataFrame
    codes: np.ndarray

    @property
    def weights(self) -> csr_array:
        """The averages as a matrix `(n, k)`."""
        n, k = len(self.codes), len(self.labels)
        share = 1 / np.bincount(self.codes, minlength=k)[self.codes]
        return csr_array((share, (np.arange(n), self.codes)), shape=(n, k))


def rows_to_predict(fit: Fit, newdata: Frame | str | None) -> pd.DataFrame:
    """
    Give the rows, their columns complete: the model's own, a grid by its name, or the user's.

    Raises
    ------
    UnknownNameError
        If a grid or a column is not there.
    """
    model = fit.model
    if newdata is None:
        return model.design.rows.frame
    if isinstance(newdata, str):
        if newdata not in GRIDS:
            raise UnknownNameError(
                f"newdata={newdata!r} is not known. {suggestion(newdata, GRIDS)}"
            )
        return datagrid(model, grid=newdata)
    filled = with_any_group(model, newdata)
    needed = [c for c in column_names(filled) if c in model.design.rows.frame]
    own = dict.fromkeys([*model.design.predictor_columns, *needed])
    return complete_columns(filled, list(own), where="the new data")


def groups_of(
    target: Target,
    rows: pd.DataFrame,
    newdata: Frame | str | None,
    by: bool | str | Sequence[str],
) -> Groups:
    """
    Say which rows to average: each by itself, all, or those that agree in columns.

    Raises
    ------
    UnknownNameError
        If there is no such column.
    """
    if by is True:
        return Groups(pd.DataFrame(index=range(1)), np.zeros(len(rows), dtype=int))
    if by is False:
        design = target.model.design
        # Without effects of their own, rows are not told apart by their groups.
        hidden = set() if target.groups == "conditional" else grouping_variables(design)
        shown = [c for c in design.predictor_columns if c in rows and c not in hidden]
        return Groups(rows[shown].reset_index(drop=True), np.arange(len(rows)))
    names = [by] if isinstance(by, str) else list(by)
    columns = pd.DataFrame({name: _column(target.model, rows, newdata, name) for name in names})
    grouped = columns.groupby(names, sort=True, observed=True)
    codes = grouped.ngroup().to_numpy()
    _, first = np.unique(codes, return_index=True)
    return Groups(columns.iloc[first].reset_index(drop=True), codes)


def _column(
    model: Model, rows: pd.DataFrame, newdata: Frame | str | None, name: str
) -> np.ndarray | pd.Series:
    if name in rows:
        return rows[name].reset_index(drop=True)
    source = model.data if newdata is None else newdata
    known = tuple(map(str, rows)) if isinstance(source, str) else column_names(source)
    if name not in known:
        raise UnknownNameError(
            f"by={name!r} is no column of {'the data' if newdata is None else 'newdata'}. "
            f"{suggestion(name, known)}"
        )
    column = complete_columns(source, [name], where="by=")[name]
    kept = model.design.rows.kept if newdata is None else slice(None)
    return column.iloc[kept].reset_index(drop=True)


# ---- averages


@dataclass(frozen=True, eq=False)
class Average:
    """
    The average, by group, of what is made of predictions for the same rows in several states.

    Attributes
    ----------
    frames
        The rows, once for every state.
    combine
        From predictions `(S, m)` in every state, for some of the rows, to `(r, S, m)`.
    finish
        From their averages `(r, S, k)` to quantities `(S, k)`.

    Where a prediction is the probability of each of K categories, these are a last axis of all of
    them, and quantities are `(S, k K)`, the categories of a group one after the other.
    """

    fit: Fit
    frames: Sequence[pd.DataFrame]
    target: Target
    groups: Groups
    combine: Combine
    finish: Callable[[np.ndarray], np.ndarray]

    @cached_property
    def designs(self) -> list[Design]:
        """The different rows encoded, in every state."""
        # What differs between states is the predictor, not its measurement.
        found = [self.fit.model.design.encode(frame).as_true() for frame in self._different[0]]
        for design in found:
            _check_levels(self.fit, design, self.target)
        return found

    @cached_property
    def _different(self) -> tuple[list[pd.DataFrame], csr_array]:
        """Keep one of the rows that must have the same predictions, with the weights of all."""
        design, weights = self.fit.model.design, self.groups.weights
        if not _alike_in_all_groups(design, self.target.where):
            return list(self.frames), weights
        own = [c for c in design.predictor_columns if c not in grouping_variables(design)]
        columns = [frame[c].reset_index(drop=True) for frame in self.frames for c in own]
        codes = np.zeros(len(self.frames[0]), dtype=int)
        if columns:
            table = pd.concat(columns, axis=1, keys=range(len(columns)))
            codes = table.groupby(list(table), sort=False, observed=True).ngroup().to_numpy()
        _, first = np.unique(codes, return_index=True)
        merged = csr_array((np.ones(len(codes)), (codes, np.arange(len(codes)))))
        return [frame.iloc[first] for frame in self.frames], csr_array(merged @ weights)

    @cached_property
    def values(self) -> np.ndarray:
        """The quantities `(S, k)` for the fit's draws."""
        conditional = self.target.groups == "conditional"
        return self.at(self.fit.joint_draws if conditional else self.fit.population_draws)

    def at(self, draws: Draws) -> np.ndarray:
        """Compute the quantities `(S, k)` for draws."""
        if draws.size * len(self.groups.labels) > MOST:
            raise NotSupportedError(
                f"{len(self.groups.labels):,} estimates of {draws.size:,} draws are too much to "
                f"hold; average rows by a column, by='f', or all of them, by=True."
            )
        (first, *_), weights = self._different
        total = None
        for rows, states in self._predicted(draws):
            made = self.combine(states, first.iloc[rows])
            part = np.stack([_weighted(m, weights[rows]) for m in made])
            total = part if total is None else total + part
        found = self.finish(np.asarray(total))
        return found.reshape(len(found), -1)

    @property
    def labels(self) -> pd.DataFrame:
        """What every quantity is of."""
        names = self.target.categories
        if names is None:
            return self.groups.labels
        k = len(self.groups.labels)
        found = self.groups.labels.loc[np.repeat(np.arange(k), len(names))].reset_index(drop=True)
        codes = np.tile(np.arange(len(names)), k)
        return found.assign(**{CATEGORY: pd.Categorical.from_codes(codes, pd.Index(names))})

    @property
    def scale(self) -> Scale:
        """Where single predictions are more nearly normal."""
        first, rng = self.designs[0].take(slice(0, 1)), np.random.default_rng(self.fit.seed)
        source = drawn(_one(self.fit), first, self.target.where, rng)
        parts = in_parts(
            self.fit.model,
            first,
            source,
            self.target.kind,
            self.target.where,
            np.random.default_rng(0),
        )
        return next(parts)[2]

    def _predicted(self, draws: Draws) -> Iterator[tuple[slice, list[np.ndarray]]]:
        """Give predictions in every state, for one run of rows after another."""
        rng, target = np.random.default_rng(self.fit.seed), self.target
        sources = [drawn(draws, design, target.where, rng) for design in self.designs]
        parts = [
            in_parts(self.fit.model, design, source, target.kind, target.where, rng)
            for design, source in zip(self.designs, sources, strict=True)
        ]
        for states in zip(*parts, strict=True):
            yield states[0][0], [values for _, values, _ in states]

    @cached_property
    def slopes(self) -> np.ndarray | None:
        """How the quantities `(k, K)` move with the coefficients; None if with others too."""
        smooth = any(term.common for term in self.fit.model.design.terms)
        if self.target.groups != "population" or smooth:
            return None
        spread = np.sqrt(np.diag(self.fit.coefficient_covariance()))
        steps = np.where(spread > 0, spread, 1.0)
        return (delta_slopes(self.at(_about(_one(self.fit), steps))) / steps[:, None]).T


def _alike_in_all_groups(design: Design, groups: str) -> bool:
    """Tell whether predictions do not depend on which groups a row belongs to."""
    if groups == "marginal":
        # Of levels that depend on each other, or are several at once, variances may differ.
        apart = all(term.level_structure.pairs is None for term in design.terms)
        return apart and all(term.index.shape[1] == 1 for term in design.terms)
    return groups == "population"


def _weighted(values: np.ndarray, weights: csr_array) -> np.ndarray:
    """Average `(S, m)`, or `(S, m, K)`, by weights `(m, k)`."""
    if values.ndim == 2:
        return np.asarray(values @ weights)
    return np.stack([np.asarray(part @ weights) for part in np.moveaxis(values, -1, 0)], axis=-1)


def _one(fit: Fit) -> Draws:
    return fit.plug_in.thinned(np.zeros(1, dtype=int))


def _about(centre: Draws, steps: np.ndarray) -> Draws:
    """Make a star whose axes are the coefficients, with arms of these lengths."""
    size, start, beta = len(steps), 0, {}
    for param, values in centre.beta.items():
        own = np.eye(size)[:, start : start + values.shape[1]] * steps[:, None]
        beta[param], start = widened(values, own), start + values.shape[1]
    still = {name: np.repeat(v, 1 + 2 * size, axis=0) for name, v in centre.constants.items()}
    theta = {name: np.repeat(v, 1 + 2 * size, axis=0) for name, v in centre.theta.items()}
    return Draws(beta, still, theta, {}, chains=1)


def _check_levels(fit: Fit, design: Design, target: Target) -> None:
    if target.groups != "conditional":
        return
    for term, fitted in zip(design.terms, fit.model.design.terms, strict=True):
        new = term.levels[len(fitted.levels) :]
        if new:
            raise DataError(
                f"groups='conditional' needs levels of {term.label} that were in the fit, but "
                f"{new[0]!r} was not; use groups='population' or 'marginal'."
            )
