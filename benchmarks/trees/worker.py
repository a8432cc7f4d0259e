"""One phylogenetic model in a process of its own: fitted twice, the second time measured."""

import json
import sys
import time
from typing import Any

import glmm_bayes as gb
from benchmarks.processes import peak_bytes, processor_seconds
from benchmarks.trees.simulate import simulate

RESPONSES = {"gaussian": "y", "poisson": "count"}


def main(tips: int, family: str, method: str) -> dict[str, Any]:
    """Give seconds of processor and clock, from tree and table in memory to the estimates."""
    species = simulate(tips)
    formula = f"{RESPONSES[family]} ~ x + phylo(1 | species, tree)"
    # Compiles, and loads what is loaded once.
    small = simulate(500)
    tree = gb.Tree.from_newick(small.newick)
    gb.Model(formula, small.data, family, context={"tree": tree}).fit(method, seed=1).varcorr()
    tree = gb.Tree.from_newick(species.newick)
    cpu, wall = processor_seconds(), time.perf_counter()
    fit = gb.Model(formula, species.data, family, context={"tree": tree}).fit(method, seed=1)
    found = fit.varcorr()
    row = found.iloc[0]
    return {
        "cpu": processor_seconds() - cpu,
        "wall": time.perf_counter() - wall,
        "peak": peak_bytes(),
        "sd": float(row["estimate"]),
        "ess": float(found["ess_bulk"].min()) if "ess_bulk" in found else None,
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]), sys.argv[2], sys.argv[3])))
