"""What a sampler around the mode has to say of itself, in words."""

from typing import Any

import numpy as np

from glmm_bayes.posthoc.target import Around

LARGE_SHIFT = 0.3  # posterior standard deviations
WORDS = {
    "outer": "parameters",
    "local": "parameters from where they are",
    "rotation": "rotations",
    "levels": "levels",
}


def told(around: Around, surrogate: Any, statistics: Any, asked: int) -> dict[str, str]:
    """Give the attributes `notes` and `problems` of a sampler's statistics, a sentence a line."""
    notes = [_acceptances(statistics), *_shifted(around)]
    problems = []
    done = statistics.sizes["draw"]
    if done < asked:
        problems.append(f"Interrupted: each chain has {done} of the {asked} draws asked for.")
    return {"notes": "\n".join(notes), "problems": "\n".join(problems)}


def _acceptances(statistics: Any) -> str:
    rates = ", ".join(
        f"{words} {float(np.nanmean(statistics[f'acceptance_{move}'])):.2f}"
        for move, words in WORDS.items()
        if f"acceptance_{move}" in statistics
    )
    return f"exact Metropolis-Hastings around the mode; acceptance of {rates}"


def _shifted(around: Around) -> list[str]:
    """Say how far the mode is from the mean, for each coefficient by its name."""
    shift = around.problem.corrected.shift
    if not len(shift):
        return []
    worst = int(np.argmax(np.abs(shift)))
    predictor = around.target.model.design.predictors["mu"]
    free = np.flatnonzero(np.isnan(around.target.coordinates.held[0]))
    far = abs(float(shift[worst]))
    words = (
        f"mean and mode differ by up to {far:.2f} posterior standard deviations "
        f"({predictor.names[free[worst]]}, at the predictors' means)"
    )
    if far > LARGE_SHIFT:
        words += ": Laplace's method, PQL and a normal at the mode are biased here"
    return [words]
