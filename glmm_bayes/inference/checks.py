"""What methods ask of their options."""

from typing import Any

import numpy as np

from glmm_bayes.errors import UnknownNameError


def check_counts(least: int, **counts: Any) -> None:
    """
    Refuse what is not a whole number of at least `least`.

    Raises
    ------
    UnknownNameError
        Naming the option and its value.
    """
    for name, value in counts.items():
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        if not whole or value < least:
            raise UnknownNameError(f"{name}={value!r} must be a whole number of at least {least}.")


def chosen_seed(seed: int | None) -> int:
    """Give the seed, or a fresh one."""
    if seed is None:
        return int(np.random.SeedSequence().generate_state(1)[0])
    check_counts(0, seed=seed)
    return seed
