"""Read a sampler's or a search's diagnostics: numbers, and in words what to do."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glmm_bayes.fit import ModeFit, PosteriorFit
from glmm_bayes.verbs.identified import open_ranges
from glmm_bayes.verbs.tables import outer_draws, reliability

if TYPE_CHECKING:
    import xarray as xr

R_HAT = 1.01
ESS_A_CHAIN = 100.0
E_BFMI = 0.3
LOOKED_AT = 1000  # random effects whose R-hat is computed; evenly spaced where there are more


@dataclass(frozen=True, eq=False)
class Diagnostics:
    """
    Whether draws can be trusted.

    Attributes
    ----------
    table
        One row an outer parameter, and one the worst random effect: `r_hat, ess_bulk, ess_tail`.
    divergences, tree_depth_hits
        Numbers of draws, of `draws` in all.
    e_bfmi
        The least energy fraction over chains; NaN where the sampler gives no energy.
    problems
        One sentence a problem, with its remedy; empty where all is well.
    remarks
        What the data leave open, though the draws are good.
    """

    table: pd.DataFrame
    draws: int
    divergences: int
    tree_depth_hits: int
    e_bfmi: float
    problems: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def __repr__(self) -> str:
        worst = self.table.agg({"r_hat": "max", "ess_bulk": "min", "ess_tail": "min"})
        head = (
            f"{self.draws} draws; largest R-hat {worst['r_hat']:.3f}, smallest ESS "
            f"{worst['ess_bulk']:.0f} (bulk) {worst['ess_tail']:.0f} (tail)"
        )
        if np.isfinite(self.e_bfmi):  # a Hamiltonian sampler's trajectories
            head += (
                f"; {self.divergences} divergences; {self.tree_depth_hits} at the greatest tree "
                f"depth; E-BFMI {self.e_bfmi:.2f}"
            )
        head += "."
        return "\n".join([head, *(self.problems or ("No problem found.",)), *self.remarks])


def diagnostics(fit: PosteriorFit) -> Diagnostics:
    """
    Look for signs that the draws do not represent the posterior.

    Returns
    -------
    Diagnostics
        With limits R-hat 1.01 and 100 effective draws a chain: Vehtari et al. (2021), Bayesian
        Analysis 16, 667-718; E-BFMI 0.3: Betancourt (2016), arXiv:1604.00695.
    """
    named = outer_draws(fit)
    chains = fit.draws.chains
    table = pd.DataFrame(
        reliability(np.stack(list(named.values()), axis=1), chains),
        index=pd.Index(named, name="parameter"),
    )
    for term in fit.model.design.terms:
        table.loc[f"b_{term.name} (worst)"] = _worst(fit.draws.effects[term.name], chains)
    for source in fit.model.design.unknown:
        values = fit.draws.unseen[source.name]
        table.loc[f"{', '.join(source.names)} (worst)"] = _worst(values, chains)
    stats = fit.statistics
    divergences = int(stats["diverging"].sum()) if "diverging" in stats else 0
    hits = int(stats["reached_max_treedepth"].sum()) if "reached_max_treedepth" in stats else 0
    e_bfmi = _e_bfmi(stats["energy"].to_numpy()) if "energy" in stats else np.nan
    total = fit.draws.size
    problems = (
        *_told(stats, "problems"),
        *_mixing(table, chains, total),
        *_geometry(divergences, hits, e_bfmi, total),
    )
    remarks = open_ranges(fit.draws, fit.model.design.terms)
    return Diagnostics(table, total, divergences, hits, e_bfmi, problems, remarks)


def _told(stats: "xr.Dataset", key: str) -> tuple[str, ...]:
    """Give what the sampler itself has to say, one sentence a line of an attribute."""
    return tuple(str(stats.attrs.get(key, "")).splitlines())


def _worst(b: np.ndarray, chains: int) -> pd.Series:
    flat = b.reshape(len(b), -1)
    step = max(1, flat.shape[1] // LOOKED_AT)
    found = pd.DataFrame(reliability(flat[:, ::step], chains))
    return pd.Series(
        {
            "r_hat": found["r_hat"].max(),
            "ess_bulk": found["ess_bulk"].min(),
            "ess_tail": found["ess_tail"].min(),
        }
    )


def _e_bfmi(energy: np.ndarray) -> float:
    steps = np.square(np.diff(energy, axis=1)).mean(axis=1)
    return float(np.min(steps / energy.var(axis=1)))


def _mixing(table: pd.DataFrame, chains: int, total: int) -> list[str]:
    words = []
    if chains == 1:
        words.append("There is one chain: convergence cannot be judged; use chains=4.")
    r_hat = table["r_hat"].dropna()
    if chains > 1 and len(r_hat) and r_hat.max() > R_HAT:
        words.append(
            f"The chains disagree: R-hat of {r_hat.idxmax()} is {r_hat.max():.3f} "
            f"({(r_hat > R_HAT).sum()} of {len(r_hat)} above {R_HAT}); "
            f"draw longer with tune and draws twice as large, or give narrower priors."
        )
    least = min(ESS_A_CHAIN * chains, total)
    ess = table[["ess_bulk", "ess_tail"]].min(axis=1).dropna()
    if len(ess) and ess.min() < least:
        words.append(
            f"Few effective draws: {ess.min():.0f} for {ess.idxmin()}, where {least:.0f} are "
            f"wanted; intervals are rough: use more draws."
        )
    return words


def _geometry(divergences: int, hits: int, e_bfmi: float, total: int) -> list[str]:
    words = []
    if divergences:
        words.append(
            f"{divergences} of {total} draws ended in a divergence: part of the posterior may be "
            f"missed; raise target_accept to 0.95 or 0.99, change `centering`, or give the "
            f"standard deviations narrower priors."
        )
    if hits > 0.01 * total:
        words.append(
            f"{hits} of {total} draws stopped at the greatest tree depth: sampling is slow, not "
            f"wrong; scale the predictors or allow maxdepth=12."
        )
    if e_bfmi < E_BFMI:
        words.append(
            f"The energy moves slowly (E-BFMI {e_bfmi:.2f} < {E_BFMI}): tails may be missed; "
            f"change `centering` or give heavy-tailed priors a finite scale."
        )
    return words


# ---- a search


@dataclass(frozen=True, eq=False)
class SearchReport:
    """
    Whether a maximum can be trusted.

    Attributes
    ----------
    evaluations
        Of the likelihood.
    gradient
        The largest slope left, in log likelihood a standard error.
    singular
        What is at an edge, in words; the fit stands.
    problems
        One sentence a problem, with its remedy; empty where all is well.
    cautions
        What the maximum leaves open, though it is one.
    remarks
        What the data leave open of ranges and the like.
    """

    evaluations: int
    gradient: float
    singular: tuple[str, ...]
    problems: tuple[str, ...]
    cautions: tuple[str, ...]
    remarks: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Whether no problem was found."""
        return not self.problems

    def __repr__(self) -> str:
        head = "Converged" if self.ok else "Not converged"
        times = f"{self.evaluations} evaluation{'s' if self.evaluations > 1 else ''}"
        lines = [
            f"{head} after {times}; the steepest slope left is {self.gradient:.1g} of log "
            f"likelihood a standard error."
        ]
        edges = [f"At an edge: {words}, so it has no interval." for words in self.singular]
        return "\n".join([*lines, *edges, *self.problems, *self.cautions, *self.remarks])


def search_report(fit: ModeFit) -> SearchReport:
    """Say whether the search ended at a maximum, and which components are at an edge."""
    largest = float(np.max(np.abs(fit.gradient), initial=0.0))
    edges = tuple(part.words for part in fit.singular)
    mode = fit.mode
    remarks = open_ranges(fit.draws, fit.model.design.terms)
    return SearchReport(mode.evaluations, largest, edges, mode.problems, mode.cautions, remarks)
