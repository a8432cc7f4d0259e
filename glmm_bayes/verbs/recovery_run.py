"""Run the replicates of a recovery check, by joblib: the order they come in does not matter."""

import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import batched
from typing import Any

from glmm_bayes.engine.lapack import one_thread
from glmm_bayes.verbs.recovery_replicate import Outcome, replicate, silence
from glmm_bayes.verbs.recovery_study import Parcel, Study

AT_ONCE = 4  # tasks a job, where results come in lists only


def run(
    study: Study,
    todo: Iterable[int],
    n_jobs: int | None,
    record: Callable[[Outcome], None],
) -> bool:
    """
    Run replicates and record each as it comes.

    Returns
    -------
    bool
        False if it was interrupted from the keyboard.
    """
    with warnings.catch_warnings(), one_thread(), _watched() as interrupted:
        silence()
        try:
            with closing(_as_they_come(Parcel(study), todo, n_jobs)) as outcomes:
                for outcome in outcomes:
                    if interrupted.is_set():
                        return False
                    record(outcome)
        except KeyboardInterrupt:
            return False
    return True


def _as_they_come(
    parcel: Parcel, todo: Iterable[int], n_jobs: int | None
) -> Generator[Outcome, None, None]:
    import joblib

    tasks = (joblib.delayed(replicate)(parcel, k) for k in todo)
    # Mapped arrays are read-only, and numba would compile everything once more for such.
    settings: dict[str, Any] = {"n_jobs": n_jobs, "max_nbytes": None}
    try:
        pool = joblib.Parallel(**settings, return_as="generator_unordered")
    except ValueError:  # some backends, such as multiprocessing and Ray's, give lists only
        pool = joblib.Parallel(**settings)
        for some in batched(tasks, AT_ONCE * joblib.effective_n_jobs(n_jobs)):
            yield from pool(some)
    else:
        with closing(pool(tasks)) as outcomes:
            yield from outcomes


@contextmanager
def _watched() -> Iterator[threading.Event]:
    """
    Note an interrupt from the keyboard.

    Samplers take it for themselves, and return what they have: a fit that is cut short must
    not count, and the next not begin.
    """
    seen = threading.Event()
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        yield seen
        return

    def note(number: int, frame: Any) -> None:
        seen.set()
        before(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield seen
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def progress(
    total: int, done: Sequence[Outcome], shown: bool
) -> Iterator[Callable[[Outcome], None]]:
    """Show a bar on the standard error stream; what it gives is called with each outcome."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (
        "Recovery",
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        "{task.fields[counts]}",
    )
    counts = Counter(outcome.status for outcome in done)
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("", total=total, completed=len(done), counts="")

        def advance(outcome: Outcome) -> None:
            counts.update([outcome.status])
            words = ", ".join(f"{count} {status}" for status, count in counts.items())
            bar.update(task, advance=1, counts=words)

        yield advance
