"""Priors that shrink coefficients together or share a variance out, against closed forms."""

import numpy as np
import pandas as pd
import pytest
from pointmap import pymc_logp, pymc_point
from scipy import stats

import glmm_bayes as gb
from glmm_bayes.density import compiled_density, read_density, sample_priors

N = 60
SHRINKING = {
    "horseshoe": gb.Prior.horseshoe(),
    "horseshoe by a ratio": gb.Prior.horseshoe(par_ratio=0.2, df=3, scale_slab=1),
    "r2d2": gb.Prior.r2d2(),
    "r2d2 of few": gb.Prior.r2d2(mean_R2=0.3, prec_R2=10, cons_D2=0.2),
    "lasso": gb.Prior.lasso(scale=0.4),
}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(4)
    X = rng.normal(size=(N, 4)) * [0.5, 1.0, 3.0, 10.0]
    frame = pd.DataFrame(X, columns=["a", "b", "c", "d"])
    frame["g"] = np.resize([f"g{k}" for k in range(6)], N)
    frame["h"] = np.repeat([f"h{k}" for k in range(4)], N // 4)
    frame["y"] = 3.0 + 2.0 * frame["a"] + rng.normal(size=N)
    frame["count"] = rng.poisson(2.0, N)
    return frame


def check(model):
    """Hold the arrays' density against differences, the compiled one and PyMC's."""
    joint = read_density(model)
    evaluate, logp = compiled_density(model, joint), pymc_logp(model)
    rng, values = np.random.default_rng(5), []
    for _ in range(3):
        x = rng.normal(scale=0.4, size=joint.size)
        value, gradient = joint.value_and_gradient(x)
        h = 1e-5 * np.eye(len(x))
        up, down = ([joint.value_and_gradient(x + s * e)[0] for e in h] for s in (1, -1))
        differences = (np.array(up) - np.array(down)) / 2e-5
        np.testing.assert_allclose(gradient, differences, rtol=1e-5, atol=1e-5)
        other, by_kernels = evaluate(x)
        np.testing.assert_allclose(by_kernels, gradient, rtol=1e-8, atol=1e-8)
        values.append((value, other, float(logp(**pymc_point(model, joint, x)))))
    steps = np.diff(values, axis=0)
    assert np.abs(steps).max() > 1e-3
    np.testing.assert_allclose(steps[:, 1], steps[:, 0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(steps[:, 2], steps[:, 0], rtol=1e-8, atol=1e-8)


# ---- the law of the readers


@pytest.mark.parametrize("name", SHRINKING)
def test_the_readers_have_one_density(data, name):
    check(gb.Model("y ~ a + b + c + (1 | g)", data, priors={"beta": SHRINKING[name]}))


def test_of_other_families_parameters_and_single_coefficients(data):
    horseshoe, r2d2 = gb.Prior.horseshoe(), gb.Prior.r2d2()
    check(gb.Model("count ~ a + b", data, family="poisson", priors={"beta": horseshoe}))
    formulas = ["y ~ a + b + c", "sigma ~ a + b"]
    check(gb.Model(formulas, data, priors={"beta": r2d2, "beta_sigma": horseshoe}))
    priors = {"beta": r2d2, "beta[a]": gb.Prior.horseshoe(), "beta[b]": 0.5, "sigma": 2.0}
    check(gb.Model("y ~ a + b + c + d", data, priors=priors))
    check(gb.Model("y ~ 0 + a + b", data, priors={"beta": horseshoe}))


@pytest.mark.parametrize("concentration", [1.0, 0.4, [1.0, 2.0, 3.0]])
def test_a_decomposed_variance_has_one_density(data, concentration):
    prior = gb.Prior.decomposed(gb.Prior("HalfStudentT", nu=3, sigma=2), concentration)
    check(gb.Model("y ~ a + (1 + b | g) + (1 | h)", data, priors={"sd": prior}))


# ---- what the priors say


def prior_draws(model, size=20_000):
    """Draw from the prior, by block of outer parameters."""
    outer = sample_priors(model, np.random.default_rng(2), size)
    return {name: outer[:, at] for name, at in model.layout.items()}


def alike(x, y, p=1e-3):
    """Tell whether two samples, or a sample and a distribution, may be the same."""
    assert stats.kstest(x, y).pvalue > p


def test_the_shrinkage_factors_of_a_horseshoe_are_beta(data):
    """Carvalho, Polson & Scott (2010), Biometrika 97: 1 / (1 + lambda^2) is Beta(1/2, 1/2)."""
    drawn = prior_draws(gb.Model("y ~ a + b", data, priors={"beta": gb.Prior.horseshoe()}))
    for local in drawn["local_beta"].T:
        alike(1 / (1 + local**2), stats.beta(0.5, 0.5).cdf)


def test_coefficients_of_a_horseshoe_are_those_of_its_definition(data):
    prior = gb.Prior.horseshoe(df=3, par_ratio=0.5, df_global=2, scale_slab=3, df_slab=5)
    drawn = prior_draws(gb.Model("y ~ a + b + d", data, priors={"beta": prior}))
    rng, size = np.random.default_rng(3), 20_000
    sigma = 2.5 * abs(rng.standard_t(3, size))
    tau = 0.5 / np.sqrt(N) * sigma * abs(rng.standard_t(2, size))
    wide = tau * abs(rng.standard_t(3, size))
    # A t variable is a normal one over the root of a gamma: the slab's on its own.
    slab = 3.0 / np.sqrt(rng.chisquare(5, size) / 5)
    expected = rng.normal(size=size) / np.sqrt(1 / wide**2 + 1 / slab**2)
    for k, name in enumerate(["a", "b", "d"], start=1):
        alike(drawn["beta"][:, k] * data[name].std(ddof=0), expected)


def test_the_slab_of_a_horseshoe_is_in_the_unit_of_the_response(data):
    wide = data.assign(y=100 * data["y"])
    model = gb.Model("y ~ a", wide, priors={"beta": gb.Prior.horseshoe(), "sigma": 1e9})
    beta = prior_draws(model)["beta"][:, 1] * data["a"].std(ddof=0)
    s = 1.4826 * np.median(abs(wide["y"] - wide["y"].median()))
    # Nothing is shrunk, so that the slab alone is left.
    alike(beta / (2 * s / 2.5), stats.t(4).cdf)


def test_r2d2_explains_as_much_as_it_says(data):
    prior = gb.Prior.r2d2(mean_R2=0.3, prec_R2=8, cons_D2=0.7)
    drawn = prior_draws(gb.Model("y ~ a + b + c + d", data, priors={"beta": prior}))
    alike(drawn["R2_beta"][:, 0], stats.beta(2.4, 5.6).cdf)
    spreads = data[list("abcd")].std(ddof=0).to_numpy()
    found = drawn["beta"][:, 1:] * spreads / drawn["sigma"]
    rng, size = np.random.default_rng(3), 20_000
    R2 = rng.beta(2.4, 5.6, (size, 1))
    expected = rng.normal(size=(size, 4)) * np.sqrt(rng.dirichlet([0.7] * 4, size) * R2 / (1 - R2))
    for k in range(4):
        alike(found[:, k], expected[:, k])
    alike((found**2).sum(axis=1), (expected**2).sum(axis=1))
    alike(found.max(axis=1), expected.max(axis=1))


def test_what_is_explained_of_the_variance_is_beta(data):
    """Of standardised columns, with normal coefficients' squares in place of their expectation."""
    drawn = prior_draws(gb.Model("y ~ a", data, priors={"beta": gb.Prior.r2d2(0.4, 5)}))
    ratio = drawn["beta"][:, 1] * data["a"].std(ddof=0) / drawn["sigma"][:, 0]
    R2 = np.linspace(0.0, 1.0, 4001)[1:-1]
    density = stats.beta(2, 3).pdf(R2)
    for c in (0.3, 1.0, 3.0):
        inside = 2 * stats.norm.cdf(c * np.sqrt((1 - R2) / R2)) - 1
        expected = np.trapezoid(inside * density, R2)
        assert np.mean(abs(ratio) < c) == pytest.approx(expected, abs=4 / np.sqrt(4 * len(ratio)))


def test_the_lasso_is_a_laplace_distribution_of_scaled_columns(data):
    model = gb.Model("y ~ a + d", data, priors={"beta": gb.Prior.lasso(scale=0.7)})
    drawn = prior_draws(model)["beta"]
    for k, name in enumerate(["a", "d"], start=1):
        alike(drawn[:, k] * data[name].std(ddof=0), stats.laplace(0, 0.7).cdf)


def test_penalised_complexity_has_the_tail_it_is_given():
    assert stats.expon(scale=1 / gb.Prior.pc(3.0, 0.05).arguments["lam"]).sf(3.0) == pytest.approx(
        0.05
    )
    found = gb.Prior.pc_range(4.0, 0.1).arguments
    assert stats.invgamma(found["alpha"], scale=found["beta"]).cdf(4.0) == pytest.approx(0.1)


def test_a_decomposed_variance_has_its_total_and_its_shares(data):
    prior = gb.Prior.decomposed(gb.Prior("HalfNormal", sigma=2.0), concentration=[1.0, 3.0, 0.5])
    model = gb.Model("y ~ a + (1 + c | g) + (1 | h)", data, priors={"sd": prior})
    drawn = prior_draws(model)
    sd = np.hstack([drawn["sd_g"] * [1.0, data["c"].std(ddof=0)], drawn["sd_h"]])
    total = (sd**2).sum(axis=1)
    alike(np.sqrt(total), stats.halfnorm(scale=2.0).cdf)
    for k, a in enumerate([1.0, 3.0, 0.5]):
        alike(sd[:, k] ** 2 / total, stats.beta(a, 4.5 - a).cdf)


def test_the_density_of_a_decomposed_variance_is_carried_over_by_its_jacobian(data):
    total, a = gb.Prior("Gamma", alpha=2.0, beta=0.7), np.array([1.0, 2.5])
    model = gb.Model(
        "y ~ a + (1 | g) + (1 | h)", data, priors={"sd": gb.Prior.decomposed(total, list(a))}
    )
    outer = read_density(model).outer
    form, at = outer.forms[-1]

    def split(sd):
        return np.array([np.sqrt(sd @ sd), sd[0] ** 2 / (sd @ sd)])

    def expected(sd):
        t, share = split(sd)
        h = 1e-6 * np.eye(2)
        jacobian = np.array([(split(sd + e) - split(sd - e)) / 2e-6 for e in h])
        density = stats.gamma.logpdf(t, 2.0, scale=1 / 0.7) + stats.beta.logpdf(share, *a)
        return density + np.log(abs(np.linalg.det(jacobian)))

    first, second = np.array([0.4, 1.7]), np.array([2.2, 0.3])
    found = float((form.core(second) - form.core(first))[0])
    assert found == pytest.approx(expected(second) - expected(first), abs=1e-7)
    assert len(at) == 2


# ---- the lasso's mode


def coordinate_descent(X, y, penalty):
    """Minimise |y - X beta|^2 / 2 + sum of penalty |beta|: Friedman, Hastie & Tibshirani (2010)."""
    beta = np.zeros(X.shape[1])
    for _ in range(5000):
        before = beta.copy()
        for k in range(len(beta)):
            beta[k] = 0.0
            rho = X[:, k] @ (y - X @ beta)
            beta[k] = np.sign(rho) * max(abs(rho) - penalty[k], 0) / (X[:, k] @ X[:, k])
        if abs(beta - before).max() < 1e-12:
            return beta
    raise AssertionError


@pytest.mark.parametrize("scale", [0.02, 0.05, 0.3, 5.0])
def test_the_mode_under_the_lasso_is_that_of_coordinate_descent(scale):
    rng, n, k, sigma = np.random.default_rng(12), 50, 8, 0.9
    X = rng.normal(size=(n, k)) @ (np.eye(k) + 0.4 * rng.normal(size=(k, k)))
    y = X @ np.array([1.0, -0.6, 0.3, 0, 0, 0, 0, 0.05]) + sigma * rng.normal(size=n)
    X, y = X - X.mean(axis=0), y - y.mean()  # so that the Intercept is zero
    frame = pd.DataFrame(X, columns=[f"x{j}" for j in range(k)]).assign(y=y)
    formula = "y ~ " + " + ".join(f"x{j}" for j in range(k))
    priors = {"beta": gb.Prior.lasso(scale), "sigma": sigma}
    fit = gb.Model(formula, frame, priors=priors).fit("map")
    expected = coordinate_descent(X, y, sigma**2 * X.std(axis=0) / scale)
    found = fit.fixef()["estimate"].to_numpy()[1:]
    np.testing.assert_allclose(found, expected, atol=2e-6)
    np.testing.assert_array_equal(found == 0, expected == 0)


def test_the_mode_under_the_lasso_beside_effects_has_its_subgradient(data):
    """Slopes of the likelihood are those of the prior off zero, and smaller at zero."""
    formula, scale = "count ~ a + b + c + d + (1 | g)", 0.1
    model = gb.Model(formula, data, family="poisson", priors={"beta": gb.Prior.lasso(scale)})
    fit = model.fit("map")
    beta = fit.fixef()["estimate"]
    zero = [name for name in "abcd" if beta[name] == 0]
    assert zero
    assert f"at zero, without a standard error: {zero[0]}" in fit.mode.notes[-1]

    def height(name, value):
        """Maximise over the rest, the prior of this one coefficient left out."""
        priors = {"beta": gb.Prior.lasso(scale), f"beta[{name}]": value}
        found = gb.Model(formula, data, family="poisson", priors=priors).fit("map")
        others = found.fixef()["estimate"].drop("Intercept").drop(name)
        spread = data[list(others.index)].std(ddof=0)
        sd = found.varcorr()["estimate"].iloc[0]
        centred = found.fixef()["estimate"].drop("Intercept") * data[list("abcd")].mean()
        intercept = found.fixef().loc["Intercept", "estimate"] + centred.sum()
        prior = found.model.priors.set_index("parameter")["arguments"]
        m = float(prior["intercept"].split("mu=")[1].split(",")[0])
        log_prior = stats.t(3, m, 2.5).logpdf(intercept) + stats.t(3, 0, 2.5).logpdf(sd)
        return found.loglik + log_prior + np.log(sd) - (abs(others) * spread).sum() / scale

    for name in zero:
        slope = (height(name, 1e-3) - height(name, -1e-3)) / 2e-3
        assert abs(slope) < data[name].std(ddof=0) / scale


# ---- what is refused and what is reported


@pytest.mark.parametrize(
    ("priors", "words"),
    [
        ({"sigma": gb.Prior.horseshoe()}, "is one of slopes"),
        ({"sd": gb.Prior.r2d2()}, "is one of slopes"),
        ({"beta": gb.Prior.decomposed(gb.Prior("HalfNormal"))}, "is one of standard deviations"),
        ({"beta[Intercept]": gb.Prior.horseshoe()}, "is one of slopes"),
        ({"sd": gb.Prior.decomposed(gb.Prior("HalfNormal"), [1, 2, 3])}, "speaks of 2: sd_g"),
    ],
)
def test_a_prior_that_does_not_fit_is_refused(data, priors, words):
    with pytest.raises(gb.DataError, match=words):
        gb.Model("y ~ a + (1 | g) + (1 | h)", data, priors=priors)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: gb.Prior.horseshoe(df=0), "df=0 of Prior.horseshoe must be positive"),
        (lambda: gb.Prior.r2d2(mean_R2=1), "between 0 and 1"),
        (lambda: gb.Prior.lasso("wide"), "scale='wide' of Prior.lasso"),
        (lambda: gb.Prior.pc(1, 2), "is a probability"),
        (lambda: gb.Prior.decomposed(2.0), "total=2.0"),
        (lambda: gb.Prior.decomposed(gb.Prior("Normal")), "a prior of a positive number"),
    ],
)
def test_an_argument_that_cannot_be_is_refused(make, words):
    with pytest.raises(gb.DataError, match=words):
        make()


def test_the_likelihood_takes_no_notice(data):
    priors = {"beta": gb.Prior.horseshoe(), "sd": gb.Prior.decomposed(gb.Prior.pc(1, 0.1))}
    formula = "y ~ a + b + (1 | g)"
    shrunk, free = (gb.Model(formula, data, priors=p) for p in (priors, None))
    for method in ("ml", "reml", "pql"):
        found, expected = shrunk.fit(method), free.fit(method)
        pd.testing.assert_frame_equal(found.fixef(), expected.fixef())
    with pytest.raises(gb.NotSupportedError, match="use fit\\('nuts'\\)"):
        shrunk.fit("map")


def test_the_table_of_priors_and_the_prior_predictive_say_what_was_given(data):
    model = gb.Model("y ~ a + b", data, priors={"beta": gb.Prior.horseshoe()})
    assert list(model.priors["parameter"]) == ["intercept", "beta[a]", "beta[b]", "sigma"]
    assert list(model.priors["distribution"])[1:3] == ["Horseshoe", "Horseshoe"]
    prior = model.prior_predictive(50, seed=1)["prior"]
    assert {"beta", "local_beta", "global_beta", "slab_beta", "sigma"} <= set(prior.data_vars)
    assert list(prior["local_beta__coef"].values) == ["a", "b"]


def test_the_mode_of_a_decomposed_variance_is_that_of_its_density(data):
    """One term: the density of log sd is that of the total, whose mode is found on a grid."""
    total = gb.Prior("Gamma", alpha=3.0, beta=2.0)
    one = gb.Model("y ~ a + (1 | g)", data, priors={"sd": gb.Prior.decomposed(total)})
    other = gb.Model("y ~ a + (1 | g)", data, priors={"sd": total})
    np.testing.assert_allclose(
        one.fit("map").varcorr()["estimate"], other.fit("map").varcorr()["estimate"], rtol=1e-4
    )


def test_a_fit_comes_back_from_its_file(data, tmp_path):
    priors = {"beta": gb.Prior.horseshoe(), "sd": gb.Prior.decomposed(gb.Prior.pc(1, 0.1))}
    fit = gb.Model("y ~ a + b + (1 | g)", data, priors=priors).fit("ml")
    fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(back.fixef(), fit.fixef())
    assert back.model.user_priors["beta"].distribution == "Horseshoe"
    assert repr(back.model.user_priors["sd"]) == repr(priors["sd"])


# ---- the posterior


def brute_force(X, y, spreads, scales):
    """Average normal regressions of sigma 1, without intercept, over scales drawn of the prior."""
    weights, means = [], []
    for scale in scales / spreads:
        S = np.eye(len(y)) + (X * scale**2) @ X.T
        weights.append(-0.5 * (np.linalg.slogdet(S)[1] + y @ np.linalg.solve(S, y)))
        means.append(np.linalg.solve(X.T @ X + np.diag(scale**-2), X.T @ y))
    w = np.exp(np.array(weights) - max(weights))
    return np.array(means).T @ (w / w.sum())


@pytest.mark.parametrize("kind", ["horseshoe", "r2d2"])
@pytest.mark.filterwarnings("ignore:.*ended in a divergence:glmm_bayes.errors.ConvergenceWarning")
@pytest.mark.slow
def test_the_posterior_of_a_sparse_regression(kind):
    rng, k, size = np.random.default_rng(8), 3, 60_000
    frame = pd.DataFrame(rng.normal(size=(12, k)) * [1.0, 2.0, 0.5], columns=list("abc"))
    frame["y"] = 1.0 * frame["a"] + rng.normal(size=12)
    if kind == "horseshoe":
        prior = gb.Prior.horseshoe()
        wide = abs(rng.standard_cauchy((size, 1)) * rng.standard_cauchy((size, k)))
        slab = 2.0 / np.sqrt(rng.chisquare(4, (size, 1)) / 4)
        scales = 1 / np.sqrt(wide**-2 + slab**-2)
    else:
        prior = gb.Prior.r2d2(cons_D2=1.0)
        R2 = rng.beta(1, 1, (size, 1))
        scales = np.sqrt(rng.dirichlet(np.ones(k), size) * R2 / (1 - R2))
    spreads = frame[list("abc")].std(ddof=0).to_numpy()
    expected = brute_force(frame[list("abc")].to_numpy(), frame["y"].to_numpy(), spreads, scales)
    model = gb.Model("y ~ 0 + a + b + c", frame, priors={"beta": prior, "sigma": 1.0})
    fit = model.fit("nuts", seed=1, target_accept=0.95, progressbar=False)
    table = fit.fixef()
    error = 5 * table["std_error"] / np.sqrt(table["ess_bulk"]) + 0.01
    assert (abs(table["estimate"] - expected) < error).all()
