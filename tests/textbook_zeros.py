"""Log densities of families with zeros, and of counts of other spread, for complex parameters."""

import numpy as np
from scipy import special

LG = special.loggamma
COUNTS = ("poisson", "negbinomial", "nbinom1", "genpois", "compois")


def genpois(y, n, mu, phi):
    """Consul & Famoye (1992), Communications in Statistics: Theory and Methods 21, 89-109."""
    root = np.sqrt(phi)
    with np.errstate(over="ignore", invalid="ignore"):  # where phi > 1 it is not used
        total = sum(np.exp(_genpois(np.asarray(float(k)), mu, root)) for k in range(200))
    return _genpois(y, mu, root) - np.where(np.real(phi) < 1, np.log(total), 0.0)


def _genpois(y, mu, root):
    theta, rest = mu / root, 1 - 1 / root
    rate = theta + rest * y
    inside = (np.real(rate) > 0) | (y < 2)
    power = np.where(y > 1, (y - 1) * np.log(np.where(inside, rate, 1.0)), 0.0)
    log_p = np.where(y > 0, np.log(theta), 0.0) + power - rate - LG(y + 1)
    return np.where(inside, log_p, -1e300)


def compois(y, n, mu, phi):
    """Sum the series, and find lambda by Newton's method."""
    nu = 1 / phi
    k = np.arange(160.0).reshape(-1, *[1] * np.ndim(mu * nu))
    theta, w = nu * np.log(mu + 0.5), LG(k + 1)
    for _ in range(12):
        terms = np.exp(theta * k - nu * w - np.real(theta * k - nu * w).max(axis=0))
        mean = (k * terms).sum(axis=0) / terms.sum(axis=0)
        variance = (k * k * terms).sum(axis=0) / terms.sum(axis=0) - mean**2
        theta = theta - np.log(mean / mu) * mean / variance
    return y * theta - nu * LG(y + 1) - log_sum(theta * k - nu * w)


def log_sum(log_terms):
    """Give the logarithm of a sum, on the sheet of its largest term."""
    at = np.real(log_terms).argmax(axis=0)[None]
    top = np.take_along_axis(log_terms, at, axis=0)
    return np.log(np.exp(log_terms - top).sum(axis=0)) + top[0]


def bell(y, n, mu):
    """Castellares, Ferrari & Lemonte (2018), Applied Mathematical Modelling 56, 172-185."""
    theta = special.lambertw(mu)
    return np.where(y > 0, y * np.log(theta), 0.0) - np.exp(theta) + 1 + _bell_constant(y)


def _bell_constant(y):
    """Give log(B_y / y!), Bell's numbers by their triangle of whole numbers."""
    highest = int(np.max(y))
    row, numbers = [1], [1]
    for _ in range(min(highest, 400)):
        following = [row[-1]]
        for value in row:
            following.append(following[-1] + value)
        row = following
        numbers.append(row[0])
    known = {k: special.gammaln(k + 1.0) for k in range(len(numbers))}
    of = {float(k): float(_log(numbers[k])) - known[k] for k in range(len(numbers))}
    return np.vectorize(lambda v: of.get(float(v), np.nan))(np.real(y))


def _log(whole):
    """Give the logarithm of a whole number of any length."""
    shift = max(0, whole.bit_length() - 900)
    return np.log(float(whole >> shift)) + shift * np.log(2.0)


def discrete_weibull(y, n, mu, alpha):
    """Nakagawa & Osaki (1975), IEEE Transactions on Reliability 24, 300-301."""
    below = np.where(y > 0, np.exp(alpha * np.log(np.maximum(y, 1.0))), 0.0)
    above = np.exp(alpha * np.log(y + 1))
    return np.log(mu) * below + np.log(1 - mu ** (above - below))


def skellam(y, n, mu, phi):
    """Skellam (1946), J. Royal Statistical Society 109, 296; rates by sum and difference."""
    total = np.sqrt(mu**2 + phi**2)
    first, second = (total + mu) / 2, (total - mu) / 2
    order = np.abs(y)
    k = np.arange(400.0).reshape(-1, *[1] * np.ndim(y + phi))
    log_terms = (2 * k + order) * np.log(phi / 2) - LG(k + 1) - LG(k + order + 1)
    log_bessel = log_sum(log_terms)
    return -total + y / 2 * np.log(first / second) + log_bessel


def beta(y, mu, phi):
    a, b = mu * phi, (1 - mu) * phi
    inside = np.where((y > 0) & (y < 1), y, 0.5)
    return (a - 1) * np.log(inside) + (b - 1) * np.log(1 - inside) + LG(phi) - LG(a) - LG(b)


def zero_one_inflated_beta(y, n, mu, phi, zoi, coi):
    ends = np.log(zoi) + np.where(y == 1, np.log(coi), np.log(1 - coi))
    return np.where((y == 0) | (y == 1), ends, np.log(1 - zoi) + beta(y, mu, phi))


def ordbeta(y, n, mu, phi, cut, gap):
    """Kubinec (2023), Political Analysis 31, 519-536."""
    eta = np.log(mu / (1 - mu))
    above, over = 1 / (1 + np.exp(cut - eta)), 1 / (1 + np.exp(cut + gap - eta))
    inside = np.log(above - over) + beta(y, mu, phi)
    return np.where(y == 0, np.log(1 - above), np.where(y == 1, np.log(over), inside))


def nbinom12(y, n, mu, phi, psi):
    """A negative binomial of variance mu (1 + phi + mu / psi): glmmTMB's manual."""
    return overdispersed(y, mu, phi + mu / psi)


def overdispersed(y, mu, excess):
    """Give the negative binomial of variance mu (1 + excess)."""
    size = mu / excess
    counted = LG(y + size) - LG(size) - LG(y + 1)
    return counted - size * np.log(1 + excess) + y * np.log(excess / (1 + excess))


def inflated(base):
    def log_density(y, n, *params):
        *own, zi = params
        log_p = base(y, n, *own)
        zero = np.log(zi + (1 - zi) * np.exp(np.where(y == 0, log_p, 0.0)))
        return np.where(y == 0, zero, np.log(1 - zi) + log_p)

    return log_density


def without_zero(base):
    def log_density(y, n, *params):
        return base(y, n, *params) - np.log(1 - np.exp(base(np.zeros_like(y), n, *params)))

    return log_density


def with_hurdle(part, other=1.0):
    def log_density(y, n, *params):
        *own, hu = params
        rest = np.log(1 - hu) + part(np.where(y == 0, other, y), n, *own)
        return np.where(y == 0, np.log(hu), rest)

    return log_density


def textbook_zeros(simple):
    """Make the formulas from those of the families that others are made of."""
    own = {
        "genpois": genpois,
        "compois": compois,
        "bell": bell,
        "discrete_weibull": discrete_weibull,
        "skellam": skellam,
        "nbinom12": nbinom12,
        "zero_one_inflated_beta": zero_one_inflated_beta,
        "ordbeta": ordbeta,
        "zero_inflated_beta": with_hurdle(lambda y, n, mu, phi: beta(y, mu, phi), 0.5),
    }
    bases = simple | own
    bases["negbinomial"] = lambda y, n, mu, alpha: overdispersed(y, mu, mu / alpha)
    bases["nbinom1"] = lambda y, n, mu, phi: overdispersed(y, mu, phi)
    for name in (*COUNTS, "binomial", "beta_binomial"):
        own[f"zero_inflated_{name}"] = inflated(bases[name])
    for name in COUNTS:
        own[f"truncated_{name}"] = without_zero(bases[name])
        own[f"hurdle_{name}"] = with_hurdle(own[f"truncated_{name}"])
    for name in ("gamma", "lognormal"):
        own[f"hurdle_{name}"] = with_hurdle(bases[name])
    return own


# Where a distribution has an end, or runs past all numbers, Cauchy's circles do not hold.
OTHERS_OF = {
    **{f"{kind}genpois": {"phi": (1.6, 4.0)} for kind in ("", "zero_inflated_", "truncated_")},
    "discrete_weibull": {"alpha": (0.6, 0.9)},
}
# The sums of its formula take long: see test_families_dispersed.py.
LONG = {"compois", "zero_inflated_compois", "truncated_compois", "hurdle_compois"}
# Responses, and predictors far out, by family.
RESPONSES = {
    "zero_inflated_beta": [0.0, 0.02, 0.6],
    "zero_one_inflated_beta": [0.0, 0.02, 0.6, 1.0],
    "ordbeta": [0.0, 0.6, 1.0],
    "hurdle_gamma": [0.0, 0.01, 12.0],
    "hurdle_lognormal": [0.0, 0.01, 12.0],
    "skellam": [-3.0, 0.0, 12.0],
}


def extremes_zeros(simple):
    """Give the corners of each family's predictors from those of what it is made of."""
    own = {
        "genpois": ((-8.0, 0.5, 8.0), (1.2, 8.0)),
        "compois": ((-3.0, 0.5, 3.0), (-1.0, 1.0)),
        "bell": ((-8.0, 0.5, 6.0),),
        "discrete_weibull": ((-3.0, 0.5, 3.0), (-3.0, -2.0)),
        "skellam": ((-20.0, 0.5, 8.0), (1.0, 2.0)),
        "nbinom12": ((-3.0, 0.5, 6.0), (-3.0, 3.0), (-3.0, 3.0)),
        "zero_one_inflated_beta": ((-5.0, 5.0), (-4.0, 5.0), (-8.0, 8.0), (-8.0, 8.0)),
        "ordbeta": ((-5.0, 5.0), (-4.0, 5.0), (-3.0, 3.0), (-3.0, 1.0)),
        "zero_inflated_beta": (*simple["beta"], (-8.0, 8.0)),
    }
    bases = simple | own
    bases["negbinomial"] = bases["nbinom1"] = ((-3.0, 0.5, 6.0), (-3.0, 3.0))
    for name in (*COUNTS, "binomial", "beta_binomial"):
        own[f"zero_inflated_{name}"] = (*bases[name], (-8.0, 8.0))
    for name in COUNTS:
        # A mean so small that a second count is never seen loses its digits in the formula.
        first, *others = bases[name]
        own[f"truncated_{name}"] = (tuple(max(v, -3.0) for v in first), *others)
        own[f"hurdle_{name}"] = (*own[f"truncated_{name}"], (-8.0, 8.0))
    for name in ("gamma", "lognormal"):
        own[f"hurdle_{name}"] = (*bases[name], (-8.0, 8.0))
    return own
