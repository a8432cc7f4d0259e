"""Confidence intervals of all parameters in one table."""

from collections.abc import Sequence

import pandas as pd

from glmm_bayes.errors import UnknownNameError
from glmm_bayes.fit import Fit, ModeFit
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.tables import constants, fixef, outer_draws, varcorr

METHODS = ("wald", "profile", "bootstrap")


def confint(
    fit: ModeFit,
    *,
    method: str = "wald",
    level: float = 0.95,
    parm: str | Sequence[str] | None = None,
    nsim: int | None = None,
    seed: int | None = None,
    kind: str = "parametric",
    interval: str = "percentile",
) -> pd.DataFrame:
    """
    Give confidence intervals of coefficients, variance components and family parameters.

    Parameters
    ----------
    method
        `"wald"`: the estimate and its standard error, on the scales that `varcorr` and `fixef`
        say. `"profile"`: where a likelihood-ratio test does not reject the value, see
        `verbs.profile.profile_intervals`. `"bootstrap"`: from refits to data made anew, see
        `verbs.bootstrap.bootstrap`, which gives the replicates too.
    level
        The intervals' probability.
    parm
        Names of rows to keep, such as `"Days"` or `"sd_Subject[Days]"`; all by default.
    nsim, seed, kind, interval
        Of the bootstrap: how many replicates, 1000 by default; the random stream, by default
        from the fit's seed; how data are made anew, and how intervals of the replicates.

    Returns
    -------
    DataFrame
        `estimate, lower, upper` by name: a coefficient's own, those of other parameters than the
        mean as `sigma:x`, then `sd_g[x]`, `corr_g[x, z]` and other structure parameters as in
        `theta`, then the family's.

    Raises
    ------
    UnknownNameError
        If a method or a name is not known.
    NotSupportedError
        If the fit has no such intervals.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> model = gb.Model("Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"))
    >>> model.fit("reml").confint(parm="Days").round(2)
          estimate  lower  upper
    name
    Days     10.47   8.89  12.04
    """
    if method not in METHODS:
        raise UnknownNameError(f"method={method!r} is not known. {suggestion(method, METHODS)}")
    names = chosen_names(parm, outer_names(fit))
    if method == "bootstrap":
        from glmm_bayes.verbs.bootstrap import bootstrap_intervals

        return bootstrap_intervals(
            fit, level=level, parm=names, nsim=1000 if nsim is None else nsim,
            seed=seed, kind=kind, interval=interval,
        )  # fmt: skip
    if nsim is not None or (kind, interval) != ("parametric", "percentile"):
        raise UnknownNameError(
            f"nsim, kind and interval are those of method='bootstrap': method={method!r} has none."
        )
    return INTERVALS[method](fit, level, names)


def chosen_names(parm: str | Sequence[str] | None, known: list[str]) -> list[str]:
    """
    Give the names that are asked for; all of them where `parm` is None.

    Raises
    ------
    UnknownNameError
        If one is not known.
    """
    names = known if parm is None else [parm] if isinstance(parm, str) else list(parm)
    for name in names:
        if name not in known:
            raise UnknownNameError(f"There is no parameter {name!r}. {suggestion(name, known)}")
    return names


def _by_wald(fit: ModeFit, level: float, names: list[str]) -> pd.DataFrame:
    return outer_table(fit, level=level).loc[names, ["estimate", "lower", "upper"]]


def _by_profile(fit: ModeFit, level: float, names: list[str]) -> pd.DataFrame:
    from glmm_bayes.verbs.profile import profile_intervals

    return profile_intervals(fit, level=level, parm=names)


INTERVALS = {"wald": _by_wald, "profile": _by_profile}


COLUMNS = ["param", "kind", "estimate", "std_error", "lower", "upper"]


def outer_table(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Put coefficients, variance components and family parameters of any fit into one table.

    Returns
    -------
    DataFrame
        `param, kind, estimate, std_error, lower, upper` by `name`, as in `confint`. `kind` is
        `"fixed"`, `"sd"`, `"corr"` or what else a structure has, and `"family"`.
    """
    parts = [_coefficients(fit, level), _components(fit, level), _constants(fit, level)]
    return pd.concat([part[COLUMNS] for part in parts if len(part)]).rename_axis("name")


def outer_names(fit: Fit) -> list[str]:
    """List the names of `outer_table`, in its order."""
    coefficients = [
        name if param == "mu" else f"{param}:{name}"
        for param, predictor in fit.model.design.predictors.items()
        for name in predictor.names
    ]
    return [*coefficients, *list(outer_draws(fit))[len(coefficients) :]]


def _coefficients(fit: Fit, level: float) -> pd.DataFrame:
    found = fixef(fit, level=level).assign(kind="fixed")
    if "param" not in found:
        found["param"] = "mu"
    return found.set_axis(outer_names(fit)[: len(found)])


def _components(fit: Fit, level: float) -> pd.DataFrame:
    found = varcorr(fit, level=level)
    found = found[found["structure"] != ""]
    # Two terms of one group have equal labels in `varcorr`, but names of their own.
    first = sum(len(p.names) for p in fit.model.design.predictors.values())
    return found.set_axis(outer_names(fit)[first : first + len(found)])


def _constants(fit: Fit, level: float) -> pd.DataFrame:
    found = constants(fit, level=level)
    return found.assign(param=found.index, kind="family")
