"""What the tests share: the data that are not packaged, and other software's results."""

import hashlib
import json
import os
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ENGINE = Path(__file__).resolve().parents[1] / "glmm_bayes" / "engine"


def _kernels_cache() -> str:
    """Name a folder for compiled code after its sources: numba overlooks changes in other files."""
    text = b"".join(path.read_bytes() for path in sorted(ENGINE.rglob("*.py")))
    return str(Path(tempfile.gettempdir()) / f"glmm_bayes-{hashlib.sha256(text).hexdigest()[:16]}")


os.environ.setdefault("NUMBA_CACHE_DIR", _kernels_cache())
os.environ["COLUMNS"] = "100"  # printed pages are as wide, whatever the tests run in

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


def _quick_fit(formula: str, dataset: str, family: str) -> Any:
    import glmm_bayes as gb

    model = gb.Model(formula, gb.load_dataset(dataset), family)
    with warnings.catch_warnings():
        # So few draws are enough for arithmetic on them, and the diagnostics say they are few.
        warnings.simplefilter("ignore", gb.ConvergenceWarning)
        return model.fit(seed=1, draws=200, tune=300, chains=2, cores=1, progressbar=False)


@pytest.fixture(scope="session")
def sleepstudy_fit() -> Any:
    """A short gaussian fit with random slopes."""
    return _quick_fit("Reaction ~ Days + (1 + Days | Subject)", "sleepstudy", "gaussian")


@pytest.fixture(scope="session")
def cbpp_fit() -> Any:
    """A short binomial fit with a random intercept."""
    formula = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    return _quick_fit(formula, "cbpp", "binomial")
