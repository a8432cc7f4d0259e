"""Where searches for a mixture's maximum start: at what rough divisions of the rows come to."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import permutations

import numpy as np
from scipy.special import logsumexp

from glmm_bayes.model import Model
from glmm_bayes.modes.reading import centred_columns, first_coefficients, first_eta

STEPS = 40  # of expectation and maximisation, from each division
KEPT = 4  # of what these come to
SHUFFLED = 6  # divisions at random, the same every time
RAREST = 0.02  # a component's share
NARROWEST = 0.05  # a component's residuals, as a share of all rows'
MOST_ORDERS = 6  # in which components of different families are tried

type Division = np.ndarray  # (n, K), rows sum to 1


@dataclass(frozen=True, eq=False)
class Rough:
    """
    Normal regressions of a guess of the predictors, mixed.

    Attributes
    ----------
    gamma
        By component, `(k,)` of the centred columns.
    sigma, share
        `(K,)`.
    height
        The log likelihood of the guess.
    """

    gamma: tuple[np.ndarray, ...]
    sigma: np.ndarray
    share: np.ndarray
    height: float

    def ordered(self, order: Sequence[int]) -> "Rough":
        """Put the components in another order."""
        at = list(order)
        gamma = tuple(self.gamma[k] for k in at)
        return Rough(gamma, self.sigma[at], self.share[at], self.height)


def coefficient_starts(model: Model) -> list[list[np.ndarray]]:
    """
    Give starts of every predictor's coefficients, and of the constants on their link's scale.

    One, but of a mixture, whose likelihood has many maxima, several; the likeliest first.

    Notes
    -----
    The predictors as iterated least squares guess them from each response are taken for normal,
    and divided by EM from rows ranked, and dealt out at random.
    """
    first = first_coefficients(model)
    if model.family.mixed is None:
        return [first]
    return [_coefficients(model, first, rough) for rough in _rough_starts(model)]


def _rough_starts(model: Model) -> list[Rough]:
    mixed = model.family.mixed
    assert mixed is not None
    guess = np.stack([_guess(model, name) for name in mixed.means])
    X = [centred_columns(model, name) for name in mixed.means]
    weights = model.design.response.weights
    w = np.ones(model.nobs) if weights is None else np.asarray(weights, float)
    same = len({model.design.predictors[name].names for name in mixed.means}) == 1
    orders = list(permutations(range(len(X))))[:MOST_ORDERS]
    found = _best(guess, X, w, orders[:1] if same else orders)[:KEPT]
    within = _within_levels(model, guess, X[0], w)
    if within is not None:
        # Rows may differ by their groups, or within these.
        found = _best(within, X, w, orders[:1] if same else orders)[:KEPT] + found[: KEPT // 2]
    if same and mixed.alike:
        return [rough.ordered(_rising(X, rough)) for rough in found]
    if same:
        return [rough.ordered(order) for rough in found[: KEPT // 2] for order in orders]
    return found


def _best(
    guess: np.ndarray, X: Sequence[np.ndarray], w: np.ndarray, orders: Sequence[Sequence[int]]
) -> list[Rough]:
    """Climb from every division in some orders, and put what is not the same by height."""
    found: list[Rough] = []
    tried = [
        _climbed(guess, X, w, division[:, order])
        for division in _divisions(guess[0], X[0], w, len(X))
        for order in orders
    ]
    for rough in sorted(tried, key=lambda r: -r.height):
        if not any(_alike(rough, other) for other in found):
            found.append(rough)
    return found


def _within_levels(
    model: Model, guess: np.ndarray, X: np.ndarray, w: np.ndarray
) -> np.ndarray | None:
    """Take off the guess `(K, n)` what the levels of random terms have in common, if any."""
    mixed, found = model.family.mixed, guess
    assert mixed is not None
    for term in model.design.terms:
        of_mean = any(loading.param in mixed.means for loading in term.loadings)
        if of_mean and term.index.shape[1] == 1:
            level = term.index[:, 0]
            residual = found[0] - X @ _least_squares(X, found[0], w)
            size = np.bincount(level, w)
            effect = np.bincount(level, w * residual) / (size + 1)
            found = found - effect[level]
    return None if found is guess else found


def _guess(model: Model, param: str) -> np.ndarray:
    """Guess a component's predictor `(n,)`, less its offset, as if all rows were of it."""
    mixed = model.family.mixed
    assert mixed is not None
    part = replace(model.observed[0], family=mixed.means[param])
    eta = first_eta(part, model.links[param]) - model.design.predictors[param].offset
    return np.where(np.isfinite(eta), eta, np.median(eta[np.isfinite(eta)]))


def _divisions(guess: np.ndarray, X: np.ndarray, w: np.ndarray, K: int) -> Iterator[Division]:
    """Divide the rows by rank of the guess, of what columns leave of it, and of products."""
    residual = guess - X @ _least_squares(X, guess, w)
    ranked = [residual, guess, np.abs(residual)]
    ranked += [residual * (x - x.mean()) for x in X.T if np.ptp(x) > 0]
    rng = np.random.default_rng(1)
    ranked += [rng.uniform(size=len(guess)) for _ in range(SHUFFLED)]
    for values in ranked:
        kind = np.argsort(np.argsort(values, kind="stable"), kind="stable") * K // len(values)
        yield np.where(kind[:, None] == np.arange(K), 0.9, 0.1 / max(K - 1, 1))


def _least_squares(X: np.ndarray, y: np.ndarray, w: np.ndarray) -> np.ndarray:
    root = np.sqrt(w)
    return np.linalg.lstsq(X * root[:, None], y * root, rcond=None)[0]


def _climbed(
    guess: np.ndarray, X: Sequence[np.ndarray], w: np.ndarray, division: Division
) -> Rough:
    K = division.shape[1]
    least = NARROWEST * max(float(np.std(guess[0])), 1e-8)
    for _ in range(STEPS):
        v = w[:, None] * division
        share = np.maximum(v.sum(axis=0) / w.sum(), RAREST)
        share = share / share.sum()
        gamma = tuple(_least_squares(X[k], guess[k], v[:, k]) for k in range(K))
        r = np.stack([guess[k] - X[k] @ gamma[k] for k in range(K)], axis=1)
        variance = (v * r * r).sum(axis=0) / np.maximum(v.sum(axis=0), 1e-12)
        sigma = np.maximum(np.sqrt(variance), least)
        logs = np.log(share) - np.log(sigma) - 0.5 * (r / sigma) ** 2
        total = logsumexp(logs, axis=1, keepdims=True)
        division = np.exp(logs - total)
    return Rough(gamma, sigma, share, float(w @ total[:, 0]))


def _alike(a: Rough, b: Rough) -> bool:
    return abs(a.height - b.height) < 1e-3 * (1 + abs(a.height))


def _rising(X: Sequence[np.ndarray], rough: Rough) -> list[int]:
    """Order the components by their predictors' means."""
    middle = [float((x @ gamma).mean()) for x, gamma in zip(X, rough.gamma, strict=True)]
    return [int(k) for k in np.argsort(middle, kind="stable")]


def _coefficients(model: Model, first: list[np.ndarray], rough: Rough) -> list[np.ndarray]:
    """Put the means, scales in the responses' unit and shares of a guess into a start."""
    mixed = model.family.mixed
    assert mixed is not None
    names = {p.name: k for k, p in enumerate(model.family.parameters)}
    found = list(first)
    for k, (mean, family) in enumerate(mixed.means.items()):
        found[names[mean]] = rough.gamma[k]
        for p in family.parameters[1:]:
            if p.scaled and model.links[mean].name == "identity":
                link = model.links[f"{p.name}{k + 1}"]
                level = float(link.linkfun(np.asarray(rough.sigma[k])))
                found[names[f"{p.name}{k + 1}"]] = _level(model, f"{p.name}{k + 1}", level)
    for k in range(1, len(rough.share)):
        name = f"theta{k + 1}"
        odds = np.log(rough.share[k] / rough.share[0])
        if len(rough.share) == 2:
            odds = float(model.links[name].linkfun(np.asarray(rough.share[1])))
        found[names[name]] = _level(model, name, float(odds))
    return found


def _level(model: Model, param: str, level: float) -> np.ndarray:
    """Give coefficients `(k,)` with which a predictor is as level as it can be."""
    X = centred_columns(model, param)
    predictor = model.design.predictors.get(param)
    offset = 0.0 if predictor is None else predictor.offset
    return np.linalg.lstsq(X, np.full(len(X), level) - offset, rcond=None)[0]
