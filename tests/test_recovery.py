"""Recovery checks: calibrated where the posterior is exact, and alarmed where it is not."""

import pickle
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import joblib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy.special import gammaln
from scipy.stats import binomtest, kstest, norm, t

import glmm_bayes as gb
from glmm_bayes.draws import Draws
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.modes.another import with_response
from glmm_bayes.verbs.recovery_page import page_of
from glmm_bayes.verbs.recovery_replicate import RANKED, ranks, replicate, simulated
from glmm_bayes.verbs.recovery_study import Study
from glmm_bayes.verbs.recovery_table import holm, miscovered, not_uniform, table_of, uniformity
from glmm_bayes.verbs.replicates import Parcel

SIGMA, TAU = 0.7, 1.5
QUIET: dict[str, Any] = {"progressbar": False}
SAVED = ["table", "estimates"]


def line(n: int = 12) -> gb.Model:
    """y ~ x with known sigma and normal priors: the posterior has a closed form."""
    data = pd.DataFrame({"x": np.linspace(-1, 1, n), "y": np.arange(n) % 3.0})
    priors = {"beta": gb.Prior("Normal", mu=0, sigma=TAU), "sigma": SIGMA}
    return gb.Model("y ~ x", data, priors=priors)


def grouped(**arguments: Any) -> gb.Model:
    g = np.repeat(list("abcdefgh"), 5)
    data = pd.DataFrame({"g": g, "x": np.tile(np.arange(5.0), 8), "y": np.arange(40) % 7.0})
    return gb.Model("y ~ x + (1 | g)", data, **arguments)


class Independent(PosteriorFit):
    """Draws that are known to be independent, so that nothing has to be diagnosed."""

    def quality(self, values: np.ndarray) -> dict[str, np.ndarray]:
        return dict.fromkeys(("ess_bulk", "ess_tail"), np.full(values.shape[1], len(values)))

    def diagnostics(self) -> Any:
        return SimpleNamespace(problems=())


def as_fit(
    model: gb.Model, beta: np.ndarray, seed: int, kind: type[PosteriorFit] = Independent
) -> PosteriorFit:
    draws = Draws({"mu": beta}, {"sigma": np.full(len(beta), SIGMA)}, {}, {}, chains=2)
    tree = xr.DataTree.from_dict({"sample_stats": xr.Dataset()})
    return kind(model, tree, "exact", seed, 0.0, draws=draws)


def from_posterior(
    model: gb.Model, *, seed: int, spread: float = 1.0, shift: float = 0.0, size: int = 400
) -> PosteriorFit:
    """Normal with precision X'X / sigma^2 + I / tau^2, and then made wrong if asked."""
    X, y = model.design.predictors["mu"].X, model.design.y
    V = np.linalg.inv(X.T @ X / SIGMA**2 + np.eye(2) / TAU**2)
    noise = np.random.default_rng(seed).standard_normal((size, 2))
    beta = V @ X.T @ y / SIGMA**2 + (shift + spread * noise) @ np.linalg.cholesky(V).T
    return as_fit(model, beta, seed)


def from_prior(model: gb.Model, *, seed: int) -> PosteriorFit:
    """What a method gives that does not look at the data."""
    return as_fit(model, TAU * np.random.default_rng(seed).standard_normal((400, 2)), seed)


@pytest.fixture
def add_method(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    def add(name: str, method: Any) -> None:
        monkeypatch.setitem(gb.METHODS._items, name, method)

    return add


@pytest.fixture(autouse=True)
def _exact(add_method: Callable[..., None]) -> None:
    add_method("exact", from_posterior)


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    plt.close("all")


def same(a: Any, b: Any) -> bool:
    frames = zip(*([getattr(check, name) for name in SAVED] for check in (a, b)), strict=True)
    status = a.replicates["status"].equals(b.replicates["status"])
    return status and all(one.equals(other) for one, other in frames)


# ---- calibration


def test_an_exact_posterior_is_found_calibrated():
    check = gb.check_recovery(line(), 150, method="exact", seed=1, **QUIET)
    assert list(check.table.index) == ["beta[Intercept]", "beta[x]", "log_likelihood"]
    assert (check.table["n"] == 150).all()
    assert check.table["p_value"].min() > 0.02
    assert not len(not_uniform(check.table))
    assert not list(miscovered(check.table))
    error = check.table["bias"] / check.table["bias_se"]
    assert (error.abs() < 3).all()
    # For a normal posterior z is standard normal.
    assert abs(check.table["z"]).max() < 3 / np.sqrt(150)
    assert check.table["se_ratio"].to_numpy()[:2] == pytest.approx(1, abs=3 / np.sqrt(300))
    assert "may be uniform" in check.text()
    assert (check.estimates["of"] == RANKED).all()


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"spread": 0.5}, "Intervals that hold the truth too rarely or too often"),
        ({"spread": 2.0}, "Intervals that hold the truth too rarely or too often"),
        ({"shift": 1.0}, "Ranks are not uniform"),
    ],
)
def test_a_wrong_posterior_is_found_out(wrong, words):
    check = gb.check_recovery(line(), 100, method="exact", seed=2, **wrong, **QUIET)
    assert {"beta[Intercept]", "beta[x]"} <= set(not_uniform(check.table).index)
    page = " ".join(check.text(100).split())
    assert "Ranks are not uniform: beta[" in page
    assert words in page


def test_coverage_of_a_posterior_too_narrow_is_what_the_normal_distribution_says():
    check = gb.check_recovery(line(), 200, method="exact", seed=3, spread=0.5, **QUIET)
    for level in (0.5, 0.8, 0.95):
        wanted = 2 * norm.cdf(0.5 * norm.ppf(0.5 + level / 2)) - 1
        row = check.table.loc["beta[x]"]
        error = np.sqrt(wanted * (1 - wanted) / 200)
        assert row[f"coverage_{100 * level:.0f}"] == pytest.approx(wanted, abs=3.5 * error)
        assert row[f"coverage_{100 * level:.0f}_se"] == pytest.approx(error, rel=0.15)


def test_the_likelihood_shows_that_the_data_were_not_looked_at(add_method):
    """Modrak et al. (2023): ranks of the parameters alone are uniform for the prior itself."""
    add_method("blind", from_prior)
    check = gb.check_recovery(line(), 200, method="blind", seed=4, **QUIET)
    assert list(not_uniform(check.table).index) == ["log_likelihood"]


def test_coverage_and_bias_of_maximum_likelihood_are_those_of_student_and_chi():
    """Wald's interval with sigma^2 over n: |t_(n-k)| < z sqrt((n-k)/n); E sigma-hat by chi."""
    n, k, size = 8, 2, 300
    data = pd.DataFrame({"x": np.arange(n) % 3.0, "y": np.arange(n) % 5.0})
    priors = {
        "beta": gb.Prior("Normal", mu=0, sigma=2),
        "sigma": gb.Prior("Uniform", lower=0.5, upper=2),
    }
    check = gb.check_recovery(
        gb.Model("y ~ x", data, priors=priors), size, method="ml", seed=5, **QUIET
    )
    for level in (0.5, 0.8, 0.95):
        wanted = 2 * t(n - k).cdf(norm.ppf(0.5 + level / 2) * np.sqrt((n - k) / n)) - 1
        for name in ("beta[Intercept]", "beta[x]"):
            found = check.table.loc[name, f"coverage_{100 * level:.0f}"]
            assert binomtest(round(found * size), size, wanted).pvalue > 0.002
    part = check.estimates[check.estimates["parameter"] == "sigma"]
    ratio = (part["estimate"] / part["truth"]).to_numpy()
    c = np.sqrt(2 / n) * np.exp(gammaln((n - k + 1) / 2) - gammaln((n - k) / 2))
    assert ratio.mean() == pytest.approx(c, abs=3.5 * ratio.std() / np.sqrt(size))
    assert not check.ranked
    assert re.search(r"in percent: .*sigma \(", " ".join(check.text(100).split()))


@pytest.mark.parametrize("lag", [0.0, 0.8])
def test_ranks_of_exact_draws_are_uniform_whatever_their_effective_number(lag):
    """Autoregressions with the truth from their own stationary distribution."""
    rng, size, count = np.random.default_rng(6), 400, 1500
    x = np.empty((size, count))
    x[0] = rng.standard_normal(count)
    for k in range(1, size):
        x[k] = lag * x[k - 1] + np.sqrt(1 - lag**2) * rng.standard_normal(count)
    worth = np.full(count, size * (1 - lag) / (1 + lag))
    found = ranks(rng.standard_normal(count), x, {"ess_bulk": worth, "ess_tail": worth}, rng)
    assert (found[:, 1] == min(RANKED, int(worth[0] / 2))).all()
    assert kstest(found[:, 2], "uniform").pvalue > 0.01
    assert uniformity(found[:, 2]) > 0.01


def test_ties_and_draws_that_stand_still_are_ranked_at_random():
    rng = np.random.default_rng(7)
    truth, still = rng.integers(0, 4, 2000), rng.integers(0, 4, (50, 2000))
    worth = {"ess_bulk": np.full(2000, 60.0), "ess_tail": np.full(2000, np.nan)}
    found = ranks(truth.astype(float), still.astype(float), worth, rng)
    assert (found[:, 1] == 1).all()
    assert kstest(found[:, 2], "uniform").pvalue > 0.01
    assert np.isnan(
        ranks(np.array([np.nan]), np.zeros((9, 1)), {k: v[:1] for k, v in worth.items()}, rng)
    ).all()


# ---- what is simulated and fitted


def test_default_priors_stay_those_of_the_model(add_method):
    seen = []

    def looking(model: gb.Model, *, seed: int) -> Any:
        seen.append(model)
        raise gb.ConvergenceError("enough")

    add_method("looking", looking)
    model = grouped()
    with pytest.raises(gb.ConvergenceError, match="None of 3 .* ConvergenceError: enough"):
        gb.check_recovery(model, 3, method="looking", seed=1, **QUIET)
    assert len(seen) == 3
    assert not np.array_equal(seen[0].design.y, seen[1].design.y)
    for other in seen:
        pd.testing.assert_frame_equal(other.priors, model.priors)
        assert other.scales == model.scales
    fresh = gb.Model("y ~ x + (1 | g)", model.data.assign(y=seen[0].design.y))
    assert not fresh.priors.equals(model.priors)


def test_nothing_computed_from_the_old_response_stays_with_the_new():
    model = grouped(family="poisson")
    assert model.centering == {"g": False}
    rng = np.random.default_rng(0)
    y = rng.poisson(np.exp(np.repeat(3 * rng.standard_normal(8), 5) + 4)).astype(float)
    assert with_response(model, y).centering == {"g": True}
    assert np.array_equal(model.design.y, np.arange(40) % 7)


def test_effects_are_drawn_from_their_distribution_whatever_the_source():
    model = grouped()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fit = model.fit("map")
    rng = np.random.default_rng(1)
    for known in (None, fit.sampled(rng)):
        study = Study.of(model, "ml", {}, 1, known)
        drawn = [study.truth(rng) for _ in range(300)]
        b = [d.effects["g"][0, :, 0] / d.theta["sd_g"][0] for d in drawn]
        assert kstest(np.concatenate(b), "norm").pvalue > 0.01
    assert {float(d.beta["mu"][0, 0]) for d in drawn} <= set(known.beta["mu"][:, 0])


def test_a_few_effects_of_every_term_are_followed():
    check = gb.check_recovery(grouped(), 2, method="ml", seed=1, **QUIET)
    assert list(check.table.index) == [
        "beta[Intercept]", "beta[x]", "sd_g[Intercept]", "sigma",
        "b_g[a, Intercept]", "b_g[e, Intercept]", "b_g[h, Intercept]",
    ]  # fmt: skip


def test_what_is_held_fixed_is_not_followed():
    model = grouped(priors={"sigma": 1.0, "intercept": 0.0, "beta[x]": 2.0})
    check = gb.check_recovery(model, 2, method="ml", seed=1, **QUIET)
    assert [name for name in check.table.index if not name.startswith("b_")] == ["sd_g[Intercept]"]
    fixed = gb.Model("y ~ x", model.data, priors={"beta": 1.0, "sigma": 1.0})
    with pytest.raises(gb.DataError, match="held fixed"):
        gb.check_recovery(fixed, 2, method="ml", **QUIET)


@pytest.mark.parametrize(
    ("family", "mu", "words"),
    [
        ("poisson", 1e3, "cannot be drawn|not finite"),
        ("poisson", 40.0, "a count is above 1e"),
        ("gamma", -1e3, "not finite|cannot be drawn|refuses"),
        ("gaussian", np.inf, "not finite"),
    ],
)
def test_data_that_cannot_be_are_refused_in_words(family, mu, words):
    data = pd.DataFrame({"y": [1.0, 2.0, 3.0]})
    model = gb.Model("y ~ 1", data, family, priors={"beta": gb.Prior("Normal", mu=0, sigma=1)})
    constants = {name: np.ones(1) for name in model.constants}
    truth = Draws({"mu": np.array([[mu]])}, constants, {}, {}, chains=1)
    y, refused = simulated(model, truth, np.random.default_rng(0))
    assert not len(y)
    assert re.search(words, refused)


def test_refused_data_are_counted_and_said():
    data = pd.DataFrame({"y": [1, 2, 3, 2]})
    model = gb.Model("y ~ 1", data, "poisson", priors={"beta": gb.Prior("Normal", mu=0, sigma=60)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check = gb.check_recovery(model, 12, method="map", seed=3, **QUIET)
    refused = (check.replicates["status"] == "refused").sum()
    assert 0 < refused < 12
    assert check.table["n"].max() == 12 - refused
    page = " ".join(check.text(100).split())
    assert f"{refused} refused" in page
    assert "another, narrower prior" in page
    assert len(check.estimates["replicate"].unique()) == 12
    lost = check.estimates[
        check.estimates["replicate"].isin(check.replicates.query("status == 'refused'").index)
    ]
    assert lost["truth"].notna().all()
    assert lost["estimate"].isna().all()


def test_weights_are_no_distribution_to_draw_from():
    data = pd.DataFrame({"y": [1.0, 2.0, 4.0], "w": [1.0, 2.0, 1.0]})
    with pytest.raises(gb.NotSupportedError, match="weights"):
        gb.check_recovery(gb.Model("y | weights(w) ~ 1", data), 2, method="ml", **QUIET)


# ---- failures


def failing(model: gb.Model, *, seed: int) -> PosteriorFit:
    if model.design.y[0] > 0:
        raise gb.ConvergenceError(f"nothing found from {model.design.y[0]:.3f} on")
    return from_posterior(model, seed=seed)


def test_failed_fits_are_counted_and_quoted(add_method):
    add_method("failing", failing)
    check = gb.check_recovery(line(), 20, method="failing", seed=1, **QUIET)
    counts = check.replicates["status"].value_counts()
    assert counts["failed"] + counts["fitted"] == 20
    assert counts["failed"] > 3
    assert (check.table["n"] == counts["fitted"]).all()
    page = " ".join(check.text(100).split())
    assert f"{counts['failed']} fits failed" in page
    assert f"In {counts['failed']}, such as replicate" in page
    assert "ConvergenceError: nothing found from" in page


def test_doubtful_fits_count_and_are_quoted(add_method):
    def stuck(model: gb.Model, *, seed: int) -> PosteriorFit:
        fit = from_posterior(model, seed=seed, size=20)
        return as_fit(model, np.repeat(fit.draws.beta["mu"], 20, axis=0), seed, PosteriorFit)

    add_method("stuck", stuck)
    check = gb.check_recovery(line(), 5, method="stuck", seed=1, **QUIET)
    assert (check.replicates["status"] == "doubtful").all()
    assert (check.table["n"] == 5).all()
    assert "5 fitted, 5 of them doubtful" in check.text(100)
    assert "Few effective draws" in check.text(100)
    assert check.estimates["of"].max() < 20


def test_an_estimate_without_an_interval_is_no_miss():
    model = grouped(priors={"sd": gb.Prior("HalfNormal", sigma=0.05)})
    check = gb.check_recovery(model, 20, method="ml", seed=1, **QUIET)
    row = check.table.loc["sd_g[Intercept]"]
    assert row["intervals"] < row["n"] == 20
    assert "have no interval" in check.text(100)


# ---- reproducible, parallel, resumable


def test_a_seed_decides_and_the_number_of_replicates_does_not():
    a = gb.check_recovery(line(), 4, method="exact", seed=1, **QUIET)
    b = gb.check_recovery(line(), 6, method="exact", seed=1, **QUIET)
    c = gb.check_recovery(line(), 4, method="exact", seed=2, **QUIET)
    assert a.estimates.equals(b.estimates[b.estimates["replicate"] < 4])
    assert not a.estimates.equals(c.estimates)
    d = gb.check_recovery(line(), 2, method="exact", **QUIET)
    assert same(d, gb.check_recovery(line(), 2, method="exact", seed=d.seed, **QUIET))


def test_threads_give_the_same():
    one = gb.check_recovery(line(), 8, method="exact", seed=1, **QUIET)
    with joblib.parallel_config("threading", n_jobs=2):
        assert same(one, gb.check_recovery(line(), 8, method="exact", seed=1, **QUIET))


@pytest.mark.slow
def test_processes_give_the_same():
    model = grouped()
    one = gb.check_recovery(model, 6, method="ml", seed=1, **QUIET)
    assert same(one, gb.check_recovery(model, 6, method="ml", seed=1, n_jobs=2, **QUIET))


class Lists(joblib.parallel.ThreadingBackend):
    """Gives results in lists only, as Ray's backend does."""

    supports_return_generator = False


def test_backends_that_give_lists_only_are_used_too():
    joblib.register_parallel_backend("lists", Lists)
    one = gb.check_recovery(line(), 11, method="exact", seed=1, **QUIET)
    with joblib.parallel_config("lists", n_jobs=2):
        assert same(one, gb.check_recovery(line(), 11, method="exact", seed=1, **QUIET))


def test_a_family_of_ones_own_travels_with_what_it_needs():
    own = replace(
        gb.FAMILIES["poisson"], name="own", core=None, score=None, natural={}, compiled=None
    )
    model = gb.Model("y ~ 1", pd.DataFrame({"y": [1, 2, 4]}), own)
    study = Study.of(model, "exact", {}, 1, None)
    content = pickle.dumps(Parcel(study))
    assert pickle.loads(content).study.model.family is not own
    assert pickle.loads(content) is pickle.loads(content)
    bare = pickle.loads(pickle.dumps(Parcel(Study.of(line(), "exact", {}, 1, None))))
    assert bare.study.model.family is gb.FAMILIES["gaussian"]
    assert replicate(bare, 3).numbers == pytest.approx(
        replicate(Parcel(Study.of(line(), "exact", {}, 1, None)), 3).numbers, nan_ok=True
    )


def test_a_check_goes_on_where_it_stopped(tmp_path, add_method):
    count = []

    def counting(model: gb.Model, *, seed: int) -> PosteriorFit:
        count.append(seed)
        return failing(model, seed=seed)

    add_method("counting", counting)
    path = tmp_path / "kept.jsonl"
    arguments: dict[str, Any] = {"method": "counting", "seed": 1, **QUIET}
    gb.check_recovery(line(), 5, path=path, **arguments)
    with path.open("a") as file:
        file.write('{"k": 5, "sta')  # as if the computer had stopped
    more = gb.check_recovery(line(), 9, path=str(path), **arguments)
    assert len(count) == 9
    assert same(more, gb.check_recovery(line(), 9, **arguments))
    assert {"failed", "fitted"} == set(more.replicates["status"])
    again = gb.check_recovery(line(), 9, path=path, method="counting", **QUIET)
    assert len(count) == 18
    assert same(again, more)
    assert again.seed == 1
    assert len(gb.check_recovery(line(), 3, path=path, **arguments).replicates) == 3


def test_a_file_of_another_check_is_refused(tmp_path):
    path, model = tmp_path / "kept.jsonl", line()
    gb.check_recovery(model, 2, method="exact", seed=1, path=path, **QUIET)
    before = path.read_bytes()

    def again(model: gb.Model = model, **changes: Any) -> None:
        arguments = {"method": "exact", "seed": 1, **QUIET, **changes}
        gb.check_recovery(model, 2, path=path, **arguments)

    again()
    with pytest.raises(gb.DataError, match="other replicates: its seed is 1, not 2"):
        again(seed=2)
    with pytest.raises(gb.DataError, match="its method is 'exact', not 'ml'"):
        again(method="ml")
    with pytest.raises(gb.DataError, match="its options"):
        again(spread=2.0)
    with pytest.raises(gb.DataError, match="its formula"):
        again(gb.Model("y ~ 1", model.data, priors=model.user_priors))
    with pytest.raises(gb.DataError, match="its priors differ"):
        again(gb.Model("y ~ x", model.data, priors={**model.user_priors, "sigma": 0.8}))
    with pytest.raises(gb.DataError, match="its design differs"):
        again(
            gb.Model("y ~ x", model.data.assign(x=2.0 * model.data["x"]), priors=model.user_priors)
        )
    with pytest.raises(gb.DataError, match="its source is 'prior', not 'a fit'"):
        again(source=from_posterior(model, seed=1))
    assert path.read_bytes() == before


@pytest.mark.parametrize("content", ["", "nothing of ours\n", "[1, 2]\n", '{"a": 1}\n'])
def test_another_kind_of_file_is_left_alone(tmp_path, content):
    path = tmp_path / "other.txt"
    path.write_text(content)
    with pytest.raises(gb.DataError, match=r"other.txt' does not hold the replicates"):
        gb.check_recovery(line(), 2, method="exact", path=path, **QUIET)
    assert path.read_text() == content


def test_a_file_needs_a_folder(tmp_path):
    with pytest.raises(gb.DataError, match="no folder"):
        gb.check_recovery(line(), 2, method="exact", path=tmp_path / "none" / "a.jsonl", **QUIET)


@pytest.mark.parametrize("swallowed", [True, False])
def test_an_interrupted_check_keeps_what_it_has(tmp_path, add_method, swallowed):
    """Samplers take the interrupt for themselves and give the draws they have."""
    count = []

    def interrupted(model: gb.Model, *, seed: int) -> PosteriorFit:
        count.append(seed)
        if len(count) == 4:
            try:
                signal.raise_signal(signal.SIGINT)
            except KeyboardInterrupt:
                if not swallowed:
                    raise
        return from_posterior(model, seed=seed)

    add_method("interrupted", interrupted)
    path = tmp_path / "kept.jsonl"
    arguments: dict[str, Any] = {"method": "interrupted", "seed": 1, "path": path, **QUIET}
    part = gb.check_recovery(line(), 8, **arguments)
    assert not part.complete
    assert list(part.replicates.index) == [0, 1, 2]
    assert "3 of 8 replicates are done" in part.text(100)
    whole = gb.check_recovery(line(), 8, **arguments)
    assert whole.complete
    assert len(count) == 9
    assert same(whole, gb.check_recovery(line(), 8, method="exact", seed=1, **QUIET))


def test_an_interrupt_before_the_first_replicate_goes_through(add_method):
    def at_once(model: gb.Model, *, seed: int) -> PosteriorFit:
        raise KeyboardInterrupt

    add_method("at_once", at_once)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        gb.check_recovery(line(), 2, method="at_once", **QUIET)
    assert signal.getsignal(signal.SIGINT) is before


# ---- questions that mean nothing


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"n": 0}, gb.UnknownNameError, "n=0 must be a whole number of at least 1"),
        ({"n": 2.5}, gb.UnknownNameError, "n=2.5"),
        ({"seed": -1}, gb.UnknownNameError, "seed=-1"),
        ({"method": "exac"}, gb.UnknownNameError, "Did you mean 'exact'"),
        ({"source": "posterior"}, gb.UnknownNameError, "source='posterior' is not known"),
        ({"spred": 2}, gb.UnknownNameError, "no option 'spred'. Did you mean 'spread'"),
        ({"n": 3, "method": "reml", "draws": 2}, gb.UnknownNameError, "no option 'draws'"),
    ],
)
def test_wrong_questions_are_refused(changes, error, words):
    arguments = {"n": 2, "method": "exact", **QUIET, **changes}
    with pytest.raises(error, match=words):
        gb.check_recovery(line(), arguments.pop("n"), **arguments)


def test_truths_come_from_a_fit_of_the_same_model():
    fit = from_posterior(line(), seed=1)
    with pytest.raises(gb.DataError, match="other parameters"):
        gb.check_recovery(grouped(), 2, method="ml", source=fit, **QUIET)


def test_an_option_that_only_the_sampler_knows_ends_the_check(add_method):
    def sampler(model: gb.Model, *, seed: int, **options: Any) -> PosteriorFit:
        raise gb.UnknownNameError("It does not take 'maxdept'.")

    add_method("sampler", sampler)
    with pytest.raises(gb.UnknownNameError, match="does not take 'maxdept'"):
        gb.check_recovery(line(), 2, method="sampler", maxdept=3, **QUIET)


# ---- tables, page and figures


def test_the_table_is_the_arithmetic_of_the_estimates():
    check = gb.check_recovery(line(), 9, method="exact", seed=1, **QUIET)
    part = check.estimates[check.estimates["parameter"] == "beta[x]"]
    row, error = check.table.loc["beta[x]"], part["estimate"] - part["truth"]
    assert row["bias"] == pytest.approx(error.mean())
    assert row["bias_se"] == pytest.approx(error.std() / 3)
    assert row["rmse"] == pytest.approx(np.sqrt((error**2).mean()))
    assert row["z"] == pytest.approx((error / part["std_error"]).mean())
    held = (part["lower_80"] <= part["truth"]) & (part["truth"] <= part["upper_80"])
    assert row["coverage_80"] == pytest.approx(held.mean())
    order = np.sort(part["pit"])
    gap = max((np.arange(1, 10) / 9 - order).max(), (order - np.arange(9) / 9).max())
    assert row["deviation"] == pytest.approx(gap)
    pd.testing.assert_frame_equal(check.table, table_of(check.estimates))


def test_holm_adjusts_as_r_does():
    """R: p.adjust(c(.01, .02, .03, .2), "holm")."""
    found = holm(pd.Series([0.2, 0.01, 0.03, 0.02]))
    np.testing.assert_allclose(found, [0.2, 0.04, 0.06, 0.06])


def test_truths_of_a_fit_are_said_to_be_so():
    fit = from_posterior(line(), seed=1)
    check = gb.check_recovery(line(), 4, method="exact", source=fit, seed=1, **QUIET)
    page = " ".join(check.text(100).split())
    assert "drawn from a fit by exact, with new effects; seed 1" in page
    assert "The truths are those of a fit" in page
    assert "may be uniform" not in page
    assert check.source == "exact"
    assert "<table>" in check._repr_html_()
    assert repr(check) == page_of(check).text()


def test_figures_of_ranks_are_arviz_s_with_a_band():
    check = gb.check_recovery(line(), 30, method="exact", seed=1, **QUIET)
    figure = check.plot()
    titles = [ax.get_title() for ax in figure.axes if ax.get_title()]
    assert titles == list(check.table.index)
    pit = check.estimates.query("parameter == 'beta[x]'")["pit"].to_numpy()
    drawn = next(ax for ax in figure.axes if ax.get_title() == "beta[x]").lines[1].get_ydata()
    grid = np.linspace(pit.min(), pit.max(), 30)
    gap = np.mean(pit[:, None] <= grid, axis=0) - grid
    assert np.max(np.abs(drawn)) == pytest.approx(np.max(np.abs(gap)), abs=0.05)
    assert len(check.plot(parameters=["beta[x]"], coverage=True).axes) == 1
    with pytest.raises(gb.UnknownNameError, match="no quantity 'beta'"):
        check.plot(parameters=["beta"])
    with pytest.raises(gb.UnknownNameError, match="Did you mean 'ranks'"):
        check.plot("rank")


def test_figures_of_estimates_have_a_panel_a_quantity():
    check = gb.check_recovery(grouped(), 12, method="ml", seed=1, **QUIET)
    figure = check.plot()
    shown = [ax for ax in figure.axes if ax.get_visible()]
    assert [ax.get_title().split(":")[0] for ax in shown] == list(check.table.index)
    with pytest.raises(gb.DataError, match="no draws"):
        check.plot("ranks")


# ---- the methods themselves


@pytest.mark.slow
@pytest.mark.parametrize("family", ["gaussian", "poisson", "bernoulli"])
def test_nuts_draws_from_the_posterior(family):
    g = np.repeat(np.arange(10), 8)
    data = pd.DataFrame({"g": g, "x": np.tile(np.linspace(-1, 1, 8), 10), "y": g % 2})
    priors = {
        "intercept": gb.Prior("Normal", mu=0, sigma=1),
        "beta[x]": gb.Prior("Normal", mu=0, sigma=1),
        "sd": gb.Prior("HalfNormal", sigma=1),
    }
    model = gb.Model("y ~ x + (1 | g)", data, family, priors=priors)
    check = gb.check_recovery(model, 200, seed=1, n_jobs=2, draws=500, tune=500, **QUIET)
    assert (check.replicates["status"] != "failed").all()
    assert not len(not_uniform(check.table)), check.text()
    assert not list(miscovered(check.table)), check.text()
