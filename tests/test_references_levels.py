"""Levels that depend on each other, against fits of glmmTMB and nlme, and dense algebra in R."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb


@dataclass(frozen=True)
class Fit:
    """One fit of a case; `want` are parameters by kind, `label` says whose log likelihood it is."""

    case: str
    label: str
    formula: str
    table: Callable[[Path], tuple[pd.DataFrame, dict[str, Any]]]
    family: str = "gaussian"
    method: str = "ml"
    want: dict[str, float] = field(default_factory=dict)


def meuse(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    data = gb.load_dataset("meuse")
    return data.assign(
        lz=np.log(data["zinc"]),
        root=np.sqrt(data["dist"]),
        east=data["x"] / 1e3,
        north=data["y"] / 1e3,
    ), {}


def loaloa(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    data = gb.load_dataset("loaloa")
    return data.assign(ce1=data["elev1"] / 100, cn=(data["maxNDVI1"] - 0.8) * 10), {}


def scotlip(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    data = gb.load_dataset("scotlip")
    data = data.assign(aff=data["prop_ag"] / 10, loge=np.log(data["expected"]))
    return data, {"W": pd.read_csv(folder / "scotlip_adjacency.csv")}


def nc_sids(folder: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    data = gb.load_dataset("nc_sids")
    expected = data["BIR74"] * data["SID74"].sum() / data["BIR74"].sum()
    data = data.assign(pnw=data["NWBIR74"] / data["BIR74"], le=np.log(expected))
    return data, {"W": pd.read_csv(folder / "nc_sids_adjacency.csv")}


SCOT, SIDS = "cases ~ aff + offset(loge) + ", "SID74 ~ pnw + offset(le) + "
LOA = "cbind(npos, ntot - npos) ~ ce1 + cn + "
ZINC = "lz ~ root + "
FITS = [
    Fit("spat_meuse_gp", "exp_ML", ZINC + "exp(east + north | 1)", meuse),
    Fit("spat_meuse_gp", "exp_REML", ZINC + "exp(east + north | 1)", meuse, method="reml"),
    Fit("spat_meuse_gp", "gau_ML", ZINC + "gau(east + north | 1)", meuse),
    Fit("spat_meuse_gp", "matern1.5_ML", ZINC + "mat(east + north | 1)", meuse),
    Fit("spat_meuse_gp", "matern2.5_ML", ZINC + "mat(east + north | 1, nu=2.5)", meuse),
    Fit(
        "spat_meuse_gp",
        "gau_ML",
        ZINC + "gp(east, north)",
        meuse,
        want={"range": 0.217909684454972 / np.sqrt(2)},
    ),
    Fit(
        "spat_meuse_gp",
        "exp_ML",
        ZINC + "gp(east + north | 1, cov='exponential')",
        meuse,
        want={"range": 0.16979875796978},
    ),
    Fit(
        "spat_meuse_gp",
        "matern1.5_ML",
        ZINC + "gp(east, north, cov='matern32')",
        meuse,
        want={"range": 0.102351517184341 * np.sqrt(3)},
    ),
    Fit(
        "spat_meuse_gp",
        "matern2.5_ML",
        ZINC + "gp(east, north, cov='matern52')",
        meuse,
        want={"range": 0.0769591161136243 * np.sqrt(5)},
    ),
    Fit("cov_meuse_spatial", "gls_ML_spher_nugget", ZINC + "spherical(east + north | 1)", meuse),
    Fit(
        "cov_loaloa_binomial",
        "glmmTMB_exp_Laplace",
        LOA + "exp(longitude + latitude | 1)",
        loaloa,
        "binomial",
        want={"sd": np.exp(0.18440403374843), "range": np.exp(0.75976152640437) ** -1},
    ),
    Fit(
        "cov_loaloa_binomial",
        "glmmTMB_mat_Laplace",
        LOA + "mat(longitude + latitude | 1, nu='estimated')",
        loaloa,
        "binomial",
        want={"sd": np.exp(0.188407613333794), "nu": np.exp(-1.06922448462019)},
    ),
    Fit(
        "spat_scotlip_bym",
        "Laplace_ICAR_scaled",
        SCOT + "icar(1 | region, W)",
        scotlip,
        "poisson",
        want={"sd": 0.502062935216151},
    ),
    Fit("spat_scotlip_bym", "Laplace_BYM_scaled", SCOT + "bym2(1 | region, W)", scotlip, "poisson"),
    Fit(
        "spat_ncsids",
        "Laplace_ICAR_scaled",
        SIDS + "icar(1 | id, W)",
        nc_sids,
        "poisson",
        want={"sd": 0.283533610893344},
    ),
]


@pytest.mark.parametrize("fit", FITS, ids=lambda f: f"{f.label}-{f.formula}")
def test_maxima_are_those_of_the_references(
    fit: Fit, reference: Callable[[str], Any], shared_data: Path
) -> None:
    theirs = next(x for x in reference(fit.case)["fits"] if x["label"] == fit.label)
    data, context = fit.table(shared_data)
    ours = gb.Model(fit.formula, data, fit.family, context=context).fit(fit.method)
    assert ours.loglik == pytest.approx(theirs["logLik"], abs=1e-4)
    fixef = theirs["fixef"].get("cond", theirs["fixef"])
    for found, want in zip(ours.fixef()["estimate"], fixef.values(), strict=True):
        assert found == pytest.approx(want["estimate"], abs=2e-3 * want["se"])
    table = ours.varcorr().query("group != 'Residual'").set_index("kind")["estimate"]
    for kind, value in fit.want.items():
        assert table[kind] == pytest.approx(value, rel=1e-3)


def test_the_nile_s_level_is_a_random_walk(shared_data: Path) -> None:
    """Durbin & Koopman (2012), Time Series Analysis by State Space Methods, 2.2.2."""
    nile = gb.load_dataset("nile")
    fit = gb.Model("flow ~ rw1(year | 1)", nile).fit("reml")
    level, sigma = fit.varcorr()["estimate"]
    assert level**2 == pytest.approx(1469.1, rel=0.002)
    assert sigma**2 == pytest.approx(15099, rel=0.001)
