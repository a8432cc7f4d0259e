"""A model with some part replaced, such as its response, and all else as it was."""

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np

from glmm_bayes.model import Model


def with_response(model: Model, y: np.ndarray) -> Model:
    """Put another response in place; the priors stay, which `refit` would scale anew."""
    response = replace(model.design.response, y=y)
    return changed(model, design=model.design.with_response(response))


def changed(model: Model, **parts: Any) -> Model:
    """Copy a model with some parts replaced, without what was computed from the old ones."""
    cls = type(model)
    kept = {
        name: value
        for name, value in vars(model).items()
        if not isinstance(getattr(cls, name, None), cached_property)
    }
    copied = cls.__new__(cls)
    vars(copied).update(kept | parts)
    return copied
