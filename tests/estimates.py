"""What a fit of ours and a peer's say, by names that both sides share."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from references import Fit

from glmm_bayes.draws import split_outer


@dataclass(frozen=True)
class Estimates:
    """
    What a fit says, by names that both sides share.

    `beta` and `beta_errors` by predictor's parameter and coefficient; `sd` by group and column;
    `corr` by group and pair; `constants` by the family's parameter.
    """

    loglik: float
    beta: dict[Any, float]
    beta_errors: dict[Any, float]
    sd: dict[Any, float]
    corr: dict[Any, float]
    constants: dict[str, float]


RENAMED = {
    "(Intercept)": "Intercept",
    "I(age^2)": "age2",
    "sin(2 * pi * Time)": "s",
    "cos(2 * pi * Time)": "c",
    'I(period != "1")TRUE': "late",
    "tttsymb": "symb",
    "tttcrab.vs.shr": "crabVshr",
    "tttaddsymb": "addsymb",
}
# What nlme calls a group within another.
NESTED = {"Variety": "Block/Variety"}


def column(name: str) -> frozenset[str]:
    """Drop what R and formulaic write differently: `a[T.x]:b` and `b:ax`."""
    plain = RENAMED.get(name, name).replace("`", "")
    return frozenset(re.sub(r"\[(?:T\.)?(.*?)\]", r"\1", plain).split(":"))


def group(name: str) -> frozenset[str]:
    """Drop the order of nesting, and lme4's number of a second term."""
    plain = NESTED.get(name, re.sub(r"\.\d+$", "", name))
    return frozenset(re.split(r"[:/]", plain))


def ours(fit: Any) -> Estimates:
    """Read a fit of ours, off its numbers rather than its tables."""
    model, mode = fit.model, fit.mode
    beta, constants, _ = split_outer(model, mode.theta[None])
    values, errors = {}, {}
    for param, predictor in model.design.predictors.items():
        names, means = predictor.names, model.means(param)
        to_beta = np.eye(len(names))
        if means.any():
            to_beta[names.index("Intercept")] -= means
        cov = to_beta @ mode.gamma_covariance[param] @ to_beta.T
        for k, name in enumerate(names):
            values[param, column(name)] = float(beta[param][0, k])
            errors[param, column(name)] = float(np.sqrt(cov[k, k]))
    sd: dict[Any, float] = {}
    corr: dict[Any, float] = {}
    for term in model.design.terms:
        Lambda = mode.Lambdas[term.name]
        spread(sd, corr, term.label, term.columns, Lambda @ Lambda.T)
    held = {name: float(value[0]) for name, value in constants.items()}
    return Estimates(fit.loglik, values, errors, sd, corr, held)


def spread(sd: dict, corr: dict, label: str, columns: Any, cov: np.ndarray) -> None:
    root = np.sqrt(np.diag(cov))
    for i, first in enumerate(columns):
        sd[group(label), column(first)] = float(root[i])
        for j in range(i):
            pair = frozenset([column(first), column(columns[j])])
            with np.errstate(invalid="ignore"):
                corr[group(label), pair] = float(cov[i, j] / (root[i] * root[j]))


# By family: the constant that glmmTMB's sigma() is for us, and how.
CONSTANTS: dict[str, tuple[str, Callable[[float], float]]] = {
    "gaussian": ("sigma", float),
    "student": ("sigma", float),
    "negbinomial": ("alpha", float),
    "nbinom1": ("phi", float),
    "gamma": ("alpha", lambda s: 1 / s**2),
    "beta": ("phi", float),
    "beta_binomial": ("phi", float),
}
# By family: what a coefficient of glmmTMB's dispformula is times our formula's.
DISPERSION = {"gaussian": 2.0, "beta": 1.0, "negbinomial": 1.0}


def theirs(case: Fit, fit: Mapping[str, Any]) -> Estimates:
    """Read a peer's fit as `ours` are read."""
    fixef = fit["fixef"]
    cond = fixef.get("cond", fixef)
    beta = {("mu", column(k)): v["estimate"] for k, v in cond.items()}
    errors = {("mu", column(k)): v["se"] for k, v in cond.items()}
    constants: dict[str, float] = {}
    formulas = case.formula if isinstance(case.formula, list) else [case.formula]
    if len(formulas) == 2:
        param = formulas[1].split(" ~ ")[0]
        values, their_errors = dispersion(case, fit)
        beta |= {(param, k): v for k, v in values.items()}
        errors |= {(param, k): v for k, v in their_errors.items()}
    elif fit.get("sigma") is not None and case.family in CONSTANTS:
        name, change = CONSTANTS[case.family]
        constants[name] = change(fit["sigma"])
    if "Student-t df" in fit.get("family_params", {}):
        constants["nu"] = fit["family_params"]["Student-t df"]
    sd: dict[Any, float] = {}
    corr: dict[Any, float] = {}
    parts = fit.get("varcomp") or {}
    for label, part in parts.get("cond", parts).items():
        columns, root = part["terms"], np.array(part["sd"], dtype=float)
        R = np.array(part.get("corr", np.eye(len(root))), dtype=float)
        for i, first in enumerate(columns):
            sd[group(label), column(first)] = float(root[i])
            for j in range(i):
                pair = frozenset([column(first), column(columns[j])])
                corr[group(label), pair] = float(R[i, j])
    return Estimates(fit["logLik"], beta, errors, sd, corr, constants)


def dispersion(case: Fit, fit: Mapping[str, Any]) -> tuple[dict, dict]:
    """Read the second formula's coefficients."""
    if "variance_function" in fit:
        male = np.log(fit["variance_function"]["coef"]["Male"])
        found = {"Intercept": np.log(fit["sigma"]) + male, "SexFemale": -male}
        return {column(k): float(v) for k, v in found.items()}, {}
    if "disp" not in fit["fixef"]:
        return {column("Intercept"): float(np.log(fit["sigma"]))}, {}
    scale = DISPERSION[case.family]
    disp = fit["fixef"]["disp"]
    values = {column(k): v["estimate"] / scale for k, v in disp.items()}
    return values, {column(k): v["se"] / scale for k, v in disp.items()}
