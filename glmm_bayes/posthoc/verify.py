"""Whether the density that is sampled is the model's: looked at before every run."""

from typing import Any

import numpy as np

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.posthoc.drawn import Drawn
from glmm_bayes.posthoc.target import Around
from glmm_bayes.results import log_likelihood

POINTS = 3
SAME = 1e-7  # of the log likelihood


def verify(around: Around, surrogate: Any) -> None:
    """
    Compare the engine's log likelihood with that of the design, at a few draws.

    They may differ by a constant: the engine leaves out what no parameter is in.

    Raises
    ------
    NotSupportedError
        If they do not agree.
    """
    rng = np.random.default_rng(0)
    psi, _ = surrogate.sample(rng, POINTS)
    setting, gamma, effects, ours, kept = around.settings(psi), [], [], [], []
    for i in range(POINTS):
        frame = setting(i)
        if frame is None:
            continue
        (G, k), Q = frame.shapes
        at = frame.place(frame.part(rng.standard_normal((G, k))), rng.standard_normal(Q))
        gamma.append(at.gamma)
        effects.append(frame.effects(at))
        ours.append(float(at.values.sum()))
        kept.append(psi[i])
    by_term = [np.stack(b)[None] for b in zip(*effects, strict=True)]
    draws, _ = Drawn(np.stack(kept)[None], np.stack(gamma)[None], by_term, {}).named(around.target)
    theirs = log_likelihood(around.target.model, draws)["y"].to_numpy().sum(axis=2)[0]
    gaps = theirs - np.array(ours)
    if not np.ptp(gaps) <= SAME * (1.0 + np.abs(theirs).max()):
        raise NotSupportedError(
            f"The density on arrays and the model's differ by {np.ptp(gaps):.3g} between draws, "
            f"where they should differ by a constant"
        )
