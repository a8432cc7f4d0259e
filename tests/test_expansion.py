"""Expansions of the log density against Cauchy's integrals of formulas on the complex plane."""

from itertools import permutations, product

import numpy as np
import pytest
from mixture_cases import EXTREMES as EXTREMES_OF_MIXTURES
from mixture_cases import LAWFUL, textbook
from mixture_cases import LONG as LONG_MIXTURES
from mixture_cases import OTHERS_OF as OTHERS_OF_MIXTURES
from mixture_cases import RADII as RADII_OF_MIXTURES
from mixture_cases import RESPONSES as RESPONSES_OF_MIXTURES
from scipy import special
from test_architecture import loaded_after
from test_families import moderate, plain
from textbook_zeros import LONG, extremes_zeros, textbook_zeros
from textbook_zeros import OTHERS_OF as OTHERS_WITH_ZEROS
from textbook_zeros import RESPONSES as WITH_ZEROS

from glmm_bayes.errors import NotSupportedError
from glmm_bayes.families import FAMILIES, LINKS, Family, Parameter
from glmm_bayes.families.expansion import ROWS, RowDensity, expand
from glmm_bayes.families.links import CIRCLE, POSITIVE, REAL, UNIT

LG = special.loggamma
HALF_LOG_2PI = 0.5 * np.log(2 * np.pi)

# Each inverse link as a formula that holds on the complex plane.
INVERSES = {
    "identity": lambda e: e,
    "log": np.exp,
    "logit": lambda e: 1 / (1 + np.exp(-e)),
    "probit": special.ndtr,
    "cloglog": lambda e: 1 - np.exp(-np.exp(e)),
    "loglog": lambda e: np.exp(-np.exp(-e)),
    "cauchit": lambda e: 0.5 + np.arctan(e) / np.pi,
    "inverse": lambda e: 1 / e,
    "inverse_squared": lambda e: e**-0.5,
    "sqrt": lambda e: e**2,
    "softplus": lambda e: np.log(1 + np.exp(e)),
    "logm1": lambda e: 1 + np.exp(e),
    "logitm1": lambda e: 1 + 1 / (1 + np.exp(-e)),
    "tan_half": lambda e: 2 * np.arctan(e),
}


def normal(y, mu, sigma):
    return -(((y - mu) / sigma) ** 2) / 2 - np.log(sigma) - HALF_LOG_2PI


def choose(n, k):
    return LG(n + 1) - LG(k + 1) - LG(n - k + 1)


def rising(y, a):
    """Give log a (a + 1) … (a + y - 1)."""
    steps = (np.where(k < y, np.log(a + k), 0.0) for k in range(int(np.max(y))))
    return sum(steps, start=np.clongdouble(0.0))


def negbinomial(y, mu, a):
    return rising(y, a) - LG(y + 1) - a * np.log(1 + mu / a) - y * np.log(1 + a / mu)


def wiener(y, mu, bs, ndt, bias):
    """Feller (1968), An Introduction to Probability Theory I, XIV.6: images, or waves."""
    upper = y > 0
    t, v = np.abs(y) - ndt, np.where(upper, -mu, mu)
    w = np.where(upper, 1 - bias, bias)
    z = w * bs
    short = np.real(t / bs**2) < 0.3
    near, far = np.where(short, t, 0.3 * bs**2), np.where(short, 0.3 * bs**2, t)
    images = sum(
        (z + 2 * k * bs) * np.exp(-((z + 2 * k * bs) ** 2) / (2 * near)) for k in range(-4, 5)
    ) / np.sqrt(2 * np.pi * near**3)
    waves = (
        np.pi
        / bs**2
        * sum(
            k * np.sin(k * np.pi * w) * np.exp(-((k * np.pi / bs) ** 2) * far / 2)
            for k in range(1, 12)
        )
    )
    return np.log(np.where(short, images, waves)) - v * z - v**2 * t / 2


def log_ndtr(x):
    """Give log Phi of complex numbers, by the scaled error function of Faddeeva's."""
    left = np.where(np.real(x) < 0, x, 0.0)
    log = np.log(special.wofz(-1j * left / np.sqrt(2)) / 2) - left**2 / 2
    return np.where(np.real(x) < 0, log, np.log(special.ndtr(x - left)))


def skew_normal(y, mu, sigma, alpha):
    delta = alpha / np.sqrt(1 + alpha**2)
    omega = sigma / np.sqrt(1 - 2 * delta**2 / np.pi)
    z = (y - mu) / omega + delta * np.sqrt(2 / np.pi)
    return normal(z, 0, 1) - np.log(omega) + np.log(2) + log_ndtr(alpha * z)


def exgaussian(y, mu, sigma, beta):
    z = y - mu + beta
    q = z / sigma - sigma / beta
    left = np.real(q) < 0
    low, high = np.where(left, q, 0.0), np.where(left, 0.0, q)
    # Faddeeva's function where the exponential part's own terms cancel.
    near = -((z / sigma) ** 2) / 2 + np.log(special.wofz(-1j * low / 2**0.5) / 2)
    far = sigma**2 / (2 * beta**2) - z / beta + np.log(special.ndtr(high))
    return np.where(left, near, far) - np.log(beta)


def logistic(x):
    """Give the log density of complex numbers, with no logarithm across its cut."""
    away = np.where(np.real(x) < 0, x, -x)
    return away - 2 * np.log(1 + np.exp(away))


def extreme_value(y, mu, sigma, xi):
    t = np.log(1 + xi * (y - mu) / sigma) / xi
    return -np.log(sigma) - (1 + xi) * t - np.exp(-t)


def tweedie(y, mu, phi, power):
    """Give the log of a sum over how many gamma variables there are."""
    rate, a = mu ** (2 - power) / phi / (2 - power), (2 - power) / (power - 1)
    scale, total = phi * (power - 1) * mu ** (power - 1), 0.0
    t = np.where(y > 0, y, 1.0)
    for j in range(1, 45):
        log = j * np.log(rate) - LG(j + 1) + (j * a - 1) * np.log(t) - LG(j * a)
        # At the largest term of moderate rows: relative to the real number there, no overflow.
        total = total + np.exp(log - j * a * np.log(scale) - t / scale - rate)
    return np.where(y > 0, np.log(total), -rate)


# The log densities of the textbooks, y and n real, the parameters complex.
LOG_DENSITIES = {
    "gaussian": lambda y, n, mu, sigma: normal(y, mu, sigma),
    "student": lambda y, n, mu, sigma, nu: (
        LG((nu + 1) / 2) - LG(nu / 2) - np.log(nu * np.pi) / 2 - np.log(sigma)
        - (nu + 1) / 2 * np.log(1 + ((y - mu) / sigma) ** 2 / nu)
    ),
    "lognormal": lambda y, n, mu, sigma: normal(np.log(y), mu, sigma) - np.log(y),
    "gamma": lambda y, n, mu, a: (
        a * np.log(a / mu) + (a - 1) * np.log(y) - a * y / mu - LG(a)
    ),
    "inverse_gaussian": lambda y, n, mu, lam: (
        (np.log(lam) - 3 * np.log(y)) / 2 - HALF_LOG_2PI - lam * (y / mu - 1) ** 2 / (2 * y)
    ),
    "exponential": lambda y, n, mu: -y / mu - np.log(mu),
    "weibull": lambda y, n, mu, a: (
        np.log(a / y) + a * (np.log(y / mu) + LG(1 + 1 / a))
        - np.exp(a * (np.log(y / mu) + LG(1 + 1 / a)))
    ),
    "beta": lambda y, n, mu, phi: (
        (mu * phi - 1) * np.log(y) + (phi - mu * phi - 1) * np.log(1 - y)
        + LG(phi) - LG(mu * phi) - LG(phi - mu * phi)
    ),
    "bernoulli": lambda y, n, mu: np.where(y == 1, np.log(mu), np.log(1 - mu)),
    "binomial": lambda y, n, mu: (
        choose(n, y) + y * np.log(mu) + (n - y) * np.log(1 - mu)
    ),
    "beta_binomial": lambda y, n, mu, phi: (
        choose(n, y) + rising(y, mu * phi) + rising(n - y, phi - mu * phi) - rising(n, phi)
    ),
    "poisson": lambda y, n, mu: y * np.log(mu) - mu - LG(y + 1),
    "negbinomial": lambda y, n, mu, a: negbinomial(y, mu, a),
    "nbinom1": lambda y, n, mu, phi: negbinomial(y, mu, mu / phi),
    "geometric": lambda y, n, mu: -np.log(1 + mu) - y * np.log(1 + 1 / mu),
    "inverse_gamma": lambda y, n, mu, a: (
        a * np.log(mu * (a - 1)) - (a + 1) * np.log(y) - mu * (a - 1) / y - LG(a)
    ),
    "frechet": lambda y, n, mu, nu: (
        np.log(nu / y) - nu * (np.log(y / mu) + LG(1 - 1 / nu))
        - np.exp(-nu * (np.log(y / mu) + LG(1 - 1 / nu)))
    ),
    "loglogistic": lambda y, n, mu, a: np.log(a / y) + logistic(a * np.log(y / mu)),
    "shifted_lognormal": lambda y, n, mu, sigma, ndt: (
        normal(np.log(y - ndt), mu, sigma) - np.log(y - ndt)
    ),
    "skew_normal": lambda y, n, mu, sigma, alpha: skew_normal(y, mu, sigma, alpha),
    "exgaussian": lambda y, n, mu, sigma, nu: exgaussian(y, mu, sigma, nu),
    "gen_extreme_value": lambda y, n, mu, sigma, xi: extreme_value(y, mu, sigma, xi),
    "von_mises": lambda y, n, mu, kappa: (
        kappa * (np.cos(y - mu) - 1) - np.log(2 * np.pi)
        - np.log(special.ive(0, kappa) * np.exp(-1j * np.imag(kappa)))
    ),
    "tweedie": lambda y, n, mu, phi, power: tweedie(y, mu, phi, power),
    "wiener": lambda y, n, mu, bs, ndt, bias: wiener(y, mu, bs, ndt, bias),
}  # fmt: skip


def cox(y, n, mu, first, second):
    """Of quadratics between 0 and 10, by Bernstein's polynomials; the hazard stays after that."""
    u, after = np.minimum(y, 10) / 10, np.maximum(y - 10, 0)
    shares = first, second * (1 - first), (1 - second) * (1 - first)
    parts = 0.3 * (1 - u) ** 2, 0.6 * u * (1 - u), 0.3 * u**2
    sums = 1 - (1 - u) ** 3, u**2 * (3 - 2 * u), u**3 + 0.3 * after
    hazard, cumulated = (
        sum(s * p for s, p in zip(shares, each, strict=True)) for each in (parts, sums)
    )
    return np.log(mu * hazard) - mu * cumulated


LOG_DENSITIES["cox"] = cox
LOG_DENSITIES |= textbook_zeros(LOG_DENSITIES)
LOG_DENSITIES |= textbook(LOG_DENSITIES)
# Of a density with a kink there are no such derivatives.
# Those of categories have laws of their own, in test_ordinal.py and test_nominal.py.
SMOOTH = [
    n
    for n, f in LAWFUL.items()
    if not f.kinked and f.categories is None and n not in {*LONG, *LONG_MIXTURES}
]
PAIRS = [
    (name, link)
    for name in SMOOTH
    for link in LAWFUL[name].parameters[0].links
    # In three or four predictors a circle each takes long: the links are those of the others.
    if len(LAWFUL[name].parameters) < 3 or link == LAWFUL[name].parameters[0].link
]
RESPONSES = (
    {
        "gaussian": [-0.7, 0.4, 3.0],
        "student": [-0.7, 0.4, 3.0],
        "beta": [0.02, 0.6, 0.97],
        "weibull": [0.01, 0.8, 2.0],
        "bernoulli": [0.0, 1.0],
        "von_mises": [-3.0, 0.2, 1.4],
        "shifted_lognormal": [9.0, 12.0, 40.0],
        "gen_extreme_value": [0.3, 1.4],
        "tweedie": [0.0, 0.3, 4.0],
        "frechet": [0.8, 3.0, 12.0],
        "wiener": [-1.2, 2.0],
    }
    | WITH_ZEROS
    | RESPONSES_OF_MIXTURES
)
TRIALS = {0.0: 1.0, 1.0: 1.0, 17.0: 50.0, 50.0: 50.0}
MEANS = {REAL: (-1.3, 0.4, 6.0), POSITIVE: (0.3, 2.0, 9.0), UNIT: (0.2, 0.45, 0.8)}
MEANS |= {CIRCLE: (-1.3, 0.4, 2.5)}
OTHERS = {POSITIVE: (0.6, 4.0), REAL: (-0.5, 1.0), (1.0, np.inf): (2.5, 30.0)}
OTHERS |= {(1.0, 2.0): (1.2, 1.8), UNIT: (0.2, 0.7)}
# So that a circle about each stays where there is a density.
# And without a zero of the density.
RADII = {"tweedie": 0.05, "exgaussian": 0.05, "wiener": 0.1}
OTHERS_OF = {
    "gen_extreme_value": {"sigma": (8.0, 30.0), "xi": (-0.3, 0.3)},
    "frechet": {"nu": (2.5, 6.0)},
    "skew_normal": {"sigma": (3.0, 8.0)},
    "exgaussian": {"sigma": (4.0, 9.0), "nu": (3.0, 6.0)},
    "tweedie": {"phi": (2.0, 6.0), "power": (1.35, 1.7)},
    "wiener": {"bs": (1.2, 3.0), "ndt": (0.3,), "bias": (0.4,)},
}
OTHERS_OF |= OTHERS_WITH_ZEROS | OTHERS_OF_MIXTURES
RADII |= RADII_OF_MIXTURES


def responses(family):
    if family.needs_trials:
        return list(TRIALS)
    pool = [0.0, 1.0, 40.0] if family.discrete else [0.01, 0.8, 12.0]
    pool = RESPONSES.get(family.name, pool)
    return [y for y in pool if family.problem(np.array([y]), None) is None]


def chosen(family, link):
    """Give the link of each parameter, the mean's being `link`."""
    first, *others = family.parameters
    return {first.name: LINKS[link]} | {p.name: LINKS[p.link] for p in others}


def crossed(family, link):
    """Cross responses with predictors: y, trials and eta, `(n,)`, `(n,)` or None, `(P, n)`."""
    support = family.parameters[0].support
    inside = support if support != REAL else LINKS[link].support
    links = chosen(family, link)
    spaces = [LINKS[link].linkfun(np.array(MEANS[inside]))]
    for p in family.parameters[1:]:
        chosen_values = OTHERS_OF.get(family.name, {}).get(p.name, OTHERS[p.support])
        spaces.append(links[p.name].linkfun(np.array(chosen_values)))
    rows = np.array(list(product(responses(family), *spaces))).T
    y = rows[0]
    return y, np.array([TRIALS[v] for v in y]) if family.needs_trials else None, rows[1:]


def names(family):
    return [p.name for p in family.parameters]


def expansion(family, links, y, trials, eta, order=3, weights=None):
    return expand(family, links, names(family), y, trials, weights, eta, order)


def cauchy(log_density, eta, radius, points):
    """
    Give value and derivatives to third order by Cauchy's integral, over a circle a predictor.

    `log_density` takes P complex arrays `(n, points, …)`; `radius` is `(P, n)`.
    """
    P, n = eta.shape
    circle = np.exp(2j * np.pi * np.arange(points) / points)
    shapes = [[points if axis == a else 1 for axis in range(P)] for a in range(P)]
    column = [n] + [1] * P
    etas = [
        eta[a].reshape(column) + radius[a].reshape(column) * circle.reshape([1, *shapes[a]])
        for a in range(P)
    ]
    values = np.broadcast_to(log_density(*etas), (n, *[points] * P))
    coefficients = np.fft.fftn(values, axes=tuple(range(1, P + 1))).real / points**P
    tensors = []
    for k in range(4):
        tensor = np.zeros((P,) * k + (n,))
        for place in product(range(P), repeat=k):
            powers = [place.count(a) for a in range(P)]
            scale = np.prod(
                [special.factorial(i) / radius[a] ** i for a, i in enumerate(powers)], axis=0
            )
            tensor[place] = coefficients[(slice(None), *powers)] * scale
        tensors.append(tensor)
    return tensors


def truth(family, links, y, trials, eta, radius):
    P = len(eta)
    points = 20 if P < 4 else 16

    def column(v):
        return None if v is None else v.reshape([-1] + [1] * P)

    def log_density(*etas):
        params = [INVERSES[links[k].name](e) for k, e in zip(names(family), etas, strict=True)]
        return LOG_DENSITIES[family.name](column(y), column(trials), *params)

    # Of a branch that is not taken, or a term that vanishes, a textbook's formula may overflow.
    with np.errstate(all="ignore"):
        return cauchy(log_density, eta, radius, points)


def assert_agree(found, tensors, radius, floor):
    """Compare, up to what Cauchy's sums lose: the value's last digits over the radius' powers."""
    orders = (found.value, found.first, found.second, found.third)
    for k, (got, expected) in enumerate(zip(orders, tensors, strict=True)):
        lost = 2e-13 * (1 + np.abs(tensors[0])) * special.factorial(k) / np.min(radius, axis=0) ** k
        np.testing.assert_array_less(np.abs(got - expected), 1e-8 * np.abs(expected) + lost + floor)


@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_derivatives_are_those_of_the_textbook_formula(name, link):
    family, links = LAWFUL[name], chosen(LAWFUL[name], link)
    y, trials, eta = crossed(family, link)
    radius = np.full(eta.shape, RADII.get(name, 0.15))
    # Of many a link the inverse, or the density there, is singular where eta is 0.
    radius[0] = np.minimum(radius[0], 0.08 * np.abs(eta[0]))
    found = expansion(family, links, y, trials, eta)
    assert_agree(found, truth(family, links, y, trials, eta, radius), radius, 1e-10)


EXTREMES = {
    "gaussian": ((-700.0, 8.0), (-8.0, 8.0)),
    "student": ((-8.0, 8.0), (-3.0, 3.0), (-2.0, 12.0)),
    "lognormal": ((-8.0, 8.0), (-3.0, 8.0)),
    "gamma": ((-8.0, 8.0), (-8.0, 5.0)),
    "exponential": ((-8.0, 8.0),),
    "inverse_gaussian": ((-4.0, 8.0), (-8.0, 5.0)),
    "weibull": ((-1.0, 8.0), (-2.0, 0.5)),
    "beta": ((-8.0, 8.0), (-5.0, 6.0)),
    "bernoulli": ((-8.0, 8.0),),
    "binomial": ((-8.0, 8.0),),
    "beta_binomial": ((-8.0, 8.0), (-8.0, 0.3, 12.0)),
    "poisson": ((-8.0, 8.0),),
    "negbinomial": ((-8.0, 0.5, 8.0), (-8.0, 6.9, 7.0, 12.0)),
    "nbinom1": ((-8.0, 0.5, 8.0), (-8.0, 0.3, 12.0)),
    "geometric": ((-8.0, 8.0),),
    "inverse_gamma": ((-8.0, 8.0), (-5.0, 5.0)),
    "frechet": ((-1.0, 1.0), (-3.0, 0.3)),
    "loglogistic": ((-8.0, 8.0), (-8.0, 1.2)),
    "shifted_lognormal": ((-8.0, 8.0), (-3.0, 5.0), (-8.0, 1.0)),
    "skew_normal": ((-60.0, 8.0), (1.0, 5.0), (-2.0, 2.0)),
    "exgaussian": ((-8.0, 8.0), (0.0, 3.0), (-1.0, 3.0)),
    "gen_extreme_value": ((-3.0, 8.0), (3.0, 8.0), (-0.4, 0.4)),
    "cox": ((-8.0, 3.0), (-6.0, 6.0), (-6.0, 6.0)),
    "von_mises": ((-8.0, 8.0), (-8.0, 6.0)),
    "tweedie": ((-3.0, 1.5), (0.5, 4.0), (-2.0, 0.5)),
    "wiener": ((-6.0, 6.0), (0.6,), (-2.0,), (-1.0, 1.0)),
}
EXTREMES |= extremes_zeros(EXTREMES) | EXTREMES_OF_MIXTURES
MANY = 10_000.0
FAR = (-700.0, -100.0, -30.0, -20.0, 20.0, 30.0, 100.0, 700.0)


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_far_out(name):
    """Very small and large means, dispersions and counts."""
    family = LAWFUL[name]
    links = chosen(family, family.parameters[0].link)
    pool = responses(family)
    pool = [*pool, MANY] if pool[-1] == 40.0 else pool
    rows = np.array(list(product(pool, *EXTREMES[name]))).T
    y, eta = rows[0], rows[1:]
    trials = np.array([TRIALS[v] for v in y]) if family.needs_trials else None
    found = expansion(family, links, y, trials, eta)
    radius = np.full(eta.shape, RADII.get(name, 0.3))
    assert_agree(found, truth(family, links, y, trials, eta, radius), radius, 1e-8)


def test_the_negative_binomial_near_its_limit():
    """Poisson's log density and ((y - mu)² - y) / (2 alpha), plus terms of 1/alpha²."""
    family = FAMILIES["negbinomial"]
    y, mu, a = np.array([0.0, 1.0, 7.0]), np.array([2.0, 4.0, 3.0]), np.exp(12.0)
    eta = np.array([np.log(mu), np.full(3, 12.0)])
    found = expansion(family, chosen(family, "log"), y, None, eta)
    excess = ((y - mu) ** 2 - y) / (2 * a)
    by_mu = -mu * (y - mu) / a  # of the excess, by log(mu)
    np.testing.assert_allclose(found.first[1], -excess, rtol=1e-3)
    np.testing.assert_allclose(found.second[1, 1], excess, rtol=1e-3)
    np.testing.assert_allclose(found.third[1, 1, 1], -excess, rtol=1e-3)
    np.testing.assert_allclose(found.second[0, 1], -by_mu, rtol=1e-3)
    np.testing.assert_allclose(found.third[0, 1, 1], by_mu, rtol=1e-3)


def test_the_student_near_its_limit():
    """The normal log density and (r⁴ - 2 r² - 1) / (4 nu), plus terms of 1/nu²."""
    family = FAMILIES["student"]
    r, nu = np.array([0.0, 0.4, 3.0]), 1 + np.exp(12.0)
    eta = np.array([np.zeros(3), np.zeros(3), np.full(3, 12.0)])
    found = expansion(family, chosen(family, "identity"), r, None, eta)
    excess = (r**4 - 2 * r**2 - 1) / (4 * nu)
    np.testing.assert_allclose(found.first[2], -excess, rtol=1e-3)
    np.testing.assert_allclose(found.second[2, 2], excess, rtol=1e-3)
    np.testing.assert_allclose(found.third[2, 2, 2], -excess, rtol=1e-3)


@pytest.mark.parametrize("eta", [-30.0, -8.0, 0.5, 8.0, 30.0])
def test_binomial_logit_to_the_last_digit(eta):
    """-n p q and -n p q (q - p): McCullagh & Nelder (1989), Generalized Linear Models, 4.4."""
    family, y, n = FAMILIES["binomial"], np.array([0.0, 1.0, 3.0]), np.array([50.0, 1.0, 3.0])
    found = expansion(family, chosen(family, "logit"), y, n, np.full((1, 3), eta))
    p, q = 1 / (1 + np.exp(-eta)), 1 / (1 + np.exp(eta))
    np.testing.assert_allclose(found.first[0], y * q - (n - y) * p, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(found.second[0, 0], -n * p * q, rtol=1e-12)
    np.testing.assert_allclose(found.third[0, 0, 0], -n * p * q * (q - p), rtol=1e-12)


@pytest.mark.parametrize("eta", [-8.0, 8.0, 300.0])
def test_poisson_log_to_the_last_digit(eta):
    y = np.array([0.0, 1.0, MANY])
    found = expansion(FAMILIES["poisson"], {"mu": LINKS["log"]}, y, None, np.full((1, 3), eta))
    np.testing.assert_allclose(found.first[0], y - np.exp(eta), rtol=1e-14)
    np.testing.assert_allclose(found.second[0, 0], np.full(3, -np.exp(eta)), rtol=1e-14)
    np.testing.assert_allclose(found.third[0, 0, 0], np.full(3, -np.exp(eta)), rtol=1e-14)


@pytest.mark.parametrize("link", FAMILIES["binomial"].natural)
def test_the_natural_kernels_are_finite_and_concave_far_out(link):
    family, eta = FAMILIES["binomial"], np.array([[-700.0, -60.0, -40.0, 40.0, 60.0, 700.0]])
    for y, n in [(0.0, 5.0), (2.0, 5.0), (5.0, 5.0)]:
        found = expansion(family, {"mu": LINKS[link]}, np.full(6, y), np.full(6, n), eta)
        assert all(np.isfinite(t).all() for t in (found.value, found.first, found.second))
        assert np.isfinite(found.third).all()
        assert link == "cauchit" or (found.second <= 0).all()


@pytest.mark.parametrize(("name", "link"), PAIRS)
def test_value_and_slope_are_those_of_the_family(name, link):
    family, links = LAWFUL[name], chosen(LAWFUL[name], link)
    y, trials, eta = crossed(family, link)
    params = {k: links[k].linkinv(e) for k, e in zip(names(family), eta, strict=True)}
    found = expansion(family, links, y, trials, eta, order=1)
    np.testing.assert_allclose(found.value, family.logp(y, trials, params), rtol=1e-10, atol=1e-11)
    score = family.kernel[1](y, trials, params)
    for k, e, slope in zip(names(family), eta, found.first, strict=True):
        np.testing.assert_allclose(slope, score[k] * links[k].slope(e), rtol=1e-9, atol=1e-10)


class TestShapes:
    family = FAMILIES["student"]
    links = chosen(family, "identity")

    def setup_method(self):
        rng = np.random.default_rng(5)
        self.y, self.eta = rng.normal(size=7), rng.normal(size=(3, 7))

    def test_the_derivatives_are_symmetric(self):
        third = expansion(self.family, self.links, self.y, None, self.eta).third
        for order in permutations(range(3)):
            np.testing.assert_array_equal(third.transpose(*order, 3), third)

    @pytest.mark.parametrize("order", [1, 2])
    def test_lower_orders_stop_there(self, order):
        low = expansion(self.family, self.links, self.y, None, self.eta, order)
        high = expansion(self.family, self.links, self.y, None, self.eta)
        np.testing.assert_array_equal(low.value, high.value)
        np.testing.assert_allclose(low.first, high.first, rtol=1e-13)
        assert low.third is None
        assert (low.second is None) == (order == 1)

    def test_weights_multiply_everything(self):
        weights = np.arange(7.0)
        plain = expansion(self.family, self.links, self.y, None, self.eta)
        found = expansion(self.family, self.links, self.y, None, self.eta, weights=weights)
        np.testing.assert_allclose(found.value, weights * plain.value)
        np.testing.assert_allclose(found.third, weights * plain.third)

    def test_the_order_of_the_predictors_is_that_of_the_names(self):
        back = expand(
            self.family, self.links, names(self.family)[::-1], self.y, None, None, self.eta[::-1], 2
        )
        found = expansion(self.family, self.links, self.y, None, self.eta)
        np.testing.assert_allclose(back.second, found.second[::-1, ::-1], rtol=1e-12, atol=1e-14)

    def test_a_constant_predictor_is_a_row_like_another(self):
        self.eta[1:] = self.eta[1:, :1]
        found = expansion(self.family, self.links, self.y, None, self.eta)
        for i in range(7):
            alone = expansion(self.family, self.links, self.y[[i]], None, self.eta[:, [i]])
            np.testing.assert_allclose(found.third[..., i], alone.third[..., 0], rtol=1e-12)

    def test_many_rows_are_like_few(self):
        n = 2 * ROWS + 3
        y, eta = np.resize(self.y, n), np.resize(self.eta[:, :1], (3, n)) + np.arange(n) / n
        weights = 1 + np.arange(n) / n
        found = expansion(self.family, self.links, y, None, eta, weights=weights)
        for at in (slice(0, 2), slice(ROWS - 1, ROWS + 1), slice(n - 2, n)):
            few = expansion(self.family, self.links, y[at], None, eta[:, at], weights=weights[at])
            np.testing.assert_allclose(found.value[at], few.value)
            np.testing.assert_allclose(found.third[..., at], few.third, rtol=1e-12, atol=1e-15)

    def test_no_rows(self):
        found = expansion(self.family, self.links, self.y[:0], None, self.eta[:, :0])
        assert found.third.shape == (3, 3, 3, 0)


@pytest.mark.parametrize("name", [n for n, f in FAMILIES.items() if f.kinked])
def test_of_a_kink_there_is_no_curvature(name):
    family = FAMILIES[name]
    links, eta = chosen(family, "identity"), np.zeros((len(family.parameters), 1))
    expansion(family, links, np.array([0.3]), None, eta, order=1)
    with pytest.raises(NotSupportedError, match=f"'{name}' has a kink .* method='nuts'"):
        expansion(family, links, np.array([0.3]), None, eta, order=2)


# Their graphs are formulas on arrays, with first derivatives only.
OPAQUE = ["bell", "skellam"]


@pytest.mark.parametrize("name", OPAQUE)
def test_a_graph_without_further_derivatives_says_so(name):
    family = FAMILIES[name]
    links = chosen(family, family.parameters[0].link)
    with pytest.raises(NotSupportedError, match="has no derivatives of order 3"):
        expansion(plain(family), links, *crossed(family, family.parameters[0].link))


# To third order by four parameters the graph of its sums takes minutes.
WIDE = ["wiener"]


# These take half a minute each, or more.
LARGE = [
    "exgaussian", "gen_extreme_value", "genpois", "hurdle_nbinom1", "hurdle_negbinomial",
    "nbinom12", "skew_normal", "truncated_genpois", "truncated_nbinom1", "truncated_negbinomial",
    "zero_inflated_nbinom1",
]  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in LARGE else name
        for name in SMOOTH
        if name not in OPAQUE + WIDE
    ],
)
def test_a_family_without_formulas_has_the_same_derivatives(name):
    """By way of the graph of its PyMC distribution."""
    family = LAWFUL[name]
    links = chosen(family, family.parameters[0].link)
    y, trials, eta = crossed(family, family.parameters[0].link)
    found = expansion(plain(family), links, y, trials, eta)
    expected = expansion(family, links, y, trials, eta)
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-9, atol=1e-10)
    np.testing.assert_allclose(found.first, expected.first, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(found.second, expected.second, rtol=1e-7, atol=1e-7)
    np.testing.assert_allclose(found.third, expected.third, rtol=1e-6, atol=1e-6)


def gumbel(**stated):
    return Family(
        name="gumbel",
        parameters=(
            Parameter("mu", "identity", ("identity",), REAL),
            Parameter("beta", "log", ("log",), POSITIVE),
        ),
        distribution="Gumbel",
        arguments=lambda p, trials, xp: dict(p),
        **stated,
    )


# Two formulas of one's own: with the usual functions, and with one that has no rule.
GUMBEL_CORES = {
    "usual": lambda y, trials, p: (
        -np.log(p["beta"]) - (y - p["mu"]) / p["beta"] - np.exp(-(y - p["mu"]) / p["beta"])
    ),
    "unknown": lambda y, trials, p: (
        -np.log(p["beta"])
        - (y - p["mu"]) / p["beta"]
        - special.exp10(-(y - p["mu"]) / (p["beta"] * np.log(10)))
    ),
}


@pytest.mark.parametrize("core", [None, "usual", "unknown"])
def test_a_family_of_ones_own(core):
    """The textbook's Gumbel density, whether a formula is given or the distribution alone."""
    family = gumbel(core=GUMBEL_CORES.get(core))
    links = {"mu": LINKS["identity"], "beta": LINKS["log"]}
    y, eta = np.array([0.4, -1.9, 3.0]), np.array([[0.5, -2.0, 1.0], [0.0, -1.0, 1.2]])

    def log_density(mu, log_beta):
        z = (y[:, None, None] - mu) * np.exp(-log_beta)
        return -log_beta - z - np.exp(-z)

    radius = np.full(eta.shape, 0.2)
    found = expansion(family, links, y, None, eta)
    assert_agree(found, cauchy(log_density, eta, radius, 20), radius, 1e-10)


def test_a_distribution_without_second_derivatives_says_so():
    class CensoredBeta:
        @staticmethod
        def dist(mu, phi):
            import pymc as pm

            return pm.Censored.dist(pm.Beta.dist(mu * phi, (1 - mu) * phi), 0.2, 0.8)

    family = Family(
        name="censored_beta",
        parameters=(
            Parameter("mu", "logit", ("logit",), UNIT),
            Parameter("phi", "log", ("log",), POSITIVE),
        ),
        distribution=CensoredBeta,
        arguments=lambda p, trials, xp: dict(p),
    )
    links = {"mu": LINKS["logit"], "phi": LINKS["log"]}
    with pytest.raises(NotSupportedError, match=r"'censored_beta' has no derivatives of order 3"):
        expansion(family, links, np.array([0.2]), None, np.zeros((2, 1)))


def test_the_registered_families_need_no_pymc():
    code = (
        "import numpy as np\n"
        "from glmm_bayes.families import FAMILIES, LINKS\n"
        "from glmm_bayes.families.expansion import expand\n"
        "for f in (f for f in FAMILIES.values() if not f.kinked and f.categories is None):\n"
        "    links = {p.name: LINKS[p.link] for p in f.parameters}\n"
        "    y, eta = np.array([0.5, 1.0]), np.full((len(links), 2), 0.3)\n"
        "    n = np.ones(2) if f.needs_trials else None\n"
        "    expand(f, links, list(links), y, n, None, eta, 3)"
    )
    assert loaded_after(code) & {"pymc", "pytensor", "numba", "pandas"} == set()


@pytest.mark.parametrize("name", SMOOTH)
def test_derivatives_by_some_predictors_are_those_of_all(name):
    family = LAWFUL[name]
    links = chosen(family, family.parameters[0].link)
    y, trials, eta = crossed(family, family.parameters[0].link)
    rows = RowDensity(family, links, names(family), y, trials, None)
    whole = rows(eta, 3)
    for among in ([0], [len(eta) - 1]):
        found, block = rows(eta, 3, among), np.ix_(among, among)
        np.testing.assert_allclose(found.value, whole.value, rtol=1e-13, atol=1e-13)
        for got, expected in (
            (found.first[among], whole.first[among]),
            (found.second[block], whole.second[block]),
            (found.third[np.ix_(among, among, among)], whole.third[np.ix_(among, among, among)]),
        ):
            np.testing.assert_allclose(got, expected, rtol=1e-11, atol=1e-11)
        others = [k for k in range(len(eta)) if k not in among]
        assert not found.first[others].any()


# At a distance of e^700 between its cuts the curvature of the logistic function is lost.
FLAT = ["ordbeta"]


@pytest.mark.parametrize("name", [name for name in SMOOTH if name in FAMILIES])
def test_no_predictor_is_too_far_out(name):
    """To ±700: a log density is a number or minus infinity, and where it is one it has slopes."""
    family = FAMILIES[name]
    rows, eta = far_out(family)
    found, value, slope = rows(eta, 3), rows.value(eta), rows.slope(eta)
    assert (found.value < np.inf).all()
    assert (value < np.inf).all()
    there = found.value > -1e290
    np.testing.assert_array_equal(there, value + rows._constant > -1e290)
    assert np.isfinite(found.first[:, there]).all()
    assert np.isfinite(slope[:, there]).all()
    # By a location the curvature itself may be more than a number, as 1 / sigma² is.
    others = [k for k, p in enumerate(names(family)) if rows.links[p].name != "identity"]
    if name not in FLAT:
        assert np.isfinite(found.second[np.ix_(others, others)][..., there]).all()
        assert np.isfinite(found.third[np.ix_(others, others, others)][..., there]).all()


def far_out(family):
    """Cross responses with each predictor far out in turn, the others in the middle."""
    links = chosen(family, family.parameters[0].link)
    own = moderate(family)
    middle = [float(links[p].linkfun(np.array(own[p]))) for p in names(family)]
    pool = [y for y in (-1e5, -1.0, 0.0, 0.3, 1.0, 2.0, 7.0, 1e7) if fits(family, y)]
    rows = []
    for (k, p), y, far in product(enumerate(names(family)), pool, FAR):
        if k == 0 or links[p].name != "identity":
            rows.append([y, *middle[:k], far, *middle[k + 1 :]])
    y, *eta = np.array(rows).T
    trials = np.full(len(y), 1e7) if family.needs_trials else None
    return RowDensity(family, links, names(family), y, trials, None), np.array(eta)


def fits(family, y):
    return family.problem(np.array([y]), np.array([1e7]) if family.needs_trials else None) is None


@pytest.mark.parametrize("name", ["negbinomial", "zero_inflated_negbinomial"])
def test_derivatives_by_the_mean_alone_far_out_are_those_of_all(name):
    family = FAMILIES[name]
    rows, eta = far_out(family)
    whole, found = rows(eta, 3), rows(eta, 3, [0])
    there = whole.value > -1e290
    for got, expected in (
        (found.first[0], whole.first[0]),
        (found.second[0, 0], whole.second[0, 0]),
        (found.third[0, 0, 0], whole.third[0, 0, 0]),
    ):
        np.testing.assert_allclose(
            got[there], expected[there], rtol=1e-8, atol=1e-8 * (1 + rows.y.max() * 1e-7)
        )
