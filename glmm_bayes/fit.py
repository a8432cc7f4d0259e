"""What was estimated: a model and its draws; every method is one line and calls a verb."""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmm_bayes.draws import Draws, from_dataset
from glmm_bayes.model import Model

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

    from glmm_bayes.data import Frame


class PosteriorFit:
    """
    A posterior in draws.

    Attributes
    ----------
    model
        The `Model` that was fitted.
    idata
        A `DataTree` with `posterior, sample_stats, log_likelihood, posterior_predictive,
        observed_data, constant_data`; every function of ArviZ takes it.
    method, seed, elapsed
        How it came about, and the seconds it took.
    options
        The method's options, as they were used.
    """

    def __init__(
        self,
        model: Model,
        idata: "xr.DataTree",
        method: str,
        seed: int,
        elapsed: float,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        self.model = model
        self.idata = idata
        self.method = method
        self.seed = seed
        self.elapsed = elapsed
        self.options = dict(options or {})

    @cached_property
    def draws(self) -> Draws:
        """The draws as arrays, in the model's order."""
        return from_dataset(self.model, self.idata["posterior"].to_dataset())

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
        """Posterior covariance of the coefficients: see `verbs.tables.vcov`."""
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

    def diagnostics(self) -> Any:
        """Whether the draws can be trusted, in words: see `verbs.diagnostics.diagnostics`."""
        from glmm_bayes.verbs.diagnostics import diagnostics

        return diagnostics(self)

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
    ) -> Any:
        """Predict for the rows of a data frame: see `verbs.predict.predict`."""
        from glmm_bayes.verbs.predict import predict

        return predict(self, newdata, kind=kind, groups=groups, level=level, draws=draws, seed=seed)

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

    def residuals(self, kind: str = "quantile", *, seed: int | None = None) -> "pd.Series":
        """Residuals aligned with the rows: see `verbs.residuals.residuals`."""
        from glmm_bayes.verbs.residuals import residuals

        return residuals(self, kind, seed=seed)

    def hypothesis(self, statement: str, *, level: float = 0.95) -> "pd.DataFrame":
        """Ask about a linear combination of coefficients: see `verbs.hypothesis.hypothesis`."""
        from glmm_bayes.verbs.hypothesis import hypothesis

        return hypothesis(self, statement, level=level)

    def contrast(self, weights: Mapping[str, float], *, level: float = 0.95) -> "pd.DataFrame":
        """Estimate a weighted sum of coefficients: see `verbs.hypothesis.contrast`."""
        from glmm_bayes.verbs.hypothesis import contrast

        return contrast(self, weights, level=level)

    def loo(self, **options: Any) -> Any:
        """Leave-one-out cross-validation by ArviZ: see `verbs.criteria.loo`."""
        from glmm_bayes.verbs.criteria import loo

        return loo(self, **options)

    def r2(self, *, level: float = 0.95) -> "pd.DataFrame":
        """Bayesian R squared, marginal and conditional: see `verbs.explained.r2`."""
        from glmm_bayes.verbs.explained import r2

        return r2(self, level=level)

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

    def update(self, *, seed: int | None = None, **changes: Any) -> "PosteriorFit":
        """Fit a changed model the same way: see `verbs.refit.update`."""
        from glmm_bayes.verbs.refit import update

        return update(self, seed=seed, **changes)

    def refit(self, y: "np.ndarray", *, seed: int | None = None) -> "PosteriorFit":
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
