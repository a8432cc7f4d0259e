"""A maximum of the likelihood, restricted or penalised, and the curvature around it."""

import math
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, override

from glmm_bayes.draws import Draws
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit.base import Fit
from glmm_bayes.model import Model
from glmm_bayes.modes.mode import Mode, Singular, singular_parts

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr

    from glmm_bayes.design import Design
    from glmm_bayes.terms import RandomTerm
    from glmm_bayes.verbs.estimates import Asked, Quantities
    from glmm_bayes.verbs.profile import Profile


class ModeFit(Fit):
    """
    A maximum of the likelihood, restricted or penalised, and the curvature around it.

    Intervals are Wald's, by the delta method on a scale that keeps them inside the support;
    standard errors are on the natural scale.

    Attributes
    ----------
    mode
        What the search found, as numbers: see `modes.mode.Mode`.
    """

    kind = "mode"
    shares = "nakagawa"

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
    def draws(self) -> Draws:
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

    @override
    def diagnostics(self) -> Any:
        """Whether the maximum can be trusted, in words: see `verbs.diagnostics.search_report`."""
        from glmm_bayes.verbs.diagnostics import search_report

        return search_report(self)

    # ---- what this kind of fit says of itself

    @cached_property
    def joint_draws(self) -> Draws:
        """The star, with an axis for each effect: see `modes.wide_star.wide_star`."""
        from glmm_bayes.verbs.sources import with_effect_axes

        return with_effect_axes(self)

    @cached_property
    def population_draws(self) -> Draws:
        """The star, with axes for smooths' effects: see `modes.wide_star.common_star`."""
        from glmm_bayes.modes.wide_star import common_star

        return common_star(self.mode)

    @cached_property
    def plug_in(self) -> Draws:
        """The estimates, as one draw."""
        return self.mode.estimates()

    @override
    def sampled(self, rng: "np.random.Generator") -> Draws:
        from glmm_bayes.verbs.sources import number_of_draws

        return self.mode.sample(rng, number_of_draws(self.model))

    @override
    def at_most(self, size: int) -> Draws:
        # A point less, and the delta method would lack a direction.
        return self.draws

    @override
    def row_source(self, design: "Design", groups: str, rng: "np.random.Generator") -> Any:
        from glmm_bayes.verbs.sources import about_mode

        return about_mode(self, design, groups)

    @override
    def effect_arms(self, term: "RandomTerm") -> "np.ndarray":
        from glmm_bayes.verbs.sources import conditional_arms

        return conditional_arms(self, term)

    @override
    def summed_arms(self, columns: "Mapping[str, tuple[int, np.ndarray]]") -> "np.ndarray":
        from glmm_bayes.verbs.sources import summed_arms

        return summed_arms(self, columns)

    @override
    def summarise(
        self, values: "np.ndarray", level: float, scale: Any = None
    ) -> "dict[str, np.ndarray]":
        from glmm_bayes.verbs.intervals import wald

        return wald(values, level, scale)

    @override
    def quality(self, values: "np.ndarray") -> "dict[str, np.ndarray]":
        return {}

    @override
    def tests(self, values: "np.ndarray") -> "dict[str, np.ndarray]":
        return self.evidence(values, "=")

    @override
    def evidence(self, values: "np.ndarray", sign: str) -> dict[str, Any]:
        from glmm_bayes.verbs.intervals import wald_test

        return wald_test(values, sign)

    @override
    def judged(self, quantities: "Quantities", asked: "Asked") -> "dict[str, np.ndarray]":
        from glmm_bayes.verbs.estimates import wald_columns

        return wald_columns(self, quantities, asked)

    @override
    def coefficient_covariance(self) -> "np.ndarray":
        return self.mode.beta_covariance

    @override
    def response_table(
        self, table: "pd.DataFrame", design: "Design", groups: str
    ) -> "pd.DataFrame":
        from glmm_bayes.verbs.predict import with_mean_responses

        return with_mean_responses(self, table, design, groups)

    @cached_property
    def _replicated(self) -> "xr.DataTree":
        from glmm_bayes.verbs.sources import replicate

        return replicate(self)

    @override
    def replicated(self) -> "xr.DataTree":
        return self._replicated

    @override
    def facts(self, level: float) -> tuple[tuple[str, str], ...]:
        from glmm_bayes.verbs.summary import mode_facts

        return mode_facts(self, level)

    def confint(
        self,
        *,
        method: str = "wald",
        level: float = 0.95,
        parm: str | Sequence[str] | None = None,
        nsim: int | None = None,
        seed: int | None = None,
        kind: str = "parametric",
        interval: str = "percentile",
    ) -> "pd.DataFrame":
        """Confidence intervals of all parameters: see `verbs.confint.confint`."""
        from glmm_bayes.verbs.confint import confint

        return confint(
            self, method=method, level=level, parm=parm,
            nsim=nsim, seed=seed, kind=kind, interval=interval,
        )  # fmt: skip

    def profile(self, parm: str | Sequence[str] | None = None, *, level: float = 0.99) -> "Profile":
        """Profile likelihood, to be read, plotted and tabulated: see `verbs.profile.profile`."""
        from glmm_bayes.verbs.profile import profile

        return profile(self, parm, level=level)

    @override
    def vcov(self, kind: str = "model", *, cluster: str | None = None) -> "pd.DataFrame":
        """Covariance of the coefficients, by clusters' residuals if asked: see `verbs.robust`."""
        from glmm_bayes.verbs.robust import vcov

        return vcov(self, kind, cluster=cluster)

    def ttest(self, ddf: str | None = None, *, level: float = 0.95) -> "pd.DataFrame":
        """Test each coefficient by t, with few groups in mind: see `verbs.ttest.ttest`."""
        from glmm_bayes.verbs.ttest import ttest

        return ttest(self, ddf, level=level)

    def anova(
        self,
        other: Fit | None = None,
        *,
        test: str | None = None,
        type: int = 3,  # noqa: A002
        nsim: int | None = None,
        seed: int | None = None,
    ) -> "pd.DataFrame":
        """Test terms by F, or this fit against another: see `verbs.anova.anova`."""
        from glmm_bayes.verbs.anova import anova

        return anova(self, other, test=test, type=type, nsim=nsim, seed=seed)

    def influence(self, group: str | None = None, *, method: str = "one-step") -> "pd.DataFrame":
        """Measure the influence of rows or of a group's levels: see `verbs.influence.influence`."""
        from glmm_bayes.verbs.influence import influence

        return influence(self, group, method=method)

    def caic(self) -> "pd.Series":
        """Akaike's criterion for the groups that were seen: see `verbs.conditional_aic.caic`."""
        from glmm_bayes.verbs.conditional_aic import caic

        return caic(self)

    def loo(self) -> Any:
        """
        Refuse: leave-one-out cross-validation is of a posterior.

        Raises
        ------
        NotSupportedError
            Always. Of a maximum, AIC estimates the same where the sample is large: Stone (1977),
            J. Royal Statistical Society B 39, 44-47.
        """
        raise NotSupportedError(
            "A maximum has no draws to leave rows out of. sample().loo() is of the posterior "
            "around it; gb.compare ranks maxima by AIC, which is near to leave-one-out "
            "cross-validation, or with criterion='caic' for rows of the groups that were seen."
        )

    def sample(
        self, draws: int = 1000, chains: int = 4, *, seed: int | None = None, **options: Any
    ) -> Any:
        """Draw from the posterior around this maximum: see `verbs.sample.sample`."""
        from glmm_bayes.verbs.sample import sample

        return sample(self, draws, chains, seed=seed, **options)

    def laplace_check(self, *, seed: int | None = None) -> Any:
        """How far Laplace's method is from the integral: see `verbs.laplace_check`."""
        from glmm_bayes.verbs.laplace_check import laplace_check

        return laplace_check(self, seed=seed)
