"""Laws of PyTensor's graphs far out: `model.pymc` has the density that the formulas have."""

import numpy as np
import pytest
from test_expansion import far_out, names

from glmm_bayes.arrays import graph
from glmm_bayes.families import FAMILIES
from glmm_bayes.families.links import UNIT

# Beyond, a probability is so near 1 that what is left of it has few digits.
ROUNDED = 15.0
# Of these the graph, or the formula too, loses digits at some of the places, by predictor:
SHARP = {"phi": [(15.0, np.inf)]}  # of the last digit of mu, times a large precision
# By differences of exp(350) on one count, and by squares of what is as large.
STEEP = {"phi": [(-np.inf, -15.0), (600.0, np.inf)]}
FEW_DIGITS = {
    "beta": SHARP,
    "zero_inflated_beta": SHARP,
    "zero_one_inflated_beta": SHARP,
    "ordbeta": SHARP,
    "genpois": STEEP,
    "zero_inflated_genpois": STEEP,
    "truncated_genpois": STEEP,
    # a step of exp(-700), which the logarithm of a complement loses
    "discrete_weibull": {"alpha": [(-np.inf, -650.0)]},
    # of which the formula rounds a probability to 1e-100
    "zero_inflated_binomial": {"mu": [(-np.inf, -230.0)]},
    # by sigma squared
    "student": {"sigma": [(-np.inf, -350.0)]},
    "exgaussian": {"sigma": [(-np.inf, -350.0)]},
    # kappa times a cosine, less as much
    "von_mises": {"kappa": [(20.0, np.inf)]},
    # sums that are nearly 0
    "wiener": {"bias": [(-np.inf, -15.0)], "bs": [(15.0, np.inf)]},
}
# Whose graph has a term for each of as many counts as there may be.
ENDLESS = ["tweedie"]
FUSED = ["gen_extreme_value"]
PLAIN = [n for n, f in FAMILIES.items() if f.categories is None and n not in ENDLESS]


def evaluated(family, rows, eta):
    """Give the graph's values `(n,)` and slopes `(P, n)`."""
    import pymc as pm
    import pytensor
    import pytensor.tensor as pt
    from pytensor.compile.mode import Mode

    etas = [pt.vector(p) for p in names(family)]
    pairs = zip(names(family), etas, strict=True)
    params = {p: rows.links[p].linkinv(e, graph()) for p, e in pairs}
    trials = None if rows.trials is None else pt.as_tensor(rows.trials)
    dist = family.symbolic().dist(**family.symbolic_arguments(params, trials))
    kind = int if np.dtype(dist.dtype).kind in "iub" else float
    logp = pm.logp(dist, pt.as_tensor(rows.y.astype(kind)))
    slopes = pytensor.grad(logp.sum(), etas)
    # Rewritten as models are; Python's evaluation spares the time that compilation takes.
    mode = Mode(linker="py", optimizer="fast_run")
    # It takes 32 terms at once, and which way there are fewer depends on the family.
    mode = mode if family.name in FUSED else mode.excluding("fusion")
    with np.errstate(all="ignore"):
        value, *by = pytensor.function(etas, [logp, *slopes], mode=mode)(*eta)
    return value, np.array(by)


def formulas(family, rows, eta):
    if family.kinked:
        return rows.value(eta) + rows._constant, rows.slope(eta)
    found = rows(eta, 1)
    return found.value, found.first


def is_rounded(family, eta):
    """Tell `(n,)` where the numbers themselves have lost digits."""
    known = FEW_DIGITS.get(family.name, {})
    lost = np.zeros(eta.shape[1], bool)
    for parameter, own in zip(family.parameters, eta, strict=True):
        for low, high in known.get(parameter.name, []):
            lost |= (own > low) & (own < high)
        lost |= (parameter.support == UNIT) & (own > ROUNDED) & (not family.natural)
    return lost


@pytest.mark.parametrize("name", PLAIN)
def test_graphs_are_the_formulas_far_out(name):
    family = FAMILIES[name]
    rows, eta = far_out(family)
    value, slope = evaluated(family, rows, eta)
    known, by = formulas(family, rows, eta)
    there, exact = known > -1e290, ~is_rounded(family, eta)
    assert not np.isnan(value).any()
    assert (value < np.inf).all()
    assert (value[~there] < -1e290).all()
    assert np.isfinite(value[there]).all()
    assert not np.isnan(slope[:, there & exact]).any()
    at = there & exact
    terms = np.abs(rows.y[at]) + (0.0 if rows.trials is None else rows.trials[at])
    off = np.abs(value[at] - known[at])
    np.testing.assert_array_less(off, 1e-8 * (1 + np.abs(known[at])) + 1e-14 * terms)
    # A slope that nearly cancels has the digits of what it is made of.
    digits = 1e-8 * (1e-3 + np.abs(by[:, at])) + 1e-14 * terms + 1e-13 * np.abs(known[at])
    np.testing.assert_array_less(np.abs(slope[:, at] - by[:, at]), digits)
