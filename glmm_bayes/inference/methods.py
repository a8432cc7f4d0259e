"""The registry of methods, and what is planned for names that are not in it yet."""

from collections.abc import Callable
from typing import Any

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.registry import Registry

PLANNED = ("ml", "reml", "map", "pql", "posthoc", "nested_laplace")


class Methods(Registry[Callable[..., Any]]):
    """Methods by name; a planned one says what to use in its place."""

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name in PLANNED and name not in self:
            raise NotSupportedError(
                f'The method {name!r} is not built yet; fit("nuts") draws from the full posterior.'
            )
        return super().__getitem__(name)


METHODS = Methods("method")
