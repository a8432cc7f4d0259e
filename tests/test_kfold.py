"""Cross-validation by refits: by closed forms, and by fits of the rows that are left."""

import joblib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

import glmm_bayes as gb
from glmm_bayes.errors import ConvergenceWarning, DataError, NotSupportedError, UnknownNameError
from glmm_bayes.verbs.folds import assigned, without

SIGMA, SD, WIDE = 0.5, 1.0, 2.0


@pytest.fixture(scope="module")
def data():
    rng = np.random.default_rng(5)
    frame = pd.DataFrame({"g": np.repeat([*"abcdef"], 4), "half": np.tile(["u", "v"], 12)})
    frame["x"] = rng.normal(size=24)
    level = SD * rng.normal(size=6)
    frame["y"] = level[np.repeat(np.arange(6), 4)] + SIGMA * rng.normal(size=24)
    frame["n"] = rng.poisson(np.exp(0.5 + 0.5 * frame["y"]))
    frame["o"] = 1 + (frame["y"] > -0.5).astype(int) + (frame["y"] > 0.5)
    return frame


def known(data, **options):
    """Variances known, so that all predictions are normal."""
    priors = {
        "beta[Intercept]": gb.Prior("Normal", mu=0, sigma=WIDE), "sd_g": SD, "sigma": SIGMA,
    }  # fmt: skip
    model = gb.Model("y ~ 1 + (1 | g)", data, priors=priors)
    return model.fit("posthoc", seed=2, draws=2000, progressbar=False, **options)


@pytest.fixture(scope="module")
def normal(data):
    return known(data)


def predictive(data, left_out):
    """The log density of each row left out, given the others: conditional normals."""
    same = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy())
    V, y = WIDE**2 + SD**2 * same + SIGMA**2 * np.eye(len(data)), data["y"].to_numpy()
    solved = np.linalg.solve(V[np.ix_(~left_out, ~left_out)], V[np.ix_(~left_out, left_out)])
    variance = np.diag(V)[left_out] - (V[np.ix_(~left_out, left_out)] * solved).sum(axis=0)
    return norm.logpdf(y[left_out], solved.T @ y[~left_out], np.sqrt(variance))


@pytest.mark.parametrize(
    ("arguments", "folds"),
    [({"k": 4}, 4), ({"k": 3, "group": "g"}, 3), ({"group": "half"}, 2)],
    ids=["rows", "levels", "column"],
)
def test_rows_left_out_are_predicted_as_the_closed_form_does(normal, data, arguments, folds):
    found = normal.kfold(**arguments, progressbar=False)
    assert found.n_folds == folds
    of = found.elpd_i["fold"].to_numpy()
    for fold in range(folds):
        expected = predictive(data, of == fold)
        np.testing.assert_allclose(found.elpd_i[of == fold], expected, atol=0.06)
    whole = predictive_of_seen(data)
    assert found.p == pytest.approx(whole.sum() - found.elpd, abs=0.2)


def predictive_of_seen(data):
    """The log density of each row by its posterior predictive distribution."""
    same = np.equal.outer(data["g"].to_numpy(), data["g"].to_numpy())
    K, y = WIDE**2 + SD**2 * same, data["y"].to_numpy()
    solved = np.linalg.solve(K + SIGMA**2 * np.eye(len(y)), K)
    variance = np.diag(K) - (K * solved).sum(axis=0) + SIGMA**2
    return norm.logpdf(y, solved.T @ y, np.sqrt(variance))


@pytest.mark.parametrize(
    ("formula", "family"),
    [
        ("y ~ x + (1 | g)", "gaussian"),
        (["y ~ x + (1 | g)", "sigma ~ x"], "gaussian"),
        ("y ~ x", "student"),
        ("n ~ x + (1 | g)", "poisson"),
        ("n | weights(o) ~ x + (1 | g)", "poisson"),
        ("o ~ x + (1 | g)", "cumulative"),
        (["y ~ x + (1 |i| g)", "n ~ x + (1 |i| g)"], ["gaussian", "poisson"]),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore")  # of what few rows may lead to
def test_rows_left_out_count_for_nothing(data, formula, family):
    """The likelihood of the rows that are left."""
    left_out = np.arange(24) % 5 == 0
    without_rows = without(gb.Model(formula, data, family), left_out).fit("ml")
    fewer = gb.Model(formula, data[~left_out], family).fit("ml")
    assert without_rows.loglik == pytest.approx(fewer.loglik, abs=1e-6)


def test_the_answer_depends_on_the_seed_and_not_on_the_jobs(normal):
    first = normal.kfold(2, seed=1, progressbar=False)
    with joblib.parallel_config("threading"):
        again = normal.kfold(2, seed=1, n_jobs=2, progressbar=False)
    np.testing.assert_array_equal(first.elpd_i, again.elpd_i)
    np.testing.assert_array_equal(first.elpd_i["fold"], again.elpd_i["fold"])
    assert not np.array_equal(normal.kfold(2, seed=2, progressbar=False).elpd_i, first.elpd_i)


def test_folds_are_as_large_as_each_other_and_levels_whole(data):
    model = gb.Model("y ~ 1 + (1 | g)", data)
    assert set(np.bincount(assigned(model, 5, None, None, 0))) == {4, 5}
    of = assigned(model, 4, "g", None, 0)
    assert sorted(pd.Series(of).groupby(data["g"]).first().value_counts()) == [1, 1, 2, 2]
    assert (pd.Series(of).groupby(data["g"]).nunique() == 1).all()
    strata = assigned(model, 4, None, "half", 0)
    assert (pd.crosstab(strata, data["half"]) == 3).all(axis=None)


def test_fits_are_ranked_by_the_same_folds(normal, data):
    worse = gb.Model("y ~ 1", data, priors={"sigma": SIGMA, "beta": 0.0}).fit(
        "posthoc", seed=2, draws=100, progressbar=False
    )
    results = {name: fit.kfold(2, progressbar=False) for name, fit in
               {"levels": normal, "none": worse}.items()}  # fmt: skip
    assert list(gb.compare(results).index) == ["levels", "none"]
    others = {**results, "none": worse.kfold(2, seed=9, progressbar=False)}
    with pytest.raises(DataError, match="in the same folds"):
        gb.compare(others)


def test_doubtful_folds_are_told(data):
    priors = {"beta[Intercept]": gb.Prior("Normal", mu=0, sigma=WIDE), "sigma": SIGMA}
    with pytest.warns(ConvergenceWarning, match="There is one chain"):
        fit = gb.Model("y ~ 1", data, priors=priors).fit(
            "posthoc", seed=2, draws=20, chains=1, progressbar=False
        )
    with pytest.warns(ConvergenceWarning, match="without 2 of 2 folds should not be trusted"):
        assert fit.kfold(2, progressbar=False).warning


def test_what_cannot_be_left_out_is_said(normal, data):
    with pytest.raises(DataError, match=r"k=7 is more than there are levels of 'g': 6"):
        normal.kfold(7, "g")
    with pytest.raises(UnknownNameError, match="k=1 must be a whole number of at least 2"):
        normal.kfold(1)
    with pytest.raises(UnknownNameError, match="no group or column 'hall'. Did you mean 'half'"):
        normal.kfold(group="hall")
    with pytest.raises(DataError, match="not both"):
        normal.kfold(group="g", strata="half")
    time = data.assign(t=np.tile(np.arange(4.0), 6))
    model = gb.Model(["y ~ 1", "residual ~ ar1(t | g)"], time)
    with pytest.raises(NotSupportedError, match="loo"):
        without(model, np.arange(24) < 3)
