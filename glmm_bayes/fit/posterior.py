"""A posterior in draws."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, override

from glmm_bayes.draws import Draws, from_dataset
from glmm_bayes.fit.base import Fit
from glmm_bayes.model import Model

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    import xarray as xr
    from arviz_stats.utils import ELPDData

    from glmm_bayes.design import Design
    from glmm_bayes.terms import RandomTerm
    from glmm_bayes.verbs.estimates import Asked, Quantities


class PosteriorFit(Fit):
    """
    A posterior in draws.

    Parameters
    ----------
    idata
        The draws by name, or what makes them when they are first asked for.
    draws, statistics
        The same draws as arrays, and the sampler's statistics, where they are at hand.
    densities
        What makes the densities of the method's own, where it has any.
    """

    kind = "posterior"
    shares = "gelman"

    def __init__(
        self,
        model: Model,
        idata: "xr.DataTree | Callable[[], xr.DataTree]",
        method: str,
        seed: int,
        elapsed: float,
        options: Mapping[str, Any] | None = None,
        *,
        draws: Draws | None = None,
        statistics: "xr.Dataset | None" = None,
        densities: "Callable[[], xr.Dataset] | None" = None,
    ) -> None:
        super().__init__(model, method, seed, elapsed, options)
        self._idata, self._draws, self._statistics = idata, draws, statistics
        self._densities = densities

    @cached_property
    def idata(self) -> "xr.DataTree":
        """
        The draws by name, and what follows from them: every function of ArviZ takes it.

        A `DataTree` with `posterior, sample_stats, log_likelihood, posterior_predictive,
        observed_data, constant_data`, made when it is first asked for.
        """
        return self._idata() if callable(self._idata) else self._idata

    @cached_property
    def draws(self) -> Draws:
        """The draws as arrays, in the model's order."""
        if self._draws is not None:
            return self._draws
        return from_dataset(self.model, self.idata["posterior"].to_dataset())

    @cached_property
    def statistics(self) -> "xr.Dataset":
        """What the sampler says of every draw: `sample_stats` of `idata`."""
        if self._statistics is not None:
            return self._statistics
        if "sample_stats" in self.idata.children:
            return self.idata["sample_stats"].to_dataset()
        import xarray as xr

        return xr.Dataset()

    @cached_property
    def densities(self) -> "xr.Dataset | None":
        """The method's own densities, the group `marginals` of `idata`; None if it has none."""
        if self._densities is not None:
            return self._densities()
        if not callable(self._idata) and "marginals" in self.idata.children:
            return self.idata["marginals"].to_dataset()
        return None

    @override
    def diagnostics(self) -> Any:
        """Whether the draws can be trusted, in words: see `verbs.diagnostics.diagnostics`."""
        return self._diagnosed

    @cached_property
    def _diagnosed(self) -> Any:
        # The fit and its summary both ask, and thousands of effects are looked at.
        from glmm_bayes.verbs.diagnostics import diagnostics

        return diagnostics(self)

    def marginals(self, names: "str | Sequence[str] | None" = None) -> "pd.DataFrame":
        """Densities of single parameters on grids: see `verbs.marginals.marginals`."""
        from glmm_bayes.verbs.marginals import marginals

        return marginals(self, names)

    def loo(self, **options: Any) -> Any:
        """Leave-one-out cross-validation by ArviZ: see `verbs.criteria.loo`."""
        from glmm_bayes.verbs.criteria import loo

        return loo(self, **options)

    def kfold(
        self,
        k: int | None = None,
        group: str | None = None,
        *,
        strata: str | None = None,
        seed: int | None = None,
        n_jobs: int | None = None,
        progressbar: bool = True,
    ) -> "ELPDData":
        """Refit without one fold of the rows after the other: see `verbs.kfold.kfold`."""
        from glmm_bayes.verbs.kfold import kfold

        return kfold(
            self, k, group, strata=strata, seed=seed, n_jobs=n_jobs, progressbar=progressbar
        )

    def bayes_factor(
        self, other: Fit, *, draws: int = 4000, seed: int | None = None
    ) -> "pd.DataFrame":
        """Estimate the Bayes factor against another: see `verbs.bayes_factor.bayes_factor`."""
        from glmm_bayes.verbs.bayes_factor import bayes_factor

        return bayes_factor(self, other, draws=draws, seed=seed)

    def logo(self, group: str | None = None, *, refit: bool = False) -> "ELPDData":
        """Leave out levels of a group, their effects integrated out: see `verbs.logo.logo`."""
        from glmm_bayes.verbs.logo import logo

        return logo(self, group, refit=refit)

    def waic(self) -> "ELPDData":
        """Compute the widely applicable information criterion: see `verbs.waic.waic`."""
        from glmm_bayes.verbs.waic import waic

        return waic(self)

    def psense(self, *, threshold: float = 0.05) -> "pd.DataFrame":
        """Measure what the posterior owes to its priors: see `verbs.psense.psense`."""
        from glmm_bayes.verbs.psense import psense

        return psense(self, threshold=threshold)

    # ---- what this kind of fit says of itself

    @property
    @override
    def joint_draws(self) -> Draws:
        return self.draws

    @property
    @override
    def population_draws(self) -> Draws:
        return self.draws

    @property
    @override
    def plug_in(self) -> Draws:
        return self.draws

    @override
    def sampled(self, rng: "np.random.Generator") -> Draws:
        return self.draws

    @override
    def at_most(self, size: int) -> Draws:
        from glmm_bayes.verbs.sources import evenly_thinned

        return evenly_thinned(self.draws, size)

    @override
    def row_source(self, design: "Design", groups: str, rng: "np.random.Generator") -> Any:
        from glmm_bayes.verbs.sources import drawn

        return drawn(self.draws, design, groups, rng)

    @override
    def effect_arms(self, term: "RandomTerm") -> "np.ndarray":
        from glmm_bayes.verbs.sources import no_arms

        return no_arms(len(term.levels), term.size)

    @override
    def summed_arms(self, columns: "Mapping[str, tuple[int, np.ndarray]]") -> "np.ndarray":
        from glmm_bayes.verbs.sources import no_arms

        return no_arms(len(next(iter(columns.values()))[1]))

    @override
    def summarise(
        self, values: "np.ndarray", level: float, scale: Any = None
    ) -> "dict[str, np.ndarray]":
        from glmm_bayes.verbs.intervals import of_draws

        return of_draws(values, level)

    @override
    def quality(self, values: "np.ndarray") -> "dict[str, np.ndarray]":
        from glmm_bayes.verbs.tables import reliability

        return reliability(values, self.draws.chains)

    @override
    def tests(self, values: "np.ndarray") -> "dict[str, np.ndarray]":
        return {}

    @override
    def evidence(self, values: "np.ndarray", sign: str) -> dict[str, Any]:
        from glmm_bayes.verbs.hypothesis import probability_of

        return probability_of(values, sign)

    @override
    def judged(self, quantities: "Quantities", asked: "Asked") -> "dict[str, np.ndarray]":
        from glmm_bayes.verbs.estimates import posterior_columns

        return posterior_columns(quantities, asked)

    @override
    def coefficient_covariance(self) -> "np.ndarray":
        from glmm_bayes.verbs.tables import covariance_of_draws

        return covariance_of_draws(self.draws)

    @override
    def response_table(
        self, table: "pd.DataFrame", design: "Design", groups: str
    ) -> "pd.DataFrame":
        return table

    @override
    def replicated(self) -> "xr.DataTree":
        return self.idata

    @override
    def facts(self, level: float) -> tuple[tuple[str, str], ...]:
        from glmm_bayes.verbs.summary import posterior_facts

        return posterior_facts(self, level)
