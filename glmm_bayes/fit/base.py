"""What every fit answers; a method is one line and calls a verb."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from glmm_bayes.draws import Draws
from glmm_bayes.model import Model

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

    from glmm_bayes.data import Frame
    from glmm_bayes.design import Design
    from glmm_bayes.terms import RandomTerm
    from glmm_bayes.verbs.estimates import Asked, Estimates, Quantities


class Fit(ABC):
    """
    What every method gives: questions are verbs, each in its file.

    A verb works on `draws` of the parameters, whatever kind they are; how the draws of a quantity
    become a table, and where its randomness comes from, the kinds of fit say: `PosteriorFit`,
    `ModeFit`.

    Attributes
    ----------
    model
        The `Model` that was fitted.
    method, seed, elapsed
        How it came about, and the seconds it took.
    options
        The method's options, as they were used.
    """

    kind: ClassVar[str]  # by which files and comparisons know what to do with a fit
    shares: ClassVar[str]  # which R squared is the usual one

    def __init__(
        self,
        model: Model,
        method: str,
        seed: int,
        elapsed: float,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.method = method
        self.seed = seed
        self.elapsed = elapsed
        self.options = dict(options or {})

    # ---- tables

    def summary(self, *, level: float = 0.95) -> Any:
        """Everything that is read first, as a printable table: see `verbs.summary.summary`."""
        from glmm_bayes.verbs.summary import summary

        return summary(self, level=level)

    def fixef(self, *, level: float = 0.95) -> "pd.DataFrame":
        """Population-level coefficients: see `verbs.tables.fixef`."""
        from glmm_bayes.verbs.tables import fixef

        return fixef(self, level=level)

    def vcov(self) -> "pd.DataFrame":
        """Covariance of the coefficients: see `verbs.tables.vcov`."""
        from glmm_bayes.verbs.tables import vcov

        return vcov(self)

    def varcorr(self, *, level: float = 0.95) -> "pd.DataFrame":
        """Tabulate standard deviations and correlations: see `verbs.tables.varcorr`."""
        from glmm_bayes.verbs.tables import varcorr

        return varcorr(self, level=level)

    def ranef(self, *, level: float = 0.95) -> "pd.DataFrame":
        """Random effects by group, level and column: see `verbs.tables.ranef`."""
        from glmm_bayes.verbs.tables import ranef

        return ranef(self, level=level)

    def coef(self, *, level: float = 0.95) -> "pd.DataFrame":
        """Coefficients of each level, fixed plus random: see `verbs.tables.coef`."""
        from glmm_bayes.verbs.tables import coef

        return coef(self, level=level)

    def smooths(self, *, level: float = 0.95) -> "pd.DataFrame":
        """How wiggly each smooth is: see `verbs.smooths.smooths`."""
        from glmm_bayes.verbs.smooths import smooths

        return smooths(self, level=level)

    # ---- questions

    def predict(
        self,
        newdata: "Frame | None" = None,
        *,
        kind: str = "mean",
        groups: str = "conditional",
        level: float = 0.95,
        draws: bool = False,
        seed: int | None = None,
        response: str | None = None,
    ) -> Any:
        """Predict for the rows of a data frame: see `verbs.predict.predict`."""
        from glmm_bayes.verbs.predict import predict

        return predict(
            self, newdata, kind=kind, groups=groups, level=level, draws=draws, seed=seed,
            response=response,
        )  # fmt: skip

    def simulate(
        self,
        n: int = 1,
        *,
        seed: int | None = None,
        newdata: "Frame | None" = None,
        groups: str = "conditional",
    ) -> "xr.DataArray":
        """Draw new responses: see `verbs.predict.simulate`."""
        from glmm_bayes.verbs.predict import simulate

        return simulate(self, n, seed=seed, newdata=newdata, groups=groups)

    def membership(
        self,
        newdata: "Frame | None" = None,
        *,
        kind: str = "posterior",
        groups: str = "conditional",
        level: float = 0.95,
        seed: int | None = None,
    ) -> "pd.DataFrame":
        """Probabilities of a mixture's components: see `verbs.membership.membership`."""
        from glmm_bayes.verbs.membership import membership

        return membership(self, newdata, kind=kind, groups=groups, level=level, seed=seed)

    def residuals(
        self, kind: str = "quantile", *, seed: int | None = None, response: str | None = None
    ) -> "pd.Series":
        """Residuals aligned with the rows: see `verbs.residuals.residuals`."""
        from glmm_bayes.verbs.residuals import residuals

        return residuals(self, kind, seed=seed, response=response)

    def hypothesis(self, statement: str, *, level: float = 0.95) -> "pd.DataFrame":
        """Ask about a linear combination of coefficients: see `verbs.hypothesis.hypothesis`."""
        from glmm_bayes.verbs.hypothesis import hypothesis

        return hypothesis(self, statement, level=level)

    def contrast(self, weights: Mapping[str, float], *, level: float = 0.95) -> "pd.DataFrame":
        """Estimate a weighted sum of coefficients: see `verbs.hypothesis.contrast`."""
        from glmm_bayes.verbs.hypothesis import contrast

        return contrast(self, weights, level=level)

    def emmeans(self, specs: str | Sequence[str], **options: Any) -> "Estimates":
        """Average predictions over a balanced grid: see `verbs.emmeans.emmeans`."""
        from glmm_bayes.verbs.emmeans import emmeans

        return emmeans(self, specs, **options)

    def predictions(self, newdata: "Frame | str | None" = None, **options: Any) -> "Estimates":
        """Predict, average and compare: see `verbs.predictions.predictions`."""
        from glmm_bayes.verbs.predictions import predictions

        return predictions(self, newdata, **options)

    def comparisons(
        self, variables: Any = None, newdata: "Frame | str | None" = None, **options: Any
    ) -> "Estimates":
        """Compare predictions when a predictor changes: see `verbs.comparisons.comparisons`."""
        from glmm_bayes.verbs.comparisons import comparisons

        return comparisons(self, variables, newdata, **options)

    def slopes(
        self,
        variables: str | Sequence[str] | None = None,
        newdata: "Frame | str | None" = None,
        **options: Any,
    ) -> "Estimates":
        """Give slopes of predictions along predictors: see `verbs.slopes.slopes`."""
        from glmm_bayes.verbs.slopes import slopes

        return slopes(self, variables, newdata, **options)

    def r2(self, kind: str | None = None, *, level: float = 0.95) -> "pd.DataFrame":
        """R squared, marginal and conditional: see `verbs.explained.r2`."""
        from glmm_bayes.verbs.explained import r2

        return r2(self, kind, level=level)

    def icc(self, *, level: float = 0.95) -> "pd.DataFrame":
        """Intra-class correlations: see `verbs.explained.icc`."""
        from glmm_bayes.verbs.explained import icc

        return icc(self, level=level)

    # ---- figures

    def plot_effects(self, *terms: str, **options: Any) -> Any:
        """Plot predictions along predictors: see `verbs.plots.plot_effects`."""
        from glmm_bayes.verbs.plots import plot_effects

        return plot_effects(self, *terms, **options)

    def plot_ranef(self, group: str | None = None, **options: Any) -> Any:
        """Caterpillar plot of random effects: see `verbs.plots.plot_ranef`."""
        from glmm_bayes.verbs.plots import plot_ranef

        return plot_ranef(self, group, **options)

    def plot_ppc(self, **options: Any) -> Any:
        """Compare replicated responses with the data: see `verbs.plots.plot_ppc`."""
        from glmm_bayes.verbs.plots import plot_ppc

        return plot_ppc(self, **options)

    def plot_residuals(self, **options: Any) -> Any:
        """Plot quantile residuals: see `verbs.plots.plot_residuals`."""
        from glmm_bayes.verbs.plots import plot_residuals

        return plot_residuals(self, **options)

    # ---- again

    def update(self, *, seed: int | None = None, **changes: Any) -> "Fit":
        """Fit a changed model the same way: see `verbs.refit.update`."""
        from glmm_bayes.verbs.refit import update

        return update(self, seed=seed, **changes)

    def refit(self, y: "np.ndarray", *, seed: int | None = None) -> "Fit":
        """Fit the same model to another response: see `verbs.refit.refit`."""
        from glmm_bayes.verbs.refit import refit

        return refit(self, y, seed=seed)

    def save(self, path: str | Path) -> None:
        """Keep the fit in one file: see `verbs.storage.save`."""
        from glmm_bayes.verbs.storage import save

        save(self, path)

    def __repr__(self) -> str:
        return self.summary().text()

    def _repr_html_(self) -> str:
        return self.summary().html()

    # ---- what a kind of fit says of itself

    @property
    @abstractmethod
    def draws(self) -> Draws:
        """The draws of the parameters that tables are made of."""

    @property
    @abstractmethod
    def joint_draws(self) -> Draws:
        """The draws in which effects are as uncertain as they are given the parameters too."""

    @property
    @abstractmethod
    def population_draws(self) -> Draws:
        """The draws in which what is common to all groups is as uncertain as it is."""

    @property
    @abstractmethod
    def plug_in(self) -> Draws:
        """The draws that what has no interval is averaged over."""

    @abstractmethod
    def sampled(self, rng: "np.random.Generator") -> Draws:
        """Give random draws of the parameters, as uncertain as they are."""

    @abstractmethod
    def at_most(self, size: int) -> Draws:
        """Give `draws`, but no more of them than needed where each is costly."""

    @abstractmethod
    def row_source(self, design: "Design", groups: str, rng: "np.random.Generator") -> Any:
        """Say how rows vary: see `verbs.sources.Source`."""

    @abstractmethod
    def effect_arms(self, term: "RandomTerm") -> "np.ndarray":
        """Give the effects' standard deviations `(a, q, p)` that `draws` do not have in them."""

    @abstractmethod
    def summed_arms(self, columns: "Mapping[str, tuple[int, np.ndarray]]") -> "np.ndarray":
        """
        Give the standard deviations `(a, k)` that sums of effects have beside `draws`.

        `columns` says by term which of its columns, and of k sums which level, -1 for none.
        """

    @abstractmethod
    def summarise(
        self, values: "np.ndarray", level: float, scale: Any = None
    ) -> "dict[str, np.ndarray]":
        """Give `estimate, std_error, lower, upper` of a quantity `(S, …)` of every draw."""

    @abstractmethod
    def quality(self, values: "np.ndarray") -> "dict[str, np.ndarray]":
        """Give columns that say how well `(S, k)` values are computed, if that is a question."""

    @abstractmethod
    def tests(self, values: "np.ndarray") -> "dict[str, np.ndarray]":
        """Give columns that test whether `(S, k)` values are zero, if there are such tests."""

    @abstractmethod
    def evidence(self, values: "np.ndarray", sign: str) -> "dict[str, Any]":
        """Judge whether a number `(S,)` is above (`>`), below (`<`) or equal to (`=`) zero."""

    @abstractmethod
    def judged(self, quantities: "Quantities", asked: "Asked") -> "dict[str, np.ndarray]":
        """Estimate quantities, and judge them as is asked: see `verbs.estimates`."""

    @abstractmethod
    def coefficient_covariance(self) -> "np.ndarray":
        """Give the covariance `(K, K)` of all predictors' coefficients, in order."""

    @abstractmethod
    def response_table(
        self, table: "pd.DataFrame", design: "Design", groups: str
    ) -> "pd.DataFrame":
        """Finish a table of simulated responses."""

    @abstractmethod
    def replicated(self) -> "xr.DataTree":
        """Give responses and their replications as ArviZ's predictive checks take them."""

    @abstractmethod
    def diagnostics(self) -> Any:
        """Say in words whether the fit can be trusted."""

    @abstractmethod
    def facts(self, level: float) -> tuple[tuple[str, str], ...]:
        """Say how the estimates came about, for the head of a summary."""
