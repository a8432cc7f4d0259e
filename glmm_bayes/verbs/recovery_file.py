"""Keep the replicates of a recovery check in one file, each as it comes, to go on later."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glmm_bayes.draws import Draws
from glmm_bayes.errors import DataError
from glmm_bayes.model import Model
from glmm_bayes.priors import Prior
from glmm_bayes.verbs.recovery_replicate import COLUMNS, Outcome

FORMAT = 1
PLAIN = (str, int, float, bool, type(None))
# What a difference is called in the error.
SHOWN = ("formula", "family", "links", "method", "options", "source", "seed")


@dataclass(frozen=True, eq=False)
class ReplicateFile:
    """
    A file with a line that says which check this is, and one a replicate.

    Attributes
    ----------
    done
        The replicates that it had when it was opened, by number.
    """

    path: Path
    done: Mapping[int, Outcome]

    def add(self, outcome: Outcome) -> None:
        """Append a replicate."""
        line = {
            "k": outcome.k,
            "status": outcome.status,
            "words": outcome.words,
            "elapsed": outcome.elapsed,
            "names": outcome.names,
            "numbers": outcome.numbers.tolist(),
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def stored_seed(path: Path) -> int | None:
    """Give the seed that a file was begun with, if it is there."""
    return int(_lines(path)[0]["seed"]) if path.exists() else None


def opened(path: Path, about: Mapping[str, Any]) -> ReplicateFile:
    """
    Begin a file, or go on with one of the same check.

    Raises
    ------
    DataError
        If its folder is not there, it is another kind of file, or holds another check.
    """
    if not path.exists():
        if not path.parent.is_dir():
            raise DataError(f"There is no folder {str(path.parent)!r} to keep replicates in.")
        path.write_text(json.dumps(about) + "\n", encoding="utf-8")
        return ReplicateFile(path, {})
    head, *rest = _lines(path)
    _check_same(head, about, path)
    _drop_torn_line(path)
    return ReplicateFile(path, {outcome.k: outcome for outcome in map(_outcome, rest)})


def _outcome(line: Mapping[str, Any]) -> Outcome:
    numbers = np.array(line["numbers"], dtype=float).reshape(len(line["names"]), len(COLUMNS))
    words, names = tuple(line["words"]), tuple(line["names"])
    return Outcome(line["k"], line["status"], words, line["elapsed"], names, numbers)


def _lines(path: Path) -> list[dict[str, Any]]:
    """Read the whole lines; the last has no end where the computer stopped while writing."""
    try:
        *whole, _ = path.read_text(encoding="utf-8").split("\n")
        found = [json.loads(line) for line in whole]
        if found[0]["recovery"] > FORMAT:
            raise DataError(
                f"The file {str(path)!r} was written by a later version of glmm_bayes; update "
                f"the package."
            )
    except (OSError, UnicodeDecodeError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"The file {str(path)!r} does not hold the replicates of a recovery check, or is "
            f"damaged; give another path."
        ) from error
    return found


def _drop_torn_line(path: Path) -> None:
    whole = path.read_bytes().rfind(b"\n") + 1
    if whole < path.stat().st_size:
        with path.open("r+b") as file:
            file.truncate(whole)


def _check_same(head: Mapping[str, Any], about: Mapping[str, Any], path: Path) -> None:
    now = json.loads(json.dumps(about))
    for key, value in now.items():
        if head.get(key) != value:
            differs = (
                f"its {key} is {head.get(key)!r}, not {value!r}"
                if key in SHOWN
                else f"its {key} differ{'' if key.endswith('s') else 's'}"
            )
            raise DataError(
                f"The file {str(path)!r} holds replicates of another check: {differs}. Give the "
                f"same arguments to go on with it, or another path."
            )


# ---- what tells one check from another


def description(
    model: Model, method: str, options: Mapping[str, Any], known: Draws | None, seed: int
) -> dict[str, Any]:
    """
    Say which check this is: the model with its design and priors, method, source and seed.

    How many replicates are wanted, and how they are computed, makes no other check of it.
    """
    return {
        "recovery": FORMAT,
        "formula": list(model.formula.texts),
        "family": model.family.name,
        "links": {param: link.name for param, link in model.links.items()},
        "method": method,
        "options": {k: v if isinstance(v, PLAIN) else repr(v) for k, v in sorted(options.items())},
        "source": "prior" if known is None else "a fit",
        "seed": seed,
        "priors": _digest(repr([(b.name, *map(_exact, b.priors)) for b in model.blocks])),
        "design": _digest(*_design_parts(model)),
        "draws": "" if known is None else _digest(*_drawn_parts(known)),
    }


def _exact(prior: Prior) -> str:
    inside = {
        name: _exact(v) if isinstance(v, Prior) else v if v is None else np.asarray(v).tolist()
        for name, v in sorted(prior.arguments.items())
    }
    return f"{prior.distribution}{inside}"


def _design_parts(model: Model) -> Iterator[Any]:
    response = model.design.response
    yield from (part for part in (response.trials, response.weights) if part is not None)
    for predictor in model.design.predictors.values():
        yield from (repr(predictor.names), predictor.X, predictor.offset)
    for term in model.design.terms:
        yield from (repr((term.name, term.structure.name, term.columns, term.levels)), term.index)
        yield from (term.weights, *(loading.Z for loading in term.loadings))


def _drawn_parts(known: Draws) -> Iterator[Any]:
    for part in (known.beta, known.constants, known.theta):
        for name, values in part.items():
            yield from (name, values)


def _digest(*parts: Any) -> str:
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            found.update(part.encode())
        else:
            array = np.ascontiguousarray(part, dtype=float)
            found.update(repr(array.shape).encode() + array.tobytes())
    return found.hexdigest()[:16]
