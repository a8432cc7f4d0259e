"""Chains that walk in turns, or several at once, until they end or the user stops them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

FEWEST = 4  # draws of a chain that are worth giving, where it is stopped


class Walking(Protocol):
    """
    A chain.

    Attributes
    ----------
    length, done
        Its steps, and how many of them it has taken.
    """

    length: int
    done: int

    @property
    def kept(self) -> int:
        """The number of draws so far."""

    def advance(self) -> None:
        """Walk on for a while."""


def walk_to_the_end(walkers: Sequence[Walking], workers: int, *, progressbar: bool) -> int:
    """
    Let all chains walk, some at once; give how many draws each has kept.

    Where the user stops them from the keyboard, these are fewer than were to be kept.
    """
    try:
        with _progress(walkers[0].length, shown=progressbar) as told:
            _walk(walkers, workers, told)
    except KeyboardInterrupt:
        if min(walker.kept for walker in walkers) < FEWEST:
            raise
    return min(walker.kept for walker in walkers)


def _walk(walkers: Sequence[Walking], workers: int, told: Any) -> None:
    if workers == 1:
        while walkers[-1].done < walkers[-1].length:
            for walker in walkers:
                walker.advance()
            told(walkers[-1].done)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(workers) as pool:
        while walkers[-1].done < walkers[-1].length:
            list(pool.map(lambda walker: walker.advance(), walkers))
            told(walkers[-1].done)


@contextmanager
def _progress(total: int, *, shown: bool) -> Iterator[Any]:
    if not shown:
        yield lambda done: None
        return
    from rich.progress import Progress

    with Progress(transient=True) as bar:
        task = bar.add_task("Drawing around the mode", total=total)
        yield lambda done: bar.update(task, completed=done)
