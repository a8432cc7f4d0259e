"""Scalar densities, links and structures with their derivatives, compiled by numba, by number."""

import math

import numpy as np
from numba import njit

# A family, link, structure or prior names its kernel by these numbers; what has none is evaluated
# by the arrays' own formulas.
LINKS = ("identity", "log", "logit", "probit", "cloglog", "inverse", "sqrt", "softplus")
FAMILIES = (
    "gaussian",
    "bernoulli",
    "binomial",
    "poisson",
    "negbinomial",
    "gamma",
    "student",
    "lognormal",
    "nbinom1",
    "beta",
    "beta_binomial",
)
STRUCTURES = ("diag", "homdiag", "us", "ar1", "hetar1", "toep", "homtoep")
PRIORS = (
    "Normal",
    "HalfNormal",
    "StudentT",
    "HalfStudentT",
    "Cauchy",
    "HalfCauchy",
    "Gamma",
    "InverseGamma",
    "Exponential",
    "LogNormal",
    "Beta",
    "Uniform",
)

compiled = njit(cache=True, nogil=True, fastmath=False, error_model="numpy")
# What only compiled code calls needs no way in from Python, which would be compiled too.
inner = njit(
    cache=True, nogil=True, error_model="numpy", no_cpython_wrapper=True, no_cfunc_wrapper=True
)
LARGE = 1e3
FAR_OUT = 1e20
INV_SQRT_2PI = 1 / math.sqrt(2 * math.pi)
# As in `families.links`: a probability is kept off 0 and 1, to which it rounds.
TINY, ALMOST_ONE = 1e-100, 1.0 - float(np.finfo(float).epsneg)


@compiled
def digamma(x):
    """Give the digamma function of x > 0: recurrence up to 9, then the asymptotic series."""
    total = 0.0
    while x < 9.0:
        total -= 1.0 / x
        x += 1.0
    r = 1.0 / (x * x)
    tail = r * (
        1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r * (1 / 132 - r * 691 / 32760))))
    )
    return total + math.log(x) - 0.5 / x - tail


@compiled
def expit(x):
    """Give 1 / (1 + exp(-x)) without overflow."""
    if x >= 0:
        return 1.0 / (1.0 + math.exp(-x))
    e = math.exp(x)
    return e / (1.0 + e)


@compiled
def softplus(x):
    """Give log(1 + exp(x)) without overflow."""
    return max(x, 0.0) + math.log1p(math.exp(-abs(x)))


@compiled
def log_normal_share(x):
    """Give log P(Z < x), Z standard normal, and its derivative."""
    if x > -30.0:
        value = math.log(0.5 * math.erfc(-x / math.sqrt(2.0)))
        if x > 1.0:
            value = math.log1p(-0.5 * math.erfc(x / math.sqrt(2.0)))
    else:
        r = 1.0 / (x * x)
        tail = math.log1p(-r * (1.0 - r * (3.0 - r * (15.0 - r * (105.0 - r * 945.0)))))
        value = -0.5 * x * x + math.log(INV_SQRT_2PI) - math.log(-x) + tail
    return value, math.exp(math.log(INV_SQRT_2PI) - 0.5 * x * x - value)


@compiled
def log_shares(link, eta):
    """Give log F(eta), log(1 - F(eta)) and their slopes, F the inverse logit, probit or cloglog."""
    if link == 2:
        return -softplus(-eta), -softplus(eta), expit(-eta), -expit(eta)
    if link == 3:
        won, by_won = log_normal_share(eta)
        lost, by_lost = log_normal_share(-eta)
        return won, lost, by_won, -by_lost
    hazard = math.exp(eta)
    won = math.log(-math.expm1(-math.exp(max(eta, -40.0)))) + min(eta + 40.0, 0.0)
    return won, -hazard, math.exp(eta - hazard - won), -hazard


@compiled
def log1p_ratio(x, y):
    """Give log(1 + x / y) of positive numbers, whose ratio may be more than a number."""
    ratio = x / y
    return math.log1p(ratio) if ratio < math.inf else math.log(x) - math.log(y)


@compiled
def inverse_link(link, eta, by_log):
    """Give mu, and d log mu / d eta or else d mu / d eta."""
    if link == 1:
        mu = math.exp(eta)
        return mu, 1.0 if by_log else mu
    mu, slope = _inverse_link(link, eta)
    return mu, slope / mu if by_log else slope


@compiled
def _inverse_link(link, eta):
    if link == 0:
        return eta, 1.0
    if link == 2:
        mu = expit(eta)
        return min(max(mu, TINY), ALMOST_ONE), mu * expit(-eta)
    if link == 3:
        mu = 0.5 * math.erfc(-eta / math.sqrt(2.0))
        return min(max(mu, TINY), ALMOST_ONE), INV_SQRT_2PI * math.exp(-0.5 * eta * eta)
    if link == 4:
        e = math.exp(eta)
        return min(max(-math.expm1(-e), TINY), ALMOST_ONE), math.exp(eta - e)
    if link == 5:
        return 1.0 / eta, -1.0 / (eta * eta)
    if link == 6:
        return eta * eta, 2.0 * eta
    return softplus(eta), expit(eta)


@compiled
def is_by_log(family, slot):
    """Tell whether `point` gives the slope by a parameter's logarithm: all but locations."""
    return slot > 0 or not (family == 0 or family == 6 or family == 7)


@compiled
def point(family, y, n, a, b, c):
    """
    Give one row's log density, up to a constant, and its slopes by the parameters a, b, c.

    By positive ones they are slopes by the logarithm: by the parameter itself they may be more
    than a number where it is small.
    """
    if family == 0 or family == 7:
        r = ((y if family == 0 else math.log(y)) - a) / b
        return -0.5 * r * r - math.log(b), r / b, r * r - 1.0, 0.0
    if family == 1 or family == 2:
        won = y * math.log(a) if y > 0 else 0.0
        lost = (n - y) * math.log1p(-a) if n > y else 0.0
        return won + lost, y - ((n - y) * a / (1.0 - a) if n > y else 0.0), 0.0, 0.0
    if family == 3:
        return (y * math.log(a) if y > 0 else 0.0) - a, y - a, 0.0, 0.0
    if family == 4:
        return negbinomial(y, a, b)
    if family == 5:
        return gamma(y, a, b)
    if family == 6:
        return student(y, a, b, c)
    if family == 8:
        # Variance mu (1 + phi): a negative binomial of size mu / phi.
        value, by_mu, by_size, _ = negbinomial(y, a, a / b)
        return value, by_mu + by_size, -by_size, 0.0
    return beta_like(family, y, n, a, b)


@compiled
def log_peak(a):
    """Give a log(a) - a - log Gamma(a), as `families.special` does."""
    if a < LARGE:
        return a * math.log(a) - a - math.lgamma(a)
    return 0.5 * math.log(a / (2.0 * math.pi)) - (1.0 - 1.0 / (30.0 * a * a)) / (12.0 * a)


@compiled
def peak_slope(a):
    """Give the slope of `log_peak` by log(a)."""
    if a < LARGE:
        return a * (math.log(a) - digamma(a))
    return 0.5 + (1.0 - 1.0 / (10.0 * a * a)) / (12.0 * a)


@compiled
def log_rising(y, a):
    """Give log Gamma(a + y) - log Gamma(a), as `families.special` does."""
    if a < LARGE:
        return math.lgamma(a + y) - math.lgamma(a)
    tail = (1.0 / (a + y) - 1.0 / a) / 12.0
    return (a + y - 0.5) * math.log1p(y / a) + y * math.log(a) - y + tail


@compiled
def digamma_rising(y, a):
    """Give digamma(a + y) - digamma(a), as `families.special` does."""
    if a < LARGE:
        return digamma(a + y) - digamma(a)
    gap = -y / (a * (a + y))
    return math.log1p(y / a) - 0.5 * gap - gap * (1.0 / (a + y) + 1.0 / a) / 12.0


@compiled
def negbinomial(y, mu, size):
    """Evaluate the negative binomial of variance mu + mu^2 / size."""
    fewer = log1p_ratio(mu, size)
    value = log_rising(y, size) - (y * log1p_ratio(size, mu) if y > 0 else 0.0) - size * fewer
    gap, share = y - mu, size / (mu + size)
    return value, gap * share, size * (digamma_rising(y, size) - fewer) - gap * share, 0.0


@compiled
def bent(log_ratio, gap):
    """Give log(1 + gap) - gap, with the logarithm where that is not near 0."""
    return (math.log1p(gap) if abs(gap) < 0.5 else log_ratio) - gap


@compiled
def gamma(y, mu, shape):
    """Evaluate the gamma of mean mu and variance mu^2 / shape."""
    log_y, gap = math.log(y), (y - mu) / mu
    off = shape * bent(log_y - math.log(mu), gap)
    return off + log_peak(shape) - log_y, shape * gap, off + peak_slope(shape), 0.0


@compiled
def student(y, mu, sigma, nu):
    """Evaluate Student's t."""
    gap = y - mu
    r = gap / sigma
    u = r * r / nu
    if u < FAR_OUT:
        log_u, share, slope = math.log1p(u), u / (1.0 + u), (nu + 1.0) / (nu + r * r) * r / sigma
    else:  # 1 is nothing beside u, which may be more than a number
        log_u = 2.0 * (math.log(abs(gap)) - math.log(sigma)) - math.log(nu)
        share, slope = 1.0, (nu + 1.0) / gap
    value = log_rising(0.5, 0.5 * nu) - 0.5 * math.log(nu) - math.log(sigma)
    value -= 0.5 * (nu + 1.0) * log_u
    by_nu = 0.5 * (nu * (digamma_rising(0.5, 0.5 * nu) - log_u) - 1.0 + (nu + 1.0) * share)
    return value, slope, (nu + 1.0) * share - 1.0, by_nu


@compiled
def beta_like(family, y, n, mu, phi):
    """Evaluate the beta and the beta-binomial of mean mu and precision phi."""
    a, b = mu * phi, (1.0 - mu) * phi
    if family == 9:
        return beta(y, mu, a, b, phi)
    value = log_rising(y, a) + log_rising(n - y, b) - log_rising(n, phi)
    by_a, by_b = digamma_rising(y, a), digamma_rising(n - y, b)
    by_phi = a * by_a + b * by_b - phi * digamma_rising(n, phi)
    return value, a * (by_a - by_b), by_phi, 0.0


@compiled
def beta(y, mu, a, b, phi):
    """Evaluate the beta, as two gammas less the one of their sum: see `families.continuous`."""
    log_y, log_rest = math.log(y), math.log1p(-y)
    rise, fall = (y - mu) / mu, (mu - y) / (1.0 - mu)
    left, right = bent(log_y - math.log(mu), rise), bent(log_rest - math.log1p(-mu), fall)
    value = a * left + b * right + log_peak(a) + log_peak(b) - log_peak(phi) - log_y - log_rest
    by_a, by_b = peak_slope(a), peak_slope(b)
    by_mu = a * (left + rise - right - fall) + by_a - by_b * mu / (1.0 - mu)
    return value, by_mu, a * left + b * right + by_a + by_b - peak_slope(phi), 0.0


@compiled
def prior(kind, x, a, b, c):
    """Give a prior's log density up to a constant, and its slope."""
    if kind == 0:
        r = (x - a) / b
        return -0.5 * r * r, -r / b
    if kind == 1:
        return -0.5 * (x / a) ** 2, -x / (a * a)
    if kind == 2 or kind == 3:
        r, scale = (x - b, c) if kind == 2 else (x, b)
        spread = a * scale * scale + r * r
        return -0.5 * (a + 1.0) * math.log(spread), -(a + 1.0) * r / spread
    if kind == 4 or kind == 5:
        r, scale = (x - a, b) if kind == 4 else (x, a)
        spread = scale * scale + r * r
        return -math.log(spread), -2.0 * r / spread
    if kind == 6:
        return (a - 1.0) * math.log(x) - b * x, (a - 1.0) / x - b
    if kind == 7:
        return -(a + 1.0) * math.log(x) - b / x, -(a + 1.0) / x + b / (x * x)
    if kind == 8:
        return -a * x, -a
    if kind == 9:
        r = (math.log(x) - a) / b
        return -0.5 * r * r - math.log(x), -(r / b + 1.0) / x
    if kind == 10:
        value = (a - 1.0) * math.log(x) + (b - 1.0) * math.log1p(-x)
        return value, (a - 1.0) / x - (b - 1.0) / (1.0 - x)
    return 0.0, 0.0


@compiled
def fill_factor(kind, p, sd, partial, Lambda):
    """Write a structure's factor `(p, p)`; `partial` as `covariance.unstructured` or `toeplitz`."""
    if kind > 2:
        _fill_ordered(1 if kind < 5 else p - 1, p, partial, Lambda)
    k = 0
    for i in range(p):
        left, scale = 1.0, sd[0] if _is_homogeneous(kind) else sd[i]
        if kind > 2:
            for j in range(i + 1):
                Lambda[i, j] *= scale
            continue
        for j in range(p):
            Lambda[i, j] = 0.0
        if kind == 2:
            for j in range(i):
                corr = 2.0 * partial[k] - 1.0
                Lambda[i, j] = scale * corr * math.sqrt(left)
                left *= 1.0 - corr * corr
                k += 1
        Lambda[i, i] = scale * math.sqrt(left)


@compiled
def pull_factor(kind, p, sd, partial, Lambda, slope, by_sd, by_partial):
    """Add to the slopes by sd and partial those by the factor, `slope` `(p, p)`."""
    k = 0
    for i in range(p):
        at = 0 if _is_homogeneous(kind) else i
        for j in range(i + 1):
            by_sd[at] += slope[i, j] * Lambda[i, j] / sd[at]
        if kind == 2:
            left = np.ones(i + 1)
            for j in range(i):
                corr = 2.0 * partial[k + j] - 1.0
                left[j + 1] = left[j] * (1.0 - corr * corr)
            by_left = 0.5 * slope[i, i] * sd[i] / math.sqrt(left[i])
            for j in range(i - 1, -1, -1):
                corr, g = 2.0 * partial[k + j] - 1.0, slope[i, j] * sd[i]
                by_corr = g * math.sqrt(left[j]) - 2.0 * corr * left[j] * by_left
                by_left = 0.5 * g * corr / math.sqrt(left[j]) + (1.0 - corr * corr) * by_left
                by_partial[k + j] += 2.0 * by_corr
            k += i
    if kind > 2:
        C, by_C = np.zeros((p, p)), np.zeros((p, p))
        for i in range(p):
            scale = sd[0] if _is_homogeneous(kind) else sd[i]
            for j in range(i + 1):
                C[i, j], by_C[i, j] = Lambda[i, j] / scale, slope[i, j] * scale
        _pull_ordered(1 if kind < 5 else p - 1, p, partial, C, by_C, by_partial)


@compiled
def _is_homogeneous(kind):
    """Tell whether one standard deviation is all columns'."""
    return kind == 1 or kind == 3 or kind == 6


@compiled
def _predicting(lags, c):
    """Give in row t the coefficients that predict a column from t before, the nearest first."""
    a = np.zeros((lags + 1, lags))
    for t in range(1, lags + 1):
        for j in range(t - 1):
            a[t, j] = a[t - 1, j] - c[t - 1] * a[t - 1, t - 2 - j]
        a[t, t - 1] = c[t - 1]
    return a


@compiled
def _fill_ordered(lags, p, c, L):
    """Write the factor `(p, p)` of correlations whose partial ones are c, and none after `lags`."""
    a, left = _predicting(lags, c), 1.0
    for t in range(p):
        for i in range(p):
            L[t, i] = 0.0
        if 0 < t <= lags:
            left *= math.sqrt((1.0 - c[t - 1]) * (1.0 + c[t - 1]))
        m = min(t, lags)
        for j in range(m):
            for i in range(t - j):
                L[t, i] += a[m, j] * L[t - 1 - j, i]
        L[t, t] = left


@compiled
def _pull_ordered(lags, p, c, L, by_L, by_c):
    """Add to the slopes by c those by the factor; these are changed."""
    a, before = _predicting(lags, c), np.ones(lags + 1)
    for t in range(1, lags + 1):
        before[t] = before[t - 1] * math.sqrt((1.0 - c[t - 1]) * (1.0 + c[t - 1]))
    by_a, old, by_left = np.zeros(lags), np.zeros(lags), 0.0
    for t in range(p - 1, 0, -1):
        m = min(t, lags)
        for j in range(m):
            for i in range(t - j):
                by_a[j] += L[t - 1 - j, i] * by_L[t, i]
                by_L[t - 1 - j, i] += a[m, j] * by_L[t, i]
        by_left += by_L[t, t]
        if t > lags:
            continue
        s = math.sqrt((1.0 - c[t - 1]) * (1.0 + c[t - 1]))
        by_c[t - 1] += by_a[t - 1] - by_left * before[t - 1] * c[t - 1] / s
        by_left *= s
        for j in range(t):
            old[j] = by_a[j]
        by_a[t - 1] = 0.0
        for j in range(t - 1):
            by_c[t - 1] -= old[j] * a[t - 1, t - 2 - j]
            by_a[j] = old[j] - c[t - 1] * old[t - 2 - j]
