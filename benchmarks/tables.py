"""The tables that are fitted: loaded or made, written for a worker, read by it."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

    from benchmarks.simulate import Simulation


def table_of(data: "str | Simulation", success: tuple[str, str] | None = None) -> "pd.DataFrame":
    """
    Load or make a table.

    Parameters
    ----------
    data
        A name that `gb.load_dataset` knows, or what to simulate.
    success
        `(column, level)`: the level of a two-level response that is to be 1, the other one 0.
    """
    if not isinstance(data, str):
        return data.table()
    import glmm_bayes as gb

    found = gb.load_dataset(data)
    if success is not None:
        column, level = success
        found[column] = (found[column] == level).astype(int)
    return found


def write_table(data: "pd.DataFrame", folder: Path) -> dict[str, list[str]]:
    """
    Write `table.csv`, and the levels of its factors, a level a line, as `levels/<column>.txt`.

    Returns
    -------
    dict
        The levels by column.
    """
    data.to_csv(folder / "table.csv", index=False)
    shutil.rmtree(folder / "levels", ignore_errors=True)
    (folder / "levels").mkdir()
    levels = {
        str(name): [str(level) for level in data[name].cat.categories]
        for name in data.select_dtypes("category")
    }
    for name, ordered in levels.items():
        (folder / "levels" / f"{name}.txt").write_text("\n".join(ordered) + "\n", encoding="utf-8")
    return levels


def read_table(path: str, levels: Mapping[str, Sequence[str]]) -> "pd.DataFrame":
    """Read it again; columns with levels become categorical."""
    import pandas as pd

    data = pd.read_csv(path, dtype=dict.fromkeys(levels, "str"))
    for column, ordered in levels.items():
        data[column] = pd.Categorical(data[column], categories=ordered)
    return data
