"""One model in a process of its own: fitted small, to compile, and then as large as asked for."""

import json
import sys
import time
from typing import Any

import glmm_bayes as gb
from benchmarks.dependence.cases import CASES, Case, Made
from benchmarks.processes import peak_bytes, processor_seconds

OPTIONS: dict[str, dict[str, Any]] = {
    "nuts": {"draws": 500, "tune": 300, "chains": 2, "cores": 1, "progressbar": False},
    "posthoc": {"cores": 1, "progressbar": False},
}


def fitted(case: Case, made: Made, method: str) -> Any:
    model = gb.Model(case.formula, made.data, case.family, context=made.context)
    return model.fit(method, seed=1, **OPTIONS.get(method, {}))


def main(name: str, size: int, method: str) -> dict[str, Any]:
    """Give seconds of processor and clock, from tables in memory to the estimates."""
    case = CASES[name]
    fitted(case, case.make(case.sizes[0]), method).varcorr()
    made = case.make(size)
    cpu, wall = processor_seconds(), time.perf_counter()
    fit = fitted(case, made, method)
    found = fit.varcorr()
    cpu, wall = processor_seconds() - cpu, time.perf_counter() - wall
    return {
        "cpu": cpu,
        "wall": wall,
        "peak": peak_bytes(),
        "sd": float(found["estimate"].iloc[0]),
        "ess": float(found["ess_bulk"].min()) if "ess_bulk" in found else None,
        "loglik": float(fit.loglik) if method == "ml" else None,
    }


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
