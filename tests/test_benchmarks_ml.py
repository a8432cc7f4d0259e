"""The machinery of the benchmarks of maximum likelihood; nothing is timed, no peer is needed."""

import io
import json
import os
import re
import stat
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

import benchmarks
import glmm_bayes as gb
from benchmarks.__main__ import COMMANDS, main
from benchmarks.ml import worker
from benchmarks.ml.cases import CASES, OURS, PEERS, Way
from benchmarks.ml.report import failed, show, write_json
from benchmarks.ml.runner import Interpreters, Measurement, Settings, measure
from benchmarks.processes import run
from benchmarks.scaling.figure import draw
from benchmarks.scaling.points import Point, series
from benchmarks.simulate import BETA, SD, SIGMA, Simulation
from benchmarks.startup import command as startup
from benchmarks.tables import read_table, write_table

QUICK = Settings(timeout=60, patience=0.0)
SMALL = {
    "poisson_slopes": Simulation("poisson_slopes", 300, (20,)),
    "inflated_counts": Simulation("inflated_counts", 300, (20,)),
    "bernoulli_crossed": Simulation("bernoulli_crossed", 300, (20, 10)),
    "gaussian_crossed": Simulation("gaussian_crossed", 300, (20, 10)),
}
REPORT = {"fits": [[2.0, 3.0], [0.5, 1.0]], "loglik": -9.5, "words": "", "peak": 2e8}


@pytest.fixture
def script(tmp_path):
    """Make an executable that stands in for Python or R."""

    def write(body):
        path = tmp_path / "interpreter"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


def only(case, side, interpreters, folder, settings=QUICK):
    (found,) = measure(CASES[case], [side], settings, interpreters, folder)
    return found


def shrunken(case):
    small = isinstance(case.data, Simulation)
    return replace(case, data=SMALL[case.data.kind]) if small else case


# Tables


@pytest.mark.parametrize("wanted", SMALL.values(), ids=list(SMALL))
def test_a_seed_makes_one_table(wanted):
    pd.testing.assert_frame_equal(wanted.table(), wanted.table())
    other = replace(wanted, seed=wanted.seed + 1).table()
    assert not wanted.table()["x"].equals(other["x"])


def test_the_gaussian_table_has_the_moments_it_was_made_with():
    data = Simulation("gaussian_crossed", 200_000, (2_000, 2_000)).table()
    slope, intercept = np.polyfit(data["x"], data["y"], 1)
    assert slope == pytest.approx(BETA[1], abs=0.02)
    assert intercept == pytest.approx(BETA[0], abs=0.1)
    variance = BETA[1] ** 2 + SD[0] ** 2 + SD[1] ** 2 + SIGMA**2
    assert data["y"].var() == pytest.approx(variance, rel=0.05)


def test_simulated_responses_are_of_their_family():
    assert set(SMALL["bernoulli_crossed"].table()["y"]) == {0, 1}
    counts = SMALL["poisson_slopes"].table()["y"]
    assert counts.min() == 0
    assert counts.max() > 3


def test_a_table_arrives_in_python_as_it_was_sent(tmp_path):
    data = CASES["cbpp"].table()
    levels = write_table(data, tmp_path)
    again = read_table(str(tmp_path / "table.csv"), levels)
    assert (again == data).all(axis=None)
    assert [str(d) for d in again.dtypes] == [str(d) for d in data.dtypes]
    assert (tmp_path / "levels" / "period.txt").read_text() == "1\n2\n3\n4\n"


# Cases


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
@pytest.mark.parametrize("side", [OURS, *PEERS])
def test_every_package_fits_a_case_or_says_why_not(case, side):
    assert any(way.side == side for way in case.ways) != (side in case.cannot)


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_cases_are_models_of_their_data(case):
    case = shrunken(case)
    (way,) = [way for way in case.ways if way.side == OURS]
    model = gb.Model(way.options["formula"], case.table(), family=way.options["family"])
    assert model.nobs == len(case.table())


def test_labels_of_an_interaction_tell_its_levels_apart():
    data = pd.DataFrame({"a": pd.Categorical(["x", "y", "x"]), "b": [1, 1, 2]})
    assert list(worker._labels(data, "a:b")) == ["x:1", "y:1", "x:2"]
    assert list(worker._labels(data, "b")) == [1, 1, 2]


# Measuring


def test_a_fit_of_ours_is_measured(tmp_path):
    found = only("cbpp", OURS, Interpreters(), tmp_path)
    assert found.problem is None
    assert found.words == ""
    # lme4 1.1.31 and glmmTMB 1.1.5, logLik(), to their own tolerance.
    assert found.loglik == pytest.approx(-92.0263, abs=1e-3)
    assert found.wall > 0
    assert found.peak > 1e7


def test_a_worker_repeats_a_quick_fit(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setitem(
        worker.SIDES,
        "numpy",
        (lambda task, data: calls.append(len(data)) or worker.Found(-1.0, "hm"), ("numpy",)),
    )
    # The kernel would count from here for the whole test run.
    monkeypatch.setattr(worker, "forget_peak", lambda: None)
    task = {
        "side": "numpy",
        "simulation": {"kind": "gaussian_crossed", "rows": 9, "levels": [2, 2]},
    }
    path = tmp_path / "task.json"
    path.write_text(json.dumps({**task, "patience": 60, "most_fits": 3}))
    worker.main(path)
    report = json.loads((tmp_path / "report.json").read_text())
    assert calls == [9, 9, 9]
    assert len(report["fits"]) == 3
    assert (report["loglik"], report["words"]) == (-1.0, "hm")
    assert report["version"] == np.__version__


def test_what_a_python_peer_reports_is_kept(script, tmp_path):
    report = json.dumps({**REPORT, "version": "1.2"})
    peer = script(f"echo '{report}' > $(dirname $3)/report.json")
    found = only("sleepstudy", "statsmodels", Interpreters(peers=peer), tmp_path)
    assert (found.cpu, found.wall, found.next_cpu) == (2.0, 3.0, 0.5)
    assert (found.loglik, found.version, found.peak) == (-9.5, "1.2", 2e8)


def test_r_is_told_the_same_task_in_its_own_format(script, tmp_path):
    (tmp_path / "run").mkdir()
    report = json.dumps({**REPORT, "version": "1.1.31"})
    r = script(f"cp $3/task.dcf {tmp_path}/seen.dcf; echo '{report}' > $3/report.json")
    found = only("sleepstudy", "lme4", Interpreters(r=r), tmp_path / "run")
    assert found.version == "1.1.31"
    seen = dict(line.split(": ", 1) for line in (tmp_path / "seen.dcf").read_text().splitlines())
    assert seen["formula"] == "Reaction ~ Days + (1 + Days | Subject)"
    assert (seen["side"], seen["method"], seen["family"]) == ("lme4", "reml", "gaussian")


@pytest.mark.parametrize(
    ("body", "problem"),
    [("echo 'ValueError: no luck'; exit 1", "ValueError: no luck"), ("sleep 30", ">0.5 s")],
)
def test_a_peer_without_a_fit_says_why(script, tmp_path, body, problem):
    impatient = Settings(timeout=0.5)
    found = only("sleepstudy", "mixedlm", Interpreters(peers=script(body)), tmp_path, impatient)
    assert found.problem == problem
    assert found.cpu is None


def test_a_process_that_takes_too_much_memory_is_ended(tmp_path):
    code = "held = b'x' * 10**8; import time; time.sleep(30)"
    ended = run([sys.executable, "-c", code], tmp_path / "log.txt", os.environ, 20, 5e7)
    assert (ended.code, ended.words) == (None, ">0.05 GB")
    assert ended.wall < 15


def test_a_package_that_cannot_is_not_tried(tmp_path):
    found = only("cbpp", "statsmodels", Interpreters(peers="/nowhere"), tmp_path)
    assert found.problem == CASES["cbpp"].cannot["statsmodels"]


# Reporting


def fitted(side, cpu, loglik, **more):
    fits = ((cpu, cpu), (cpu / 10, cpu / 10))
    return Measurement("cbpp", side, side, fits, loglik, 1e8, "1.0", **more)


def table(measurements):
    out = io.StringIO()
    show(measurements, QUICK, Console(file=out))
    return out.getvalue()


def row(text, *cells):
    return next(line for line in text.splitlines() if all(cell in line for cell in cells))


def test_the_table_shows_ratios_and_differences():
    text = table([fitted(OURS, 0.02, -92.0), fitted("lme4", 1.0, -92.25)])
    line = row(text, "lme4 1.0")
    assert line.count("50×") == 2
    assert "-0.2500" in line
    assert "×" not in row(text, OURS)


def test_the_table_compares_no_likelihoods_of_different_models():
    other = fitted("gpboost", 1.0, -80.0, comparable="time", note="another model")
    text = table([fitted(OURS, 0.02, -92.0), other])
    line = row(text, "gpboost 1.0 (1)")
    assert "(-80.000)" in line
    assert "+12" not in line
    assert "(1) another model." in text
    assert not failed([fitted(OURS, 0.02, -92.0), other])


def test_the_table_says_who_did_not_finish_who_cannot_and_who_failed():
    late = Measurement("cbpp", "lme4", "lme4", peak=0, problem=">60 s")
    broken = Measurement("cbpp", "mixedlm", "mixedlm", peak=0, problem="a fall")
    unable = Measurement("cbpp", "statsmodels", "statsmodels", problem="not its trade")
    text = table([late, broken, unable])
    assert ">60 s" in row(text, "lme4")
    assert "failed" in row(text, "mixedlm (1)")
    assert re.search(r"statsmodels \(2\) +│ +- ", text)
    assert "(1) a fall." in text
    assert "(2) not its trade." in text


@pytest.mark.parametrize(
    ("ours", "peer", "expected"),
    [
        (fitted(OURS, 1.0, -92.0), fitted("lme4", 1.0, -92.001), False),
        (fitted(OURS, 1.0, -92.0), fitted("lme4", 1.0, -91.9), True),
        (fitted(OURS, 1.0, -92.0, words="lost"), fitted("lme4", 1.0, -92.0), True),
        (Measurement("cbpp", OURS, OURS, problem="no"), fitted("lme4", 1.0, -92.0), True),
    ],
)
def test_a_likelihood_below_a_peers_is_a_failure(ours, peer, expected):
    assert failed([ours, peer]) is expected


def test_json_keeps_every_number(tmp_path):
    write_json([fitted("lme4", 1.0, -92.0)], QUICK, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    (found,) = content["measurements"]
    assert (found["cpu"], found["next_cpu"], found["loglik"]) == (1.0, 0.1, -92.0)
    assert content["settings"]["timeout"] == QUICK.timeout


# Commands


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name, capsys):
    with pytest.raises(SystemExit) as ended:
        main([name, "--help"])
    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out


def test_the_command_measures_ours_and_the_peers_asked_for(monkeypatch, capsys, tmp_path):
    def measured(case, sides, settings, interpreters, folder):
        assert (case.name, sides, settings.timeout) == ("cbpp", (OURS,), 7.0)
        return [fitted(OURS, 1.0, -92.0)]

    monkeypatch.setattr("benchmarks.ml.command.measure", measured)
    path = tmp_path / "out.json"
    asked = ["ml", "--cases", "cbpp", "--timeout", "7", "--json", str(path), "--peers"]
    assert main(asked) == 0
    assert "cbpp (ml)" in capsys.readouterr().out
    assert path.exists()


def test_a_missing_peer_asked_for_stops_with_the_remedy(script, capsys):
    with pytest.raises(SystemExit):
        main(["ml", "--peers", "gpboost", "--peer-python", script("echo gpboost")])
    assert re.search(r"no gpboost: install it.*--peer-python", capsys.readouterr().err)


def test_startup_runs_whole_scripts(monkeypatch, script, tmp_path):
    monkeypatch.setattr(startup.sys, "executable", script('test -n "$NUMBA_CACHE_DIR" || exit 1'))
    found = startup.measure(tmp_path, 2, script("exit 0"))
    assert [one.who for one in found] == [
        "glmm_bayes reml, nothing compiled",
        "glmm_bayes reml",
        "glmm_bayes posthoc, nothing compiled",
        "glmm_bayes posthoc",
        "lme4 reml",
    ]
    assert [len(one.wall) for one in found] == [2] * 5


# Scaling


def test_series_grow_in_one_respect():
    rows, levels = series(["gaussian"], [1000, 100], [10, 20])
    assert [s.rows for s in rows.simulations] == [100, 1000]
    assert len({s.levels for s in rows.simulations}) == 1
    assert [s.levels for s in levels.simulations] == [(10, 10), (20, 20)]
    assert len({s.rows for s in levels.simulations}) == 1
    assert [one.along for one in series(["gaussian"], [100], [])] == ["rows"]


def test_scaling_writes_numbers_and_a_figure(monkeypatch, tmp_path, capsys):
    def measured(one, settings, folder):
        for s in one.simulations:
            yield Point(one.name, one.along, s.rows, s.levels, s.rows / 1e5, 1.0, 1e8)

    monkeypatch.setattr("benchmarks.scaling.command.measure", measured)
    numbers, figure = tmp_path / "s.json", tmp_path / "s.png"
    asked = ["scaling", "--rows", "1000", "100000", "--levels", "10"]
    assert main([*asked, "--json", str(numbers), "--figure", str(figure)]) == 0
    points = json.loads(numbers.read_text())["points"]
    assert [point["along"] for point in points] == ["rows", "rows", "levels"]
    assert figure.read_bytes().startswith(b"\x89PNG")
    assert "100.0" in row(capsys.readouterr().out, "100,000")


def test_the_figure_has_logarithmic_axes_and_a_column_a_respect():
    points = [
        Point("gaussian, rows", "rows", n, (10, 10), n / 1e5, 1.0, 1e8) for n in (100, 1000, 10_000)
    ]
    late = Point("gaussian, levels", "levels", 100, (10, 10), problem=">9 s")
    axes = draw([*points, late]).axes
    assert len(axes) == 4
    assert all(panel.get_xscale() == "log" for panel in axes[::2])
    (line,) = axes[0].get_lines()
    steps = [b / a for a, b in pairwise(line.get_ydata())]
    assert steps == pytest.approx([10, 10])


def test_ways_of_one_package_have_names_of_their_own():
    assert Way("lme4", {}, "nAGQ=0").label == "lme4 nAGQ=0"
    for case in CASES.values():
        labels = [way.label for way in case.ways]
        assert len(set(labels)) == len(labels)


def test_every_benchmark_has_its_command():
    folder = Path(benchmarks.__file__).parent
    assert {path.parent.name for path in folder.glob("*/command.py")} == set(COMMANDS)
