"""Profile likelihood: each parameter held in turn, all others at their best."""

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

import numpy as np
import pandas as pd
from scipy.interpolate import PchipInterpolator
from scipy.special import chdtri, ndtri

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.errors import (
    ConvergenceWarning,
    NotSupportedError,
    SingularFitWarning,
)
from glmm_bayes.fit import ModeFit
from glmm_bayes.modes.branches import BOUND, FIXED, FLAT, LOST, Branch, between
from glmm_bayes.modes.paths import Stand, Walk
from glmm_bayes.modes.penalised import LogPrior
from glmm_bayes.modes.surfaces import spread_of, surface_of
from glmm_bayes.modes.targets import Bend, targets_of
from glmm_bayes.verbs.confint import chosen_names, outer_names
from glmm_bayes.verbs.intervals import checked_level
from glmm_bayes.verbs.printing import Facts, Grid, Page, Part, Sentences, right
from glmm_bayes.verbs.recovery_study import outer_values

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEP = 0.5  # of zeta, between the points of a whole profile
SLACK = 0.2  # of zeta: how far from where they were wanted they may be
SIDES = (-1, 1)


@dataclass(frozen=True, eq=False)
class Profile:
    """
    Profiles of the log likelihood, which print as a page.

    Attributes
    ----------
    table
        One row a point: `name` of the parameter that is held, `zeta`, and all parameters there,
        by their names. zeta is the signed root of twice the fall of the log likelihood from its
        maximum: of a likelihood that is normal it is a straight line.
    fit
        The maximum that the profiles are of, a fit by `"ml"`.
    branches
        By parameter, the two sides that `table` was made of.
    notes
        In words, what is to be known: other maxima, profiles that are flat or could not be
        followed.
    """

    table: pd.DataFrame
    fit: ModeFit
    branches: Mapping[str, tuple[Branch, ...]]
    notes: tuple[str, ...]

    def confint(self, level: float = 0.95, parm: str | Sequence[str] | None = None) -> pd.DataFrame:
        """
        Give the intervals where zeta is within the normal quantiles: see `profile_intervals`.

        Raises
        ------
        UnknownNameError
            If a parameter has no profile here.
        """
        names = chosen_names(parm, list(self.branches))
        z = float(ndtri(0.5 + checked_level(level) / 2))
        with one_thread(), np.errstate(all="ignore"):
            for name in names:
                for branch in self.branches[name]:
                    # The points stand apart: where one is wanted, one is made.
                    branch.reach(z)
        return _intervals({name: self.branches[name] for name in names}, level)

    def curve(self, name: str) -> "Curve":
        """Give a parameter's profile between its points."""
        return Curve.of(self.branches[name])

    def plot(self) -> "Figure":
        """Picture every profile: see `verbs.plots.profile.plot_profile`."""
        from glmm_bayes.verbs.plots.profile import plot_profile

        return plot_profile(self)

    def plot_pairs(self) -> "Figure":
        """Picture the parameters by pairs: see `verbs.plots.profile_pairs.plot_pairs`."""
        from glmm_bayes.verbs.plots.profile_pairs import plot_pairs

        return plot_pairs(self)

    @property
    def page(self) -> Page:
        """The printed page."""
        found = self.confint()
        columns = [right(str(c), [f"{v:.4g}" for v in found[c]]) for c in found]
        rows = zip(found.index, *(c[1:] for c in columns), strict=True)
        grid = Grid("95% intervals", ("", *(c[0] for c in columns)), (("", tuple(rows)),))
        points = f"{len(self.table)} points, |zeta| to {self.table['zeta'].abs().max():.2f}"
        parts: list[Part] = [Facts((("profiles", points),)), grid]
        if self.notes:
            parts.append(Sentences("Notes", self.notes))
        return Page("Profile likelihood", tuple(parts))

    def text(self, width: int | None = None) -> str:
        """Lay it out as text: see `Page.text`."""
        return self.page.text(width)

    def __repr__(self) -> str:
        """Print as text."""
        return self.text()

    def _repr_html_(self) -> str:
        return self.page.html()


@dataclass(frozen=True, eq=False)
class Curve:
    """
    A profile between its points, to be drawn.

    Attributes
    ----------
    zeta, value
        `(n,)` increasing: zeta, and the parameter, at the points.
    bend
        The scale between which and zeta the curve is smooth.
    """

    zeta: np.ndarray
    value: np.ndarray
    bend: Bend

    @classmethod
    def of(cls, sides: tuple[Branch, ...]) -> "Curve":
        """Join two sides, without points that do not go on."""
        below, above = sides
        stands = [*below.stands[:0:-1], *above.stands]
        kept = [stands[0]]
        for p in stands[1:]:
            if p.zeta > kept[-1].zeta + 1e-6 and p.value > kept[-1].value:
                kept.append(p)
        zeta, value = (np.array([getattr(p, k) for p in kept]) for k in ("zeta", "value"))
        return cls(zeta, value, below.walk.target.bend)

    def at(self, zeta: np.ndarray) -> np.ndarray:
        """Give the parameter at zeta; NaN beyond the ends."""
        if len(self.zeta) < 2:
            return np.full(np.shape(zeta), np.nan)
        s = self.bend.to(self.value)
        if not np.isfinite(s).all():
            return PchipInterpolator(self.zeta, self.value, extrapolate=False)(zeta)
        return self.bend.back(PchipInterpolator(self.zeta, s, extrapolate=False)(zeta))

    def zeta_at(self, value: np.ndarray) -> np.ndarray:
        """Give zeta at values of the parameter; NaN beyond the ends."""
        if len(self.zeta) < 2:
            return np.full(np.shape(value), np.nan)
        s = self.bend.to(self.value)
        if not np.isfinite(s).all():
            return PchipInterpolator(self.value, self.zeta, extrapolate=False)(value)
        return PchipInterpolator(s, self.zeta, extrapolate=False)(self.bend.to(value))


def profile(
    fit: ModeFit, parm: str | Sequence[str] | None = None, *, level: float = 0.99
) -> Profile:
    """
    Follow the profile of the likelihood by each parameter, to both sides of the maximum.

    Parameters
    ----------
    fit
        By `"ml"`, with `nagq` if it was used; or by `"reml"`: then the likelihood itself is
        profiled, about its own maximum, as in lme4, for the restricted one says nothing of the
        coefficients. By `"map"` the likelihood times the priors is profiled: see Notes.
    parm
        Names as in `confint`; all by default.
    level
        How far: as far as regions of two parameters with this probability reach.

    Returns
    -------
    Profile

    Raises
    ------
    NotSupportedError
        If the fit has no likelihood, or no proper maximum.
    UnknownNameError
        If a name is not known.

    Warns
    -----
    ConvergenceWarning
        If a profile passes a higher maximum than the fit's, or cannot be followed.

    Notes
    -----
    Each point is a maximisation where one parameter is held, by its exact gradient and from the
    point before. Standard deviations are walked along by their logarithm, correlations by their
    angle, so that zero and plus or minus one can be reached. Bates et al. (2015), J. Stat. Softw.
    67(1), section 5; Venzon & Moolgavkar (1988), Applied Statistics 37, 87-94.

    Of a fit by `"map"` these are intervals of a penalised likelihood, as of blme: the values of
    which the log likelihood plus the priors' log density, on the scale on which no parameter has an
    end, falls by less than the quantile from its maximum. Without information from the priors they
    are those of the likelihood. They are no posterior intervals: other parameters are at their
    best, and not integrated out; `fit.sample()` gives those.
    """
    farthest = float(np.sqrt(chdtri(2, 1 - checked_level(level))))
    stops = [*np.arange(STEP, farthest - STEP / 2, STEP), farthest]

    def go(branch: Branch) -> None:
        for stop in stops:
            branch.reach(stop, SLACK)

    maximum, branches, notes = _followed(fit, parm, go)
    return Profile(_table(maximum, branches), maximum, branches, notes)


def profile_intervals(
    fit: ModeFit, *, level: float = 0.95, parm: str | Sequence[str] | None = None
) -> pd.DataFrame:
    """
    Give the values of each parameter that a likelihood-ratio test at `1 - level` does not reject.

    Returns
    -------
    DataFrame
        `estimate, lower, upper` by name. An end at which the parameter's support ends, such as
        zero or infinity, says that the likelihood does not fall enough before it. An end that
        could not be found is NaN. The estimates are those of the maximum likelihood, also of a
        fit by `"reml"`. `attrs["notes"]` has what is to be known.
    """
    z = float(ndtri(0.5 + checked_level(level) / 2))
    maximum, branches, notes = _followed(fit, parm, lambda branch: branch.reach(z))
    found = _intervals(branches, level)
    found.attrs["notes"] = notes
    return found


# ---- following


def _followed(
    fit: ModeFit, parm: str | Sequence[str] | None, go: Callable[[Branch], None]
) -> tuple[ModeFit, dict[str, tuple[Branch, ...]], tuple[str, ...]]:
    """Give the maximum, the branches of each parameter that is not held, and notes."""
    maximum = fit if fit.method == "map" else of_likelihood(fit)
    _check_proper(maximum)
    mode, labels = maximum.mode, outer_names(maximum)
    names = chosen_names(parm, labels)
    branches: dict[str, tuple[Branch, ...]] = {}
    with one_thread(), np.errstate(all="ignore"):
        penalty = LogPrior(mode.coordinates) if fit.method == "map" else None
        surface = surface_of(mode, maximum.options.get("nagq", 1), penalty)
        spread = spread_of(mode)
        for name, target in zip(labels, targets_of(mode.coordinates, mode.x), strict=True):
            if name not in names or target is None:
                continue
            walk = Walk(surface.holding(target.row), target, mode.x, spread)
            branches[name] = tuple(Branch(walk, side) for side in SIDES)
            for branch in branches[name]:
                go(branch)
    notes = tuple(_notes(fit, branches))
    for words in _alarming(branches):
        warnings.warn(words, ConvergenceWarning, stacklevel=4)
    return maximum, {name: branches[name] for name in names if name in branches}, notes


def of_likelihood(fit: ModeFit) -> ModeFit:
    """
    Give the maximum of the likelihood, which that of the restricted one is not.

    Raises
    ------
    NotSupportedError
        If the fit is of something else than a likelihood, or there is no proper maximum.
    """
    if fit.method not in ("ml", "reml"):
        raise NotSupportedError(
            f"fit({fit.method!r}) does not maximise a likelihood, so there is none to profile; "
            f"use model.fit('ml'), or confint(method='wald')."
        )
    if fit.method == "reml":
        with warnings.catch_warnings():
            for category in (ConvergenceWarning, SingularFitWarning):
                warnings.simplefilter("ignore", category)
            fit = cast(ModeFit, fit.model.fit("ml", seed=fit.seed))
    _check_proper(fit)
    return fit


def _check_proper(fit: ModeFit) -> None:
    if not (fit.converged and fit.mode.determined):
        raise NotSupportedError(
            "The likelihood has no proper maximum here, so there is nothing to profile from: "
            "fit.diagnostics() says why; give the model priors and use fit('map') or fit('nuts')."
        )


def _notes(fit: ModeFit, branches: Mapping[str, tuple[Branch, ...]]) -> Iterator[str]:
    if fit.method == "reml":
        yield (
            "The likelihood is profiled, not the restricted likelihood that the fit maximised; "
            "the estimates are those of maximum likelihood."
        )
    if fit.method == "map":
        yield "The likelihood times the priors is profiled: intervals of a penalised likelihood."
    for name, sides in branches.items():
        if all(branch.end == FLAT for branch in sides):
            yield f"The likelihood is the same for every value of {name}: it says nothing of it."
        if all(branch.end == FIXED for branch in sides):
            value = sides[0].stands[0].value
            yield f"{name} can only be {value:.4g}: the structure leaves it no other value."
    yield from _alarming(branches)


def _alarming(branches: Mapping[str, tuple[Branch, ...]]) -> Iterator[str]:
    for name, sides in branches.items():
        higher = max(branch.walk.higher for branch in sides)
        if higher:
            yield (
                f"The profile of {name} passes a likelihood that is higher than the fit's by "
                f"{higher:.2g}: the fit is not the highest maximum, and the intervals around it "
                f"are too short."
            )
        for branch in sides:
            if branch.end == LOST:
                way = "above" if branch.side > 0 else "below"
                at = branch.stands[-1].value
                yield (
                    f"The profile of {name} could not be followed {way} {at:.4g}: there is no "
                    f"maximum of the other parameters to be found."
                )


# ---- reading off


def _intervals(branches: Mapping[str, tuple[Branch, ...]], level: float) -> pd.DataFrame:
    z = float(ndtri(0.5 + checked_level(level) / 2))
    rows = {
        name: [sides[0].stands[0].value, *(end_of(branch, z) for branch in sides)]
        for name, sides in branches.items()
    }
    columns = ["estimate", "lower", "upper"]
    found = pd.DataFrame.from_dict(rows, orient="index", columns=columns, dtype=float)
    return found.rename_axis("name")


def end_of(branch: Branch, zeta: float) -> float:
    """Give where |zeta| is that large; the support's end where it never is, NaN if not known."""
    stands = sorted(branch.stands, key=lambda p: abs(p.zeta))
    below = [p for p in stands if abs(p.zeta) < zeta]
    beyond = [p for p in stands if abs(p.zeta) >= zeta]
    if branch.end in (FLAT, FIXED) or (branch.end == BOUND and not beyond):
        return branch.bound
    if beyond and not np.isfinite(beyond[0].s):
        # Towards an edge at zero the parameter itself is the better scale.
        share = (zeta - abs(below[-1].zeta)) / (abs(beyond[0].zeta) - abs(below[-1].zeta))
        return below[-1].value * (1 - share)
    one, *others = [p for p in (*beyond[:1], *below[:-3:-1]) if np.isfinite(p.s)]
    if not others or not (beyond or zeta - abs(below[-1].zeta) < SLACK):
        return np.nan
    back = branch.walk.target.bend.back
    return float(back(between(others[0], one, branch.side * zeta)))


def _table(fit: ModeFit, branches: Mapping[str, tuple[Branch, ...]]) -> pd.DataFrame:
    labels, parts = outer_names(fit), []
    for name, (below, above) in branches.items():
        stands: list[Stand] = [*below.stands[:0:-1], *above.stands]
        draws = fit.mode.at(np.stack([p.x for p in stands]))
        values = np.column_stack(list(outer_values(fit.model, draws).values()))
        part = pd.DataFrame(values, columns=labels)
        part[name] = [p.value for p in stands]
        part.insert(0, "zeta", [p.zeta for p in stands])
        part.insert(0, "name", name)
        parts.append(part)
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["name", "zeta"])
