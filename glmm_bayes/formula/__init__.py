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
from glmm_bayes.formula.unseen import (
    IMPUTED,
    MEASURED,
    UnseenPart,
    check_unseen,
    expressions_beside,
    imputed,
    products_of,
    response_of,
    unseen_parts,
)

__all__ = [
    "IMPUTED",
    "MEASURED",
    "STRUCTURE_NAMES",
    "Formula",
    "Group",
    "PredictorPart",
    "RandomPart",
    "Response",
    "SpecialPart",
    "UnseenPart",
    "arguments",
    "call_of",
    "check_unseen",
    "expression",
    "expressions_beside",
    "extra_arguments",
    "imputed",
    "plain_name",
    "products_of",
    "read_formula",
    "read_responses",
    "response_of",
    "terms",
    "unseen_parts",
    "variables",
]
