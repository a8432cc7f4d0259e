"""The examples run from beginning to end, with few draws, and write their figures."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
FEW = ["--draws", "100", "--tune", "200"]


def run(name: str, out: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    root = str(EXAMPLES.parent)
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *FEW, "--out", str(out)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": root, "PYTHONIOENCODING": "utf-8", **variables},
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_runs(path, tmp_path, request):
    if path.stem in ("culcita", "intervals"):
        request.getfixturevalue("shared_data")
    done = run(path.name, tmp_path / "figures")
    assert done.returncode == 0, done.stderr
    figures = list((tmp_path / "figures").glob("*.png"))
    assert len(figures) >= 4
    assert all(figure.stat().st_size > 5000 for figure in figures)


@pytest.mark.slow
def test_an_example_without_its_data_says_what_to_do(tmp_path):
    """With nothing in the folder and no way to the internet."""
    nowhere = "http://127.0.0.1:9"
    done = run(
        "culcita.py",
        tmp_path,
        GLMM_BAYES_DATA=str(tmp_path),
        XDG_CACHE_HOME=str(tmp_path),
        https_proxy=nowhere,
        http_proxy=nowhere,
        HTTPS_PROXY=nowhere,
        HTTP_PROXY=nowhere,
        no_proxy="",
    )
    assert done.returncode == 1
    assert "This example needs data that are not packaged." in done.stderr
    assert "GLMM_BAYES_DATA" in done.stderr
    assert "Traceback" not in done.stderr
