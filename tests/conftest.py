"""What the tests share: the data that are not packaged, and other software's results."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

BESIDE = Path(__file__).resolve().parents[2] / "shared"


def _folder(variable: str, beside: str) -> Path:
    folder = Path(os.environ.get(variable) or BESIDE / beside)
    if not folder.is_dir():
        pytest.skip(f"There is no folder {folder}; set {variable} to the one with the files.")
    return folder


@pytest.fixture
def shared_data(monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the tables that are not packaged; `load_dataset` finds them there."""
    folder = _folder("GLMM_BAYES_DATA", "data")
    monkeypatch.setenv("GLMM_BAYES_DATA", str(folder))
    return folder


@pytest.fixture(scope="session")
def reference() -> Callable[[str], Any]:
    """Read results of other software: `reference("glmm_cbpp_agq")`."""

    def read(name: str) -> Any:
        path = _folder("GLMM_BAYES_REFERENCE", "reference") / f"{name}.json"
        if not path.is_file():
            pytest.skip(f"There is no {path}.")
        return json.loads(path.read_text(encoding="utf-8"))

    return read
