"""Chains that walk in turns, or several at once, until they end or the user stops them."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Protocol

SOON = 0.5  # seconds, before which no progress is shown
FEWEST = 4  # draws of a chain that are worth giving, where it is stopped

type Told = Callable[[int], None]


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


def _walk(walkers: Sequence[Walking], workers: int, told: Told) -> None:
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
def _progress(total: int, *, shown: bool) -> Iterator[Told]:
    began = time.monotonic()
    bars: list[Any] = []
    with ExitStack() as stack:

        def told(done: int) -> None:
            # Not at once: to load the bar takes longer than many a run.
            if not shown or time.monotonic() - began < SOON:
                return
            if not bars:
                from rich.progress import Progress

                bars.append(stack.enter_context(Progress(transient=True)))
                bars[0].add_task("Drawing around the mode", total=total)
            bars[0].update(bars[0].task_ids[0], completed=done)

        yield told
