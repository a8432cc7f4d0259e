"""
Generalized linear mixed models: a formula and a data frame to an answer.

Names are looked up when they are first used, so that `import glmm_bayes` stays quick.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from glmm_bayes.covariance import (
        COVARIANCES,
        LEVEL_COVARIANCES,
        Covariance,
        CovarianceParameter,
    )
    from glmm_bayes.covariance.tree import Tree
    from glmm_bayes.datasets import list_datasets, load_dataset
    from glmm_bayes.errors import (
        ConvergenceError,
        ConvergenceWarning,
        DataError,
        DataWarning,
        FormulaError,
        GlmmError,
        NotSupportedError,
        SingularFitWarning,
        UnknownNameError,
    )
    from glmm_bayes.families import (
        FAMILIES,
        LINKS,
        Family,
        Link,
        Parameter,
        add_family,
        add_link,
        mixture,
    )
    from glmm_bayes.fit import ModeFit, PosteriorFit
    from glmm_bayes.inference import METHODS
    from glmm_bayes.model import Model
    from glmm_bayes.priors import Prior
    from glmm_bayes.verbs.bootstrap import bootstrap
    from glmm_bayes.verbs.compare import compare
    from glmm_bayes.verbs.compare_methods import compare_methods
    from glmm_bayes.verbs.datagrid import datagrid
    from glmm_bayes.verbs.recovery import check_recovery
    from glmm_bayes.verbs.simplify import simplify
    from glmm_bayes.verbs.storage import load

__version__ = "0.1.0"

_HOMES = {
    "Model": "model",
    "Prior": "priors",
    "ModeFit": "fit",
    "PosteriorFit": "fit",
    "METHODS": "inference",
    "Tree": "covariance.tree",
    "load": "verbs.storage",
    "bootstrap": "verbs.bootstrap",
    "compare": "verbs.compare",
    "compare_methods": "verbs.compare_methods",
    "check_recovery": "verbs.recovery",
    "datagrid": "verbs.datagrid",
    "simplify": "verbs.simplify",
    **dict.fromkeys(("load_dataset", "list_datasets"), "datasets"),
    **dict.fromkeys(
        ("COVARIANCES", "LEVEL_COVARIANCES", "Covariance", "CovarianceParameter"), "covariance"
    ),
    **dict.fromkeys(
        (
            "FAMILIES",
            "LINKS",
            "Family",
            "Link",
            "Parameter",
            "add_family",
            "add_link",
            "mixture",
        ),
        "families",
    ),
    **dict.fromkeys(
        (
            "ConvergenceError",
            "ConvergenceWarning",
            "DataError",
            "DataWarning",
            "FormulaError",
            "GlmmError",
            "NotSupportedError",
            "SingularFitWarning",
            "UnknownNameError",
        ),
        "errors",
    ),
}

__all__ = [
    "COVARIANCES",
    "FAMILIES",
    "LEVEL_COVARIANCES",
    "LINKS",
    "METHODS",
    "ConvergenceError",
    "ConvergenceWarning",
    "Covariance",
    "CovarianceParameter",
    "DataError",
    "DataWarning",
    "Family",
    "FormulaError",
    "GlmmError",
    "Link",
    "ModeFit",
    "Model",
    "NotSupportedError",
    "Parameter",
    "PosteriorFit",
    "Prior",
    "SingularFitWarning",
    "Tree",
    "UnknownNameError",
    "add_family",
    "add_link",
    "bootstrap",
    "check_recovery",
    "compare",
    "compare_methods",
    "datagrid",
    "list_datasets",
    "load",
    "load_dataset",
    "mixture",
    "simplify",
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f"glmm_bayes.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module 'glmm_bayes' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
