"""To which class each level of a term of mass points belongs, with what probability."""

from dataclasses import replace

import numpy as np
import pandas as pd
from scipy.sparse import csr_array
from scipy.special import softmax

from glmm_bayes.covariance.masses import MassPoints
from glmm_bayes.draws import Draws, factors, masses_of
from glmm_bayes.fit import Fit
from glmm_bayes.model import Model
from glmm_bayes.modes.masses import checked
from glmm_bayes.results import log_likelihood
from glmm_bayes.terms import RandomTerm
from glmm_bayes.verbs.intervals import LOGIT

CERTAIN = 1e-12


def class_membership(fit: Fit, kind: str, level: float) -> pd.DataFrame:
    """
    Give the probabilities of the classes, level by level.

    Parameters
    ----------
    kind
        `"posterior"`: given the responses of the level, w_k f_k / sum_l w_l f_l, f_k the
        likelihood of all of its rows in class k. `"prior"`: the weight w_k.

    Returns
    -------
    DataFrame
        `group, level, component, estimate, std_error, lower, upper`, a row for each class of
        each level.

    Raises
    ------
    NotSupportedError
        If there is another random term, so that a level's rows do not stand alone.
    """
    masses, model = checked(fit.model), fit.model
    (term,) = model.design.terms
    found = _given_responses(model, term, masses, fit.draws, prior=kind == "prior")
    # As good as certain: nearer to 0 and 1 the logit has no digits.
    values = fit.summarise(np.clip(found, CERTAIN, 1 - CERTAIN), level, LOGIT)
    names = masses.coordinates(len(term.levels))["class"]
    table = pd.DataFrame({name: value.ravel() for name, value in values.items()})
    component = pd.Categorical.from_codes(
        np.tile(np.arange(masses.k), len(term.levels)), pd.Index(names)
    )
    table.insert(0, "component", pd.Series(component))
    table.insert(0, "level", np.repeat(np.array(term.levels, dtype=object), masses.k))
    table.insert(0, "group", term.label)
    return table


def _given_responses(
    model: Model, term: RandomTerm, masses: MassPoints, draws: Draws, *, prior: bool
) -> np.ndarray:
    """Give the classes' probabilities `(S, q, K)`."""
    location, weight = masses_of(term, masses, draws.theta)
    q, Lambda = len(term.levels), factors(term, draws.theta)[:, 0, 0]
    of_level = csr_array((np.ones(model.nobs), (np.arange(model.nobs), term.index[:, 0])))
    logs = np.repeat(np.log(weight)[:, None, :], q, axis=1)
    for k in range(0 if prior else masses.k):
        b = np.broadcast_to((Lambda * location[:, k])[:, None, None], (draws.size, q, 1))
        there = replace(draws, effects={term.name: b})
        rows = log_likelihood(model, there)["y"].to_numpy().reshape(draws.size, model.nobs)
        logs[:, :, k] += rows @ of_level
    return softmax(logs, axis=2)
