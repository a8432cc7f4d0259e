"""The machinery of the benchmark of posteriors, on one tiny case; nothing here is timed."""

import io
import json
import re
import shutil
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
from benchmarks.posterior import worker
from benchmarks.posterior.cases import CASES, USUAL, WAYS, Case
from benchmarks.posterior.report import failed, show, write_json
from benchmarks.posterior.runner import (
    Interpreters,
    Measurement,
    Settings,
    measure,
    reliability,
)
from benchmarks.processes import ROOT, lacks, lacks_in_r
from benchmarks.simulate import Simulation

TINY = Case("tiny", "dyestuff", "gaussian", "Yield ~ 1 + (1 | Batch)")
FEW = Settings(draws=10, tune=10, chains=2, cores=1, timeout=240, patience=0.0)
REPORT = {"fits": [[2.0, 3.0, 1.0], [0.5, 1.0, 0.25]], "from_start": 4.0, "peak": 2e6}
DRAWS = np.random.default_rng(3).normal(size=(2, 500, 3))
SMALL = {
    "poisson_slopes": Simulation("poisson_slopes", 300, (20,)),
    "bernoulli_crossed": Simulation("bernoulli_crossed", 300, (20, 10)),
    "gaussian_crossed": Simulation("gaussian_crossed", 300, (20, 10)),
}


@pytest.fixture
def script(tmp_path):
    """Make an executable that stands in for the Python, or the R, of a worker."""

    def write(body):
        path = tmp_path / "interpreter"
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return write


@pytest.fixture
def reporting(script, tmp_path):
    """Make an executable that reports what it is given, and draws."""

    def write(report, before=""):
        np.save(tmp_path / "draws.npy", DRAWS)
        given = f"cp {tmp_path}/draws.npy $folder; echo '{json.dumps(report)}' > "
        folder = "test -d $3 && folder=$3 || folder=$(dirname $3)"
        return script(f"{folder}; {before} {given} $folder/report.json")

    return write


def only(case, way, interpreters=None, settings=FEW):
    (found,) = measure(case, [WAYS[way]], settings, interpreters or Interpreters())
    return found


def table(measurements):
    out = io.StringIO()
    show(measurements, FEW, Console(file=out))
    return out.getvalue()


def row(text, *cells):
    return next(line for line in text.splitlines() if all(cell in line for cell in cells))


# Measuring


def test_a_posterior_of_ours_is_measured_cold_and_warm():
    # So few as ten may be found not to agree.
    some = replace(FEW, draws=200, patience=60.0, most_fits=2)
    found = only(TINY, "posthoc", settings=some)
    assert found.problem is None
    assert len(found.fits) == 2
    # All of it is sampling.
    assert found.sampling_cpu == found.next_cpu > 0
    assert min(found.warm, found.cold) > 0
    assert found.version == gb.__version__
    assert found.peak > 1e7
    assert found.ess is not None


@pytest.mark.slow
@pytest.mark.parametrize("way", ["nuts", "control"])
def test_sampling_by_nutpie_is_told_apart(way):
    found = only(TINY, way)
    assert found.problem is None
    assert 0 < found.sampling_cpu < found.cpu


@pytest.mark.slow
@pytest.mark.skipif(bool(lacks_in_r("Rscript", ["rstanarm"])), reason="there is no rstanarm")
def test_rstanarm_is_measured():
    for cores in (1, 2):
        found = only(TINY, "rstanarm", settings=replace(FEW, cores=cores))
        assert found.problem is None
        assert 0 < found.sampling_cpu < found.cpu
        assert found.ess is not None


def test_what_a_python_peer_reports_is_kept(reporting):
    peer = reporting({**REPORT, "version": "1.2"})
    found = only(TINY, "bambi-nutpie", Interpreters(peers=peer))
    assert (found.cpu, found.next_cpu, found.sampling_cpu) == (2.0, 0.5, 0.25)
    assert (found.cold, found.warm, found.version) == (4.0, 4.0, "1.2")
    assert (found.ess, found.r_hat) == reliability(DRAWS)
    assert found.rate(found.cpu) == found.ess / 2.0


def test_r_is_told_the_same_task_in_its_own_format(reporting, tmp_path):
    keep = f"cp $folder/task.dcf {tmp_path}/seen.dcf;"
    r = reporting({**REPORT, "version": "2.21.3"}, before=keep)
    found = only(CASES["cbpp"], "rstanarm", Interpreters(r=r))
    assert (found.version, found.cold, found.warm) == ("2.21.3", None, 4.0)
    seen = dict(line.split(": ", 1) for line in (tmp_path / "seen.dcf").read_text().splitlines())
    assert seen["formula"] == "cbind(incidence, size - incidence) ~ period + (1 | herd)"
    assert (seen["family"], seen["draws"], seen["chains"]) == ("binomial", "10", "2")


@pytest.mark.skipif(shutil.which("Rscript") is None, reason="there is no R")
def test_draws_arrive_from_r_as_they_were_sent(tmp_path):
    source = (ROOT / "benchmarks/posterior/worker.R").read_text()
    writer = source[source.index("write_npy <-") : source.index("data <- read_table")]
    code = f"{writer}\nwrite_npy(array(as.numeric(1:24), c(2, 3, 4)), '{tmp_path}/draws.npy')"
    subprocess.run(["Rscript", "--vanilla", "-e", code], check=True)
    found = np.load(tmp_path / "draws.npy")
    np.testing.assert_array_equal(found, np.arange(1.0, 25).reshape(2, 3, 4, order="F"))


def test_too_much_memory_is_a_problem_of_ours(reporting):
    greedy = replace(TINY, most_draws=5, memory_limit=1e6)
    python = reporting({**REPORT, "version": "1"})
    everyone = Interpreters(ours=python, peers=python)
    found = only(greedy, "posthoc", everyone)
    assert found.problem == "took more memory than 1 MB"
    assert found.ess is None
    assert failed([found])
    assert only(greedy, "bambi-pymc", everyone).problem is None


def test_a_way_that_cannot_is_not_tried():
    case = replace(TINY, cannot={"rstanarm": "not its trade"})
    found = only(case, "rstanarm", Interpreters(r="/nowhere"))
    assert (found.problem, found.tried) == ("not its trade", False)
    assert list(measure(TINY, [WAYS["nuts-pymc"]], FEW, Interpreters())) == []


def test_a_process_that_fails_says_why(script):
    python = script("echo traceback; echo 'ValueError: no luck'; exit 1")
    found = only(TINY, "posthoc", Interpreters(ours=python))
    assert found.problem == "ValueError: no luck"
    assert found.fits == ()
    assert failed([found])


def test_a_process_that_is_killed_says_so(script):
    found = only(TINY, "posthoc", Interpreters(ours=script("kill -9 $$")))
    assert "SIGKILL" in found.problem


def test_a_process_that_takes_too_long_is_ended(script, tmp_path):
    started = tmp_path / "started"
    python = script(f"echo > {started}; sleep 30; echo > {tmp_path / 'ended'}")
    found = only(TINY, "bambi-pymc", Interpreters(peers=python), Settings(timeout=0.5))
    assert found.problem == ">0.5 s"
    assert started.exists()
    assert not (tmp_path / "ended").exists()
    assert not failed([found])


# The worker


def test_what_is_sampling_is_counted_between_two_questions(monkeypatch):
    clock = iter([1.0, 3.0, 10.0, 10.5])
    monkeypatch.setattr(worker, "processor_seconds", lambda: next(clock))
    meter = worker.Meter()
    assert meter.taken() is None
    sample = meter.metered(lambda value: value + 1)
    assert (sample(1), sample(2)) == (2, 3)
    assert meter.taken() == 2.5
    assert meter.taken() is None


def test_only_outer_parameters_that_vary_are_judged():
    rng = np.random.default_rng(1)
    corr = np.ones((2, 5, 2, 2))
    corr[..., 0, 1] = corr[..., 1, 0] = rng.uniform(size=(2, 5))
    posterior = xr.Dataset(
        {
            "gamma": (("chain", "draw", "coef"), rng.normal(size=(2, 5, 3))),
            "beta": (("chain", "draw", "coef"), rng.normal(size=(2, 5, 3))),
            "corr_g": (("chain", "draw", "a", "b"), corr),
            "v_g": (("chain", "draw", "g"), rng.normal(size=(2, 5, 7))),
            "b_g": (("chain", "draw", "g"), rng.normal(size=(2, 5, 7))),
        }
    )
    found = worker.outer_array(posterior, worker.of_our_model)
    assert found.shape == (2, 5, 3 + 2)
    np.testing.assert_array_equal(found[..., :3], posterior["beta"])
    np.testing.assert_array_equal(found[..., 3], corr[..., 0, 1])


def test_effects_of_bambi_are_not_judged():
    names = ["Intercept", "Days", "sigma", "1|Subject_sigma", "1|Subject", "Days|Subject"]
    assert [name for name in names if worker.of_bambi(name)] == names[:4]


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


# Cases


@pytest.mark.parametrize("case", CASES.values(), ids=list(CASES))
def test_the_cases_are_models_of_their_data(case):
    if isinstance(case.data, Simulation):
        case = replace(case, data=SMALL[case.data.kind])
    written = case.model(WAYS["posthoc"])
    model = gb.Model(written["formula"], case.table(), family=written["family"])
    assert model.nobs == len(case.table())


def test_what_a_case_cannot_be_measured_by_is_a_way():
    for case in CASES.values():
        assert set(case.cannot) <= set(USUAL)
        assert set(case.ways) <= set(WAYS)
        assert set(case.notes) | set(case.written) <= {way.kind for way in WAYS.values()}


def test_every_kind_of_way_has_its_worker():
    assert {way.kind for way in WAYS.values() if not way.in_r} == set(worker.SIDES)


# Reporting


def done(way, cpu, ess=400.0, r_hat=1.001, sampling=None, **more):
    fits = ((cpu, cpu, sampling), (cpu / 2, cpu / 2, sampling))
    return Measurement("some", way, fits, cpu, 2 * cpu, ess, r_hat, 3e8, "1.2", **more)


def test_the_table_shows_multiples_of_the_best_peer_and_of_the_control():
    text = table(
        [
            done("posthoc", 1.0, sampling=0.5),
            done("control", 20.0, sampling=10.0),
            done("bambi-pymc", 90.0, sampling=40.0),
            done("bambi-nutpie", 60.0, sampling=50.0),
        ]
    )
    peer, control = row(text, "posthoc ÷ best peer"), row(text, "posthoc ÷ control")
    # The first fit and the next against those of bambi by nutpie, sampling against bambi's own.
    assert re.findall(r"\d+×", peer) == ["60×", "60×", "80×"]
    assert re.findall(r"\d+×", control) == ["20×", "20×", "20×"]
    assert "?" not in peer + control


def test_rates_have_three_figures_or_all_before_the_point():
    line = row(table([done("posthoc", 0.1, ess=1234.4)]), "glmm_bayes posthoc")
    assert " 12,344 " in line
    assert " 61.7 " in row(table([done("posthoc", 20.0, ess=1234.4)]), "glmm_bayes posthoc")


def test_the_table_doubts_draws_that_disagree():
    text = table([done("posthoc", 10.0, 400.0, 1.2), done("bambi-pymc", 40.0, 500.0)])
    assert "400?" in row(text, "glmm_bayes posthoc")
    assert "500?" not in row(text, "bambi, pymc 1.2")
    assert "3.2×?" in row(text, "posthoc ÷ best peer")


def test_the_table_says_who_did_not_finish_who_cannot_and_who_failed():
    text = table(
        [
            done("posthoc", 10.0),
            Measurement("some", "control", problem=">9 s"),
            Measurement("some", "bambi-pymc", problem="a fall"),
            Measurement("some", "rstanarm", problem="not its trade", tried=False),
            done("bambi-nutpie", 10.0, note="a smaller model"),
        ]
    )
    assert ">9 s" in row(text, "nutpie on model.pymc")
    assert "failed" in row(text, "bambi, pymc (1)")
    assert re.search(r"rstanarm \(2\) +│ +- ", text)
    assert row(text, "bambi, nutpie 1.2 (3)")
    for line in ("(1) a fall.", "(2) not its trade.", "(3) a smaller model."):
        assert line in text
    assert "÷ control" not in text


def test_json_keeps_every_number(tmp_path):
    write_json([done("posthoc", 10.0)], FEW, tmp_path / "out.json")
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["settings"]["draws"] == FEW.draws
    (found,) = content["measurements"]
    assert (found["cpu"], found["next_cpu"], found["sampling_cpu"]) == (10.0, 5.0, None)
    assert found["ess_per_cpu_second"] == {"ESS/CPU s": 40.0, "next": 80.0, "sampling": None}


# The command


@pytest.mark.parametrize(("way", "status"), [("posthoc", 1), ("control", 0)])
def test_a_problem_of_ours_fails_the_run(way, status, monkeypatch, capsys):
    unlucky = Measurement("cbpp", way, problem="out of luck")
    monkeypatch.setattr("benchmarks.posterior.command.measure", lambda *_: [unlucky])
    assert main(["posterior", "--cases", "cbpp", "--ways", way]) == status
    assert "(1) out of luck." in capsys.readouterr().out


def test_a_missing_peer_asked_for_stops_with_the_remedy(script, capsys):
    asked = ["posterior", "--cases", "cbpp", "--ways", "bambi-pymc"]
    with pytest.raises(SystemExit):
        main([*asked, "--peer-python", script("echo bambi")])
    assert re.search(r"There is no bambi: install it.*--peer-python", capsys.readouterr().err)


def test_a_missing_peer_that_was_not_asked_for_is_left_out(script, capsys, monkeypatch):
    ways = []
    monkeypatch.setattr(
        "benchmarks.posterior.command.measure", lambda case, found, *_: ways.extend(found) or []
    )
    asked = ["posterior", "--cases", "cbpp", "--rscript", "/nowhere"]
    assert main([*asked, "--peer-python", script("echo bambi")]) == 0
    assert [way.name for way in ways] == ["posthoc", "nuts", "nuts-pymc", "control"]
    assert "not installed: bambi, rstanarm" in capsys.readouterr().err


def test_lacks_names_only_what_is_missing():
    assert lacks(sys.executable, ["numpy", "no_such_package"]) == ["no_such_package"]
