"""Families of categories without order: one, numbers of each, or shares; by a softmax of mu."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import gammaln

from glmm_bayes.arrays import NUMPY
from glmm_bayes.families.categories import Categories, Shares, select
from glmm_bayes.families.continuous import shape
from glmm_bayes.families.cuts import latent_link
from glmm_bayes.families.family import Array, Family, Parameter, Params, add_family, first, whole
from glmm_bayes.families.links import REAL
from glmm_bayes.families.ordinal import alike, is_category
from glmm_bayes.families.special import log_rising

NEAR_ONE = 1e-6  # that shares may sum to more or less

LINKS = {"logit": latent_link("logit")}
PHI = shape("phi")

type Problem = Callable[[Array, Array | None], tuple[int, str] | None]


def _logs(p: Params, names: Sequence[str], xp: Any) -> list[Any]:
    """Give the log probabilities: those of a softmax of 0 and the predictors."""
    eta = [0.0 * p[names[0]], *(p[name] for name in names)]
    total = eta[0]
    for other in eta[1:]:
        total = total + xp.softplus(other - total)
    return [value - total for value in eta]


def _probabilities(names: Sequence[str]) -> Callable[[Params], Array]:
    def probabilities(p: Params) -> Array:
        return np.exp(np.stack(np.broadcast_arrays(*_logs(p, names, NUMPY)), axis=-1))

    return probabilities


def _on_graph(p: Params, names: Sequence[str], xp: Any) -> Any:
    return xp.exp(xp.stack(alike(_logs(p, names, xp)), axis=-1))


@dataclass(frozen=True, eq=False)
class Counted:
    """Numbers of each category among `trials` `(…)`, with probabilities p `(…, K)`."""

    p: Array
    trials: Array

    def rvs(self, size: tuple[int, ...], random_state: Any = None) -> Array:
        """Draw numbers `(*size, K)`."""
        rng = np.random.default_rng(random_state)
        p = np.broadcast_to(self.p, (*size, self.p.shape[-1]))
        trials = np.broadcast_to(self.trials, size).astype(int)
        return rng.multinomial(trials, p / p.sum(axis=-1, keepdims=True))


@dataclass(frozen=True, eq=False)
class Proportions:
    """Shares of the categories, by Dirichlet's distribution with `alpha` `(…, K)`."""

    alpha: Array

    def rvs(self, size: tuple[int, ...], random_state: Any = None) -> Array:
        """Draw shares `(*size, K)`."""
        rng = np.random.default_rng(random_state)
        alpha = np.broadcast_to(self.alpha, (*size, self.alpha.shape[-1]))
        drawn = np.maximum(rng.standard_gamma(alpha), np.finfo(float).tiny)
        return drawn / drawn.sum(axis=-1, keepdims=True)


@dataclass(frozen=True, eq=False)
class Overdispersed:
    """Numbers of each category, whose probabilities vary by Dirichlet's distribution."""

    alpha: Array
    trials: Array

    def rvs(self, size: tuple[int, ...], random_state: Any = None) -> Array:
        """Draw numbers `(*size, K)`."""
        rng = np.random.default_rng(random_state)
        return Counted(Proportions(self.alpha).rvs(size, rng), self.trials).rvs(size, rng)


def _mean_names(labels: Sequence[str]) -> tuple[str, ...]:
    """Name the predictors of all categories but the first, without what names cannot have."""
    plain = [re.sub(r"\W", "", label) for label in labels[1:]]
    unique = len(set(plain)) == len(plain) and all(plain)
    return tuple(f"mu{text}" for text in (plain if unique else range(2, len(labels) + 1)))


def _nominal(
    name: str,
    stated: Callable[..., dict[str, Any]],
    *,
    others: tuple[Parameter, ...] = (),
    counted: bool = False,
) -> Family:
    """Make a family of which the rest is `stated(names, probabilities, K)`."""

    def made(labels: tuple[str, ...], link: str) -> Family:
        names = _mean_names(labels)
        means = tuple(Parameter(n, link, tuple(LINKS), REAL) for n in names)
        probabilities = _probabilities(names)
        return Family(
            name=name,
            parameters=(*means, *others),
            mean=probabilities,
            categories=Categories(
                labels=labels,
                parameters=names,
                links=LINKS,
                made=made,
                start=lambda shares: np.log(shares[1:] / shares[0]),
                counted=counted,
            ),
            **stated(names, probabilities, len(labels)),
        )

    return made(("a", "b", "c"), "logit")


def _categorical(names: Sequence[str], probabilities: Any, size: int) -> dict[str, Any]:
    return {
        "distribution": "Categorical",
        "arguments": lambda p, trials, xp: {
            "logit_p": xp.stack(alike(_logs(p, names, xp)), axis=-1)
        },
        "numeric": lambda p, trials: Shares(probabilities(p)),
        "core": lambda y, trials, p: select(_logs(p, names, NUMPY), y, NUMPY),
        "working": lambda y: 2.0 * (y == 1),
        "problem": is_category(size),
        "discrete": True,
    }


def _counts(y: Array, trials: Array | None) -> tuple[int, str] | None:
    given = (
        y if y.ndim == 2 else np.column_stack([y, np.zeros(len(y)) if trials is None else trials])
    )
    at = first(~whole(given).all(axis=1))
    return None if at is None else (at, "counts must be whole and not negative")


def _log_ratio(y: Array) -> Array:
    return np.log((y[:, 1] + 0.5) / (y[:, 0] + 0.5))


def _arrangements(y: Array, trials: Any) -> Array:
    return gammaln(trials + 1) - gammaln(y + 1).sum(axis=-1)


def _weighed(y: Array, logs: list[Any]) -> Any:
    found: Any = 0.0
    for k, log_p in enumerate(logs):
        found = found + y[..., k] * log_p
    return found


def _multinomial(names: Sequence[str], probabilities: Any, size: int) -> dict[str, Any]:
    return {
        "distribution": "Multinomial",
        "arguments": lambda p, trials, xp: {"n": trials, "p": _on_graph(p, names, xp)},
        "numeric": lambda p, trials: Counted(probabilities(p), trials),
        "core": lambda y, trials, p: _weighed(y, _logs(p, names, NUMPY)),
        "constant": _arrangements,
        "working": _log_ratio,
        "problem": _counts,
        "discrete": True,
        "needs_trials": True,
    }


def _shares(y: Array, trials: Array | None) -> tuple[int, str] | None:
    at = first(~((y > 0).all(axis=1) & (np.abs(y.sum(axis=1) - 1) < NEAR_ONE)))
    return None if at is None else (at, "shares must be positive and sum to one")


def _alpha(p: Params, names: Sequence[str]) -> list[Any]:
    return [p["phi"] * np.exp(log_p) for log_p in _logs(p, names, NUMPY)]


def _dirichlet_core(y: Array, p: Params, names: Sequence[str]) -> Any:
    found = gammaln(p["phi"])
    for k, alpha in enumerate(_alpha(p, names)):
        found = found + (alpha - 1) * np.log(y[..., k]) - gammaln(alpha)
    return found


def _dirichlet(names: Sequence[str], probabilities: Any, size: int) -> dict[str, Any]:
    def alpha(p: Params) -> Array:
        return np.asarray(p["phi"])[..., None] * probabilities(p)

    return {
        "distribution": "Dirichlet",
        "arguments": lambda p, trials, xp: {"a": _column(p["phi"], xp) * _on_graph(p, names, xp)},
        "numeric": lambda p, trials: Proportions(alpha(p)),
        "core": lambda y, trials, p: _dirichlet_core(y, p, names),
        "working": lambda y: np.log(y[:, 1] / y[:, 0]),
        "problem": _shares,
    }


def _dirichlet_multinomial(names: Sequence[str], probabilities: Any, size: int) -> dict[str, Any]:
    def alpha(p: Params) -> Array:
        return np.asarray(p["phi"])[..., None] * probabilities(p)

    def core(y: Array, trials: Any, p: Params) -> Any:
        found = -log_rising(trials, p["phi"])
        for k, each in enumerate(_alpha(p, names)):
            found = found + log_rising(y[..., k], each)
        return found

    return {
        "distribution": "DirichletMultinomial",
        "arguments": lambda p, trials, xp: {
            "n": trials,
            "a": _column(p["phi"], xp) * _on_graph(p, names, xp),
        },
        "numeric": lambda p, trials: Overdispersed(alpha(p), trials),
        "core": core,
        "constant": _arrangements,
        "working": _log_ratio,
        "problem": _counts,
        "discrete": True,
        "needs_trials": True,
    }


def _column(phi: Any, xp: Any) -> Any:
    return xp.stack([phi], axis=-1)


CATEGORICAL = add_family(_nominal("categorical", _categorical))
MULTINOMIAL = add_family(_nominal("multinomial", _multinomial, counted=True))
DIRICHLET = add_family(_nominal("dirichlet", _dirichlet, counted=True, others=(PHI,)))
DIRICHLET_MULTINOMIAL = add_family(
    _nominal("dirichlet_multinomial", _dirichlet_multinomial, counted=True, others=(PHI,))
)
