"""fit("map"): the priors' part, the maximum beside a dense optimiser's and beside blme's."""

import numpy as np
import pandas as pd
import pytest
from dense import Dense
from scipy import stats
from scipy.optimize import minimize

import glmm_bayes as gb
from glmm_bayes.engine.algebra.lapack import one_thread
from glmm_bayes.modes.coordinates import Coordinates
from glmm_bayes.modes.laplace import LaplaceObjective
from glmm_bayes.modes.penalised import LogPrior
from glmm_bayes.modes.reading import first_coefficients, first_sizes, read_laplace

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
SLEEP = "Reaction ~ Days + (1 + Days | Subject)"
CULCITA = "predation ~ ttt + (1 | block)"
FLAT_SD = gb.Prior("LogNormal", mu=0.0, sigma=1e4)  # on the logarithm


def few(dataset, rows=60):
    return gb.load_dataset(dataset).iloc[:rows]


def counts():
    """Counts that follow from a Poisson model with intercepts and slopes, by arithmetic alone."""
    rng = np.random.default_rng(20)
    g = np.repeat(np.arange(12), 8)
    x = np.tile(np.linspace(-1.0, 1.0, 8), 12)
    b = rng.normal(size=(12, 2)) @ np.array([[0.6, 0.2], [0.0, 0.4]])
    y = rng.poisson(np.exp(0.8 + 0.5 * x + b[g, 0] + b[g, 1] * x))
    return pd.DataFrame({"y": y, "x": x, "g": [f"g{k}" for k in g]})


# ---- the priors' part


def half_normal(sigma):
    return gb.Prior("HalfNormal", sigma=sigma)


MODELS = {
    "slopes": lambda: gb.Model("y ~ x + (1 + x | g)", counts(), "poisson"),
    "student": lambda: gb.Model(SLEEP, gb.load_dataset("sleepstudy"), "student"),
    "positive coefficient": lambda: gb.Model(
        "Reaction ~ Days + (1 | Subject)",
        gb.load_dataset("sleepstudy"),
        priors={"beta[Days]": half_normal(5.0), "sigma": gb.Prior("Uniform", lower=0, upper=90)},
    ),
    "another link": lambda: gb.Model(
        "Reaction ~ Days + (1 | Subject)", gb.load_dataset("sleepstudy"), link={"sigma": "sqrt"}
    ),
    "sd in an interval": lambda: gb.Model(
        CBPP, few("cbpp"), "binomial", priors={"sd": gb.Prior("Uniform", lower=0, upper=2)}
    ),
    "compound symmetry": lambda: gb.Model(
        "y ~ x + cs(1 + x | g)", counts(), "negbinomial",
        priors={"rho": gb.Prior("Uniform", lower=0, upper=1)},
    ),
    "held": lambda: gb.Model(
        SLEEP, gb.load_dataset("sleepstudy"), priors={"sd_Subject[Days]": 5.0, "sigma": 20.0}
    ),
    "two predictors": lambda: gb.Model(
        ["y ~ x + (1 |a| g)", "alpha ~ x + (1 |a| g)"], counts(), "negbinomial"
    ),
}  # fmt: skip


@pytest.fixture(params=list(MODELS))
def model(request):
    return MODELS[request.param]()


def places(model, coordinates, rng):
    """Give points inside the supports."""
    laplace = read_laplace(model)
    sd = first_sizes(model, laplace.system.latent)
    x = coordinates.inside(coordinates.join(first_coefficients(model), coordinates.start(sd)))
    return [x + 0.1 * rng.normal(size=len(x)) for _ in range(3)]


def test_the_priors_slopes_are_those_of_their_densities(model):
    coordinates = Coordinates.unconstrained(model)
    penalty = LogPrior(coordinates)
    for x in places(model, coordinates, np.random.default_rng(1)):
        value, slope = penalty(x)
        assert np.isfinite(value)
        numeric = [
            (penalty(x + step)[0] - penalty(x - step)[0]) / 2e-5 for step in 1e-5 * np.eye(len(x))
        ]
        np.testing.assert_allclose(slope, numeric, rtol=1e-6, atol=1e-6)


def test_the_penalised_likelihoods_slopes_are_right(model):
    coordinates = Coordinates.unconstrained(model)
    objective = LaplaceObjective(
        read_laplace(model), coordinates, joint=False, penalty=LogPrior(coordinates)
    )
    for x in places(model, coordinates, np.random.default_rng(2)):
        value, slope = objective(x)
        assert np.isfinite(value)
        numeric = [
            (objective(x + step)[0] - objective(x - step)[0]) / 2e-5
            for step in 1e-5 * np.eye(len(x))
        ]
        np.testing.assert_allclose(slope, numeric, rtol=1e-4, atol=1e-4 * abs(slope).max())


def test_outside_a_support_the_density_is_nothing():
    coordinates = Coordinates.unconstrained(MODELS["positive coefficient"]())
    value, slope = LogPrior(coordinates)(np.array([300.0, -1.0, 3.0, 3.0]))
    assert value == -np.inf
    assert not slope.any()


# ---- the maximum, beside a dense optimisation that shares nothing but the priors' numbers

DISTRIBUTIONS = {
    "Normal": lambda mu=0.0, sigma=1.0: stats.norm(mu, sigma),
    "StudentT": lambda nu, mu=0.0, sigma=1.0: stats.t(nu, mu, sigma),
    "HalfStudentT": lambda nu, sigma=1.0: stats.t(nu, 0.0, sigma),  # twice that, on half the line
    "HalfNormal": lambda sigma=1.0: stats.halfnorm(0.0, sigma),
    "LogNormal": lambda mu=0.0, sigma=1.0: stats.lognorm(sigma, scale=np.exp(mu)),
    "Beta": lambda alpha, beta: stats.beta(alpha, beta),
}


def log_priors(model, values):
    """Sum the priors' log densities at values by block."""
    total = 0.0
    for block in model.blocks:
        for prior, value in zip(block.priors, np.atleast_1d(values[block.name]), strict=True):
            total += DISTRIBUTIONS[prior.distribution](**prior.arguments).logpdf(value)
    return total


class Posterior:
    """The log posterior density at z: centred coefficients, log sd, log odds of (1 + corr) / 2."""

    def __init__(self, model, group):
        self.model, self.dense, self.group = model, Dense(model, restricted=False), group
        self.k = model.design.predictors["mu"].X.shape[1]
        self.p = model.design.terms[0].size

    def parts(self, z):
        k, p = self.k, self.p
        gamma, sd = z[:k], np.exp(z[k : k + p])
        values = {"beta": gamma, f"sd_{self.group}": sd}
        jacobian = z[k : k + p].sum()
        Lambda = np.diag(sd)
        at = k + p
        if p == 2:
            share = 1 / (1 + np.exp(-z[at]))
            r = 2 * share - 1
            Lambda = np.array([[sd[0], 0.0], [sd[1] * r, sd[1] * np.sqrt(1 - r * r)]])
            values[f"partial_{self.group}"] = share
            jacobian += np.log(share * (1 - share))
            at += 1
        rest = []
        if at < len(z):
            values["sigma"] = np.exp(z[at])
            jacobian += z[at]
            rest = [z[at:]]
        return values, Lambda, rest, jacobian

    def __call__(self, z):
        values, Lambda, rest, jacobian = self.parts(z)
        height = self.dense([values["beta"], *rest], [Lambda])
        return height + log_priors(self.model, values) + jacobian

    def top(self, z, units):
        """Climb by SciPy's quasi-Newton method, with differences to both sides."""
        steps = 1e-3 * np.diag(units)

        def slope(y):
            at = z + units * y
            return [(self(at - step) - self(at + step)) / 2e-3 for step in steps]

        with one_thread():
            found = minimize(lambda y: -self(z + units * y), 0 * z, jac=slope, method="BFGS")
        return z + units * found.x


def z_of(fit, posterior):
    """Read a fit of ours as the dense posterior's z."""
    theta, layout = fit.mode.theta, fit.model.layout
    parts = [theta[layout["beta"]], np.log(theta[layout[f"sd_{posterior.group}"]])]
    if posterior.p == 2:
        share = theta[layout[f"partial_{posterior.group}"]]
        parts.append(np.log(share) - np.log1p(-share))
    if "sigma" in layout:
        parts.append(np.log(theta[layout["sigma"]]))
    return np.concatenate(parts)


CASES = {
    "cbpp": (CBPP, "binomial", "herd", lambda: gb.load_dataset("cbpp")),
    "sleepstudy": (SLEEP, "gaussian", "Subject", lambda: gb.load_dataset("sleepstudy")),
    "counts": ("y ~ x + (1 + x | g)", "poisson", "g", counts),
}
WIDE = {"beta": gb.Prior("Normal", mu=0.0, sigma=1e5), "sd": half_normal(1e5)}


@pytest.mark.parametrize("priors", [{}, WIDE], ids=["default", "wide"])
@pytest.mark.parametrize("case", list(CASES))
def test_the_maximum_is_a_dense_optimisers(case, priors):
    formula, family, group, table = CASES[case]
    if case == "sleepstudy" and priors:
        priors = {**priors, "sigma": half_normal(1e5)}
    model = gb.Model(formula, table(), family, priors=priors)
    fit = model.fit("map", seed=1)
    posterior = Posterior(model, group)
    ours = z_of(fit, posterior)
    units = np.append(np.sqrt(np.diag(fit.mode.gamma_covariance["mu"])), np.ones(9))[: len(ours)]
    theirs = posterior.top(ours + 0.3 * units, units)
    assert posterior(ours) > posterior(theirs) - 1e-8
    np.testing.assert_allclose(ours / units, theirs / units, rtol=0, atol=1e-3)
    assert fit.loglik == pytest.approx(posterior.dense(*at_mode(posterior, ours)), abs=1e-6)


def at_mode(posterior, z):
    values, Lambda, rest, _ = posterior.parts(z)
    return [values["beta"], *rest], [Lambda]


def test_with_wide_priors_only_the_jacobian_keeps_it_from_maximum_likelihood():
    """To first order it shifts the logarithm of sd by its variance."""
    model = gb.Model(CBPP, gb.load_dataset("cbpp"), "binomial", priors=WIDE)
    shifted, plain = model.fit("map", seed=1), model.fit("ml", seed=1)
    flat = gb.Model(CBPP, gb.load_dataset("cbpp"), "binomial", priors=WIDE | {"sd": FLAT_SD})
    same = flat.fit("map", seed=1)
    np.testing.assert_allclose(same.mode.theta, plain.mode.theta, rtol=1e-5)
    np.testing.assert_allclose(
        same.mode.gamma_covariance["mu"], plain.mode.gamma_covariance["mu"], rtol=1e-3
    )
    expected = plain.mode.x[4] * np.exp(same.mode.covariance[4, 4])
    assert shifted.mode.theta[4] == pytest.approx(expected, rel=0.03)


# ---- blme


def culcita(rows=slice(None)):
    data = gb.load_dataset("culcita")
    return data.drop(index=data.index[rows]) if isinstance(rows, int) else data


# By blme's fit, the priors that make the same penalty on the logarithm of sd: none; and a Wishart
# density of df 3.5 of the variance, sd^(df - 2), divided by sd for the Jacobian.
BLME = {
    "bglmer_fixef_normal_sd3": {"beta": gb.Prior("Normal", mu=0, sigma=3), "sd": FLAT_SD},
    "bglmer_default": {
        "beta": gb.Prior("Normal", mu=0, sigma=1e6),
        "sd": gb.Prior("Gamma", alpha=1.5, beta=1e-10),
    },
}


@pytest.mark.parametrize("label", list(BLME))
def test_culcita_agrees_with_blme(label, shared_data, reference):
    theirs = next(f for f in reference("map_culcita_blme")["fits"] if f["label"] == label)
    fit = gb.Model(CULCITA, culcita(), "bernoulli", priors=BLME[label]).fit("map", seed=1)
    ours = fit.fixef()
    beta = [theirs["fixef"][name]["estimate"] for name in names_in_r(ours.index)]
    np.testing.assert_allclose(ours["estimate"], beta, atol=1e-3)
    sd = theirs["varcomp"]["block"]["sd"][0]
    assert fit.varcorr()["estimate"].iloc[0] == pytest.approx(sd, abs=1e-3)
    assert fit.loglik == pytest.approx(theirs["logLik"], abs=1e-4)


def names_in_r(index):
    return ["(Intercept)" if n == "Intercept" else "ttt" + n[6:-1] for n in index]


# ---- where maximum likelihood fails


def test_near_separation_converges(shared_data):
    """The culcita data without row 20, on which standard errors by maximum likelihood fail."""
    model = gb.Model(CULCITA, culcita(19), "bernoulli")
    fit = model.fit("map", seed=1)
    assert fit.converged
    posterior = Posterior(model, "block")
    ours = z_of(fit, posterior)
    theirs = posterior.top(ours + 0.3, np.ones(5))
    assert posterior(ours) > posterior(theirs) - 1e-8
    np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert (fit.fixef()["std_error"] < 5).all()


def test_complete_separation_converges():
    x = np.repeat([-1.0, 1.0], 30)
    data = pd.DataFrame({"x": x, "y": (x > 0).astype(int), "g": [f"g{k % 6}" for k in range(60)]})
    fit = gb.Model("y ~ x + (1 | g)", data, "bernoulli").fit("map", seed=1)
    assert fit.converged
    assert (fit.fixef()["std_error"] < 5).all()


def test_it_keeps_off_the_edge(shared_data):
    """The variance between sites is zero by maximum likelihood: glmm_gopher_singular."""
    formula = "shells ~ prev + offset(log(Area)) + C(year) + (1 | Site)"
    fit = gb.Model(formula, gb.load_dataset("gopher"), "poisson").fit("map", seed=1)
    assert not fit.is_singular
    assert fit.converged
    assert fit.varcorr()["estimate"].iloc[0] > 0.05


def test_starts_move_into_supports_that_priors_make_narrower():
    priors = {
        "beta": gb.Prior("Truncated", dist=gb.Prior("Normal", sigma=2.0), lower=-1.0, upper=0.2),
        "sd": gb.Prior("Uniform", lower=0, upper=0.1),
    }
    fit = gb.Model(CBPP, gb.load_dataset("cbpp"), "binomial", priors=priors).fit("map", seed=1)
    assert fit.converged
    assert (fit.mode.theta[:4] > -1).all()
    assert 0 < fit.mode.theta[4] < 0.1


def test_what_a_number_holds_stays():
    priors = {"sd_Subject[Days]": 3.0, "sigma": 25.0, "beta[Days]": 10.0}
    fit = gb.Model(SLEEP, gb.load_dataset("sleepstudy"), priors=priors).fit("map", seed=1)
    theta, layout = fit.mode.theta, fit.model.layout
    assert theta[layout["sd_Subject"]][1] == 3.0
    assert theta[layout["sigma"]] == pytest.approx(25.0)
    assert theta[layout["beta"]][1] == 10.0
    assert fit.df == 3


def test_quadrature(shared_data):
    """With flat priors, the maximum by 20 nodes: the case glmm_culcita_agq."""
    model = gb.Model(
        CULCITA, culcita(), "bernoulli", priors=BLME["bglmer_default"] | {"sd": FLAT_SD}
    )
    by_nodes, plain = model.fit("map", seed=1, nagq=20), model.fit("ml", seed=1, nagq=20)
    np.testing.assert_allclose(by_nodes.mode.theta, plain.mode.theta, rtol=2e-4)
    with pytest.raises(gb.NotSupportedError, match="exact already"):
        gb.Model(SLEEP, gb.load_dataset("sleepstudy")).fit("map", nagq=3)
