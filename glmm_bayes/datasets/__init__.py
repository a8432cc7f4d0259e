"""Tables to learn and test with: packaged, in a folder or at a public address; all checked."""

import gzip
import hashlib
import json
import os
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from glmm_bayes.errors import DataError, UnknownNameError
from glmm_bayes.registry import suggestion

if TYPE_CHECKING:
    import pandas as pd

FOLDER = "GLMM_BAYES_DATA"

type Entry = Mapping[str, Any]  # what registry.json says of one table


def load_dataset(name: str) -> "pd.DataFrame":
    """
    Give one of the tables of `list_datasets`.

    A table that is not packaged is read from the folder named by the environment variable
    `GLMM_BAYES_DATA`, else downloaded once where there is a public address. The bytes of
    every table are compared with a checksum.

    Returns
    -------
    DataFrame
        Factors are categorical, their reference level first, and ordered where their order
        means something. `attrs` has the `description`, `source`, `origin` and `licence`, and
        in `units` what each column means and in which unit.

    Raises
    ------
    UnknownNameError
        If there is no such table.
    DataError
        If the table cannot be reached, or is not the one that was meant.

    Examples
    --------
    >>> sleepstudy = load_dataset("sleepstudy")
    >>> sleepstudy.shape
    (180, 3)
    >>> sleepstudy.attrs["units"]["Reaction"]
    'average reaction time, ms'
    """
    entries = _entries()
    if name not in entries:
        raise UnknownNameError(f"There is no data set {name!r}. {suggestion(name, entries)}")
    return _as_table(_content(name, entries[name]), entries[name])


def list_datasets() -> "pd.DataFrame":
    """
    List the tables that `load_dataset` knows.

    Returns
    -------
    DataFrame
        One row a table: `rows`, `columns`, `where` ("packaged", "download", or "folder" for
        those that have to be put there by hand), `description` and `licence`.

    Examples
    --------
    >>> list_datasets()["where"][["cbpp", "culcita", "gopher"]].to_list()
    ['packaged', 'download', 'folder']
    """
    import pandas as pd

    rows = [
        {
            "name": name,
            "rows": entry["rows"],
            "columns": len(entry["columns"]),
            "where": _where(entry),
            "description": entry["description"],
            "licence": entry["licence"],
        }
        for name, entry in _entries().items()
    ]
    return pd.DataFrame(rows).set_index("name")


@cache
def _entries() -> Mapping[str, Entry]:
    text = files("glmm_bayes.datasets").joinpath("registry.json").read_text(encoding="utf-8")
    return json.loads(text)


def _where(entry: Entry) -> str:
    if entry["packaged"]:
        return "packaged"
    return "download" if "upstream" in entry else "folder"


def _content(name: str, entry: Entry) -> bytes:
    if entry["packaged"]:
        packed = files("glmm_bayes.datasets").joinpath("tables", f"{name}.csv.gz").read_bytes()
        return _verified(gzip.decompress(packed), entry, f"the packaged data set {name!r}")
    folder = os.environ.get(FOLDER)
    if folder:
        path = Path(folder) / f"{name}.csv"
        if path.is_file():
            return _verified(path.read_bytes(), entry, str(path))
    if "upstream" in entry:
        return _downloaded(name, entry)
    sought = f"is not in {folder}" if folder else f"{FOLDER} is not set"
    raise DataError(
        f"The data set {name!r} is not packaged, has no table at a public address, and {sought}. "
        f"It comes from {entry['origin']}: save it as {name}.csv in a folder, with the "
        f"columns {', '.join(entry['columns'])}, and set {FOLDER} to that folder."
    )


def _downloaded(name: str, entry: Entry) -> bytes:
    import pooch

    upstream = entry["upstream"]
    # A rewritten table is compared with its checksum afterwards: line ends differ upstream.
    as_it_is = "recipe" not in upstream and "object" not in upstream
    known = f"sha256:{entry['sha256']}" if as_it_is else None
    try:
        path = Path(
            pooch.retrieve(
                upstream["url"],
                known_hash=known,
                fname=upstream["url"].rpartition("/")[2] if "object" in upstream else f"{name}.csv",
                path=pooch.os_cache("glmm_bayes"),
            )
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"The data set {name!r} could not be downloaded from {upstream['url']}: {error}. "
            f"Set {FOLDER} to a folder that has {name}.csv."
        ) from error
    content = path.read_bytes()
    if "object" in upstream:
        content = _from_r(content, entry)
    elif "recipe" in upstream:
        content = _rewritten(content, entry)
    return _verified(content, entry, str(path))


def _rewritten(content: bytes, entry: Entry) -> bytes:
    """Pick an upstream table's columns and name its codes: one checksum then serves all sources."""
    import csv
    import io

    recipe = entry["upstream"]["recipe"]
    columns = entry["columns"]
    rows = list(csv.reader(io.StringIO(content.decode("utf-8"), newline=None)))[1:]
    lines = [",".join(f'"{column}"' for column in columns)]
    for row in rows:
        cells = []
        for position, (column, about) in zip(recipe["columns"], columns.items(), strict=True):
            cell = recipe["labels"].get(column, {}).get(row[position], row[position])
            cells.append(cell if about["type"] in ("integer", "number") else f'"{cell}"')
        lines.append(",".join(cells))
    return ("\n".join(lines) + "\n").encode()


def _from_r(content: bytes, entry: Entry) -> bytes:
    """Write a data frame of an R file as R's own write.csv does, with 15 digits."""
    import pandas as pd
    import rdata

    parsed = rdata.parser.parse_data(content)
    frame = rdata.conversion.convert(parsed)[entry["upstream"]["object"]]
    columns = entry["columns"]
    lines = [",".join(f'"{column}"' for column in columns)]
    for row in frame[list(columns)].itertuples(index=False):
        cells = []
        for value, about in zip(row, columns.values(), strict=True):
            plain = about["type"] in ("integer", "number")
            text = "" if pd.isna(value) else f"{float(value):.15g}" if plain else f'"{value}"'
            cells.append(text)
        lines.append(",".join(cells))
    return ("\n".join(lines) + "\n").encode()


def _verified(content: bytes, entry: Entry, what: str) -> bytes:
    found = hashlib.sha256(content).hexdigest()
    if found != entry["sha256"]:
        raise DataError(
            f"The content of {what} is not what it should be (sha256 {found[:12]}…, not "
            f"{entry['sha256'][:12]}…); delete it and get it again from {entry['origin']}."
        )
    return content


def _as_table(content: bytes, entry: Entry) -> "pd.DataFrame":
    import io

    import pandas as pd

    kinds = {"integer": "int64", "number": "float64"}
    columns = entry["columns"]
    table = pd.read_csv(
        io.BytesIO(content),
        # Only an empty field is missing: "NA" and "None" are labels in some of these tables.
        keep_default_na=False,
        na_values=[""],
        dtype={column: kinds.get(about["type"], "str") for column, about in columns.items()},
    )
    for column, about in columns.items():
        if about["type"].endswith("factor"):
            levels = about.get("levels") or _levels(table[column].dropna().unique())
            ordered = about["type"] == "ordered factor"
            table[column] = pd.Categorical(table[column], categories=levels, ordered=ordered)
    table.attrs = {key: entry[key] for key in ("description", "source", "origin", "licence")}
    table.attrs["units"] = {column: about["meaning"] for column, about in columns.items()}
    return table


def _levels(labels: "pd.api.extensions.ExtensionArray") -> list[str]:
    """Order the levels of a long factor: whole numbers by size, else alphabetically."""
    texts = [str(label) for label in labels]
    return sorted(texts, key=int) if all(text.isdigit() for text in texts) else sorted(texts)
