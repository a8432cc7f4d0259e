"""One field by gpboost: arguments are the covariance, the table to measure and a small one."""

import json
import sys
import time
from typing import Any

import gpboost
import numpy as np
import pandas as pd


def fitted(covariance: str, data: pd.DataFrame) -> Any:
    model = gpboost.GPModel(
        gp_coords=data[["east", "north"]].to_numpy(),
        cov_function=covariance,
        likelihood="poisson",
        gp_approx="none",
    )
    X = np.column_stack([np.ones(len(data)), data["x"]])
    model.fit(y=data["count"].to_numpy(float), X=X)
    return model


def main(covariance: str, large: str, small: str) -> dict[str, float]:
    fitted(covariance, pd.read_csv(small))
    data = pd.read_csv(large)
    cpu, wall = time.process_time(), time.perf_counter()
    model = fitted(covariance, data)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    variance = float(np.ravel(np.asarray(model.get_cov_pars()))[0])
    loglik = -float(model.get_current_neg_log_likelihood())
    return {"cpu": cpu, "wall": wall, "sd": variance**0.5, "loglik": loglik}


if __name__ == "__main__":
    print(json.dumps(main(*sys.argv[1:])))
