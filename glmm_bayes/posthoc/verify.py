"""Whether the density that is sampled is the model's: looked at before every run."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from glmm_bayes.engine.polynomials.surrogate import Surrogate
from glmm_bayes.errors import ConvergenceError, NotSupportedError
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.marginal import MarginalPosterior
from glmm_bayes.posthoc.outer import OuterPosterior
from glmm_bayes.posthoc.target import Around
from glmm_bayes.results import total_log_likelihood

POINTS = 3
SAME = 1e-7  # of the log likelihood


@dataclass(frozen=True, eq=False)
class Points:
    """Some draws of everything, with the engine's log likelihood at each."""

    psi: list[np.ndarray] = field(default_factory=list)
    gamma: list[np.ndarray] = field(default_factory=list)
    effects: list[list[np.ndarray]] = field(default_factory=list)
    ours: list[float] = field(default_factory=list)

    def add(
        self, psi: np.ndarray, gamma: np.ndarray, effects: list[np.ndarray], ours: float
    ) -> None:
        """Take one in."""
        self.psi.append(psi)
        self.gamma.append(gamma)
        self.effects.append(effects)
        self.ours.append(ours)

    def compare(self, posterior: OuterPosterior) -> float:
        """
        Compare with the design's log likelihood.

        They may differ by a constant: the engine leaves out what no parameter is in.

        Returns
        -------
        float
            What the engine leaves out.

        Raises
        ------
        ConvergenceError
            If there are no points.
        NotSupportedError
            If they do not agree.
        """
        if not self.psi:
            raise ConvergenceError("The posterior cannot be evaluated around its mode.")
        effects = [np.stack(b)[None] for b in zip(*self.effects, strict=True)]
        drawn = Drawn(np.stack(self.psi)[None], np.stack(self.gamma)[None], effects, {})
        draws, _ = drawn.named(posterior)
        theirs = total_log_likelihood(posterior.model, draws)
        left_out = theirs - np.array(self.ours)
        gap = float(np.ptp(left_out))
        if not gap <= SAME * (1.0 + np.abs(theirs).max()):
            raise NotSupportedError(
                f"The density on arrays and the model's differ by {gap:.3g} between draws, where "
                f"they should differ by a constant; use fit('nuts')"
            )
        return float(left_out.mean())


def verify(around: Around, surrogate: Any) -> float:
    """
    Compare the rows' log likelihood at a few draws around a mode with that of the design.

    Gives what the rows' lacks: see `Points.compare`.

    Raises
    ------
    ConvergenceError, NotSupportedError
        See `Points.compare`.
    """
    rng, points = np.random.default_rng(0), Points()
    psi, _ = surrogate.sample(rng, POINTS)
    setting = around.settings(psi)
    for i in range(POINTS):
        frame = setting(i)
        if frame is None:
            continue
        (G, k), Q = frame.shapes
        at = frame.place(frame.part(rng.standard_normal((G, k))), rng.standard_normal(Q))
        points.add(psi[i], at.gamma, frame.effects(at), float(at.values.sum()))
    return points.compare(around.target)


def verify_marginal(posterior: MarginalPosterior, surrogate: Surrogate) -> float:
    """
    Compare what Bayes' rule makes of a marginal density with the design's log likelihood.

    At draws of everything, log p(y | b, gamma) is log p(y) + log p(b, gamma | y) less the log
    density of b and gamma; without the constants of the normal densities. Gives what it lacks: see
    `Points.compare`.

    Raises
    ------
    NotSupportedError
        See `Points.compare`.
    """
    rng, points = np.random.default_rng(0), Points()
    psi, _ = surrogate.sample(rng, POINTS)
    _, sigma, Lambdas, _ = posterior.parameters(psi)
    latent = posterior.latent
    for i in range(POINTS):
        own = [L[i] for L in Lambdas]
        found = posterior.collapsed.solved(float(sigma[i]), own)
        zu, zx = rng.standard_normal(latent.size), rng.standard_normal(len(found.gamma))
        v, gamma = found.draw(zu, zx)
        given = 0.5 * found.factor.log_determinant - len(zx) * np.log(sigma[i])
        given -= 0.5 * (float(zu @ zu) + float(zx @ zx))
        prior = posterior.stand_in.log_density(gamma) - 0.5 * float(v @ v)
        points.add(psi[i], gamma, list(latent.effects(v, own)), found.value + given - prior)
    return points.compare(posterior)
