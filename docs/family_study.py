"""
Ranks of the truth among draws, family by family, as of `recovery.md`.

`python docs/family_study.py [REPLICATES [FOLDER [FAMILY …]]]` draws parameters from the prior of
each family's model in `tests/test_sbc_families.py`, responses given these, and the posterior given
the responses, and writes a row a family to `_static/family_ranks.csv`. Replicates are kept in the
folder as they come; called again, it goes on with those that are there, and families that are not
asked for keep their rows.
"""

import sys
import warnings
from pathlib import Path
from typing import Any

import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from test_sbc_families import checked, method_of

import glmm_bayes as gb

FILE = Path(__file__).parent / "_static" / "family_ranks.csv"
FOLDER = Path(__file__).parent / "_build" / "family_ranks"


def row(family: str, check: Any) -> dict[str, Any]:
    """Say in one row what was found for one family."""
    status = check.replicates["status"].value_counts()
    own = check.estimates.dropna(subset="rank")
    held = (own["lower_95"] <= own["truth"]) & (own["truth"] <= own["upper_95"])
    p_values = check.table["p_value"]
    return {
        "family": family,
        "method": method_of(family),
        "n": int(check.table["n"].max()),
        "doubtful": int(status.get("doubtful", 0)),
        "failed": int(status.get("failed", 0)),
        "quantities": len(p_values),
        "smallest_p": p_values.min(),
        "of": p_values.idxmin(),
        "held_95": held.mean(),
        "seconds": check.replicates["elapsed"].median(),
    }


def main(replicates: int, folder: Path, families: list[str]) -> None:
    """Check the families, and write the file as far as it goes."""
    folder.mkdir(parents=True, exist_ok=True)
    for family in families:
        found = row(family, checked(family, replicates, folder / f"{family}.jsonl"))
        before = pd.read_csv(FILE) if FILE.exists() else pd.DataFrame(columns=list(found))
        others = before[before["family"] != family].to_dict("records")
        order = list(gb.FAMILIES)
        rows = sorted([*others, found], key=lambda r: order.index(r["family"]))
        pd.DataFrame(rows).to_csv(FILE, index=False, float_format="%.3g")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asked = sys.argv[1:]
    main(
        int(asked[0]) if asked else 100,
        Path(asked[1]) if len(asked) > 1 else FOLDER,
        asked[2:] or list(gb.FAMILIES),
    )
