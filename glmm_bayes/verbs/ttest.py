"""Test each coefficient of a maximum by t, with degrees of freedom for few groups."""

import numpy as np
import pandas as pd
from scipy.stats import t as student

from glmm_bayes.fit import Fit, ModeFit
from glmm_bayes.verbs.ddf import small_sample
from glmm_bayes.verbs.intervals import checked_level


def ttest(fit: ModeFit, ddf: str | None = None, *, level: float = 0.95) -> pd.DataFrame:
    """
    Test whether each coefficient is zero.

    Parameters
    ----------
    ddf
        Where the degrees of freedom come from. For normal responses with identity link:
        `"satterthwaite"`, the default there, and `"kenward-roger"`, which enlarges the standard
        errors too and takes the fit by 'reml' of the same model if it was by 'ml', and `"CR2"`, by
        the sandwich of clusters that share no effect: see `vcov`. For all models: `"residual"`,
        rows less coefficients; `"inner-outer"`, counted from the groups within which a column
        varies; `"asymptotic"`, infinite, the default elsewhere.
    level
        The intervals' probability.

    Returns
    -------
    DataFrame
        `estimate, std_error, df, statistic, p_value, lower, upper` by `name`, those of other
        parameters than the mean as `sigma:x`; what was done besides in `attrs["notes"]`.

    Raises
    ------
    UnknownNameError
        If there is no such method.
    NotSupportedError
        If the method is not for this model.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> model = gb.Model("Reaction ~ Days + (1 + Days | Subject)", gb.load_dataset("sleepstudy"))
    >>> model.fit("reml").ttest()[["estimate", "std_error", "df", "statistic"]].round(2)
               estimate  std_error    df  statistic
    name
    Intercept    251.41       6.82  17.0      36.84
    Days          10.47       1.55  17.0       6.77
    """
    tests = small_sample(fit, ddf)
    labels = fit.vcov().index.rename("name")
    estimate = estimates(fit)
    std_error = np.sqrt(np.diag(tests.covariance))
    df = tests.df(np.eye(len(estimate)))
    found = pd.DataFrame(
        {"estimate": estimate, "std_error": std_error, "df": df}, index=labels
    ).assign(**t_columns(estimate, std_error, df, level))
    found.attrs["notes"] = list(tests.notes)
    return found


def estimates(fit: Fit) -> np.ndarray:
    """Give all predictors' coefficients `(K,)`, in order."""
    return np.concatenate([beta[0] for beta in fit.plug_in.beta.values()])


def t_columns(
    estimate: np.ndarray, std_error: np.ndarray, df: np.ndarray, level: float
) -> dict[str, np.ndarray]:
    """Give `statistic, p_value` (two-sided), `lower, upper` of estimates by Student's t."""
    half = student.ppf(0.5 + checked_level(level) / 2, df) * std_error
    with np.errstate(all="ignore"):
        statistic = np.where(std_error > 0, estimate / std_error, np.nan)
    return {
        "statistic": statistic,
        "p_value": np.asarray(2 * student.sf(np.abs(statistic), df)),
        "lower": estimate - half,
        "upper": estimate + half,
    }
