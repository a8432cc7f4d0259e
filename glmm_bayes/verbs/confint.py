"""Confidence intervals of all parameters in one table."""

from collections.abc import Sequence

import pandas as pd

from glmm_bayes.errors import NotSupportedError, UnknownNameError
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
) -> pd.DataFrame:
    """
    Give confidence intervals of coefficients, variance components and family parameters.

    Parameters
    ----------
    method
        `"wald"`: the estimate and its standard error, on the scales that `varcorr` and `fixef`
        say; `"profile"` and `"bootstrap"` are not built.
    level
        The intervals' probability.
    parm
        Names of rows to keep, such as `"Days"` or `"sd_Subject[Days]"`; all by default.

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
        If the method is not built.

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
    if method != "wald":
        raise NotSupportedError(
            f"confint(method={method!r}) is not built yet; use method='wald', or the intervals of "
            f"fit('nuts')."
        )
    found = outer_table(fit, level=level)[["estimate", "lower", "upper"]]
    if parm is None:
        return found
    names = [parm] if isinstance(parm, str) else list(parm)
    for name in names:
        if name not in found.index:
            raise UnknownNameError(
                f"There is no parameter {name!r}. {suggestion(name, found.index)}"
            )
    return found.loc[names]


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


def _coefficients(fit: Fit, level: float) -> pd.DataFrame:
    found = fixef(fit, level=level).assign(kind="fixed")
    if "param" not in found:
        found["param"] = "mu"
    names = [
        name if param == "mu" else f"{param}:{name}"
        for name, param in zip(found.index, found["param"], strict=True)
    ]
    return found.set_axis(names)


def _components(fit: Fit, level: float) -> pd.DataFrame:
    found = varcorr(fit, level=level)
    found = found[found["structure"] != ""]
    # Two terms of one group have equal labels in `varcorr`, but names of their own.
    first = sum(len(p.names) for p in fit.model.design.predictors.values())
    return found.set_axis(list(outer_draws(fit))[first : first + len(found)])


def _constants(fit: Fit, level: float) -> pd.DataFrame:
    found = constants(fit, level=level)
    return found.assign(param=found.index, kind="family")
