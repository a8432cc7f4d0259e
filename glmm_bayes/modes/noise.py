"""What is done about a likelihood that is estimated by random probes: more probes, and a word."""

from typing import Any


def sharpened(value: float, factor: Any) -> tuple[float, tuple[str, ...]]:
    """
    Give a log likelihood with a better estimate of its log |H|, and a note of its error.

    Parameters
    ----------
    value
        A log likelihood, in which -1/2 log |H| is by `factor`'s own estimate.

    Returns
    -------
    value, notes
        Where log |H| is exact, the value as it was, and no note.
    """
    if factor.log_determinant_error == 0.0:
        return value, ()
    better, error = factor.better_log_determinant()
    words = (
        f"So many levels meet that the effects' equations are solved by iterations and the "
        f"likelihood's determinant is estimated by random probes, the same in every fit: the log "
        f"likelihood has a Monte Carlo standard error of {0.5 * error:.2g}. Differences to other "
        f"models' likelihoods have it too."
    )
    return value - 0.5 * (better - factor.log_determinant), (words,)
