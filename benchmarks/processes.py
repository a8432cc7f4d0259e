"""Processes to be measured: started, watched, ended when they take too long. Standard library."""

import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import inf
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
GLANCE = 1.0  # seconds between two looks at the memory of a process's children


@dataclass(frozen=True)
class Ended:
    """
    How a process ended.

    Attributes
    ----------
    code
        What it returned, below 0 for a signal; None where it was ended for what it took.
    wall, cpu
        Seconds from start to end; processor seconds, with its children's.
    peak
        Bytes of resident memory at a glance every second, its process group together.
    words
        The last line it wrote, the signal that ended it, or how much it took that is too much.
    """

    code: int | None
    wall: float
    cpu: float
    peak: int
    words: str


def run(
    command: Sequence[str],
    log: Path,
    env: Mapping[str, str],
    timeout: float,
    most_bytes: float = inf,
) -> Ended:
    """Run a command in a process group of its own, what it writes going to `log`."""
    spent, began = _children_cpu(), time.perf_counter()
    with log.open("w", encoding="utf-8") as out:
        process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(env),
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    watch = _Watch(process.pid, timeout, most_bytes)
    watch.start()
    try:
        # Without a timeout: with one, Python looks only every 50 ms.
        process.wait()
        wall = time.perf_counter() - began
    finally:
        watch.end()
        if process.poll() is None:  # we are being interrupted
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    code = None if watch.verdict else process.returncode
    words = watch.verdict or last_words(process.returncode, log)
    return Ended(code, wall, _children_cpu() - spent, watch.peak, words)


def _children_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


class _Watch(threading.Thread):
    """Look at a process group now and then, and end it where it takes too long or too much."""

    def __init__(self, group: int, timeout: float, most_bytes: float) -> None:
        super().__init__(daemon=True)
        self.group = group
        self.timeout = timeout
        self.most_bytes = most_bytes
        self.ended = threading.Event()
        self.peak = 0
        self.verdict = ""

    def run(self) -> None:
        deadline = time.monotonic() + self.timeout
        while not self.ended.wait(max(0.0, min(GLANCE, deadline - time.monotonic()))):
            self.peak = max(self.peak, _family_bytes(self.group))
            if time.monotonic() >= deadline:
                self.verdict = f">{self.timeout:g} s"
            elif self.peak > self.most_bytes:
                self.verdict = f">{self.most_bytes / 1e9:g} GB"
            if self.verdict:
                with suppress(ProcessLookupError):  # it has just ended
                    os.killpg(self.group, signal.SIGKILL)
                return

    def end(self) -> None:
        self.ended.set()
        self.join()


def _family_bytes(group: int) -> int:
    """Sum the memory of a process group, shared pages counted once; 0 where there is no /proc."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.getpgid(int(folder.name)) != group:
                continue
            lines = (folder / "smaps_rollup").read_text().splitlines()
        except OSError:  # it has ended meanwhile
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def last_words(code: int, log: Path) -> str:
    """Say why a process ended: the signal, or the last line it wrote."""
    if code < 0:
        return f"ended by signal {signal.Signals(-code).name}, maybe for want of memory"
    lines = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()]
    return lines[-1].strip() if lines else f"ended with code {code}, without a word"


def processor_seconds() -> float:
    """Give the processor seconds of this process, over all threads, and of its ended children."""
    return time.process_time() + _children_cpu()


def peak_bytes() -> int:
    """
    Give this process's peak of resident memory.

    Not `ru_maxrss` where there is better: on Linux that starts at what the parent had.
    """
    status = Path("/proc/self/status")
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines())
        return int(lines["VmHWM"].split()[0]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def forget_peak() -> None:
    """Let the peak start from what is held now, where the kernel has a way to say so."""
    path = Path("/proc/self/clear_refs")
    if path.exists():
        path.write_text("5", encoding="ascii")


def lacks(python: str, packages: Sequence[str]) -> list[str]:
    """Say which packages another Python does not have."""
    asked = "import sys; from importlib.util import find_spec as f; "
    asked += "print(*[p for p in sys.argv[1:] if f(p) is None])"
    found = subprocess.run(
        [python, "-c", asked, *packages], capture_output=True, text=True, check=True
    )
    return found.stdout.split()


def lacks_in_r(rscript: str, packages: Sequence[str]) -> list[str]:
    """Say which packages an R does not have; all of them where there is no R."""
    if not shutil.which(rscript):
        return list(packages)
    asked = "cat(Filter(function(p) !requireNamespace(p, quietly = TRUE), commandArgs(TRUE)))"
    found = subprocess.run(
        [rscript, "--vanilla", "-e", asked, *packages], capture_output=True, text=True, check=True
    )
    return found.stdout.split()
