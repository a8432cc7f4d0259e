"""Names to things, with a suggestion where a name is misspelt."""

from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches

from glmm_bayes.errors import UnknownNameError


def suggestion(name: str, known: Iterable[str]) -> str:
    """
    Give the end of an error message: the nearest known name, and all of them.

    Examples
    --------
    >>> suggestion("poison", ["gaussian", "poisson"])
    "Did you mean 'poisson'? Known: gaussian, poisson."
    """
    names = sorted(known)
    close = get_close_matches(name, names, n=1)
    hint = f"Did you mean {close[0]!r}? " if close else ""
    return f"{hint}Known: {', '.join(names)}."


class Registry[T](Mapping[str, T]):
    """
    An open list of one kind of thing, each found by its name.

    Examples
    --------
    >>> links = Registry("link")
    >>> links.add("log", "the logarithm")
    'the logarithm'
    >>> links["lgo"]
    Traceback (most recent call last):
        ...
    glmm_bayes.errors.UnknownNameError: There is no link 'lgo'. Did you mean 'log'? Known: log.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._items: dict[str, T] = {}

    def add(self, name: str, item: T) -> T:
        """Enter an item under a name; a later entry under the same name replaces it."""
        self._items[name] = item
        return item

    def __getitem__(self, name: str) -> T:
        if name not in self._items:
            raise UnknownNameError(
                f"There is no {self.kind} {name!r}. {suggestion(str(name), self)}"
            )
        return self._items[name]

    def __contains__(self, name: object) -> bool:
        return name in self._items

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)
