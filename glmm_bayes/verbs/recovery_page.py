"""Lay a recovery check out as a page: what was done, the table, and how to read it."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from glmm_bayes.verbs.printing import Facts, Grid, Page, Part, Sentences, p_value, right, rounded
from glmm_bayes.verbs.recovery_replicate import DOUBTFUL, FAILED, FITTED, LEVELS, REFUSED
from glmm_bayes.verbs.recovery_table import ALPHA, miscovered, not_uniform

if TYPE_CHECKING:
    from glmm_bayes.verbs.recovery import RecoveryCheck

QUOTED = 5  # kinds of trouble


def page_of(check: "RecoveryCheck") -> Page:
    """Lay out facts, table, reading and troubles."""
    parts: list[Part] = [
        Facts(tuple(_facts(check))),
        _grid(check),
        Sentences("Reading", tuple(_reading(check))),
    ]
    if trouble := tuple(_trouble(check.replicates)):
        parts.append(Sentences("Troubles", trouble))
    return Page("Recovery check", tuple(parts))


def _counts(check: "RecoveryCheck") -> dict[str, int]:
    counts = check.replicates["status"].value_counts()
    return {status: int(counts.get(status, 0)) for status in (FITTED, DOUBTFUL, FAILED, REFUSED)}


def _facts(check: "RecoveryCheck") -> Iterator[tuple[str, str]]:
    chosen = "".join(f", {name}={value!r}" for name, value in check.options.items())
    yield "Fits", f"{check.method}{chosen}; the same priors for all responses"
    drawn = "the prior" if check.from_prior else f"a fit by {check.source}, with new effects"
    yield "Truths", f"drawn from {drawn}; seed {check.seed}"
    done, counts = len(check.replicates), _counts(check)
    if not check.complete:
        yield "Interrupted", f"{done} of {check.asked} replicates are done"
    yield (
        "Replicates",
        f"{done}: {counts[FITTED] + counts[DOUBTFUL]} fitted, {counts[DOUBTFUL]} of them "
        f"doubtful; {counts[FAILED]} failed; {counts[REFUSED]} refused",
    )
    levels = ", ".join(f"{100 * level:.0f}%" for level in LEVELS)
    n = max(int(check.table["intervals"].max()), 1)
    errors = ", ".join(f"{100 * np.sqrt(level * (1 - level) / n):.1f}" for level in LEVELS)
    yield "Give or take", f"coverage of {levels} by {errors} (one standard error)"
    if check.ranked:
        of = check.estimates["of"].dropna()
        yield "Ranks", f"among {of.median():.0f} nearly independent draws (at least {of.min():.0f})"


def _grid(check: "RecoveryCheck") -> Grid:
    t = check.table
    columns = [
        right("n", [str(n) for n in t["n"]]),
        right("bias", list(map(rounded, t["bias"], t["bias_se"]))),
        right("s.e.", list(map(rounded, t["bias_se"], t["bias_se"]))),
        right("rmse", list(map(rounded, t["rmse"], t["bias_se"]))),
        right("z", [f"{z:.2f}" for z in t["z"]]),
    ]
    for level in LEVELS:
        name = f"{100 * level:.0f}"
        columns.append(right(f"{name}%", [f"{100 * x:.1f}" for x in t[f"coverage_{name}"]]))
    if (t["intervals"] < t["n"]).any():
        columns.append(right("intervals", [str(n) for n in t["intervals"]]))
    if check.ranked:
        off, p = t["deviation"], t["p_value"]
        columns.append(right("rank off", ["" if np.isnan(x) else f"{x:.3f}" for x in off]))
        columns.append(right("p", ["" if np.isnan(x) else p_value(x) for x in p]))
    rows = tuple(zip(map(str, t.index), *(c[1:] for c in columns), strict=True))
    title = "Estimate less truth, and how many intervals in 100 hold the truth"
    return Grid(title, ("", *(c[0] for c in columns)), (("", rows),))


# ---- how to read it


def _reading(check: "RecoveryCheck") -> Iterator[str]:
    if check.ranked and check.from_prior:
        yield _of_ranks(check.table)
    elif not check.from_prior:
        yield (
            "The truths are those of a fit: near what the data say, and not spread as the prior. "
            "Where the method uses the prior, coverage and ranks may be off for that reason alone."
        )
    yield _of_coverage(check.table)
    if (check.table["intervals"] < check.table["n"]).any():
        yield (
            "Some estimates have no interval, such as a variance of zero; coverage is that of the "
            "intervals there are."
        )
    counts = _counts(check)
    if counts[REFUSED] and check.from_prior:
        yield (
            f"Refused data sets: {counts[REFUSED]}. The truths are those of the prior given that "
            f"there are data, which is another, narrower prior. As the responses alone decide, "
            f"ranks and coverage of an exact posterior stay as they should be. Narrower priors "
            f"have fewer such data."
        )
    if counts[FAILED]:
        many = counts[FAILED] > 1
        yield (
            f"{counts[FAILED]} fit{'s' if many else ''} failed, and {'are' if many else 'is'} in "
            f"no column of the table."
        )


def _of_ranks(table: pd.DataFrame) -> str:
    p = table["p_value"].dropna()
    found = not_uniform(table)
    if not len(found):
        return (
            f"Ranks: all {len(p)} may be uniform, as those of an exact posterior are (smallest p "
            f"{p_value(p.min())}, of {p.idxmin()})."
        )
    names = ", ".join(f"{name} (p {p_value(x)})" for name, x in found.items())
    return (
        f"Ranks are not uniform: {names}, adjusted for {len(p)} quantities, below {ALPHA}. These "
        f"fits are not draws from the posterior of this model."
    )


def _of_coverage(table: pd.DataFrame) -> str:
    off: dict[str, list[str]] = {}
    for name, level, share in miscovered(table):
        off.setdefault(name, []).append(f"{100 * share:.1f} of {100 * level:.0f}")
    if not off:
        return "Coverage: no intervals hold the truth more or less often than chance explains."
    words = "; ".join(f"{name} ({', '.join(shares)})" for name, shares in off.items())
    return f"Intervals that hold the truth too rarely or too often, in percent: {words}."


def _trouble(replicates: pd.DataFrame) -> Iterator[str]:
    """Quote each kind of trouble once, the most frequent first."""
    troubled = replicates[replicates["status"] != FITTED]
    said = troubled["words"].str.split("\n").explode()
    # Sentences that differ in their numbers only are of one kind.
    kinds = said.str.replace(r"[\d.]+", "#", regex=True)
    order = kinds.value_counts()
    for kind, count in order.head(QUOTED).items():
        number = int(kinds.index[kinds == kind][0])
        yield f"In {count}, such as replicate {number}: {said[kinds == kind].iloc[0]}"
    if len(order) > QUOTED:
        yield f"Of other kinds: {order.iloc[QUOTED:].sum()}; see `replicates`."
