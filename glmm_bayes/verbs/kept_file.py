"""Keep what many tasks give in one file, a line each as it comes, to go on later."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from glmm_bayes.errors import DataError
from glmm_bayes.model import Model

FORMAT = 1
PLAIN = (str, int, float, bool, type(None))
# What a difference is called in the error.
SHOWN = ("formula", "family", "links", "method", "options", "source", "kind", "names", "seed")


@dataclass(frozen=True, eq=False)
class KeptFile:
    """
    A file with a line that says what this is, and one for each outcome.

    Attributes
    ----------
    lines
        Those that it had when it was opened.
    """

    path: Path
    lines: Sequence[Mapping[str, Any]]

    def add(self, line: Mapping[str, Any]) -> None:
        """Append an outcome."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def stored_seed(path: Path, study: str) -> int | None:
    """Give the seed that a file of a study was begun with, if it is there."""
    return int(_lines(path, study)[0]["seed"]) if path.exists() else None


def opened(path: Path, study: str, about: Mapping[str, Any]) -> KeptFile:
    """
    Begin a file, or go on with one of the same study.

    Parameters
    ----------
    study
        What it is, in a word: `"recovery"`, `"bootstrap"`.
    about
        Which one; numbers, texts, and lists or mappings of these.

    Raises
    ------
    DataError
        If its folder is not there, it is another kind of file, or holds another study.
    """
    about = {study: FORMAT, **about}
    if not path.exists():
        if not path.parent.is_dir():
            raise DataError(f"There is no folder {str(path.parent)!r} to keep replicates in.")
        path.write_text(json.dumps(about) + "\n", encoding="utf-8")
        return KeptFile(path, [])
    head, *rest = _lines(path, study)
    _check_same(head, about, path)
    _drop_torn_line(path)
    return KeptFile(path, rest)


def _lines(path: Path, study: str) -> list[dict[str, Any]]:
    """Read the whole lines; the last has no end where the computer stopped while writing."""
    try:
        *whole, _ = path.read_text(encoding="utf-8").split("\n")
        found = [json.loads(line) for line in whole]
        if found[0][study] > FORMAT:
            raise DataError(
                f"The file {str(path)!r} was written by a later version of glmm_bayes; update "
                f"the package."
            )
    except (OSError, UnicodeDecodeError, ValueError, LookupError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"The file {str(path)!r} does not hold the replicates of a {study}, or is "
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
                f"The file {str(path)!r} holds other replicates: {differs}. Give the "
                f"same arguments to go on with it, or another path."
            )


# ---- what tells one study from another


def model_words(model: Model, options: Mapping[str, Any]) -> dict[str, Any]:
    """Say which model it is, by its formulas and its design, and with which options fitted."""
    return {
        "formula": list(model.formula.texts),
        "family": model.family.name,
        "links": {param: link.name for param, link in model.links.items()},
        "options": {k: v if isinstance(v, PLAIN) else repr(v) for k, v in sorted(options.items())},
        "design": digest(*_design_parts(model)),
    }


def _design_parts(model: Model) -> Iterator[Any]:
    response = model.design.response
    yield from (part for part in (response.trials, response.weights) if part is not None)
    for predictor in model.design.predictors.values():
        yield from (repr(predictor.names), predictor.X, predictor.offset)
    for term in model.design.terms:
        yield from (repr((term.name, term.structure.name, term.columns, term.levels)), term.index)
        yield from (term.weights, *(loading.Z for loading in term.loadings))


def digest(*parts: Any) -> str:
    """Give sixteen letters that differ where texts or numbers do."""
    found = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            found.update(part.encode())
        else:
            array = np.ascontiguousarray(part, dtype=float)
            found.update(repr(array.shape).encode() + array.tobytes())
    return found.hexdigest()[:16]
