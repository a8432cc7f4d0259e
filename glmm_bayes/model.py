"""The front door: a formula, data, a family and priors, checked together, as one value."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from glmm_bayes.categories import in_categories, spread
from glmm_bayes.centering import read_centering, resolve_centering
from glmm_bayes.data import Frame, Rows
from glmm_bayes.dependents import Circumstances, monotonic_blocks, with_dependents
from glmm_bayes.design import INTERCEPT, Design, build_design, read_data
from glmm_bayes.errors import DataError, NotSupportedError, UnknownNameError
from glmm_bayes.families import LINKS, Family, Link, Parameter
from glmm_bayes.families.mixture_of import family_of
from glmm_bayes.formula import Formula, plain_name, read_formula
from glmm_bayes.observed import Observed, fitting_response, observed, through_view
from glmm_bayes.parameters import (
    Block,
    centred_intercept,
    coefficient_block,
    constant_block,
    measured_blocks,
    residual_blocks,
    scales_by_response,
    structure_blocks,
    with_user_priors,
)
from glmm_bayes.registry import suggestion
from glmm_bayes.response import Response
from glmm_bayes.several import Families, read_several, spread_links, told_apart

if TYPE_CHECKING:
    import pandas as pd

RESERVED = {"chain", "draw", "coef", "beta", "eta", "mu", "y", "__obs__"}


class Model:
    """
    A generalized linear mixed model: what is to be estimated, from which data, with which priors.

    Parameters
    ----------
    formula
        A formula such as `"reaction ~ days + (1 + days | subject)"`, or a list of them: the
        first has the response, each further one a parameter of the family, `"sigma ~ days"`, or
        a response of its own; `"mvbind(y1, y2) ~ x"` has several.
    data
        A pandas, polars or pyarrow data frame (anything that narwhals reads).
    family
        A name in `gb.FAMILIES`, or a `gb.Family`, such as `gb.mixture("poisson", "poisson")`.
        Of several responses one for all, a list, or a mapping from their names.
    link
        The link of the mean, or a mapping from parameters to links; by default the family's. Of
        several responses that of all means, or a mapping from responses or parameters.
    priors
        From names of parameters to `gb.Prior`, PreliZ distributions or numbers (held fixed):
        `"beta"`, `"beta[days]"`, `"intercept"` (the predictor at the other columns' means),
        `"sd"`, `"sd_subject"`, `"sd_subject[days]"`, `"corr"`, `"corr_subject"`, `"sigma"` …
    context
        Objects, such as functions, that the formula names and the data do not have.
    missing
        Leave out rows with a missing value, counting them (`"drop"`), or refuse them (`"raise"`).
    centering
        How NUTS sees a term's effects: `"noncentered"`, `"centered"`, a mapping from the names
        of terms to these, or `"auto"`: centred where the data say much about each level.

    Raises
    ------
    FormulaError, DataError, UnknownNameError, NotSupportedError
        One sentence that says what does not fit, where, and what to do.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> data = gb.load_dataset("sleepstudy")
    >>> model = gb.Model("Reaction ~ Days + (1 + Days | Subject)", data)
    >>> model.design.y.shape, model.design.predictors["mu"].X.shape
    ((180,), (180, 2))
    """

    # What this stands for in a fit by likelihood, to which priors of its own do not matter.
    whole: "Model | None" = None
    # Coefficients at zero there, at the edge of where they may be: block and entry.
    held: tuple[tuple[str, int], ...] = ()

    def __init__(
        self,
        formula: str | Sequence[str],
        data: Frame,
        family: Families = "gaussian",
        link: str | Mapping[str, str] | None = None,
        priors: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
        missing: Literal["drop", "raise"] = "drop",
        centering: str | Mapping[str, str] = "auto",
    ) -> None:
        if missing not in ("drop", "raise"):
            raise UnknownNameError(
                f"missing={missing!r} is not known. {suggestion(missing, ('drop', 'raise'))}"
            )
        _check_mappings(priors=priors, context=context)
        given = family_of(family) if isinstance(family, str) else family
        self.asked_family = family
        self.formula = told_apart(read_formula(formula), given, data)
        self.context = dict(context or {})
        self.user_priors = dict(priors or {})
        self.missing = missing
        self.asked_centering = centering
        self.data = data
        if self.formula.is_several:
            found = read_several(self.formula, given, data, context=self.context, missing=missing)
            self.family, link = found.family, spread_links(link, found.family)
            rows, response, whole = found.rows, found.response, found.formula
        else:
            self.family = _checked_family(given)
            rows, response, whole = self._read_one(link)
        self._check_parameters(whole)
        self.links = _links(self.family, link)
        design = build_design(whole, rows, response, context=self.context)
        self._check_names(design)
        self._check_residual(design)
        if not self.formula.is_several:
            response = fitting_response(self.family, response, rows.frame.index)
        self.design = design.with_response(response)
        self.scales = scales_by_response(self.observed, self.family, self.links)
        self.defaults = tuple(self._default_blocks())
        blocks = with_user_priors(self.defaults, self.user_priors)
        self.blocks, self.dependents = with_dependents(blocks, design, self._circumstances())
        self._centering = read_centering(self.design, centering)

    def _read_one(self, link: str | Mapping[str, str] | None) -> tuple[Rows, Response, Formula]:
        """Take the rows and the response of a formula, and its parts by parameter."""
        rows, response = read_data(
            self.formula, self.data, context=self.context, missing=self.missing
        )
        labels = tuple(plain_name(text) or text for text in self.formula.response.columns)
        self.family, response = in_categories(self.family, response, labels, link)
        self.family, response = through_view(self.family, response)
        return rows, response, spread(self.formula, self.family)

    # ---- what there is to estimate

    @property
    def observed(self) -> tuple[Observed, ...]:
        """Each response with its family and its rows."""
        return observed(self.family, self.design)

    @property
    def constants(self) -> tuple[str, ...]:
        """The family's parameters that have no formula."""
        return self.constants_of(self.design)

    def constants_of(self, design: Design) -> tuple[str, ...]:
        """List those that have no formula in a design."""
        return tuple(p.name for p in self.family.parameters if p.name not in design.predictors)

    @property
    def main(self) -> str:
        """The first parameter of the family: the mean's, or of categories the second's."""
        return self.family.parameters[0].name

    @property
    def nobs(self) -> int:
        """The number of rows used."""
        return self.design.n

    @cached_property
    def centering(self) -> dict[str, bool]:
        """By term, whether NUTS sees its effects centred; looked at when it is first asked for."""
        return resolve_centering(self.observed, self.links, self.design, self._centering)

    @cached_property
    def centred(self) -> dict[str, bool]:
        """By predictor, whether its columns are centred about their means while sampling."""
        return {
            param: centred_intercept(predictor, self.user_priors)
            for param, predictor in self.design.predictors.items()
        }

    @cached_property
    def layout(self) -> dict[str, slice]:
        """Where each block stands in the vector of outer parameters."""
        ends = np.cumsum([block.size for block in self.blocks])
        return {
            block.name: slice(int(end) - block.size, int(end))
            for block, end in zip(self.blocks, ends, strict=True)
        }

    def means(self, param: str) -> np.ndarray:
        """
        Give what is taken off a predictor's columns while sampling: `(k,)`, 0 for nothing.

        The predictor's Intercept makes up for it, or the thresholds do.
        """
        predictor = self.design.predictors[param]
        if not self.centred[param]:
            return np.zeros(len(predictor.names))
        return np.where(np.array(predictor.names) == INTERCEPT, 0.0, predictor.X.mean(axis=0))

    @property
    def priors(self) -> "pd.DataFrame":
        """Every parameter's prior: `parameter, distribution, arguments, source`."""
        from glmm_bayes.verbs.describe import prior_table

        return prior_table(self)

    # ---- readers and verbs, each in its own room

    @cached_property
    def pymc(self) -> Any:
        """The model as an ordinary `pm.Model`, with dims and coords, for the user to extend."""
        from glmm_bayes.compile import compile_model

        return compile_model(self)

    def graph(self) -> Any:
        """Draw the model's graph, as a `graphviz.Digraph`."""
        from glmm_bayes.compile import model_graph

        return model_graph(self)

    def audit(self) -> Any:
        """Look at the design before fitting; see `glmm_bayes.verbs.audit.audit`."""
        from glmm_bayes.verbs.audit import audit

        return audit(self)

    def prior_predictive(self, draws: int = 500, *, seed: int | None = None) -> Any:
        """Draw parameters and responses from the prior; see `verbs.prior_predictive`."""
        from glmm_bayes.verbs.prior_predictive import prior_predictive

        return prior_predictive(self, draws, seed=seed)

    def fit(self, method: str = "nuts", *, seed: int | None = None, **options: Any) -> Any:
        """
        Estimate the model.

        Parameters
        ----------
        method
            A name in `gb.METHODS`.
        seed
            Makes the answer reproducible; by default one is drawn and kept in `fit.seed`.
        **options
            Those of the method: see `inference.nuts.nuts` for `"nuts"`, `inference.likelihood` for
            `"ml"` and `"reml"`, `inference.map` and `inference.pql` for those.

        Raises
        ------
        DataError
            If the audit finds that nothing can be estimated.
        """
        from glmm_bayes.inference import METHODS
        from glmm_bayes.verbs.audit import fatal_notes

        found = METHODS[method]
        fatal = [note.words for note in fatal_notes(self) if note.severity == "fatal"]
        if fatal:
            raise DataError(" ".join(fatal))
        return found(self, seed=seed, **options)

    def __repr__(self) -> str:
        from glmm_bayes.verbs.describe import describe

        return describe(self).text()

    def _repr_html_(self) -> str:
        from glmm_bayes.verbs.describe import describe

        return describe(self).html()

    def _circumstances(self) -> Circumstances:
        identity = self.links[self.main].name == "identity"
        sigma = self.main == "mu" and identity and "sigma" in self.constants
        return Circumstances(self.design.n, self.scales, sigma)

    # ---- checks, once

    def _check_parameters(self, formula: Formula) -> None:
        known = [p.name for p in self.family.parameters]
        for name in {"beta", "intercept"} & set(known):
            raise NotSupportedError(
                f"The family {self.family.name!r} has a parameter called {name!r}, as the "
                f"coefficients are; give it another name."
            )
        for param in formula.predictors:
            if param not in known:
                text = next(t for t in formula.texts[1:] if t.startswith((param, f"`{param}")))
                raise UnknownNameError(
                    f"The family {self.family.name!r} has no parameter {param!r} to have the "
                    f"formula {text!r}. {suggestion(param, known)}"
                )

    def _check_residual(self, design: Design) -> None:
        """Refuse a structure of residuals where there are none that are normal, or t."""
        if design.residual is None:
            return
        text = design.residual.text
        degrees = self.family.degrees
        if not (self.family.normal or degrees) or self.links["mu"].name != "identity":
            raise NotSupportedError(
                f"Only a normal response, or a Student one, has residuals that 'residual ~ {text}' "
                f"can be of: write {text} in the first formula, as a random term, for "
                f"{self.family.name!r}."
            )
        if degrees is not None and degrees not in self.constants_of(design):
            raise NotSupportedError(
                f"Residuals that vary together have one {degrees!r} in common: with "
                f"'residual ~ {text}' there can be no formula '{degrees} ~ …'."
            )
        loaded = {loading.param for term in design.terms for loading in term.loadings}
        if design.response.weights is not None or loaded - {"mu"}:
            raise NotSupportedError(
                f"'residual ~ {text}' is built without weights, and without random effects of "
                f"sigma: let 'sigma ~ …' have fixed terms only (a weight w is the term "
                f"offset(-0.5 * log(w))), or write {text} in the first formula, as a random term."
            )

    def _check_names(self, design: Design) -> None:
        taken = RESERVED | {p.name for p in self.family.parameters}
        for term in design.terms:
            if term.label in taken:
                raise DataError(
                    f"The group {term.label!r} of {term.text!r} has a name that results use for "
                    f"something else; rename the column."
                )
        names = [source.name for source in design.unseen]
        for term in (term for term in design.terms if term.name in names):
            raise DataError(
                f"The group {term.label!r} of {term.text!r} has a name that results use for the "
                f"values of me(…) or mi(…); rename the column."
            )

    def _default_blocks(self) -> list[Block]:
        blocks = [
            coefficient_block(predictor, self.scales[param], self.user_priors)
            for param, predictor in self.design.predictors.items()
            if predictor.names
        ]
        for term in self.design.terms:
            blocks += structure_blocks(term, self.scales)
        if self.design.residual is not None:
            blocks += residual_blocks(self.design.residual)
        for parameter in self.family.parameters:
            if parameter.name in self.constants:
                blocks.append(self._constant_block(parameter))
        for param, predictor in self.design.predictors.items():
            blocks += monotonic_blocks(predictor, self.scales[param])
        for measured in self.design.measured:
            blocks += measured_blocks(measured)
        return blocks

    def _constant_block(self, parameter: Parameter) -> Block:
        parts = self.observed
        part = next((p for p in parts if parameter.name in p.names.values()), parts[0])
        least = float(np.min(np.abs(part.design.y)))
        return constant_block(parameter, self.scales[part.main], least, self.user_priors)


def _checked_family(family: Any) -> Family:
    if not isinstance(family, Family):
        raise UnknownNameError(f"The family {family!r} is neither a name nor a gb.Family.")
    return family


def _check_mappings(**given: Any) -> None:
    for name, value in given.items():
        named = isinstance(value, Mapping) and all(isinstance(key, str) for key in value)
        if value is not None and not named:
            raise UnknownNameError(
                f"{name}={value!r} should map names to values, {{'name': value}}."
            )


def _links(family: Family, link: str | Mapping[str, str] | None) -> dict[str, Link]:
    chosen = {"mu": link} if isinstance(link, str) else link or {}
    if not isinstance(chosen, Mapping):
        raise UnknownNameError(f"link={link!r} should be a name, or map parameters to names.")
    known = {p.name: p for p in family.parameters}
    own: dict[str, Link] = {}
    if family.categories is not None:
        # These are in the density; the one that was asked for, the family was made with.
        own = {name: family.categories.links[known[name].link] for name in family.categories.means}
        chosen = {k: name for k, name in chosen.items() if k not in {"mu", *own}}
    if family.mixed is not None:
        chosen = family.mixed.spread(chosen)
    for param, name in chosen.items():
        if param not in known:
            raise UnknownNameError(
                f"The family {family.name!r} has no parameter {param!r} to have the link {name!r}. "
                f"{suggestion(param, known)}"
            )
        found = LINKS[name]
        lower, upper = known[param].support
        inside = found.support[0] >= lower and found.support[1] <= upper
        if name not in known[param].links and not inside:
            raise NotSupportedError(
                f"The link {name!r} does not keep {param!r} of the family {family.name!r} within "
                f"({lower:g}, {upper:g}); choose one of {', '.join(known[param].links)}."
            )
    return {n: own[n] if n in own else LINKS[chosen.get(n, p.link)] for n, p in known.items()}
