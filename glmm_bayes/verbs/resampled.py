"""Responses, and data, made anew from a fit: what a bootstrap refits."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws, factors
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.fit import ModeFit
from glmm_bayes.model import Model
from glmm_bayes.predictive import linear_predictor, parameters, repeated_effects, responses
from glmm_bayes.registry import suggestion
from glmm_bayes.residual import refuse_residual
from glmm_bayes.residual_draws import fitted_residuals
from glmm_bayes.smooths import smooth_groups
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.datagrid import grouping_variables

KINDS = ("parametric", "semiparametric", "cases")
FEWEST = 5  # clusters, of which there are 126 different samples; of four 35
LARGEST = 1e15  # counts above are no longer exact as floats


@dataclass(frozen=True, eq=False)
class Source:
    """
    What new responses are made from.

    Attributes
    ----------
    estimates
        The fit's, as one draw.
    effects, errors
        Of a semi-parametric source: by term the modes `(q, p)`, reflated, and the residuals
        `(n,)`, reflated and over their standard deviation. None of a parametric one.
    """

    estimates: Draws
    effects: dict[str, np.ndarray] | None = None
    errors: np.ndarray | None = None

    @classmethod
    def of(cls, fit: ModeFit, kind: str) -> "Source":
        """
        Read a fit.

        Raises
        ------
        NotSupportedError
            If there are no residuals that could be exchanged.
        """
        if kind == "parametric":
            return cls(fit.plug_in)
        _check_exchangeable(fit.model)
        row, model = fit.plug_in, fit.model
        effects = {
            term.name: reflated(row.effects[term.name][0], factors(term, row.theta)[0])
            for term in model.design.terms
        }
        params = parameters(model, model.design, row, row.effects)
        errors = np.ravel((model.design.response.y - params["mu"]) / params["sigma"])
        errors = errors - errors.mean()
        return cls(row, effects, errors / np.sqrt(np.mean(errors**2)))

    def responses(self, model: Model, size: int, rng: np.random.Generator) -> np.ndarray:
        """Draw `(size, n)` responses, from new effects."""
        draws = self.estimates.thinned(np.zeros(size, dtype=int))
        effects = {
            term.name: self._effects(term, size, rng).astype(float) for term in model.design.terms
        }
        with np.errstate(all="ignore"):
            params = parameters(model, model.design, draws, effects)
            if self.errors is None:
                residuals = fitted_residuals(model, draws, rng)
                Y = responses(model, model.design, params, rng, residuals).astype(float)
                return as_there(model, Y)
            e = rng.choice(self.errors, size=(size, model.design.n))
            eta = linear_predictor(model.design, draws, effects, "mu")
            return eta + params["sigma"] * e

    def _effects(self, term: RandomTerm, size: int, rng: np.random.Generator) -> np.ndarray:
        q = len(term.levels)
        if term.common:
            return np.repeat(self.estimates.effects[term.name], size, axis=0)
        if self.effects is None:
            return repeated_effects(term, self.estimates, size, rng)
        return self.effects[term.name][rng.integers(q, size=(size, q))]


def as_there(model: Model, Y: np.ndarray) -> np.ndarray:
    """Leave out of responses what the model's rows lack of several."""
    return np.where(np.isnan(model.design.y), np.nan, Y)


def reflated(b: np.ndarray, Lambda: np.ndarray) -> np.ndarray:
    """
    Centre modes `(q, p)` and turn them so that their covariance is Lambda Lambda'.

    Notes
    -----
    Modes vary less than effects do, as they are shrunk: Carpenter, Goldstein & Rasbash (2003),
    Applied Statistics 52, 431-443.
    """
    centred = b - b.mean(axis=0)
    values, vectors = np.linalg.eigh(centred.T @ centred / len(b))
    # What does not vary stays as it is.
    scale = np.where(values > 1e-12 * max(values[-1], 1e-300), values, np.inf)
    return centred @ (vectors / np.sqrt(scale)) @ vectors.T @ Lambda.T


def _check_exchangeable(model: Model) -> None:
    refuse_residual(model.design.residual, "exchanging residuals")
    probe = np.array([0.5, 2.0])
    plain = model.family.normal and np.array_equal(model.family.working(probe), probe)
    if not (plain and model.links["mu"].name == "identity"):
        raise NotSupportedError(
            f"kind='semiparametric' resamples residuals, which of the family "
            f"{model.family.name!r} with link {model.links['mu'].name!r} are not exchangeable; "
            f"use kind='parametric' or kind='cases'."
        )
    for term in model.design.terms:
        if term.level_structure.pairs is not None and not term.common:
            raise NotSupportedError(
                f"kind='semiparametric' draws levels one by one, but those of {term.text!r} depend "
                f"on each other; use kind='parametric' or kind='cases'."
            )


def problems_of(model: Model, Y: np.ndarray) -> list[str]:
    """Say of each of `(S, n)` responses why it cannot be fitted; an empty text if it can."""
    trials, found = model.design.response.trials, []
    for y in Y:
        there = y[~np.isnan(model.design.y)]
        if not np.isfinite(there).all():
            found.append("a response is not finite")
        elif model.family.discrete and there.max() > LARGEST:
            found.append(f"a count is above {LARGEST:.0g}")
        else:
            problem = model.family.problem(y, trials)
            found.append("" if problem is None else f"the family refuses it: {problem[1]}")
    return found


# ---- whole clusters


@dataclass(frozen=True, eq=False)
class Clusters:
    """
    The clusters that a case bootstrap draws with replacement.

    Attributes
    ----------
    name
        The column whose values they are; None where rows are drawn.
    inner
        Columns that group rows within a cluster: of a cluster drawn twice they are renamed too.
    """

    name: str | None
    inner: tuple[str, ...]

    @classmethod
    def of(cls, model: Model, name: str | None) -> "Clusters":
        """
        Choose the outermost grouping, or take the one that is asked for.

        Raises
        ------
        UnknownNameError
            If `name` groups no rows of the model.
        NotSupportedError
            If groupings are crossed and none is asked for, or the clusters have a fixed effect.
        DataError
            If there are fewer than five.
        """
        groups = _groups(model.design)
        known = list(dict.fromkeys(column for group in groups for column in group))
        if name is not None and name not in known:
            raise UnknownNameError(
                f"clusters={name!r} groups no rows here. {suggestion(name, known)}"
            )
        if name is None and not known:
            return cls(None, ())
        frame = model.design.rows.whole
        if name is None:
            outer = [c for c in known if all(_within(frame, group, c) for group in groups)]
            if not outer:
                names = ", ".join(":".join(group) for group in groups)
                raise NotSupportedError(
                    f"The groupings {names} are crossed: say by clusters= which one's "
                    f"levels are drawn with replacement, or use kind='parametric'."
                )
            name = outer[0]
        if name not in grouping_variables(model.design):
            raise NotSupportedError(
                f"{name!r} is in the fixed part too, so that a level drawn twice cannot be two "
                f"levels; use kind='parametric'."
            )
        for term in model.design.terms:
            named = term.level_structure.pairs is not None and not term.addressing.positions
            if named and name in term.addressing.group.factors:
                raise NotSupportedError(
                    f"The levels of {term.text!r} are told apart by name, so that {name!r} drawn "
                    f"twice cannot be two of them; use kind='parametric'."
                )
        count = frame[name].nunique()
        if count < FEWEST:
            raise DataError(
                f"There are {count} levels of {name!r}: drawn with replacement, fewer than "
                f"{FEWEST} make too few different samples for 95% intervals; use kind='parametric'."
            )
        return cls(name, tuple(c for c in known if c != name and _within(frame, (c,), name)))

    def drawn(self, model: Model, rng: np.random.Generator) -> pd.DataFrame:
        """Draw as many clusters as there are, and give their rows, every draw another cluster."""
        frame = model.design.rows.whole
        if self.name is None:
            return frame.iloc[rng.integers(len(frame), size=len(frame))].reset_index(drop=True)
        codes, labels = pd.factorize(frame[self.name])
        parts = []
        for k, chosen in enumerate(rng.integers(len(labels), size=len(labels))):
            part = frame[codes == chosen].copy()
            for column in (self.name, *self.inner):
                part[column] = part[column].astype(str) + f" #{k}"
            parts.append(part)
        return pd.concat(parts, ignore_index=True)


def _groups(design: Design) -> list[tuple[str, ...]]:
    """List the columns that each random term's grouping is made of."""
    if any(term.index.shape[1] > 1 for term in design.terms):
        raise NotSupportedError(
            "Rows that belong to several levels at once are not drawn by clusters; use "
            "kind='parametric'."
        )
    parts = design.formula.predictors.values()
    own = [(f,) for part in parts for f in smooth_groups(part)]
    random = [tuple(t.group.factors) for part in parts for t in part.random]
    return list(dict.fromkeys([*random, *own]))


def _within(frame: pd.DataFrame, inner: tuple[str, ...], outer: str) -> bool:
    """Tell whether each combination of some columns comes with one value of another only."""
    texts = frame[list(dict.fromkeys((*inner, outer)))].astype(str).drop_duplicates()
    return len(texts) == len(texts[list(inner)].drop_duplicates())


def checked_kind(kind: str, clusters: str | None) -> str:
    """
    Check the kind of a bootstrap.

    Raises
    ------
    UnknownNameError
        If it is not known.
    DataError
        If clusters are given to one that does not draw any.
    """
    if kind not in KINDS:
        raise UnknownNameError(f"kind={kind!r} is not known. {suggestion(kind, KINDS)}")
    if clusters is not None and kind != "cases":
        raise DataError(f"clusters={clusters!r} is for kind='cases': kind={kind!r} draws no rows.")
    return kind
