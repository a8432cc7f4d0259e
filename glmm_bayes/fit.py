"""What was estimated: draws of a posterior, or a maximum; a method is one line and calls a verb."""

import math
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmm_bayes.draws import Draws, from_dataset
from glmm_bayes.model import Model
from glmm_bayes.modes.mode import Mode, Singular, singular_parts

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

    from glmm_bayes.data import Frame


class Fit:
    """
    What every method gives: questions are verbs, each in its file.

    Attributes
    ----------
    model
        The `Model` that was fitted.
    method, seed, elapsed
        How it came about, and the seconds it took.
    options
        The method's options, as they were used.
    """

    draws: Draws

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

    def r2(self, *, level: float = 0.95) -> "pd.DataFrame":
        """R squared, marginal and conditional: see `verbs.explained.r2`."""
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


class PosteriorFit(Fit):
    """
    A posterior in draws.

    Attributes
    ----------
    idata
        A `DataTree` with `posterior, sample_stats, log_likelihood, posterior_predictive,
        observed_data, constant_data`; every function of ArviZ takes it.
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
        super().__init__(model, method, seed, elapsed, options)
        self.idata = idata

    @cached_property
    def draws(self) -> Draws:  # type: ignore[override]
        """The draws as arrays, in the model's order."""
        return from_dataset(self.model, self.idata["posterior"].to_dataset())

    def diagnostics(self) -> Any:
        """Whether the draws can be trusted, in words: see `verbs.diagnostics.diagnostics`."""
        from glmm_bayes.verbs.diagnostics import diagnostics

        return diagnostics(self)

    def loo(self, **options: Any) -> Any:
        """Leave-one-out cross-validation by ArviZ: see `verbs.criteria.loo`."""
        from glmm_bayes.verbs.criteria import loo

        return loo(self, **options)


class ModeFit(Fit):
    """
    A maximum of the likelihood, restricted or penalised, and the curvature around it.

    Attributes
    ----------
    mode
        What the search found, as numbers: see `modes.mode.Mode`.
    """

    def __init__(
        self,
        model: Model,
        mode: Mode,
        method: str,
        seed: int,
        elapsed: float,
        options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(model, method, seed, elapsed, options)
        self.mode = mode

    @cached_property
    def draws(self) -> Draws:  # type: ignore[override]
        """The maximum, and pairs of points about it: see `Mode.star`."""
        return self.mode.star()

    @property
    def loglik(self) -> float:
        """The log likelihood at the maximum, every constant included; restricted by `reml`."""
        return self.mode.loglik

    @property
    def df(self) -> int:
        """The number of parameters that were estimated."""
        return self.mode.coordinates.size

    @property
    def nobs(self) -> int:
        """The number of rows."""
        return self.model.nobs

    @property
    def deviance(self) -> float:
        """Minus twice the log likelihood."""
        return -2 * self.loglik

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return self.deviance + 2 * self.df

    @property
    def bic(self) -> float:
        """Schwarz's criterion, for the number of rows."""
        return self.deviance + math.log(self.nobs) * self.df

    @property
    def converged(self) -> bool:
        """Whether the search ended at a maximum."""
        return self.mode.converged

    @property
    def gradient(self) -> "np.ndarray":
        """The slope of what was maximised, in standard errors of the parameters' combinations."""
        return self.mode.gradient

    @property
    def theta(self) -> "pd.Series":
        """The outer parameters by name, on their own scale: see `verbs.tables.theta`."""
        from glmm_bayes.verbs.tables import theta

        return theta(self)

    @cached_property
    def singular(self) -> tuple[Singular, ...]:
        """The components at an edge: zero variances and perfect correlations."""
        return singular_parts(self.mode.coordinates, self.mode.x)

    @property
    def is_singular(self) -> bool:
        """Whether a component is at an edge; `singular` says which."""
        return bool(self.singular)
