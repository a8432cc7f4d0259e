"""Draws around the mode against long runs of nutpie, which knows nothing of modes."""

import warnings

import numpy as np
import pytest
from arviz_stats.base import array_stats
from references import EPIL, FRUITS, arabidopsis, epil

import glmm_bayes as gb
from glmm_bayes.draws import to_dataset

TICKS = "TICKS ~ YEAR + cHEIGHT + (1 | INDEX) + (1 | BROOD) + (1 | LOCATION)"
ITEMS = "r2 ~ Anger + Gender + btype + situ + (1 | id) + (1 | item)"
CHAINS, DRAWS = 4, 1000
LIMIT = 4.5  # Monte Carlo standard errors, over some ten parameters a model
ENOUGH = 100  # effective draws of the long run


def verbagg():
    data = gb.load_dataset("verbagg")
    return data.assign(r2=(data["r2"] == "Y").astype(int))


def on_the_graph(model, draws):
    """Draw by nutpie on the model's graph: what it shares with us is the model alone."""
    import nutpie

    # Without a jitter: it would start the chains where counts are beyond all bounds.
    compiled = nutpie.compile_pymc_model(model.pymc, jitter_rvs=set())
    options = {"draws": draws, "tune": 1000, "chains": CHAINS, "seed": 20240229}
    tree = nutpie.sample(compiled, progress_bar=False, save_warmup=False, **options)
    return tree["posterior"]


def on_arrays(model, draws):
    """Draw by nutpie on the joint density of arrays, which a law holds to the graph's."""
    options = {"draws": draws, "tune": 1000, "chains": CHAINS, "seed": 20240229}
    fit = model.fit("nuts", sampler="nutpie", start="prior", progressbar=False, **options)
    return to_dataset(model, fit.draws)


# Formula, data, family, how the other is drawn, and draws of each chain: Hamiltonian paths hardly
# move along the ridge of three nested standard deviations.
CASES = {
    "VerbAgg": (ITEMS, verbagg, "bernoulli", on_arrays, 500),
    "grouseticks": (
        TICKS,
        lambda: gb.load_dataset("grouseticks"),
        "poisson",
        on_the_graph,
        10_000,
    ),
    "epil": (EPIL, epil, "poisson", on_the_graph, 2000),
    "Arabidopsis": (
        FRUITS + " + (1 | popu) + (1 | gen) + (1 | obs)",
        arabidopsis,
        "poisson",
        on_the_graph,
        4000,
    ),
}


def outer(posterior):
    """Give what is neither an effect nor only sampled by, with scales as logarithms, by name."""
    found = {}
    for name, values in posterior.data_vars.items():
        if name.startswith(("b_", "v_", "gamma")):
            continue
        each = values.transpose("chain", "draw", ...).to_numpy()
        each = each.reshape(*each.shape[:2], -1)
        each = np.log(each) if name.startswith("sd_") else each
        found |= {f"{name}[{j}]": each[:, :, j] for j in range(each.shape[2])}
    return found


def moments(x):
    """Give mean and log standard deviation of `(chain, draw)`, with Monte Carlo errors."""
    sd, square = x.std(), np.square(x - x.mean())
    error = sd / np.sqrt(float(array_stats.ess(x, method="mean")))
    # By the delta method, of half the logarithm of the mean square.
    about = square.std() / square.mean() / np.sqrt(float(array_stats.ess(square, method="mean")))
    return np.array([x.mean(), np.log(sd)]), np.array([error, 0.5 * about])


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_means_and_spreads_are_those_of_a_long_run(name):
    formula, data, family, drawn, draws = CASES[name]
    model = gb.Model(formula, data(), family)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of PyTensor's BLAS, and of effective draws that are few
        fit = model.fit("posthoc", seed=1, draws=DRAWS, chains=CHAINS, progressbar=False)
        theirs = outer(drawn(model, draws))
    assert fit.method == "posthoc"
    ours = outer(to_dataset(model, fit.draws))
    assert set(ours) == set(theirs)
    for parameter, x in ours.items():
        assert float(array_stats.ess(theirs[parameter])) > ENOUGH, parameter
        (one, error), (other, more) = moments(x), moments(theirs[parameter])
        z = (one - other) / np.sqrt(error**2 + more**2)
        print(f"{name} {parameter}: mean {z[0]:+.1f}, log sd {z[1]:+.1f} standard errors")
        assert np.all(np.abs(z) < LIMIT), parameter
