"""Coordinates around the mode: the same posterior, of nearly independent standard normals."""

import re
import warnings

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.density import compiled_density, read_density
from glmm_bayes.engine.density.whitening import Whitened
from glmm_bayes.errors import ConvergenceError, ConvergenceWarning, UnknownNameError
from glmm_bayes.inference import by_nutpie
from glmm_bayes.modes.whitening import find_whitening, nesting

N = 72
SMALL = {"chains": 2, "draws": 150, "tune": 200, "progressbar": False, "seed": 1}


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(21)
    h = np.repeat(np.arange(4), N // 4)
    g = 3 * h + rng.integers(0, 3, N)
    x, effect = rng.normal(size=N), rng.normal(size=12)
    eta = 0.4 + 0.5 * x + 0.7 * effect[g] + 0.5 * effect[h]
    return pd.DataFrame(
        {
            "x": x,
            "z": rng.normal(2.0, 1.0, N),
            "g": [f"g{k}" for k in g],
            "h": [f"h{k}" for k in h],
            "c": rng.choice(list("uvwxy"), N),
            "c2": rng.choice(list("uvwxy"), N),
            "o": np.arange(N),
            "real": eta + rng.normal(0, 0.8, N),
            "count": rng.poisson(np.exp(eta)),
            "yes": (rng.random(N) < 1 / (1 + np.exp(-eta))).astype(int),
        }
    )


def whitened(model):
    """Give the density in standard units, the whitened one by arrays, and as compiled."""
    joint = read_density(model, dict.fromkeys([term.name for term in model.design.terms], False))
    whitening = find_whitening(model, joint)
    return joint, Whitened(joint, whitening), compiled_density(model, joint, whitening)


def differences(function, x, h=1e-4):
    steps = h * np.eye(len(x))
    return np.array(
        [
            (8 * (function(x + e) - function(x - e)) - (function(x + 2 * e) - function(x - 2 * e)))
            / (12 * h)
            for e in steps
        ]
    )


MODELS = {
    "one term": ("count ~ x + (1 | g)", "poisson", {}),
    "slopes": ("yes ~ x + (1 + x | g)", "bernoulli", {}),
    "independent slopes": ("count ~ x + (1 + x || g)", "poisson", {}),
    "nested": ("count ~ x + (1 | h/g)", "poisson", {}),
    "nested thrice": ("count ~ x + (1 | h) + (1 | g) + (1 | o)", "poisson", {}),
    "slopes within slopes": ("real ~ x + (1 + x | h) + (1 + x | g)", "gaussian", {}),
    "twice on one group": ("real ~ x + (1 | g) + (0 + x | g)", "gaussian", {}),
    "crossed": ("yes ~ x + (1 | g) + (1 | c)", "bernoulli", {}),
    "crossed chains": ("count ~ x + (1 | h/g) + (1 | c)", "poisson", {}),
    "members": ("real ~ x + (1 | mm(c, c2)) + (1 | g)", "gaussian", {}),
    "scale too": (["real ~ x + (1 | g)", "sigma ~ z + (1 | h)"], "gaussian", {}),
    "across predictors": (["real ~ x + (1 |k| g)", "sigma ~ (1 |k| g)"], "gaussian", {}),
    "a constant of its own": ("count ~ x + (1 | g)", "negbinomial", {}),
    "not log-concave": ("real ~ x + (1 | h/g)", "student", {}),
    "without a kernel": ("real ~ x + cs(1 + x | g)", "gaussian", {}),
    "no random term": ("count ~ x + z", "poisson", {}),
    "nothing fixed": ("real ~ 0 + (1 | g)", "gaussian", {}),
    "some parameters fixed": (
        "real ~ x + z + (1 + x | g)", "gaussian",
        {"beta[x]": 0.4, "sd_g[x]": 0.5, "sigma": 0.8},
    ),
    "a coefficient with an end": (
        "real ~ x + z + (1 | g)", "gaussian",
        {"beta[x]": gb.Prior("HalfNormal", sigma=2)},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_the_density_is_the_posteriors_with_the_jacobian(data, name):
    formula, family, priors = MODELS[name]
    joint, by_arrays, compiled = whitened(gb.Model(formula, data, family, priors=priors))
    rng = np.random.default_rng(6)
    gaps = []
    for _ in range(3):
        z = rng.uniform(-1.0, 1.0, joint.size)
        value, gradient = by_arrays(z)
        other, by_kernels = compiled(z)
        expected = differences(lambda z: by_arrays(z)[0], z)
        np.testing.assert_allclose(gradient, expected, rtol=1e-6, atol=1e-7 * (1 + abs(value)))
        np.testing.assert_allclose(by_kernels, gradient, rtol=1e-7, atol=1e-8)
        x = by_arrays.place(z)
        np.testing.assert_allclose(compiled.place(z), x, rtol=1e-9, atol=1e-10)
        sign, log_rate = np.linalg.slogdet(differences(by_arrays.place, z))
        assert sign == 1
        direct = joint.value_and_gradient(x)[0] + log_rate
        gaps.append((value - direct, other - value))
    scale = 1e-9 * (1 + abs(value))
    assert np.abs(np.diff(gaps, axis=0)).max() < 1e-8 + scale


EXACT = {
    "one term": "real ~ x + (1 + x | g)",
    "nested": "real ~ x + (1 + x | h) + (1 | g)",
    "twice on one group": "real ~ x + z + (1 | h) + (1 | g) + (0 + z | g)",
}


@pytest.mark.parametrize("name", EXACT)
def test_given_the_outer_parameters_nested_effects_of_a_normal_response_are_standard_normal(
    data, name
):
    """Wherever the outer parameters are: their density is then exp(-z'z / 2), times a constant."""
    joint, _, evaluate = whitened(gb.Model(EXACT[name], data))
    rng, d = np.random.default_rng(8), joint.outer.size
    for _ in range(3):
        outer = rng.uniform(-2.0, 2.0, d)
        points = [np.concatenate([outer, rng.normal(size=joint.size - d)]) for _ in range(4)]
        constants = [evaluate(z)[0] + 0.5 * z[d:] @ z[d:] for z in points]
        np.testing.assert_allclose(constants, constants[0], rtol=1e-10, atol=1e-9)


def test_outer_parameters_have_the_modes_covariance(data):
    """The curvature at z = 0 of a normal posterior, known in closed form, is the identity."""
    priors = {"beta": gb.Prior("Normal", mu=0, sigma=2), "sigma": 0.8, "sd_g": 0.6}
    model = gb.Model("real ~ x + z + (1 | g)", data, priors=priors)
    joint, evaluate, _ = whitened(model)
    d = joint.outer.size
    assert d == 3
    at_mode = np.zeros(joint.size)
    np.testing.assert_allclose(evaluate(at_mode)[1], 0.0, atol=1e-5)
    # Effects and coefficients are normal together, and whitened altogether.
    H = -differences(lambda z: evaluate(z)[1], at_mode)
    np.testing.assert_allclose(H, np.eye(joint.size), atol=1e-5)


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("count ~ (1 | h) + (1 | g) + (1 | o)", {"o": "g", "g": "h"}),
        ("count ~ (1 | o) + (1 | h) + (1 | c)", {"o": "c"}),
        ("count ~ (1 | g) + (0 + x | g)", {"g": "g_2"}),
        ("count ~ (1 | g) + (1 | c)", {}),
        ("count ~ (1 | mm(c, c2)) + (1 | o)", {}),
    ],
)
def test_terms_are_chained_by_nesting(data, formula, expected):
    terms = gb.Model(formula, data, "poisson").design.terms
    found = nesting(terms)
    assert {terms[t].name: terms[s].name for t, (s, _) in found.items()} == expected
    for t, (s, above) in found.items():
        np.testing.assert_array_equal(above[terms[t].index[:, 0]], terms[s].index[:, 0])


# ---- as NUTS uses it


def fitted(model, **options):
    """Fit with few draws, of which the diagnostics may rightly complain."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return model.fit("nuts", **{**SMALL, **options})


def how(fit):
    return fit.statistics.attrs["notes"]


def test_the_fit_says_where_it_started(data):
    formula = "count ~ x + (1 | g)"
    model = gb.Model(formula, data, "poisson")
    assert "around the mode, in coordinates whitened" in how(fitted(model))
    assert "as the priors are spread, in the coordinates of `centering`: as asked" in how(
        fitted(model, start="prior")
    )
    by_hand = gb.Model(formula, data, "poisson", centering="centered")
    assert "centering was chosen by hand" in how(fitted(by_hand))
    assert "around the mode" in how(fitted(by_hand, start="mode"))
    with pytest.raises(UnknownNameError, match=r"start='modes' is not known. Did you mean 'mode'"):
        fitted(model, start="modes")


def test_without_a_mode_there_is_sampling_as_before(data, monkeypatch):
    model = gb.Model("count ~ x + (1 | g)", data, "poisson")

    def nowhere(*_):
        raise np.linalg.LinAlgError("not positive definite")

    plain = fitted(model, start="prior")
    monkeypatch.setattr(by_nutpie, "whitened_density", nowhere)
    fit = fitted(model)
    assert "the posterior's mode was not found: not positive definite" in how(fit)
    assert fit.idata["posterior"].to_dataset().equals(plain.idata["posterior"].to_dataset())
    with pytest.raises(ConvergenceError, match=re.escape("use start='prior'")):
        fitted(model, start="mode")


def test_seeds_reproduce_with_any_number_of_cores(data):
    model = gb.Model("count ~ x + (1 | h/g)", data, "poisson")
    one, two, other = fitted(model, cores=1), fitted(model, cores=2), fitted(model, seed=2)
    same = [fit.idata["posterior"].to_dataset() for fit in (one, two, other)]
    assert same[0].equals(same[1])
    assert not same[0].equals(same[2])


def test_both_coordinates_have_one_posterior(data):
    """Means agree within five Monte Carlo errors, of 400 effective draws at least."""
    model = gb.Model("count ~ x + (1 | h/g)", data, "poisson")
    options = {"chains": 4, "draws": 1000, "tune": 1000, "target_accept": 0.95}
    one, two = (fitted(model, start=start, **options) for start in ("mode", "prior"))
    for name in ("beta", "sd_h", "sd_h:g"):
        a, b = (f.idata["posterior"][name].to_numpy().reshape(4000, -1) for f in (one, two))
        error = 5 * a.std(axis=0) * np.sqrt(2 / 400)
        assert (np.abs(a.mean(axis=0) - b.mean(axis=0)) < error).all(), name


@pytest.mark.slow
def test_grouseticks_converges_in_a_thousand_draws(shared_data):
    model = gb.Model(
        "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)",
        gb.load_dataset("grouseticks"),
        "poisson",
    )
    for seed in (1, 2, 3):
        # No warning: R-hat and effective sizes are within the limits of every diagnostic.
        fit = model.fit("nuts", seed=seed, progressbar=False)
        table = fit.diagnostics().table
        assert table["r_hat"].max() < 1.01
        assert table["ess_bulk"].min() > 600
        assert fit.diagnostics().divergences == 0
