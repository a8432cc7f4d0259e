"""Where the randomness of an answer comes from: draws as they are, or points about a maximum."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.fit import Fit, ModeFit
from glmm_bayes.model import Model
from glmm_bayes.modes.rows import summed_variances
from glmm_bayes.modes.star import widened
from glmm_bayes.modes.wide_star import wide_star
from glmm_bayes.predictive import Effects, effects_for, evenly_thinned, linear_predictor
from glmm_bayes.terms import RandomTerm

if TYPE_CHECKING:
    import xarray as xr

SIMULATED = 1000  # draws of the normal approximation at a maximum
CELLS = 100_000_000  # effects times draws that are kept at most: 0.8 GB
WIDEST = 3000  # effects whose joint covariance is kept
REPLICATED = 500  # draws for predictive checks


@dataclass(frozen=True, eq=False)
class Source:
    """
    How the linear predictors of a design's rows vary.

    Attributes
    ----------
    draws
        S draws of the parameters, whatever kind.
    effects
        By term, b `(S, q, p)` for the design's levels; empty where they are zero.
    arms
        By predictor, `(a, n)`: standard deviations of the rows along axes of their own, where
        the draws are a star (`modes.star.widened`).
    """

    draws: Draws
    effects: Effects
    arms: Mapping[str, np.ndarray]

    def predictors(self, design: Design, rows: slice) -> dict[str, np.ndarray]:
        """Give eta `(S', n)` by predictor, for the rows of the whole design that this one has."""
        return {
            param: widened(
                linear_predictor(design, self.draws, self.effects, param), self.arms[param][:, rows]
            )
            for param in design.predictors
        }

    def constants(self) -> dict[str, np.ndarray]:
        """Give the parameters without a formula, `(S', 1)`."""
        still = np.zeros((len(next(iter(self.arms.values()))), 1))
        return {k: widened(v[:, None], still) for k, v in self.draws.constants.items()}

    @property
    def size(self) -> int:
        """The number S' of values of each row."""
        return self.draws.size + 2 * len(next(iter(self.arms.values())))


def drawn(draws: Draws, design: Design, groups: str, rng: np.random.Generator) -> Source:
    """Take draws as they are; the effects of levels that were not in the fit are drawn."""
    effects = effects_for(design, draws, groups, rng)
    return Source(draws, effects, {param: no_arms(design.n) for param in design.predictors})


def about_mode(fit: ModeFit, design: Design, groups: str) -> Source:
    """Take the star about a maximum; what varies with the effects, the rows have as arms."""
    # The effects of new levels are zero whatever the parameters are.
    kept = "population" if groups == "new" else groups
    draws = fit.draws if groups == "conditional" else fit.population_draws
    effects = effects_for(design, draws, kept, None)
    return Source(draws, effects, fit.mode.row_arms(design, groups))


def with_effect_axes(fit: ModeFit) -> Draws:
    """Give the star with an axis for each effect, where these are not too many to be kept."""
    effects = sum(len(term.levels) * term.size for term in fit.model.design.terms)
    if effects > WIDEST:
        raise NotSupportedError(
            f"The joint uncertainty of {effects:,} effects is too much to hold; use "
            f"groups='population' or 'marginal', or a posterior: sample()."
        )
    return wide_star(fit.mode)


def no_arms(*shape: int) -> np.ndarray:
    """Give no axes, for a quantity of some shape."""
    return np.empty((0, *shape))


def conditional_arms(fit: ModeFit, term: RandomTerm) -> np.ndarray:
    """Give the conditional standard deviations `(1, q, p)` of a term's effects."""
    variances = fit.mode.effect_variances[term.name]
    return np.sqrt(np.einsum("qii->qi", variances))[None]


def summed_arms(fit: ModeFit, columns: Mapping[str, tuple[int, np.ndarray]]) -> np.ndarray:
    """Give the conditional standard deviations `(1, k)` of sums of effects: see `Fit`."""
    if len(columns) == 1:
        ((name, (column, at)),) = columns.items()
        own = np.sqrt(fit.mode.effect_variances[name][:, column, column])
        return np.where(at < 0, 0.0, own[at])[None]
    return np.sqrt(summed_variances(fit.mode, columns))[None]


def number_of_draws(model: Model) -> int:
    """Choose how many draws to make: fewer where there are very many effects."""
    effects = sum(len(term.levels) * term.size for term in model.design.terms)
    return int(min(SIMULATED, max(200, CELLS // max(effects, 1))))


def replicate(fit: Fit) -> "xr.DataTree":
    """
    Draw responses of the rows anew, as often as figures need.

    The parameters and effects are drawn from the normal approximation: effects held at their
    modes, which are shrunken, would leave the replications too much alike.
    """
    import xarray as xr

    from glmm_bayes.results import posterior_predictive, response_coords

    model = fit.model
    draws = evenly_thinned(fit.sampled(np.random.default_rng(fit.seed)), REPLICATED)
    drawn_anew = posterior_predictive(model, draws, fit.seed)
    y = model.design.y.astype(int) if model.family.discrete else model.design.y
    coords = response_coords(model)
    observed = xr.Dataset({"y": (list(coords), y)}, coords)
    return xr.DataTree.from_dict({"posterior_predictive": drawn_anew, "observed_data": observed})
