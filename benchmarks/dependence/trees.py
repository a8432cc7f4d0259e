"""Trees of any size and traits that evolved along them, from a seed."""

from dataclasses import dataclass

import numpy as np
import pandas as pd

SEED = 20261125
SD, SIGMA = 0.6, 0.5


@dataclass(frozen=True)
class Species:
    """A tree as Newick text, and one row for each of its tips."""

    newick: str
    data: pd.DataFrame


def simulate(tips: int, seed: int = SEED) -> Species:
    """Let lineages join at random, from the present back, and a trait walk along them."""
    rng = np.random.default_rng(seed)
    text = [f"t{k}" for k in range(tips)]
    begun, members = np.zeros(tips), [[k] for k in range(tips)]
    walk, alive, now = np.zeros(tips), list(range(tips)), 0.0
    while len(alive) > 1:
        now += rng.exponential(1 / len(alive))
        i, j = (alive.pop(rng.integers(len(alive))) for _ in range(2))
        for k in (i, j):
            walk[members[k]] += rng.normal(0, np.sqrt(now - begun[k]))
        text[i] = f"({text[i]}:{now - begun[i]:.12g},{text[j]}:{now - begun[j]:.12g})"
        members[i] += members[j]
        begun[i] = now
        alive.append(i)
    x, b = rng.standard_normal(tips), SD * walk / np.sqrt(now)
    y = 1 + 0.5 * x + b + rng.normal(0, SIGMA, tips)
    count = rng.poisson(np.exp(0.5 + 0.3 * x + b))
    data = pd.DataFrame({"species": [f"t{k}" for k in range(tips)], "x": x, "y": y, "count": count})
    return Species(f"{text[alive[0]]};", data)
