"""What a bootstrap keeps in its file, and what tells one bootstrap from another."""

from typing import Any

import numpy as np

from glmm_bayes.verbs.bootstrap_run import Block, Resampling
from glmm_bayes.verbs.kept_file import KeptFile, digest, model_words

STUDY = "bootstrap"


def line_of(block: Block) -> dict[str, Any]:
    """Write a block of replicates."""
    return {
        "block": block.number,
        "status": block.status,
        "words": block.words,
        "values": block.values.tolist(),
    }


def blocks_of(file: KeptFile, study: Resampling) -> list[Block]:
    """
    Read the blocks that are as long as the study wants them, cut where they are longer.

    A block's replicates do not depend on how many of it are wanted.
    """
    found = {line["block"]: line for line in sorted(file.lines, key=lambda p: len(p["status"]))}
    kept = []
    for number, line in found.items():
        size = study.of_block(number)
        if 0 < size <= len(line["status"]):
            values = np.array(line["values"], dtype=float).reshape(-1, len(study.names))
            status, words = tuple(line["status"][:size]), tuple(line["words"][:size])
            kept.append(Block(number, values[:size], status, words))
    return kept


def description(study: Resampling, kind: str, clusters: str | None) -> dict[str, Any]:
    """
    Say which bootstrap this is: the fit, how data are made anew, the statistic's names, the seed.

    How many replicates are wanted, and how they are computed, makes no other one of it.
    """
    response = study.model.design.response
    return {
        **model_words(study.model, study.options),
        "method": study.method,
        "kind": kind,
        "clusters": clusters,
        "names": list(study.names),
        "seed": study.seed,
        "size": study.size,
        "response": digest(response.y),
        # To six digits: another machine's maximum is the same but for the last ones.
        "fit": [float(f"{value:.6g}") for value in study.x],
    }
