"""Read a mixed-model formula: text in, names out; no data are touched here."""

from glmm_bayes.formula.parts import (
    STRUCTURE_NAMES,
    Formula,
    Group,
    PredictorPart,
    RandomPart,
    Response,
    SpecialPart,
)
from glmm_bayes.formula.reader import read_formula
from glmm_bayes.formula.response import extra_arguments, read_responses
from glmm_bayes.formula.tokens import arguments, call_of, expression, plain_name, terms, variables

__all__ = [
    "STRUCTURE_NAMES",
    "Formula",
    "Group",
    "PredictorPart",
    "RandomPart",
    "Response",
    "SpecialPart",
    "arguments",
    "call_of",
    "expression",
    "extra_arguments",
    "plain_name",
    "read_formula",
    "read_responses",
    "terms",
    "variables",
]
