"""Degrees of freedom against lmerTest, pbkrtest, closed forms and dense matrices."""

import numpy as np
import pandas as pd
import pytest
from references import factor, table

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError, UnknownNameError
from glmm_bayes.modes.normal import read_normal
from glmm_bayes.verbs.ddf import small_sample
from glmm_bayes.verbs.kenward_roger import adjusted_covariance, pairs

SLEEP = "Reaction ~ Days + (1 + Days | Subject)"


def sleepstudy():
    return gb.load_dataset("sleepstudy")


def unbalanced():
    """Some of sleepstudy's rows, with another factor across the subjects."""
    data = sleepstudy().assign(item=factor(np.arange(180) % 7), f=factor(np.arange(180) % 3))
    return data.iloc[[i for i in range(140) if i % 10 < 3 + (i // 10) % 6]]


MODELS = {
    "slopes": "Reaction ~ Days * f + (1 + Days | Subject)",
    "crossed": "Reaction ~ Days + f + (1 | Subject) + (0 + Days | Subject) + (1 | item)",
    "symmetric": "Reaction ~ Days + cs(0 + f | Subject)",
    "toeplitz": "Reaction ~ Days + toep(0 + f | Subject)",
    "autoregressive": "Reaction ~ Days + ar1(0 + f | Subject)",
    "factor-analytic": "Reaction ~ Days + rr(0 + f | Subject, d=1)",
    "dispersion": ["Reaction ~ Days + (1 | Subject)", "sigma ~ f"],
}


def dense_covariance(fit, x):
    """V at coordinates x, from the design, row by row."""
    model, c = fit.model, fit.mode.coordinates
    sigma = c.split(x)[1]
    eta = np.full(model.nobs, sigma[0])
    if "sigma" in model.design.predictors:
        predictor = model.design.predictors["sigma"]
        eta = (predictor.X - model.means("sigma")) @ sigma
    V = np.diag(np.exp(2 * eta))
    for term, L in zip(model.design.terms, c.Lambdas(x), strict=True):
        Z = term.Z("mu").toarray()
        V += Z @ np.kron(np.eye(len(term.levels)), L @ L.T) @ Z.T
    return V


def dense_criterion(fit, x, *, restricted):
    """The (restricted) log likelihood, without constants."""
    V, X, y = dense_covariance(fit, x), fit.model.design.predictors["mu"].X, fit.model.design.y
    inner = np.linalg.inv(V)
    precision = X.T @ inner @ X
    r = y - X @ np.linalg.solve(precision, X.T @ inner @ y)
    found = np.linalg.slogdet(V)[1] + r @ inner @ r
    return -0.5 * (found + restricted * np.linalg.slogdet(precision)[1])


@pytest.mark.parametrize("method", ["ml", "reml"])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_satterthwaite_agrees_with_differences_of_dense_matrices(name, method):
    fit = gb.Model(MODELS[name], unbalanced()).fit(method)
    L = np.eye(len(fit.fixef()))[: len(fit.model.design.predictors["mu"].names)]
    X, c = fit.model.design.predictors["mu"].X, fit.mode.coordinates
    at = [
        k
        for k in range(len(fit.mode.x))
        if k >= c.coefficients[1].start and not c.idle(fit.mode.x)[k]
    ]
    steps = np.nan_to_num(2e-3 * np.sqrt(np.diag(fit.mode.covariance)))

    def vcov(x):
        return np.linalg.inv(X.T @ np.linalg.solve(dense_covariance(fit, x), X))

    def moved(*by):
        return fit.mode.x + sum(steps * (np.arange(len(steps)) == k) * s for k, s in by)

    def value(*by):
        return dense_criterion(fit, moved(*by), restricted=method == "reml")

    k = len(L)
    slopes = [(vcov(moved((i, 1))) - vcov(moved((i, -1)))) / (2 * steps[i]) for i in at]
    H = np.array(
        [
            [
                (value((i, 10), (j, 10)) - value((i, 10), (j, -10)) - value((i, -10), (j, 10))
                 + value((i, -10), (j, -10))) / (400 * steps[i] * steps[j])
                for j in at
            ]
            for i in at
        ]
    )  # fmt: skip
    f = np.diag(vcov(fit.mode.x))
    g = np.stack([np.diag(s) for s in slopes], axis=1)
    expected = 2 * f**2 / np.einsum("km,mn,kn->k", g, np.linalg.inv(-H), g)
    found = small_sample(fit, "satterthwaite")
    np.testing.assert_allclose(found.covariance[:k, :k], vcov(fit.mode.x), rtol=1e-6)
    np.testing.assert_allclose(found.df(L), expected, rtol=2e-3)


def test_without_random_effects_t_is_exact():
    """R's lm of sleepstudy: standard errors 6.610154 and 1.238195, 178 degrees of freedom."""
    for method in ("ml", "reml"):
        fit = gb.Model("Reaction ~ Days", sleepstudy()).fit(method)
        found = fit.ttest()
        np.testing.assert_allclose(found["std_error"], [6.610154, 1.238195], rtol=1e-6)
        np.testing.assert_allclose(found["df"], 178, rtol=1e-9)


def test_what_is_balanced_has_whole_degrees_of_freedom():
    """18 subjects, all with the same days: 17 for intercept and slope, and 18 by 'ml'."""
    for method, expected in (("reml", 17), ("ml", 18)):
        df = gb.Model(SLEEP, sleepstudy()).fit(method).ttest()["df"]
        np.testing.assert_allclose(df, expected, rtol=1e-6)


def tables():
    """The models of which the references have degrees of freedom, by case and block."""
    oats = gb.load_dataset("oats").rename(columns={"yield": "Yield"})
    return {
        ("lmm_machines_ddf", "ddf_vector"): (
            "score ~ Machine + (Machine | Worker)", table("machines")()),
        ("lmm_machines_ddf", "ddf_nested"): (
            "score ~ Machine + (1 | Worker/Machine)", table("machines")()),
        ("lmm_oats_emmeans", "ddf"): (
            "Yield ~ fN + Variety + (1 | Block/Variety)",
            oats.assign(fN=factor(oats["nitro"]))),
        ("lmm_starling", "ddf"): (
            "stmass ~ mnth * roostsitu + (1 | subject)", starling()),
    }  # fmt: skip


def starling():
    data = gb.load_dataset("starling")
    sites = ["tree", "nest-box", "inside", "other"]
    return data.assign(
        mnth=pd.Categorical(data["mnth"], ["Nov", "Jan"]),
        roostsitu=pd.Categorical(data["roostsitu"], sites),
    )


@pytest.mark.usefixtures("shared_data")
@pytest.mark.parametrize("case", ["lmm_machines_ddf", "lmm_oats_emmeans", "lmm_starling"])
@pytest.mark.parametrize(
    ("ddf", "block"), [("satterthwaite", "Satterthwaite"), ("kenward-roger", "Kenward_Roger")]
)
def test_agrees_with_published_cases(reference, case, ddf, block):
    """lmerTest 3.1-3 and pbkrtest 0.5.2, whose searches end near the maximum."""
    theirs = reference(case)
    for (name, part), (formula, data) in tables().items():
        if name != case:
            continue
        fit = gb.Model(formula, data).fit("reml")
        found, expected = fit.ttest(ddf), pd.DataFrame(theirs[part][block]["coef"]).T
        np.testing.assert_allclose(found["estimate"], expected["estimate"], rtol=1e-5)
        np.testing.assert_allclose(found["std_error"], expected["se"], rtol=2e-4)
        np.testing.assert_allclose(found["df"], expected["df"], rtol=3e-4)
        np.testing.assert_allclose(found["p_value"], expected["p"], atol=1e-4)
        found, expected = fit.anova(test=ddf), pd.DataFrame(theirs[part][block]["anova"]).T
        np.testing.assert_array_equal(found["num_df"], expected["num_df"])
        np.testing.assert_allclose(found["den_df"], expected["den_df"], rtol=3e-4)
        np.testing.assert_allclose(found["statistic"], expected["F"], rtol=3e-4)
        np.testing.assert_allclose(found["p_value"], expected["p"], atol=1e-4)


# By lmerTest 3.1-3 and pbkrtest 0.5.2 on `unbalanced`, to the last digits that lmer's bobyqa
# reaches: standard errors, degrees of freedom; denominators and F of terms, types III and II.
LMER_TEST = [
    (
        "Reaction ~ Days * f + (1 + Days | Subject)",
        "reml",
        "satterthwaite",
        [10.4359215, 3.9220717, 10.141886, 10.1531415, 3.35305503, 3.20005883],
        [23.7561812, 16.6686969, 49.5568341, 49.2608567, 49.5625412, 44.8426416],
        [[10.8910786, 7.13359028], [48.3285057, 2.21855139], [47.3128889, 6.38915912]],
        [[10.8868274, 6.5134954], [48.3285057, 2.21855139], [47.3128889, 6.38915912]],
    ),
    (
        "Reaction ~ Days * f + (1 + Days | Subject)",
        "reml",
        "kenward-roger",
        [10.507975, 3.98488528, 10.3720736, 10.3433008, 3.43535631, 3.22471084],
        [23.4494917, 17.4306482, 49.9397021, 49.5933675, 49.9278511, 45.2621334],
        [[11.4583253, 6.85199078], [48.810365, 2.14949173], [47.574651, 6.28428859]],
        [[11.4552056, 6.26155479], [48.810365, 2.14949173], [47.574651, 6.28428859]],
    ),
    (
        "Reaction ~ Days * f + (1 + Days | Subject)",
        "ml",
        "satterthwaite",
        [10.0076732, 3.74283267, 9.71241351, 9.72318088, 3.21097878, 3.06546148],
        [25.6049637, 18.0777349, 53.8824479, 53.5385629, 53.9112507, 48.6326844],
        [[11.7418536, 7.85782794], [52.5185731, 2.42034212], [51.3996618, 6.96103511]],
        [[11.7376512, 7.1753771], [52.5185731, 2.42034212], [51.3996618, 6.96103511]],
    ),
    (
        "Reaction ~ Days + f + (1 | Subject) + (1 | item)",
        "reml",
        "satterthwaite",
        [10.975221, 1.96489716, 8.53508516, 8.49975587],
        [30.0319005, 60.3249016, 56.8629857, 56.2567793],
        [[60.3249016, 37.9461214], [56.6677137, 0.229772634]],
        [[60.3249016, 37.9461214], [56.6677137, 0.229772634]],
    ),
    (
        "Reaction ~ Days + f + (1 | Subject) + (1 | item)",
        "reml",
        "kenward-roger",
        [11.0540062, 1.99007961, 8.75714728, 8.69958984],
        [28.5998855, 55.5581344, 55.9155676, 55.1176743],
        [[55.5581344, 36.9918578], [55.6471702, 0.219311995]],
        [[55.5581344, 36.9918578], [55.6471702, 0.219311995]],
    ),
    (
        "Reaction ~ Days + (0+f|Subject)",
        "reml",
        "satterthwaite",
        [9.47227457, 1.92883967],
        [20.0070939, 61.9665369],
        [[61.9665369, 40.3380577]],
        [[61.9665369, 40.3380577]],
    ),
    (
        "Reaction ~ Days + (0+f|Subject)",
        "reml",
        "kenward-roger",
        [10.6776457, 2.01404568],
        [19.3763195, 42.098726],
        [[42.098726, 36.9971787]],
        [[42.098726, 36.9971787]],
    ),
    (
        "Reaction ~ Days * f + (1|Subject) + (0+Days|Subject)",
        "reml",
        "satterthwaite",
        [10.1695734, 3.81718055, 10.1271923, 10.1543107, 3.34703893, 3.21932688],
        [26.7406695, 18.3844963, 49.2373376, 48.3825037, 49.5026804, 43.8189947],
        [[11.6646201, 7.7994059], [47.8773824, 2.38426461], [46.8030199, 6.4328185]],
        [[11.6571691, 7.12161095], [47.8773824, 2.38426461], [46.8030199, 6.4328185]],
    ),
    (
        "Reaction ~ Days * f + (1|Subject) + (0+Days|Subject)",
        "reml",
        "kenward-roger",
        [10.2166205, 3.85941545, 10.2701319, 10.2624823, 3.4000439, 3.23403433],
        [26.5072977, 19.1762628, 50.9219677, 50.0852654, 51.1443699, 45.8633008],
        [[12.3699988, 7.59699153], [49.6966055, 2.33854254], [48.5577541, 6.36507397]],
        [[12.3619463, 6.93954907], [49.6966055, 2.33854254], [48.5577541, 6.36507397]],
    ),
    (
        "Reaction ~ Days + (1 | f/item)",
        "ml",
        "satterthwaite",
        [7.55034545, 2.45764212],
        [73.0, 73.0],
        [[73.0, 28.3559823]],
        [[73.0, 28.3559823]],
    ),
]


@pytest.mark.parametrize(("formula", "method", "ddf", "se", "df", "third", "second"), LMER_TEST)
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_agrees_with_lmer_test(formula, method, ddf, se, df, third, second):
    fit = gb.Model(formula, unbalanced()).fit(method)
    found = fit.ttest(ddf)
    np.testing.assert_allclose(found["std_error"], se, rtol=1e-5)
    np.testing.assert_allclose(found["df"], df, atol=3e-4)
    for kind, expected in ((3, third), (2, second)):
        table = fit.anova(test=ddf, type=kind)
        den_df, statistic = np.transpose(expected)
        np.testing.assert_allclose(table["den_df"], den_df, atol=3e-4)
        np.testing.assert_allclose(table["statistic"], statistic, rtol=1e-5)


def test_kenward_roger_is_the_same_in_any_parameters():
    """By its bias of the estimates; pbkrtest's are linear in V."""
    fit = gb.Model(MODELS["slopes"], unbalanced()).fit("reml")
    normal = read_normal(fit.mode)
    covariances = []
    for moves in (normal.linear(), normal.loose):
        information = pairs(moves.first, normal.sums.restricted_cross)
        slopes = [normal.sums.mean_slope(i) for i in moves.first]
        W = 2 * np.linalg.inv(information)
        covariances.append(adjusted_covariance(normal.sums, moves, slopes, W))
    np.testing.assert_allclose(*covariances, rtol=1e-6)


def test_kenward_roger_fits_by_reml():
    model = gb.Model(SLEEP, sleepstudy())
    by_ml, by_reml = (model.fit(method).ttest("kenward-roger") for method in ("ml", "reml"))
    np.testing.assert_allclose(by_ml, by_reml, rtol=1e-6)
    assert "by 'reml'" in by_ml.attrs["notes"][0]
    assert not by_reml.attrs["notes"]


def test_kenward_roger_wants_weights_for_precisions():
    data = sleepstudy().assign(w=2.0)
    fit = gb.Model("Reaction | weights(w) ~ Days + (1 | Subject)", data).fit("reml")
    with pytest.raises(NotSupportedError, match="divide them by their mean"):
        fit.ttest("kenward-roger")


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        ("Reaction ~ Days + (1 | Subject)", [161, 161]),
        ("Reaction ~ Days + old + (1 | Subject)", [161, 161, 16]),
        ("Reaction ~ old + (1 | old/Subject)", [162, np.nan]),
    ],
)
@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_inner_outer_counts_groups(formula, expected):
    """180 rows, 18 subjects; as nlme counts."""
    data = sleepstudy()
    old = data["Subject"].astype(str) > "340"
    fit = gb.Model(formula, data.assign(old=factor(old))).fit("ml")
    if np.isnan(expected).any():
        with pytest.raises(NotSupportedError, match="leaves no degrees of freedom"):
            fit.ttest("inner-outer")
        return
    np.testing.assert_array_equal(fit.ttest("inner-outer")["df"], expected)
    assert (fit.ttest("residual")["df"] == 180 - len(expected)).all()


def test_groups_of_a_process_are_counted_and_not_its_times():
    """nlme's lme with a random intercept: 18 subjects of ten nights."""
    fit = gb.Model("Reaction ~ Days + ar1(Days | Subject)", gb.load_dataset("sleepstudy")).fit("ml")
    assert fit.ttest("inner-outer")["df"].tolist() == [161, 161]


@pytest.mark.filterwarnings("ignore::glmm_bayes.errors.SingularFitWarning")
def test_crossed_groups_have_no_inner_and_outer():
    fit = gb.Model("Reaction ~ Days + (1 | Subject) + (1 | item)", unbalanced()).fit("ml")
    with pytest.raises(NotSupportedError, match="crossed"):
        fit.ttest("inner-outer")


def test_names_are_checked():
    fit = gb.Model("Reaction ~ Days + (1 | Subject)", sleepstudy()).fit("ml")
    with pytest.raises(UnknownNameError, match="no method for degrees of freedom 'satterthwate'"):
        fit.ttest("satterthwate")
    slow = sleepstudy().assign(slow=lambda d: d["Reaction"] > 300)
    binary = gb.Model("slow ~ Days + (1 | Subject)", slow, "bernoulli").fit("ml")
    assert np.isinf(binary.ttest()["df"]).all()
    with pytest.raises(NotSupportedError, match="inner-outer"):
        binary.ttest("satterthwaite")
