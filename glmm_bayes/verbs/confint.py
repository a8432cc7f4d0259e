"""Confidence intervals of all parameters in one table."""

from collections.abc import Sequence

import pandas as pd

from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.fit import ModeFit
from glmm_bayes.registry import suggestion
from glmm_bayes.verbs.tables import constants, fixef, varcorr

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
        mean as `sigma:x`, then `sd_g[x]`, `corr_g[x, z]` and other structure parameters, then
        the family's.

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
    parts = [_coefficients(fit, level), _components(fit, level)]
    parts.append(constants(fit, level=level)[COLUMNS])
    found = pd.concat([part for part in parts if len(part)]).rename_axis("name")
    if parm is None:
        return found
    names = [parm] if isinstance(parm, str) else list(parm)
    for name in names:
        if name not in found.index:
            raise UnknownNameError(
                f"There is no parameter {name!r}. {suggestion(name, found.index)}"
            )
    return found.loc[names]


COLUMNS = ["estimate", "lower", "upper"]


def _coefficients(fit: ModeFit, level: float) -> pd.DataFrame:
    found = fixef(fit, level=level)
    params = found["param"] if "param" in found else pd.Series("mu", index=found.index)
    names = [
        name if param == "mu" else f"{param}:{name}"
        for name, param in zip(found.index, params, strict=True)
    ]
    return found[COLUMNS].set_axis(names)


def _components(fit: ModeFit, level: float) -> pd.DataFrame:
    found = varcorr(fit, level=level)
    found = found[found["structure"] != ""]
    names = []
    for kind, group, *coefs in found[["kind", "group", "coef1", "coef2"]].to_numpy().tolist():
        inside = ", ".join(filter(None, coefs))
        names.append(f"{kind}_{group}[{inside}]" if inside else f"{kind}_{group}")
    return found[COLUMNS].set_axis(names)
