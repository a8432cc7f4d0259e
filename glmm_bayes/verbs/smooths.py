"""How wiggly each smooth is: effective degrees of freedom, standard deviation, smoothing."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd

from glmm_bayes.design import Design
from glmm_bayes.draws import Draws, factors
from glmm_bayes.errors import DataError, NotSupportedError
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.modes.reading import read_rows
from glmm_bayes.predictive import evenly_thinned, linear_predictor, parameters
from glmm_bayes.residual_draws import precision_at
from glmm_bayes.smooths import Smooth, SmoothTerm
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.intervals import LOG

AT_ONCE = 200  # systems of equations
TINY = 1e-10  # of a coefficient's curvature
DRAWS = 100  # of a posterior, over which degrees of freedom are averaged
COLUMNS = ["param", "smooth", "columns", "edf", "sd", "lower", "upper", "lambda"]


def smooths(fit: Fit, *, level: float = 0.95) -> pd.DataFrame:
    """
    Tell how wiggly each smooth is.

    Returns
    -------
    DataFrame
        A row a smooth: `param, smooth`; of how many `columns` it is made; `edf`, how many of them
        the data determine, effectively: between the number without a penalty and `columns`;
        `sd` of the penalised functions' weights with its interval `lower, upper`, as in `varcorr`:
        roughly how far the curve strays, over the rows, from one without a penalty; and `lambda`,
        the smoothing parameter that amounts to. A smooth with several penalties, `t2`, has a row
        for each below its own.

    Raises
    ------
    DataError
        If the model has no smooths.
    NotSupportedError
        If the density has a kink, where no curvature measures edf.

    Notes
    -----
    edf is the sum over the smooth's columns of the diagonal of (H + P)^-1 H, with H the negative
    Hessian of the log likelihood by all coefficients and effects, and P their penalty: Wood
    (2017), Generalized Additive Models, 6.1.2. Of a posterior it is the mean over evenly spaced
    draws. The penalised log likelihood is log p - lambda / (2 sigma^2) times the basis's penalty,
    sigma^2 being 1 where the model has no constant of that name.

    Examples
    --------
    >>> import glmm_bayes as gb
    >>> fit = gb.Model("flow ~ s(year)", gb.load_dataset("nile")).fit("reml")
    >>> fit.smooths()[["smooth", "columns", "edf"]].round(2)
        smooth  columns   edf
    0  s(year)        9  3.34
    """
    model = fit.model
    if not model.design.smooths:
        raise DataError(
            f"There is no smooth in {model.formula.texts[0]!r}, such as s(x); see fixef() and "
            f"ranef()."
        )
    if model.family.kinked:
        raise NotSupportedError(
            f"The density of family {model.family.name!r} has a kink, so that no curvature "
            f"measures degrees of freedom; varcorr() has the smooths' standard deviations."
        )
    draws = evenly_thinned(fit.plug_in, DRAWS)
    one_by_one = [draws.thinned(np.array([s])) for s in range(draws.size)]
    used = np.mean([_used(model, draw) for draw in one_by_one], axis=0)
    by_term = dict(zip(_places(model.design), used, strict=True))
    rows = [row for smooth in model.design.smooths for row in _rows(fit, smooth, by_term, level)]
    return pd.DataFrame(rows, columns=COLUMNS)


def _rows(
    fit: Fit, smooth: Smooth, used: Mapping[str, float], level: float
) -> Iterator[dict[str, Any]]:
    free, several = len(smooth.fixed.names), len(smooth.terms) > 1
    whole = {
        "param": smooth.param,
        "smooth": smooth.label,
        "columns": free + sum(len(term.levels) * term.size for term in smooth.terms),
        "edf": free + sum(used[term.name] for term in smooth.terms),
    }
    if not several:
        yield whole | _penalty(fit, smooth.terms[0], level)
        return
    yield whole
    for term in smooth.terms:
        columns = len(term.levels) * term.size
        own = {"smooth": term.penalty, "columns": columns, "edf": used[term.name]}
        yield whole | own | _penalty(fit, term, level)


def _penalty(fit: Fit, term: SmoothTerm, level: float) -> dict[str, float]:
    found = fit.summarise(fit.draws.theta[f"sd_{term.name}"].reshape(-1, 1), level, LOG)
    sd, lower, upper = (float(found[k][0]) for k in ("estimate", "lower", "upper"))
    sigma = float(fit.plug_in.constants["sigma"].mean()) if "sigma" in fit.model.constants else 1.0
    smoothing = (sigma / (sd * term.unit)) ** 2 if sd > 0 else np.inf
    return {"sd": sd, "lower": lower, "upper": upper, "lambda": smoothing}


def _places(design: Design) -> dict[str, np.ndarray]:
    """Say where the effects of each smooth's terms stand among all effects."""
    ends = np.cumsum([len(term.levels) * term.size for term in design.terms])
    own = {term.name for smooth in design.smooths for term in smooth.terms}
    return {
        term.name: np.arange(end - len(term.levels) * term.size, end)
        for term, end in zip(design.terms, ends, strict=True)
        if term.name in own
    }


def _used(model: Model, draws: Draws) -> list[float]:
    """Give the effective degrees of freedom of each penalty's columns, at a single draw."""
    from scipy.sparse.linalg import splu

    places = _places(model.design)
    total, coefficients = _penalised(model, draws)
    own = coefficients + np.concatenate(list(places.values()))
    factor, kept = splu(total), np.ones(len(own))
    for start in range(0, len(own), AT_ONCE):
        at = own[start : start + AT_ONCE]
        right = np.zeros((total.shape[0], len(at)))
        right[at, np.arange(len(at))] = 1.0
        # (H + P)^-1 H = I - (H + P)^-1 P, and a smooth's own part of P is the identity.
        kept[start : start + AT_ONCE] -= factor.solve(right)[at, np.arange(len(at))]
    ends = np.cumsum([len(at) for at in places.values()])[:-1]
    return [float(part.sum()) for part in np.split(kept, ends)]


def _penalised(model: Model, draws: Draws) -> tuple[Any, int]:
    """Give H + P, sparse, by coefficients and effects in standard units, and how many former."""
    from scipy.sparse import block_diag, csc_array, csr_array, diags_array, eye_array, hstack, kron

    design, W = model.design, _curvatures(model, draws)
    names = list(dict.fromkeys(a for a, _ in W))
    X = block_diag([csr_array(design.predictors[name].X) for name in names], format="csr")
    Lambdas = [
        kron(eye_array(len(term.levels)), factors(term, draws.theta)[0]) for term in design.terms
    ]
    J = {}
    for k, name in enumerate(names):
        own = [csr_array(term.Z(name)) @ L for term, L in zip(design.terms, Lambdas, strict=True)]
        J[name] = hstack([X[k * design.n : (k + 1) * design.n], *own], format="csr")
    H = sum(J[a].T @ w @ J[b] for (a, b), w in W.items())
    # Columns that others make up have no curvature of their own.
    held = diags_array(TINY * csc_array(H).diagonal()[: X.shape[1]])
    P = block_diag([held, *(_prior(term, draws) for term in design.terms)])
    return csc_array(H + P), X.shape[1]


def _curvatures(model: Model, draws: Draws) -> dict[tuple[str, str], Any]:
    """Give minus the second derivatives of the log density by two predictors, sparse `(n, n)`."""
    from scipy.sparse import csc_array, diags_array, tril

    design, residual = model.design, model.design.residual
    if residual is not None:
        sigma = parameters(model, design, draws, draws.effects)["sigma"][0]
        theta = {name: value[0] for name, value in draws.theta.items()}
        shape, at = (design.n, design.n), tuple(residual.pairs.T)
        lower = csc_array((precision_at(residual, theta).values, at), shape=shape)
        over = diags_array(np.broadcast_to(1 / sigma, design.n))
        return {(model.main, model.main): over @ (lower + tril(lower, -1).T) @ over}
    names = [p.name for p in model.family.parameters]
    eta = [
        linear_predictor(design, draws, draws.effects, name)[0]
        if name in design.predictors
        else np.broadcast_to(model.links[name].linkfun(draws.constants[name][0]), design.n)
        for name in names
    ]
    second = read_rows(model)(np.stack(eta), 2).second
    return {
        (a, b): diags_array(-second[names.index(a), names.index(b)])
        for a in design.predictors
        for b in design.predictors
    }


def _prior(term: RandomTerm, draws: Draws) -> Any:
    """Give the precision of a term's effects in standard units, sparse."""
    from scipy.sparse import csc_array, eye_array, kron, tril

    between, q = term.level_structure, len(term.levels)
    if between.pairs is None:
        return eye_array(q * term.size)
    keys = [p.name for p in between.parameters(q)]
    theta = {key: np.atleast_1d(draws.theta[f"{key}_{term.name}"][0]) for key in keys}
    lower = csc_array((between.entries(theta).values, tuple(between.pairs.T)), shape=(q, q))
    return kron(lower + tril(lower, -1).T, eye_array(term.size))
