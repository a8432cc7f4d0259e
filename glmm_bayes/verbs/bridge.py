"""The probability of the data given a model, from a posterior's draws: bridge sampling."""

from collections.abc import Callable

import numpy as np

from glmm_bayes.density import read_density
from glmm_bayes.draws import Draws, factors
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.engine.density.joint import Joint
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.model import Model
from glmm_bayes.posthoc.evidence import LOG_2PI, Evidence, prior_constant
from glmm_bayes.results import total_log_likelihood
from glmm_bayes.verbs.log_prior import outer_parameters

MOST = 4000  # draws that are used
ROUNDS, CLOSE = 1000, 1e-10  # of the fixed point, and of its log
SAME = 1e-6  # of log densities: between draws their gap is a constant

type LogDensity = Callable[[np.ndarray], np.ndarray]


def evidence_by_bridge(fit: PosteriorFit, *, seed: int) -> Evidence:
    """
    Estimate p(y) from the draws of all parameters and effects.

    Raises
    ------
    NotSupportedError
        If a prior has no finite mass, or effects do not determine their standard units.
    ConvergenceError
        If there are too few draws for their covariance.
    """
    model = fit.model
    joint = read_density(model, dict.fromkeys([term.name for term in model.design.terms], False))
    draws = _thinned(fit.draws)
    x = coordinates(model, joint, draws)
    constant = _constant(model, joint, draws, x)

    def log_density(points: np.ndarray) -> np.ndarray:
        return np.array([joint.value_and_gradient(point)[0] for point in points])

    with one_thread(), np.errstate(all="ignore"):
        value, error = bridged(x.reshape(draws.chains, -1, x.shape[1]), log_density, seed)
    how = f"bridge sampling of {x.shape[1]} dimensions"
    return Evidence(value + constant, error, how, reliable=True)


def _thinned(draws: Draws) -> Draws:
    length = draws.size // draws.chains
    step = max(1, -(-draws.size // MOST))
    at = np.arange(draws.size).reshape(draws.chains, length)[:, ::step]
    found = draws.thinned(at.ravel())
    return Draws(found.beta, found.constants, found.theta, found.effects, draws.chains)


def coordinates(model: Model, joint: Joint, draws: Draws) -> np.ndarray:
    """
    Put draws on the scale on which no parameter has ends, effects in standard units: `(S, size)`.

    Raises
    ------
    NotSupportedError
        If effects are fewer than their standard units, as those of reduced rank.
    """
    parts = [joint.outer.unconstrain(outer_parameters(model, draws))]
    for term in model.design.terms:
        b, Lambda = draws.effects[term.name], factors(term, draws.theta)
        try:
            v = np.linalg.solve(Lambda[:, None], b[..., None])[..., 0]
        except np.linalg.LinAlgError as error:
            raise NotSupportedError(
                f"The effects of {term.text!r} have a singular covariance, of which draws cannot "
                f"be bridged; loo() and kfold() compare predictions."
            ) from error
        parts.append(v.reshape(draws.size, -1))
    return np.concatenate(parts, axis=1)


def _constant(model: Model, joint: Joint, draws: Draws, x: np.ndarray) -> float:
    """
    Give what the density on arrays lacks of the one with every constant, at a few draws.

    Raises
    ------
    NotSupportedError
        If it depends on the draw: then the densities are not those of one model.
    """
    at = np.linspace(0, draws.size - 1, 3).astype(int)
    some, outer, gaps = draws.thinned(at), joint.outer, []
    likelihood, priors = total_log_likelihood(model, some), prior_constant(model, outer)
    for row, whole in zip(x[at], likelihood, strict=True):
        theta = outer.constrain(row[: outer.size])
        full = whole + outer.log_prior(theta)[0] + priors
        full += outer.jacobian(row[: outer.size], theta)[0]
        for term in joint.effects:
            full += term.prior_and_b(row, theta, term.factor(theta))[0]
            full -= 0.5 * term.q * term.p * LOG_2PI if term.shape is None else 0.0
        gaps.append(full - joint.value_and_gradient(row)[0])
    if not np.ptp(gaps) <= SAME * (1 + abs(gaps[0])):
        raise NotSupportedError(
            f"The density on arrays and the model's differ by {np.ptp(gaps):.3g} between draws, "
            f"where they should differ by a constant: the data's probability is not known."
        )
    return float(np.mean(gaps))


def bridged(x: np.ndarray, log_density: LogDensity, seed: int) -> tuple[float, float]:
    """
    Estimate the log of the integral of a density from draws, and its standard error.

    Parameters
    ----------
    x
        `(C, D, d)` chains of draws; the first half of each decides the normal that is bridged
        to, the other half is compared with as many draws from that.
    log_density
        Of points `(S, d)`, up to the constant that is estimated.

    Raises
    ------
    ConvergenceError
        If there are too few draws for their covariance, or no fixed point is found.

    Notes
    -----
    The optimal bridge function of Meng & Wong (1996), Statistica Sinica 6, 831-860, by iteration;
    the error of Frühwirth-Schnatter (2004), Econometrics J. 7, 143-167, with the effective number
    of draws: Gronau et al. (2017), J. Math. Psychology 81, 80-97.
    """
    from arviz_stats.base import array_stats

    half, d = x.shape[1] // 2, x.shape[2]
    first, second = x[:, :half].reshape(-1, d), x[:, half:]
    if len(first) < 4 * (d + 1):
        raise ConvergenceError(
            f"{len(first)} draws are too few to bridge {d} dimensions; use at least {8 * (d + 1)}."
        )
    mean, root = first.mean(axis=0), np.linalg.cholesky(np.atleast_2d(np.cov(first.T)))
    own = second.reshape(-1, d)
    z = np.random.default_rng(seed).standard_normal(own.shape)

    def over(points: np.ndarray, z: np.ndarray) -> np.ndarray:
        constant = -0.5 * d * LOG_2PI - np.log(np.diag(root)).sum()
        return log_density(points) - constant + 0.5 * np.square(z).sum(axis=1)

    at_draws = over(own, np.linalg.solve(root, (own - mean).T).T)
    at_normals = over(mean + z @ root.T, z)
    at_normals[np.isnan(at_normals)] = -np.inf
    middle = float(np.median(at_draws))
    a, b = at_draws - middle, at_normals - middle
    worth = float(array_stats.ess(a.reshape(second.shape[:2]), method="mean"))
    s1 = worth / (worth + len(b))
    r = _fixed_point(a, b, s1)
    f1 = 1 / (s1 * np.exp(a - r) + 1 - s1)
    f2 = 1 / (s1 + (1 - s1) * np.exp(r - b))
    independent = float(array_stats.ess(f1.reshape(second.shape[:2]), method="mean"))
    variance = f2.var() / f2.mean() ** 2 / len(b) + f1.var() / f1.mean() ** 2 / independent
    return r + middle, float(np.sqrt(variance))


def _fixed_point(a: np.ndarray, b: np.ndarray, s1: float) -> float:
    """Iterate the log of the ratio of integrals, at log ratios of draws and of normals."""
    r = 0.0
    for _ in range(ROUNDS):
        above = np.mean(1 / (s1 + (1 - s1) * np.exp(r - b)))
        below = np.mean(1 / (s1 * np.exp(a - r) + 1 - s1))
        new = r + float(np.log(above / below))
        if abs(new - r) < CLOSE * (1 + abs(new)):
            return new
        r = new
    raise ConvergenceError(
        f"Bridge sampling did not settle in {ROUNDS} rounds (last change {new - r:.2g}): draws and "
        f"normals hardly overlap; use more draws."
    )
