"""The registry of methods; each is imported when it is first asked for."""

from collections.abc import Callable, Iterator
from importlib import import_module
from typing import Any

from glmm_bayes.registry import Registry

HOMES = {
    "nuts": "nuts",
    "ml": "likelihood",
    "reml": "likelihood",
    "map": "map",
    "pql": "pql",
    "posthoc": "posthoc",
    "nested_laplace": "nested_laplace",
}


class Methods(Registry[Callable[..., Any]]):
    """Methods by name."""

    def __getitem__(self, name: str) -> Callable[..., Any]:
        if name in HOMES and name not in self._items:
            # It enters itself.
            import_module(f"glmm_bayes.inference.{HOMES[name]}")
        return super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return name in HOMES or super().__contains__(name)

    def __iter__(self) -> Iterator[str]:
        return iter(dict.fromkeys([*HOMES, *self._items]))

    def __len__(self) -> int:
        return len(list(iter(self)))


METHODS = Methods("method")
