"""Tables to learn and test with: packaged, in a folder or at a public address; all checked."""

import gzip
import hashlib
import json
import os
import zlib
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
    >>> list_datasets()["where"][["cbpp", "culcita", "phyr_comm"]].to_list()
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
        return _reached(name, entry)
    sought = f"is not in {folder}" if folder else f"{FOLDER} is not set"
    raise DataError(
        f"The data set {name!r} is not packaged, has no table at a public address, and {sought}. "
        f"It comes from {entry['origin']}: save it as {name}.csv in a folder, with the "
        f"columns {', '.join(entry['columns'])}, and set {FOLDER} to that folder."
    )


def _reached(name: str, entry: Entry) -> bytes:
    """
    Make our table of what stands at a public address.

    The address is that of one commit. Where the file there is not our table byte for byte, the
    registry has a `recipe` for it:

    - `object`: the data frame's name in an R file, or `separator`: a text file's, as a pattern.
      The text has a header, and may be compressed by gzip.
    - `columns`: what our columns are called there, if not the same; null numbers the rows from 1.
    - `labels`: for a column, their codes and our labels.
    - `missing`: the fields of a text that say nothing, "NA" and the empty one if not given.

    Numbers are then written with 15 digits, as R does, so that one checksum, that of our table,
    serves for all sources, whatever their line ends, spaces and zeros.
    """
    upstream = entry["upstream"]
    if "averages" in upstream:
        averages = _site_years(load_dataset(upstream["averages"]))
        return _verified(_rewritten(averages, entry, {}), entry, f"the data set {name!r}")
    path = _downloaded(name, entry)
    content = path.read_bytes()
    if "recipe" in upstream:
        recipe = upstream["recipe"]
        try:
            content = _rewritten(_parsed(content, recipe), entry, recipe)
        # Whatever a parser of R's or of gzip's bytes says of a page that is not the file.
        except (
            LookupError,
            ValueError,
            OSError,
            EOFError,
            NotImplementedError,
            zlib.error,
        ) as error:
            raise DataError(
                f"The file {path} has not the form it should have ({error!r}); delete it and get "
                f"it again, or set {FOLDER} to a folder that has {name}.csv."
            ) from error
    return _verified(content, entry, str(path))


def _downloaded(name: str, entry: Entry) -> Path:
    import pooch

    upstream = entry["upstream"]
    try:
        path = pooch.retrieve(
            upstream["url"],
            # A rewritten table is compared with its checksum afterwards: line ends differ upstream.
            known_hash=None if "recipe" in upstream else f"sha256:{entry['sha256']}",
            path=pooch.os_cache("glmm_bayes"),
        )
    except (OSError, ValueError) as error:
        raise DataError(
            f"The data set {name!r} could not be downloaded from {upstream['url']}: {error}. "
            f"Set {FOLDER} to a folder that has {name}.csv."
        ) from error
    return Path(path)


def _parsed(content: bytes, recipe: Mapping[str, Any]) -> "pd.DataFrame":
    import io

    import pandas as pd

    if "object" in recipe:
        return _r_object(content, recipe["object"])
    text = gzip.decompress(content) if content.startswith(b"\x1f\x8b") else content
    return pd.read_csv(io.BytesIO(text), sep=recipe["separator"], dtype="str", na_filter=False)


def _r_object(content: bytes, name: str) -> "pd.DataFrame":
    import rdata

    # One object only: there may be others in the file of classes that cannot be converted.
    node = rdata.parser.parse_data(content).object
    while node.info.type is rdata.parser.RObjectType.LIST:
        if rdata.conversion.convert(node.tag, default_encoding="utf-8") == name:
            return rdata.conversion.convert(node.value[0], default_encoding="utf-8")
        node = node.value[1]
    raise KeyError(name)


def _rewritten(frame: "pd.DataFrame", entry: Entry, recipe: Mapping[str, Any]) -> bytes:
    import pandas as pd

    columns = entry["columns"]
    # In an R file only R's own NA is missing: the empty text may be a label there.
    missing = recipe.get("missing", [] if "object" in recipe else ["", "NA"])
    fields = []
    for column, about in columns.items():
        theirs = recipe.get("columns", {}).get(column, column)
        values = pd.Series(range(1, len(frame) + 1)) if theirs is None else frame[theirs]
        labels = recipe.get("labels", {}).get(column, {})
        values = values.astype("object").map(lambda value, labels=labels: labels.get(value, value))
        written = _number if about["type"] in ("integer", "number") else _quoted
        gone = values.isna() | values.isin(missing)
        cells = zip(values, gone, strict=True)
        fields.append(["" if absent else written(value) for value, absent in cells])
    lines = [[f'"{column}"' for column in columns], *zip(*fields, strict=True)]
    return "".join(",".join(line) + "\n" for line in lines).encode()


def _number(value: Any) -> str:
    return f"{float(value):.15g}"


def _quoted(value: Any) -> str:
    return f'"{value if isinstance(value, str) else _number(value)}"'


def _site_years(tundra: "pd.DataFrame") -> "pd.DataFrame":
    """Average the net ecosystem exchange within site and year, and centre the years."""
    means = tundra.dropna(subset="GS.NEE").groupby(["Site", "Year"])["GS.NEE"]
    table = means.agg(["mean", "size"]).set_axis(["GS.NEE", "n"], axis="columns").reset_index()
    # R sorts as a dictionary does, capitals or not.
    table = table.sort_values("Site", key=lambda site: site.str.casefold(), kind="stable")
    return table.assign(cYear=table["Year"] - tundra["Year"].mean())


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
