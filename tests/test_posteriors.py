"""Posteriors against long runs of brms and rstanarm, with the same priors."""

import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.verbs.tables import outer_draws, reliability

# Of some 60 comparisons, a standard normal passes this limit once in 1,500 runs.
LIMIT = 4.5


def normal(mu: float, sigma: float) -> gb.Prior:
    return gb.Prior("Normal", mu=mu, sigma=sigma)


def half(sigma: float) -> gb.Prior:
    return gb.Prior("HalfNormal", sigma=sigma)


def exponential(_: float = 1.0) -> gb.Prior:
    return gb.Prior("Exponential", lam=1.0)


SLEEP_PRIORS = {
    "beta[Days]": normal(0, 50),
    "beta[Intercept]": normal(250, 100),
    "sd_Subject[Days]": half(50),
    "sd_Subject[Intercept]": half(100),
    "sigma": half(100),
}
DEGREES = gb.Prior("Truncated", dist=gb.Prior("Gamma", alpha=2, beta=0.1), lower=1)


def cbpp(**priors: gb.Prior) -> gb.Model:
    data = gb.load_dataset("cbpp")
    return gb.Model(
        "incidence | trials(size) ~ period + (1 | herd)", data, "binomial", None, priors
    )


def culcita(**priors: gb.Prior) -> gb.Model:
    data = gb.load_dataset("culcita")
    return gb.Model("predation ~ ttt + (1 | block)", data, "bernoulli", None, priors)


def sleepstudy(family: str, **more: gb.Prior) -> gb.Model:
    data = gb.load_dataset("sleepstudy")
    priors = SLEEP_PRIORS | more
    return gb.Model("Reaction ~ Days + (Days | Subject)", data, family, None, priors)


def coral_acr() -> gb.Model:
    data = gb.load_dataset("coral_acr")
    data = data.assign(ctrsize=data["Previous.size"] - 1)
    used = ["Mortality", "PERIOD", "ctrsize", "Treatment", "Reef.size", "PR", "REEF"]
    data = data.dropna(subset=used)
    return gb.Model(
        "Mortality ~ PERIOD * ctrsize * Treatment + `Reef.size` + (1 | PR) + (1 | REEF)",
        data,
        "bernoulli",
        priors={"beta": normal(0, 31.6227766), "sd": gb.Prior("Uniform", lower=0, upper=20)},
    )


def grouseticks() -> gb.Model:
    data = gb.load_dataset("grouseticks")
    data = data.assign(ch=data["cHEIGHT"] / 100)
    return gb.Model(
        "TICKS ~ YEAR + ch + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        data,
        "poisson",
        priors={"intercept": normal(0, 5), "beta": normal(0, 5), "sd": exponential()},
    )


def salamanders() -> gb.Model:
    data = gb.load_dataset("salamanders")
    data = data.assign(mined=pd.Categorical(data["mined"], ["yes", "no"]))
    species = ["GP", "PR", "DM", "EC-A", "EC-L", "DES-L", "DF"]
    data["spp"] = pd.Categorical(data["spp"], species)
    priors = {
        "beta": normal(0, 2.5),
        "beta_zi": normal(0, 1.5),
        "intercept_zi": normal(-1, 1.5),
        "sd": half(1),
        "alpha": gb.Prior("Gamma", alpha=2, beta=0.5),
    }
    formulas = ["count ~ spp + mined + (1 | site)", "zi ~ mined"]
    return gb.Model(formulas, data, "zero_inflated_negbinomial", None, priors)


def wine() -> gb.Model:
    priors = {"beta": normal(0, 5), "thresholds": normal(0, 5), "sd": half(2)}
    data = gb.load_dataset("wine")
    return gb.Model("rating ~ temp + contact + (1 | judge)", data, "cumulative", None, priors)


CASES: dict[str, Callable[[], gb.Model]] = {
    "bayes_cbpp": lambda: cbpp(beta=normal(0, 2.5), sd=half(1)),
    "bayes_cbpp_rstanarm": lambda: cbpp(
        intercept=normal(0, 2.5), beta=normal(0, 2.5), sd=exponential()
    ),
    "bayes_culcita": lambda: culcita(beta=normal(0, 10), sd=half(5)),
    "bayes_culcita_rstanarm": lambda: culcita(
        intercept=normal(0, 10), beta=normal(0, 10), sd=exponential()
    ),
    "bayes_sleepstudy_slopes": lambda: sleepstudy("gaussian"),
    "bayes_sleepstudy_student": lambda: sleepstudy("student", nu=DEGREES),
    "bayes_coral_acr": coral_acr,
    "bayes_grouseticks_rstanarm": grouseticks,
    "bayes_salamanders_zinb": salamanders,
    "bayes_wine_ordinal": wine,
}


def scotlip(term: str, **more: gb.Prior) -> gb.Model:
    data = gb.load_dataset("scotlip")
    data = data.assign(aff=data["prop_ag"] / 10, loge=np.log(data["expected"]))
    W = pd.read_csv(Path(os.environ["GLMM_BAYES_DATA"]) / "scotlip_adjacency.csv")
    formula = f"cases ~ aff + offset(loge) + {term}"
    priors = {"beta": normal(0, 5), "sd": half(1)} | more
    return gb.Model(formula, data, "poisson", context={"W": W}, priors=priors)


def meuse() -> gb.Model:
    data = gb.load_dataset("meuse")
    data = data.assign(
        lz=np.log(data["zinc"]),
        sqrt_dist=np.sqrt(data["dist"]),
        east=data["x"] / 1e3,
        north=data["y"] / 1e3,
    )
    distance = gb.Prior("LogNormal", mu=np.log(0.2), sigma=0.7)
    priors = {"beta": normal(0, 10), "sd": half(1), "sigma": half(0.5)}
    priors["range_east:north"] = distance
    return gb.Model("lz ~ sqrt_dist + mat(east + north | 1)", data, priors=priors)


def nile() -> gb.Model:
    priors = {"beta": normal(900, 500), "sd": half(100), "sigma": half(200)}
    return gb.Model("flow ~ rw1(year | 1)", gb.load_dataset("nile"), priors=priors)


# Levels that depend on each other, by draws around the mode. The reference of the walk has its
# mean for the Intercept where ours is the first year's level, so that these are not compared.
BETWEEN: dict[str, tuple[Callable[[], gb.Model], set[str]]] = {
    "bayes_scotlip_bym2": (
        lambda: scotlip("bym2(1 | region, W)", rho=gb.Prior("Beta", alpha=1, beta=1)),
        set(),
    ),
    "bayes_scotlip_icar": (lambda: scotlip("icar(1 | region, W, scale=False)"), set()),
    "bayes_meuse_gp": (meuse, set()),
    "bayes_nile_rw1": (nile, {"beta[Intercept]"}),
}

# Its standard deviations of places and broods can hardly be told apart: some 5 effective draws a
# hundred, so that it takes minutes.
HARD = {"bayes_grouseticks_rstanarm"}


def mark(case: str) -> Any:
    slow = HARD | {"bayes_salamanders_zinb", "bayes_wine_ordinal"}
    return pytest.param(case, marks=pytest.mark.slow) if case in slow else case


def peers_name(name: str, known: dict[str, Any]) -> str:
    """Find the name that brms (`b_x`, `sd_g__x`, `cor_g__x__z`) or rstanarm has for ours."""
    kind, _, inside = name.partition("[")
    inside = inside.removesuffix("]")
    # brms writes M for a minus sign.
    plain = inside.replace("[T.", "").replace("]", "").replace("-", "M")
    group = kind.partition("_")[2]
    by_kind = {
        "beta": {f"b_{group}_{plain}"}
        if group
        else {f"b_{plain}", f"b_{inside}", plain, f"({plain})"},
        "alpha": {"shape"},
        "sd": {
            *("sdcar", "sd_field", "sd_rw1"),
            *(f"sd_{group}__{plain}", f"Sigma[{group}:(Intercept),(Intercept)]"),
        },
        "rho": {"rhocar"},
        "range": {"range"},
        "corr": {f"cor_{group}__{plain.replace(', ', '__')}"},
    }
    candidates = by_kind.get(kind.partition("_")[0], {kind})
    found = candidates & set(known)
    assert len(found) == 1, (name, sorted(known))
    return found.pop()


def monte_carlo_errors(draws: np.ndarray, chains: int) -> tuple[float, float]:
    """Give the errors of the mean and of the standard deviation, by effective sample sizes."""
    square = (draws - draws.mean()) ** 2
    found = reliability(np.stack([draws, square], axis=1), chains)
    mean, second = found["ess_bulk"]
    of_sd = square.std() / np.sqrt(second) / (2 * draws.std())
    return draws.std() / np.sqrt(mean), of_sd


def compared(fit: Any, theirs: dict[str, Any], leave_out: Collection[str] = ()) -> pd.DataFrame:
    """Give the peer's distance in Monte Carlo errors, of every mean and standard deviation."""
    rows = []
    for name, ours in outer_draws(fit).items():
        if name in leave_out or not np.ptp(ours):  # held fixed
            continue
        other = peers_name(name, theirs)
        draws = ours**2 if other.startswith("Sigma") else ours
        his = theirs[other]
        of_mean, of_sd = monte_carlo_errors(draws, fit.draws.chains)
        # What was found by quadrature has no Monte Carlo error.
        z_mean = (draws.mean() - his["mean"]) / np.hypot(of_mean, his.get("mcse_mean", 0.0))
        z_sd = (draws.std() - his["sd"]) / np.hypot(of_sd, his.get("mcse_sd", 0.0))
        rows.append((name, z_mean, z_sd))
    table = pd.DataFrame(rows, columns=["name", "mean", "sd"]).set_index("name")
    assert len(table) >= 2
    return table


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", [mark(case) for case in CASES])
def test_posterior_agrees_with_the_peer(case, reference):
    draws = 6000 if case in HARD else 2000
    fit = CASES[case]().fit(
        seed=20, draws=draws, tune=draws // 2, target_accept=0.95, progressbar=False
    )
    table = compared(fit, reference(case)["fits"][0]["posterior"])
    assert (table.abs() < LIMIT).all(axis=None), table


# Their chains of moves take some ten seconds or more.
LONG = {
    "bayes_culcita",
    "bayes_culcita_rstanarm",
    "bayes_coral_acr",
    "bayes_sleepstudy_student",
    "bayes_salamanders_zinb",
}


def long(case: str) -> Any:
    return pytest.param(case, marks=pytest.mark.slow) if case in LONG | HARD else case


# A block of culcita's, all of whose answers are the same, has few effective draws, and is said to.
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning")
@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", [long(case) for case in CASES])
def test_draws_around_the_mode_agree_with_the_peer(case, reference):
    fit = CASES[case]().fit("posthoc", seed=20, draws=2000, progressbar=False)
    assert fit.method == "posthoc"
    table = compared(fit, reference(case)["fits"][0]["posterior"])
    assert (table.abs() < LIMIT).all(axis=None), table


@pytest.mark.slow
@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", BETWEEN)
def test_draws_of_levels_that_depend_on_each_other_agree_with_the_reference(case, reference):
    make, leave_out = BETWEEN[case]
    fit = make().fit("posthoc", seed=20, draws=2000, progressbar=False)
    table = compared(fit, reference(case)["fits"][0]["posterior"], leave_out)
    assert (table.abs() < LIMIT).all(axis=None), table


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.ConvergenceWarning")
@pytest.mark.usefixtures("shared_data")
def test_nuts_mixes_over_the_shared_part_of_a_map(reference):
    case = "bayes_scotlip_bym2"
    fit = BETWEEN[case][0]().fit("nuts", seed=1, progressbar=False)
    report = fit.diagnostics()
    assert report.table["r_hat"].max() < 1.01
    assert report.table["ess_bulk"].min() > 400
    table = compared(fit, reference(case)["fits"][0]["posterior"])
    assert (table.abs() < LIMIT).all(axis=None), table


@pytest.mark.usefixtures("shared_data")
def test_eight_schools_agrees_with_quadrature(reference):
    """The known standard errors stand as the offset of a formula for sigma without coefficients."""
    model = gb.Model(
        ["y ~ 1 + (1 | school)", "sigma ~ 0 + offset(log(sigma))"],
        gb.load_dataset("eight_schools"),
        priors={"beta": normal(0, 5), "sd": gb.Prior("HalfCauchy", beta=5)},
        centering="noncentered",
    )
    fit = model.fit(seed=8, draws=4000, target_accept=0.99, progressbar=False)
    exact = reference("bayes_eight_schools")["fits"][0]
    mu = fit.draws.beta["mu"][:, 0]
    tau = outer_draws(fit)["sd_school[Intercept]"]
    pairs = [(mu, exact["mu"]["mean"]), (tau, exact["tau"]["mean"])]
    theta = mu[:, None] + fit.draws.effects["school"][:, :, 0]
    pairs += list(zip(theta.T, exact["theta_mean"], strict=True))
    for draws, mean in pairs:
        of_mean, _ = monte_carlo_errors(draws, fit.draws.chains)
        assert abs(draws.mean() - mean) < LIMIT * of_mean
    assert np.quantile(tau, 0.5) == pytest.approx(exact["tau"]["q"]["50"], abs=0.15)
