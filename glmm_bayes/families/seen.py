"""The family of rows that are seen through a view: as sets, within a window, with an error."""

from dataclasses import dataclass, fields, replace
from functools import partial
from typing import Any

import numpy as np

from glmm_bayes.arrays import NUMPY, graph
from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families.family import FAMILIES, Array, Family, Params
from glmm_bayes.families.special import log_complement
from glmm_bayes.families.stated import Stated, stated_arguments
from glmm_bayes.view import View


@dataclass(frozen=True, eq=False)
class Windowed:
    """A frozen distribution of what falls into (lower, upper]."""

    base: Any
    lower: Array
    upper: Array

    def cdf(self, y: Array) -> Array:
        """Give P(Y <= y)."""
        before, within = self._masses()
        return np.clip((self.base.cdf(y) - before) / within, 0.0, 1.0)

    def rvs(self, size: Any, random_state: np.random.Generator) -> Array:
        """Draw, by quantiles."""
        before, within = self._masses()
        return self.base.ppf(before + within * random_state.uniform(size=size))

    def _masses(self) -> tuple[Array, Array]:
        before = self.base.cdf(self.lower)
        return before, self.base.cdf(self.upper) - before


@dataclass(frozen=True, eq=False)
class Seen(Family):
    """A family whose rows are seen otherwise than each exactly; `trials` is then a `View`."""

    base: Family | None = None
    view: View | None = None

    @property
    def origin(self) -> Family:
        """The family whose rows these are."""
        assert self.base is not None
        return self.base

    def cdf(self, y: Array, params: Params, trials: Any) -> Array:
        """Give P(Y <= y); of a censored row, up to its set's end."""
        return self._up_to(y if trials is None else _ends(trials, y, trials.high), params, trials)

    def below(self, y: Array, params: Params, trials: Any) -> Array:
        """Give P(Y < y); of a censored row, up to where its set begins."""
        before = y - 1 if self.discrete else y
        return self._up_to(
            before if trials is None else _ends(trials, before, trials.low), params, trials
        )

    def _up_to(self, y: Array, params: Params, trials: Any) -> Array:
        assert self.numeric is not None
        return self.numeric(params, trials).cdf(y)


def _ends(view: View, y: Array, end: Array) -> Array:
    return np.where(view.exact, y, end)


def seen(base: Family, view: View) -> tuple[Family, View]:
    """
    Give the family of rows that are seen through a view, and the view on the family's own terms.

    Raises
    ------
    NotSupportedError
        If the family has no standard deviation to add an error to, or states no distribution
        function with derivatives.
    """
    needed = view.censored or view.truncated
    if needed and base.tails is None:
        able = ", ".join(name for name, family in FAMILIES.items() if family.tails is not None)
        raise NotSupportedError(
            f"The family {base.name!r} does not state its distribution function's derivatives, so "
            f"its rows cannot be censored or truncated; take one of {able}."
        )
    sigma = next((p for p in base.parameters if p.name == "sigma"), None)
    if view.error is not None and (sigma is None or not sigma.scaled):
        raise NotSupportedError(
            f"se(…) is a standard deviation in the response's unit, which the family {base.name!r} "
            f"does not have; take family='gaussian' or 'student'."
        )
    view = _on_its_support(base, view)
    kept = view.error is None or view.spread
    parameters = tuple(p for p in base.parameters if kept or p.name != "sigma")
    numeric = partial(_numeric, base, view)
    changes: dict[str, Any] = {
        "parameters": parameters,
        "distribution": Stated(base.name, partial(_on_graph, base, view), numeric, base.discrete),
        "arguments": stated_arguments,
        "numeric": numeric,
        "mean": None if base.mean is None else partial(_mean, base, view),
        "variance": None,
        "core": partial(_on_arrays, base, view),
        "score": None,
        "constant": lambda y, trials: 0.0,
        "by_mean": None,
        "natural": {},
        "deviance": None,
        "normal": False,
        "compiled": None,
    }
    known = {f.name: getattr(base, f.name) for f in fields(Family)}
    return Seen(**{**known, **changes}, base=base, view=view), view


def _on_its_support(base: Family, view: View) -> View:
    """Put ends that no response reaches at infinity; whole numbers just below a count's window."""
    lower, upper = view.lower, view.upper
    if base.discrete:
        lower, upper = np.ceil(lower) - 1, np.floor(upper)
    # A value that has a probability is in the window that begins with it.
    lower = np.where(np.isin(lower, base.atoms), np.nextafter(lower, -np.inf), lower)
    found: dict[str, Any] = {"lower": lower, "upper": upper, "low": view.low, "high": view.high}
    for name, end in found.items():
        outside = np.isfinite(end) & [base.problem(np.array([v]), None) is not None for v in end]
        found[name] = np.where(outside, -np.inf if name in ("lower", "low") else np.inf, end)
    # What a censored row may be is within its window.
    for name, meet, other in (("low", np.maximum, "lower"), ("high", np.minimum, "upper")):
        found[name] = np.where(view.exact, found[name], meet(found[name], found[other]))
    return replace(view, **found)


def _whole(base: Family, view: View, params: Params, xp: Any) -> dict[str, Any]:
    """Give the base's parameters: the error and sigma are one standard deviation."""
    if view.error is None:
        return dict(params)
    sigma = xp.sqrt(view.error**2 + params["sigma"] ** 2) if view.spread else view.error
    return {p.name: sigma if p.name == "sigma" else params[p.name] for p in base.parameters}


def _mean(base: Family, view: View, params: Params) -> Any:
    assert base.mean is not None
    return base.mean(dict(params) if view.error is None else {"sigma": 1.0, **params})


def _numeric(base: Family, view: View, params: Params, trials: Any) -> Any:
    """Freeze the distribution of rows with their own windows and errors."""
    if trials is None:
        trials = _alike(view)
    assert base.numeric is not None
    found = base.numeric(_whole(base, trials, params, np), None)
    return Windowed(found, trials.lower, trials.upper) if trials.truncated else found


def _alike(view: View) -> View:
    """Give the view of any row, for new ones."""
    ends = [a for a in (view.lower, view.upper, view.error) if a is not None]
    if any((a != a[:1]).any() for a in ends):
        raise NotSupportedError(
            "The rows' truncation or standard errors differ, and those of new rows are not known; "
            "ask for predictions of kind 'mean', or for simulations of the model's own rows."
        )
    one = view[:1]
    return replace(one, exact=np.array([True]))


def _on_graph(base: Family, view: View, y: Any, params: Params, trials: Any) -> Any:
    import pymc as pm

    def log_density(whole: Params) -> Any:
        return pm.logp(base.symbolic().dist(**base.symbolic_arguments(whole, None)), y)

    return _log_density(base, view, y, params, graph(), log_density)


def _on_arrays(base: Family, view: View, y: Array, trials: Any, params: Params) -> Any:
    given = view if trials is None else trials

    def log_density(whole: Params) -> Any:
        return base.kernel[0](y, None, whole) + base.constant(y, None)

    with np.errstate(all="ignore"):
        return _log_density(base, given, y, params, NUMPY, log_density)


def _log_density(
    base: Family, view: View, y: Any, params: Params, xp: Any, log_density: Any
) -> Any:
    whole = _whole(base, view, params, xp)
    found = log_density(whole)
    assert base.tails is not None or not (view.censored or view.truncated)
    if view.censored:
        inside = _log_inside(base, whole, view.low, view.high, y, xp)
        found = xp.where(view.exact, found, inside)
    if view.truncated:
        found = found - _log_inside(base, whole, view.lower, view.upper, y, xp)
    return found


def _log_inside(base: Family, params: Params, low: Array, high: Array, y: Any, xp: Any) -> Any:
    """Give log P(low < Y <= high), by the smaller of the two tails."""
    begins, ends = np.isfinite(low), np.isfinite(high)
    # Where there is no end any response will do: what is computed of it is not taken.
    assert base.tails is not None
    below_low, above_low = base.tails(xp.where(begins, low, y), params, xp)
    if not ends.any():
        return xp.where(begins, above_low, 0.0)
    below_high, above_high = base.tails(xp.where(ends, high, y), params, xp)
    both = begins & ends
    left = below_high < above_low
    of_left = xp.where(both, xp.where(left, below_low - below_high, -1.0), -1.0)
    of_right = xp.where(both, xp.where(left, -1.0, above_high - above_low), -1.0)
    between = xp.where(
        left, below_high + log_complement(of_left, xp), above_low + log_complement(of_right, xp)
    )
    one_sided = xp.where(ends, below_high, xp.where(begins, above_low, 0.0))
    return xp.where(both, between, one_sided)
