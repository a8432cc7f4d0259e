"""Run many independent tasks by joblib, show how far they are, and send what they share."""

import pickle
import signal
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import replace
from functools import cached_property, lru_cache
from itertools import batched
from typing import Any

from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.errors import ConvergenceWarning, DataWarning, SingularFitWarning
from glmm_bayes.families import FAMILIES
from glmm_bayes.inference import METHODS
from glmm_bayes.modes.another import changed

AT_ONCE = 4  # tasks a job, where results come in lists only


def run[T](
    task: Callable[["Parcel", Any], T],
    parcel: "Parcel",
    todo: Iterable[Any],
    n_jobs: int | None,
    record: Callable[[T], None],
) -> bool:
    """
    Run tasks and record the outcome of each as it comes.

    Returns
    -------
    bool
        False if it was interrupted from the keyboard.
    """
    with warnings.catch_warnings(), one_thread(), _watched() as interrupted:
        silence()
        try:
            with closing(_as_they_come(task, parcel, todo, n_jobs)) as outcomes:
                for outcome in outcomes:
                    if interrupted.is_set():
                        return False
                    record(outcome)
        except KeyboardInterrupt:
            return False
    return True


def silence() -> None:
    """Ignore what fits warn of, as it is counted."""
    for category in (ConvergenceWarning, SingularFitWarning, DataWarning):
        warnings.simplefilter("ignore", category)


def _as_they_come[T](
    task: Callable[["Parcel", Any], T], parcel: "Parcel", todo: Iterable[Any], n_jobs: int | None
) -> Generator[T, None, None]:
    import joblib

    tasks = (joblib.delayed(task)(parcel, k) for k in todo)
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
    title: str, total: int, done: Mapping[str, int], shown: bool
) -> Iterator[Callable[[Mapping[str, int]], None]]:
    """
    Show a bar on the standard error stream.

    Parameters
    ----------
    done
        How many there are already, by status; what it gives is called with how many came.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    columns = (
        title,
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(elapsed_when_finished=True),
        "{task.fields[counts]}",
    )
    counts = Counter(done)
    with Progress(*columns, console=Console(stderr=True), disable=not shown) as bar:
        task = bar.add_task("", total=total, completed=counts.total(), counts="")

        def advance(came: Mapping[str, int]) -> None:
            counts.update(came)
            words = ", ".join(f"{count} {status}" for status, count in counts.items() if count)
            bar.update(task, advance=sum(came.values()), counts=words)

        yield advance


class Parcel:
    """
    A study that is pickled once, and opened once by each process.

    So what a process compiles for a family serves all replicates that it gets. A study is a
    frozen dataclass with the `model`, the name of the `method`, and its `function`.
    """

    def __init__(self, study: Any) -> None:
        self.study = study

    @cached_property
    def _content(self) -> bytes:
        from joblib import wrap_non_picklable_objects

        model = self.study.model
        name, family = model.family.name, model.family
        registered = name in FAMILIES and FAMILIES[name] is family
        # A registered family goes by its name; another without what was compiled for it here.
        bare = changed(model, family=None if registered else replace(family))
        parts = (replace(self.study, model=bare), name)
        return pickle.dumps(wrap_non_picklable_objects(parts, keep_wrapper=False))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as the content, made once."""
        return _opened, (self._content,)


@lru_cache(maxsize=2)
def _opened(content: bytes) -> Parcel:
    study, name = pickle.loads(content)
    if study.model.family is None:
        study.model.family = FAMILIES[name]
    # A method of the user's own is not registered in a process that has not run the user's code.
    METHODS.add(study.method, study.function)
    return Parcel(study)
