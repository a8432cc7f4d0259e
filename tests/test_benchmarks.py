"""The machinery of the benchmark of NUTS, on one tiny case; nothing here is timed."""

import io
import json
import re
import stat
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import xarray as xr
from rich.console import Console

import glmm_bayes as gb
from benchmarks.__main__ import main
from benchmarks.nuts.cases import CASES, Case
from benchmarks.nuts.report import show, write_json
from benchmarks.nuts.runner import OURS, Measurement, Settings, measure, reliability
from benchmarks.nuts.worker import outer_array, read_table
from benchmarks.processes import ROOT, lacks

TINY = Case("tiny", "dyestuff", "gaussian", "Yield ~ 1 + (1 | Batch)")
FEW = Settings(draws=10, tune=10, chains=2, cores=1, timeout=120)


@pytest.fixture
def script(tmp_path):
    """Make an executable that stands in for the Python of a worker."""

    def write(body):
        path = tmp_path / "python"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


def table(measurements):
    out = io.StringIO()
    show(measurements, FEW, Console(file=out))
    return out.getvalue()


def row(text, *cells):
    return next(line for line in text.splitlines() if all(cell in line for cell in cells))


def test_a_case_is_measured_cold_and_warm():
    cold, warm = measure(TINY, OURS, FEW)
    assert (cold.start, warm.start) == ("cold", "warm")
    for found in (cold, warm):
        assert found.problem is None
        assert list(found.seconds) == ["import", "data", "model", "compile", "sampling"]
        assert 0 < sum(found.seconds.values()) < found.first_posterior
        assert found.version == gb.__version__
        assert found.peak > 1e7
    assert warm.seconds["compile"] < cold.seconds["compile"]
    # The same seed gives the same draws in both processes.
    assert cold.ess == warm.ess is not None


def test_too_much_memory_is_a_problem(script):
    greedy = replace(TINY, most_draws=5, memory_limit=1e6)
    report = {"first_posterior": 1, "cpu": 1, "seconds": {}, "peak": 2e6, "version": "1"}
    python = script(f"echo '{json.dumps(report)}' > $(dirname $3)/report.json")
    for found in measure(greedy, OURS, FEW, python):
        assert found.problem == "took more memory than 1 MB"
        assert found.peak == 2e6


@pytest.mark.parametrize(("side", "status"), [(OURS, 1), ("bambi", 0)])
def test_a_problem_of_ours_fails_the_run(side, status, monkeypatch, capsys):
    failed = Measurement("cbpp", side, "cold", problem="out of luck")
    monkeypatch.setattr("benchmarks.nuts.command.measure", lambda *_: [failed])
    assert main(["nuts", "--cases", "cbpp", "--peers"]) == status
    assert "(1) out of luck." in capsys.readouterr().out


def test_a_process_that_fails_says_why(script):
    (found,) = measure(
        TINY, OURS, FEW, script("echo traceback; echo 'ValueError: no luck'; exit 1")
    )
    assert found.problem == "ValueError: no luck"
    assert found.first_posterior is None


def test_a_process_that_is_killed_says_so(script):
    (found,) = measure(TINY, OURS, FEW, script("kill -9 $$"))
    assert "SIGKILL" in found.problem


def test_a_process_that_takes_too_long_is_ended(script, tmp_path):
    started = tmp_path / "started"
    (found,) = measure(
        TINY,
        OURS,
        Settings(timeout=0.5),
        script(f"echo > {started}; sleep 30; echo > {tmp_path / 'ended'}"),
    )
    assert found.problem == "no posterior within 0.5 s"
    assert started.exists()
    assert not (tmp_path / "ended").exists()


def test_a_missing_peer_stops_with_the_remedy(script, capsys):
    with pytest.raises(SystemExit):
        main(["nuts", "--cases", "cbpp", "--peer-python", script("echo bambi")])
    assert re.search(r"has no bambi: install it.*--peer-python", capsys.readouterr().err)


def test_lacks_names_only_what_is_missing():
    assert lacks(sys.executable, ["numpy", "no_such_package"]) == ["no_such_package"]


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_cases_are_models_of_their_data(case):
    model = gb.Model(case.formula, case.table(), case.family)
    assert model.nobs == len(case.table())


def test_a_table_arrives_as_it_was_sent(tmp_path):
    data = gb.load_dataset("cbpp")
    data.to_csv(tmp_path / "table.csv", index=False)
    levels = {name: list(data[name].cat.categories) for name in data.select_dtypes("category")}
    again = read_table({"table": str(tmp_path / "table.csv"), "levels": levels})
    assert levels["period"] == ["1", "2", "3", "4"]
    assert (again == data).all(axis=None)
    assert [str(d) for d in again.dtypes] == [str(d) for d in data.dtypes]


def test_only_outer_parameters_that_vary_are_judged():
    rng = np.random.default_rng(1)
    corr = np.ones((2, 5, 2, 2))
    corr[..., 0, 1] = corr[..., 1, 0] = rng.uniform(size=(2, 5))
    posterior = xr.Dataset(
        {
            "beta": (("chain", "draw", "coef"), rng.normal(size=(2, 5, 3))),
            "corr_g": (("chain", "draw", "a", "b"), corr),
            "b_g": (("chain", "draw", "g"), rng.normal(size=(2, 5, 7))),
        }
    )
    found = outer_array(posterior, lambda name: not name.startswith("b_"))
    assert found.shape == (2, 5, 3 + 2)
    np.testing.assert_array_equal(found[..., 3], corr[..., 0, 1])


def test_the_worst_parameter_is_the_one_reported():
    rng = np.random.default_rng(2)
    good = rng.normal(size=(4, 500))
    # An AR(1) series of coefficient rho has n (1 - rho) / (1 + rho) effective draws.
    slow = np.zeros((4, 500))
    for t in range(1, 500):
        slow[:, t] = 0.9 * slow[:, t - 1] + rng.normal(size=4)
    ess, r_hat = reliability(np.stack([good, slow], axis=2))
    assert ess == pytest.approx(2000 * 0.1 / 1.9, rel=0.5)
    assert r_hat == reliability(slow[..., None])[1]


def test_the_peak_is_the_processes_own():
    # On Linux a process's ru_maxrss begins with what its parent held.
    code = "from benchmarks.processes import peak_bytes; held = b'x' * 10**8; del held; "
    held = np.ones(60_000_000)
    found = subprocess.run(
        [sys.executable, "-c", code + "print(peak_bytes())"],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert 1e8 <= int(found.stdout) < 2e8 < held.nbytes


def done(side, start, total, ess, r_hat=1.001):
    seconds = {"import": 1.0, "model": 0.1, "compile": 2.0, "sampling": total / 2}
    return Measurement("some", side, start, seconds, total, total, ess, r_hat, 3e8, "1.2")


def test_the_table_shows_shares_of_the_peer():
    text = table([done(OURS, "cold", 10.0, 400.0), done("bambi", "cold", 40.0, 400.0)])
    share = row(text, "ours / bambi")
    assert "0.25×" in share  # of the time
    assert "4×" in share  # of the draws a second
    assert "?" not in share


def test_the_table_doubts_draws_that_disagree():
    text = table([done(OURS, "warm", 10.0, 400.0, 1.2), done("bambi", "warm", 40.0, 500.0)])
    assert "400?" in row(text, OURS)
    assert "500?" not in row(text, "bambi 1.2")
    assert "4×" not in row(text, "ours / bambi")
    assert "3.2×?" in row(text, "ours / bambi")


def test_the_table_shows_a_failure_and_its_reason():
    failed = Measurement("some", "bambi", "cold", problem="no posterior within 9 s")
    text = table([done(OURS, "cold", 10.0, 400.0), failed])
    assert "failed" in row(text, "bambi (1)")
    assert "(1) no posterior within 9 s." in text
    assert "×" not in row(text, "ours / bambi")


def test_json_keeps_every_number(tmp_path):
    write_json([done(OURS, "cold", 10.0, 400.0)], FEW, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["settings"]["draws"] == FEW.draws
    (found,) = content["measurements"]
    assert found["ess_per_second"] == 80.0
    assert found["ess_per_second_in_all"] == 40.0
    assert found["seconds"]["compile"] == 2.0
