"""Say in words where the data hardly tell how far levels hang together."""

from collections.abc import Iterator

import numpy as np

from glmm_bayes.covariance import LevelCovariance
from glmm_bayes.draws import Draws
from glmm_bayes.terms import RandomTerm

TIED = 0.9  # correlation of log range and log sd, from which on they are known by their ratio
MOST = 0.5  # of the draws


def open_ranges(draws: Draws, terms: tuple[RandomTerm, ...]) -> tuple[str, ...]:
    """
    Look at the ranges of a model, and what is known of them.

    Parameters
    ----------
    draws
        Of a posterior, or of a maximum's normal approximation.
    """
    return tuple(words for term in terms for words in _of_term(draws, term))


def _of_term(draws: Draws, term: RandomTerm) -> Iterator[str]:
    structure = term.level_structure
    keys = [p.key for p in structure.parameters(len(term.levels))]
    sd = draws.theta.get(f"sd_{term.name}")
    if "range" not in keys or structure.lengths is None or sd is None:
        return
    found = draws.theta[f"range_{term.name}"].reshape(-1)
    sd = sd.reshape(len(found), -1)[:, 0]
    usable = np.isfinite(found) & (found > 0) & np.isfinite(sd) & (sd > 0)
    if usable.sum() < 3:
        return
    found, sd = found[usable], sd[usable]
    yield from _against_places(structure, found, term.text)
    logs = np.log([found, sd])
    if (logs.std(axis=1) > 0).all():
        r = float(np.corrcoef(logs)[0, 1])
        if abs(r) > TIED:
            known = "ratio" if r > 0 else "product"
            yield (
                f"range and sd of {term.text} are hardly known but for their {known}: their "
                f"logarithms have the correlation {r:.2f}. Predictions between the places do not "
                f"mind; do not read the two one by one, or give the range an informative prior."
            )


def _against_places(structure: LevelCovariance, found: np.ndarray, text: str) -> Iterator[str]:
    assert structure.lengths is not None
    extent, nearest = structure.lengths
    if np.mean(found > extent) > MOST:
        yield (
            f"The range of {text} is longer than the places lie apart ({extent:.3g}): the data say "
            f"only that it is long; a trend of the coordinates may do as well."
        )
    if np.mean(found < nearest) > MOST:
        yield (
            f"The range of {text} is shorter than what is usual between neighbouring places "
            f"({nearest:.3g}): the data say only that it is short, and independent levels may do "
            f"as well."
        )
    if np.mean(found < structure.finest) > MOST:
        yield (
            f"The range of {text} is shorter than its basis functions resolve "
            f"({structure.finest:.3g}): raise m, or take gp."
        )
