"""Laws of families: density, derivatives, moments, draws and checks agree with each other."""

from itertools import product

import numpy as np
import pytest
from mixture_cases import LAWFUL
from scipy import integrate, special

from glmm_bayes.errors import UnknownNameError
from glmm_bayes.families import FAMILIES, LINKS, Family
from glmm_bayes.families.links import CIRCLE, POSITIVE, REAL, UNIT

CANDIDATES = np.array([-30.0, -1.0, 0.0, 1e-6, 0.1, 0.3, 0.5, 0.999, 1.0, 2.0, 7.0, 100.0, 1000.0])
TRIALS = (1.0, 10.0, 1000.0)
DRAWS = 200_000
# Of which the default parameters have no fourth moment, or times too early for differences.
LIGHT_TAILS = {
    "wiener": {"bs": (2.0, 1.5)},
    "loglogistic": {"alpha": (9.0, 12.0)},
    "gen_extreme_value": {"xi": (0.1, -0.4)},
}


# Those of categories have laws of their own, in test_ordinal.py and test_nominal.py.
PLAIN = [name for name, each in LAWFUL.items() if each.categories is None]


@pytest.fixture(params=PLAIN)
def family(request):
    return LAWFUL[request.param]


@pytest.fixture(params=[n for n, f in FAMILIES.items() if f.deviance is not None])
def family_with_deviance(request):
    return FAMILIES[request.param]


def plain(family):
    """Reduce a family to what a user must give: the rest is derived from its distribution."""
    return Family(
        name=f"plain_{family.name}",
        parameters=family.parameters,
        distribution=family.distribution,
        arguments=family.arguments,
    )


def values(support):
    lower, upper = support
    if np.isinf(lower):
        return -40.0, -1.3, 0.4, 60.0
    if np.isinf(upper):
        return tuple(lower + np.array([0.02, 0.7, 3.0, 50.0]))
    return tuple(lower + (upper - lower) * np.array([0.001, 0.35, 0.98]))


def responses(family):
    """List the candidates that the family's own check accepts, and their trials."""
    trials = TRIALS if family.needs_trials else (None,)
    return [
        (y, n)
        for y, n in product(CANDIDATES, trials)
        if family.problem(np.array([y]), None if n is None else np.array([n])) is None
    ]


def grid(family):
    """Cross responses with parameters: y, trials, parameters, each `(rows,)`."""
    spaces = [values(p.support) for p in family.parameters]
    rows = [(*response, *params) for response, *params in product(responses(family), *spaces)]
    y, trials, *columns = zip(*rows, strict=True)
    params = {p.name: np.array(c) for p, c in zip(family.parameters, columns, strict=True)}
    return np.array(y), np.array(trials) if family.needs_trials else None, params


def moderate(family, which=0):
    """Choose parameters at which the fourth moment is small enough to be estimated."""
    choice = {REAL: (0.3, -1.2), UNIT: (0.3, 0.8), CIRCLE: (0.3, -1.2), (1.0, 2.0): (1.3, 1.6)}
    above = ((0.6, 0.45, 0.8, 0.5), (0.9, 0.7, 0.5, 0.9))[which]
    found = {
        p.name: choice[p.support][which] if p.support in choice else above[k % 4] + 8 * p.support[0]
        for k, p in enumerate(family.parameters)
    }
    return found | {k: v[which] for k, v in LIGHT_TAILS.get(family.name, {}).items()}


def drawn(family, params, size=DRAWS):
    trials = np.array(7.0) if family.needs_trials else None
    return family.draw(np.random.default_rng(20), params, trials, size), trials


def test_parameters_are_coherent(family):
    means = ["mu"] if family.mixed is None else list(family.mixed.means)
    assert [p.name for p in family.parameters[: len(means)]] == means
    for parameter in family.parameters:
        assert parameter.link in parameter.links
        lower, upper = LINKS[parameter.link].support
        assert parameter.support == (lower, upper)
        assert all(name in LINKS for name in parameter.links)
        assert (parameter.prior is None) == (parameter.name in means)


def test_priors_of_parameters_stay_in_their_support(family):
    for parameter in (p for p in family.parameters if p.prior is not None):
        lower, upper = parameter.prior.support
        assert lower >= parameter.support[0]
        assert upper <= parameter.support[1]


def has(family, method):
    """Skip a family whose frozen distribution is our own, with only what the package needs."""
    if not hasattr(family.numeric(moderate(family), np.array(7.0)), method):
        pytest.skip(f"no {method}: see test_families_positive.py")


def test_density_is_that_of_scipy(family):
    has(family, "logpmf" if family.discrete else "logpdf")
    y, trials, params = grid(family)
    frozen = family.numeric(params, trials)
    with np.errstate(all="ignore"):
        expected = frozen.logpmf(y) if family.discrete else frozen.logpdf(y)
    # Some of scipy's densities are 0 where their logarithm is still a number.
    known = np.isfinite(expected)
    assert known.mean() > 0.4
    found = family.logp(y, trials, params)
    np.testing.assert_allclose(found[known], expected[known], rtol=1e-8, atol=1e-8)


def test_density_is_that_of_pymc(family):
    y, trials, params = grid(family)
    expected = plain(family).logp(y, trials, params)
    np.testing.assert_allclose(family.logp(y, trials, params), expected, rtol=1e-8, atol=1e-8)


CLOSED_FORMS = {
    "gaussian": lambda y, n, mu, sigma: (
        np.exp(-((y - mu) ** 2) / 2 / sigma**2) / (sigma * 2.5066282746310002)
    ),
    "student": lambda y, n, mu, sigma, nu: (
        (1 + (y - mu) ** 2 / (nu * sigma**2)) ** (-(nu + 1) / 2)
        / (sigma * np.sqrt(nu) * special.beta(nu / 2, 0.5))
    ),
    "lognormal": lambda y, n, mu, sigma: (
        np.exp(-((np.log(y) - mu) ** 2) / 2 / sigma**2) / (y * sigma * 2.5066282746310002)
    ),
    "gamma": lambda y, n, mu, alpha: (
        y ** (alpha - 1) * np.exp(-y * alpha / mu) * (alpha / mu) ** alpha / special.gamma(alpha)
    ),
    "inverse_gaussian": lambda y, n, mu, lam: (
        np.sqrt(lam / (2 * np.pi * y**3)) * np.exp(-lam * (y / mu + mu / y - 2) / (2 * mu))
    ),
    "exponential": lambda y, n, mu: np.exp(-y / mu) / mu,
    "weibull": lambda y, n, mu, alpha: (
        alpha / y * (y * special.gamma(1 + 1 / alpha) / mu) ** alpha
        * np.exp(-((y * special.gamma(1 + 1 / alpha) / mu) ** alpha))
    ),
    "beta": lambda y, n, mu, phi: (
        y ** (mu * phi - 1) * (1 - y) ** (phi - mu * phi - 1)
        * special.gamma(phi) / special.gamma(mu * phi) / special.gamma(phi - mu * phi)
    ),
    "bernoulli": lambda y, n, mu: np.where(y == 1, mu, 1 - mu),
    "binomial": lambda y, n, mu: special.comb(n, y) * mu**y * (1 - mu) ** (n - y),
    "beta_binomial": lambda y, n, mu, phi: (
        special.comb(n, y) * special.poch(mu * phi, y) * special.poch(phi - mu * phi, n - y)
        / special.poch(phi, n)
    ),
    "poisson": lambda y, n, mu: mu**y / special.factorial(y) * np.exp(-mu),
    "negbinomial": lambda y, n, mu, alpha: (
        special.poch(alpha, y) / special.factorial(y)
        * alpha**alpha * mu**y / (alpha + mu) ** (alpha + y)
    ),
    "nbinom1": lambda y, n, mu, phi: (
        special.poch(mu / phi, y) / special.factorial(y)
        * (1 + phi) ** (-mu / phi) * (phi / (1 + phi)) ** y
    ),
    "geometric": lambda y, n, mu: mu**y / (1 + mu) ** (y + 1),
}  # fmt: skip


@pytest.mark.parametrize("name", CLOSED_FORMS)
def test_density_is_the_textbook_formula(name):
    family = FAMILIES[name]
    pool = np.array([0.0, 1.0, 2.0, 5.0]) if family.discrete else np.array([0.05, 0.4, 0.9])
    n = np.full(pool.shape, 9.0) if family.needs_trials else None
    if family.binary:
        pool = np.array([0.0, 1.0])
    for which in range(2):
        params = moderate(family, which)
        expected = CLOSED_FORMS[name](pool, n, **params)
        np.testing.assert_allclose(np.exp(family.logp(pool, n, params)), expected, rtol=1e-10)


def test_density_has_mass_one(family):
    params = moderate(family)
    if family.discrete:
        trials = np.array([7.0]) if family.needs_trials else None
        pool = np.arange(8.0) if family.needs_trials else np.arange(-500.0, 5000.0)
        y = np.array([v for v in pool if family.problem(np.array([v]), trials) is None])
        total = np.exp(family.logp(y, trials, params)).sum()
    else:
        has(family, "ppf")
        # In quantiles, where the integrand is the ratio of the density to scipy's.
        frozen = family.numeric(params, None)

        def ratio(u):
            y = frozen.ppf(u)
            return np.exp(family.logp(y, None, params) - frozen.logpdf(y))

        total = integrate.quad(ratio, 1e-6, 1 - 1e-6)[0] + 2e-6
    assert total == pytest.approx(1.0, rel=1e-9)


def test_score_is_the_gradient_of_pymcs_density(family):
    y, trials, params = grid(family)
    found = family.kernel[1](y, trials, params)
    expected = plain(family).kernel[1](y, trials, params)
    # Where there is no density there is no slope.
    there = np.isfinite(family.logp(y, trials, params))
    found = {name: slope[there] for name, slope in found.items()}
    assert list(found) == [p.name for p in family.parameters]
    for name, slope in expected.items():
        scale, slope = 1e-8 * (1 + np.abs(1 / params[name][there])), slope[there]
        close = np.abs(found[name] - slope) <= 1e-7 * np.abs(slope) + scale
        assert close.all(), (name, found[name][~close], slope[~close])


def test_score_is_the_difference_quotient(family):
    trials = np.full(5, 9.0) if family.needs_trials else None
    params = {k: np.full(5, v) for k, v in moderate(family).items()}
    y = np.asarray(family.draw(np.random.default_rng(3), params, trials, 5), float)
    core, score = family.kernel
    for name, slope in score(y, trials, params).items():
        h = 1e-4

        def at(shift, name=name):
            return core(y, trials, {**params, name: params[name] + shift})

        quotient = (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)
        np.testing.assert_allclose(slope, quotient, rtol=1e-6, atol=1e-8)


NATURAL = [(n, link) for n, f in FAMILIES.items() for link in f.natural]


@pytest.mark.parametrize(("name", "link"), NATURAL)
def test_natural_kernel_is_the_kernel_at_the_inverse_link(name, link):
    family, natural = FAMILIES[name], FAMILIES[name].natural[link]
    for y, n in responses(family):
        # Further out the probability rounds to 1, and only the natural kernel is exact.
        eta = np.linspace(-2.5, 2.5, 13)
        y, trials = np.full(13, y), None if n is None else np.full(13, n)
        core, score = family.kernel
        params = {"mu": LINKS[link].linkinv(eta)}
        chain = score(y, trials, params)["mu"] * LINKS[link].slope(eta)
        np.testing.assert_allclose(
            natural.core(y, trials, eta), core(y, trials, params), rtol=1e-9, atol=1e-11
        )
        np.testing.assert_allclose(natural.score(y, trials, eta), chain, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("name", "link"), NATURAL)
def test_natural_kernel_is_finite_far_out(name, link):
    family, natural = FAMILIES[name], FAMILIES[name].natural[link]
    eta = np.array([-700.0, -40.0, 40.0, 700.0])
    for y, n in responses(family):
        trials = None if n is None else np.full(4, n)
        assert np.isfinite(natural.core(np.full(4, y), trials, eta)).all()
        assert np.isfinite(natural.score(np.full(4, y), trials, eta)).all()


@pytest.mark.parametrize("which", [0, 1])
def test_draws_have_the_stated_moments(family, which):
    if family.variance is None:
        pytest.skip("it states none")
    params = moderate(family, which)
    y, trials = drawn(family, params)
    mean = family.expectation(params) * (1.0 if trials is None else trials)
    variance = family.variance(params, trials)
    squares = (y - y.mean()) ** 2
    assert y.mean() == pytest.approx(mean, abs=6 * np.sqrt(y.var() / DRAWS) + 1e-12)
    assert y.var() == pytest.approx(variance, abs=6 * squares.std() / np.sqrt(DRAWS) + 1e-12)


def test_moments_are_those_of_scipy(family):
    has(family, "stats")
    _, trials, params = grid(family)
    frozen = family.numeric(params, trials)
    with np.errstate(over="ignore", invalid="ignore"):
        mean = family.expectation(params) * (1.0 if trials is None else trials)
        variance = family.variance(params, trials)
        expected_mean, expected = frozen.stats("mv")
    # scipy gives nan, inf or less than 0 for a moment that does not exist or is beyond all numbers.
    known = np.isfinite(expected) & (expected > 0)
    assert known.mean() > 0.4
    np.testing.assert_allclose(mean[known], expected_mean[known], rtol=1e-8)
    np.testing.assert_allclose(variance[known], expected[known], rtol=1e-8, atol=1e-13)


def test_the_distribution_function_is_that_of_the_draws(family):
    params = moderate(family)
    y, trials = drawn(family, params)
    points = np.unique(np.quantile(y, [0.001, 0.1, 0.35, 0.6, 0.9, 0.999]))
    share = np.array([(y <= point).mean() for point in points])
    expected = family.cdf(points, params, trials)
    assert (np.diff(expected) > 0).all()
    error = np.sqrt(expected * (1 - expected) / DRAWS)
    assert (np.abs(share - expected) <= 6 * error + 1e-9).all()


def test_draws_broadcast_against_rows(family):
    mu = {REAL: [-100.0, 100.0], UNIT: [0.001, 0.999], POSITIVE: [0.01, 10_000.0]}
    mu[CIRCLE] = [-1.5, 1.5]
    first = family.parameters[0]
    params = {**moderate(family, 1), first.name: np.array(mu[first.support])}
    trials = np.array([7.0, 7.0]) if family.needs_trials else None
    y = family.draw(np.random.default_rng(1), params, trials, (300, 2))
    assert y.shape == (300, 2)
    # Of hazards the larger mean earlier times.
    means = y.mean(axis=0)
    between = np.floor(means.mean()) if (y == np.floor(y)).all() else means.mean()
    up_to = family.cdf(between, params, trials)
    assert (means[0] < means[1]) == (up_to[0] > up_to[1])
    assert up_to[0] != up_to[1]


@pytest.mark.parametrize("which", [0, 1])
def test_a_family_accepts_what_it_draws(family, which):
    params = moderate(family, which) | {
        p.name: 4.0 for p in family.parameters[1:] if p.support == POSITIVE
    }
    trials = np.full(2000, 7.0) if family.needs_trials else None
    y = family.draw(np.random.default_rng(8), params, trials, 2000)
    assert family.problem(np.asarray(y, float), trials) is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_every_family_refuses_what_is_not_finite(family, bad):
    trials = np.full(3, 7.0) if family.needs_trials else None
    inside = 1.0 if family.discrete else 0.5
    assert family.problem(np.full(3, inside), trials) is None
    position, words = family.problem(np.array([inside, bad, inside]), trials)
    assert position == 1
    assert words


@pytest.mark.parametrize(
    ("name", "y", "trials", "position", "words"),
    [
        ("lognormal", [1, 0, -1], None, 1, "positive"),
        ("gamma", [1, 2, -1], None, 2, "positive"),
        ("inverse_gaussian", [0, 2, 1], None, 0, "positive"),
        ("exponential", [1, 2, 0], None, 2, "positive"),
        ("weibull", [1, -2, 0], None, 1, "positive"),
        ("beta", [0.5, 1.0], None, 1, "strictly between 0 and 1"),
        ("beta", [0.0, 0.5], None, 0, "strictly between 0 and 1"),
        ("bernoulli", [0, 1, 2], None, 2, "0 or 1"),
        ("bernoulli", [0, 0.5, 2], None, 1, "0 or 1"),
        ("poisson", [0, 1, 1.5], None, 2, "whole and not negative"),
        ("negbinomial", [0, -1, 1.5], None, 1, "whole and not negative"),
        ("nbinom1", [0.1], None, 0, "whole and not negative"),
        ("geometric", [3, 2, -4], None, 2, "whole and not negative"),
        ("binomial", [3, 2, 8], [7, 7, 7], 2, "more successes than trials (7)"),
        ("binomial", [3, 2.5, 6], [7, 7, 7], 1, "whole and not negative"),
        ("binomial", [3, 2, 0], [7, 7, -1], 2, "whole and not negative"),
        ("binomial", [3, 2, 1], [7, np.nan, 2], 1, "whole and not negative"),
        ("binomial", [3, 2, 1], [7, np.inf, 2], 1, "whole and not negative"),
        ("beta_binomial", [3, 2, 6], [7.5, 7, 7], 0, "whole and not negative"),
        ("beta_binomial", [3, -2, 6], [7, 7, 7], 1, "whole and not negative"),
    ],
)
def test_problem_says_where_and_what(name, y, trials, position, words):
    given = None if trials is None else np.array(trials, float)
    at, text = FAMILIES[name].problem(np.array(y, float), given)
    assert at == position
    assert words in text


def saturated(family, y, trials):
    """Give the mu at which the density of y is highest."""
    return y / trials if family.needs_trials else family.working(y)


def test_deviance_is_twice_the_distance_from_the_saturated_model(family_with_deviance):
    family = family_with_deviance
    units = {p.name: 1.0 for p in family.parameters[1:]}
    for y, n in responses(family):
        trials = None if n is None else np.array([n])
        y = np.array([y])
        best = saturated(family, y, trials)
        lower, upper = family.parameters[0].support
        if not lower < best[0] < upper:
            continue
        for mu in values(family.parameters[0].support):
            params = {"mu": np.array([mu]), **units}
            most, found = (family.logp(y, trials, params | {"mu": m}) for m in (best, params["mu"]))
            deviance = family.deviance(y, trials, params)
            np.testing.assert_allclose(deviance, 2 * (most - found), rtol=1e-8, atol=1e-8)


def test_deviance_is_not_negative_and_zero_where_saturated(family_with_deviance):
    family = family_with_deviance
    y, trials, params = grid(family)
    assert (family.deviance(y, trials, params) >= -1e-9).all()
    best = saturated(family, y, trials)
    lower, upper = family.parameters[0].support
    inside = (best > lower) & (best < upper)
    at = {k: v[inside] for k, v in params.items()} | {"mu": best[inside]}
    n = None if trials is None else trials[inside]
    np.testing.assert_allclose(family.deviance(y[inside], n, at), 0.0, atol=1e-9)


@pytest.mark.parametrize("name", [n for n in PLAIN if LAWFUL[n].needs_trials])
def test_no_trials_say_nothing(name):
    family, zero = LAWFUL[name], np.zeros(1)
    params = {k: np.array([v]) for k, v in moderate(family).items()}
    assert family.problem(zero, zero) is None
    assert family.logp(zero, zero, params) == pytest.approx(0.0, abs=1e-12)
    slopes = family.kernel[1](zero, zero, params)
    assert np.abs(list(slopes.values())).max() < 1e-12
    if family.deviance is not None:
        assert family.deviance(zero, zero, params) == 0.0


def test_negative_binomials_tend_to_the_poisson():
    y, mu = np.arange(30.0), np.full(30, 6.0)
    poisson = FAMILIES["poisson"].logp(y, None, {"mu": mu})
    nb2 = FAMILIES["negbinomial"].logp(y, None, {"mu": mu, "alpha": np.full(30, 1e9)})
    nb1 = FAMILIES["nbinom1"].logp(y, None, {"mu": mu, "phi": np.full(30, 1e-9)})
    np.testing.assert_allclose(nb2, poisson, atol=1e-6)
    np.testing.assert_allclose(nb1, poisson, atol=1e-6)


def test_a_misspelt_family_gets_a_suggestion():
    with pytest.raises(UnknownNameError, match="no family 'poison'. Did you mean 'poisson'"):
        FAMILIES["poison"]
