"""What a recovery check keeps in its file, and what tells one check from another."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from glmm_bayes.draws import Draws
from glmm_bayes.model import Model
from glmm_bayes.priors import Prior
from glmm_bayes.verbs.kept_file import KeptFile, digest, model_words
from glmm_bayes.verbs.recovery_replicate import COLUMNS, Outcome

STUDY = "recovery"


def line_of(outcome: Outcome) -> dict[str, Any]:
    """Write a replicate."""
    return {
        "k": outcome.k,
        "status": outcome.status,
        "words": outcome.words,
        "elapsed": outcome.elapsed,
        "names": outcome.names,
        "numbers": outcome.numbers.tolist(),
    }


def outcomes_of(file: KeptFile) -> dict[int, Outcome]:
    """Read the replicates, by number."""
    return {line["k"]: _outcome(line) for line in file.lines}


def _outcome(line: Mapping[str, Any]) -> Outcome:
    numbers = np.array(line["numbers"], dtype=float).reshape(len(line["names"]), len(COLUMNS))
    words, names = tuple(line["words"]), tuple(line["names"])
    return Outcome(line["k"], line["status"], words, line["elapsed"], names, numbers)


def description(
    model: Model, method: str, options: Mapping[str, Any], known: Draws | None, seed: int
) -> dict[str, Any]:
    """
    Say which check this is: the model with its design and priors, method, source and seed.

    How many replicates are wanted, and how they are computed, makes no other check of it.
    """
    return {
        **model_words(model, options),
        "method": method,
        "source": "prior" if known is None else "a fit",
        "seed": seed,
        "priors": digest(repr([(b.name, *map(_exact, b.priors)) for b in model.blocks])),
        "draws": "" if known is None else digest(*_drawn_parts(known)),
    }


def _exact(prior: Prior) -> str:
    inside = {
        name: _exact(v) if isinstance(v, Prior) else v if v is None else np.asarray(v).tolist()
        for name, v in sorted(prior.arguments.items())
    }
    return f"{prior.distribution}{inside}"


def _drawn_parts(known: Draws) -> Iterator[Any]:
    for part in (known.beta, known.constants, known.theta):
        for name, values in part.items():
            yield from (name, values)
