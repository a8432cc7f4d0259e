"""Bad input: one sentence of ours each, in the user's words, and never another exception."""

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.errors import DataError, FormulaError, NotSupportedError, UnknownNameError

N = 12
RNG = np.random.default_rng(1)
DATA = pd.DataFrame(
    {
        "y": RNG.normal(size=N),
        "x": RNG.normal(size=N),
        "f": np.resize(list("abc"), N),
        "g": np.resize(list("uvw"), N),
        "count": RNG.poisson(3, N),
        "n": 9,
        "k": RNG.integers(0, 8, N),
        "p": RNG.uniform(0.1, 0.9, N),
        "w": 1.0,
        "same": "t",
        "when": pd.date_range("2020-01-01", periods=N),
    },
    index=[f"r{k}" for k in range(N)],
)
Prior = gb.Prior
Y = "y ~ x + (1 | g)"

NAMES = [
    ("y ~ q", {}, UnknownNameError, "column 'q' of 'y ~ q' is not in the data. Known: count, f"),
    ("y ~ x + (1 | q)", {}, UnknownNameError, "column 'q'"),
    ("y ~ x + (q | g)", {}, UnknownNameError, "column 'q'"),
    ("q ~ x", {}, UnknownNameError, "column 'q'"),
    ("y ~ x + offset(q)", {}, UnknownNameError, "column 'q'"),
    ("y | weights(q) ~ x", {}, UnknownNameError, "column 'q'"),
    ("y ~ bs(q, df=4)", {}, UnknownNameError, "column 'q'"),
    ("y ~ foo(x)", {}, UnknownNameError, "'foo'"),
    ("y ~ cuont", {}, UnknownNameError, "Did you mean 'count'?"),
    (Y, {"family": "poison"}, UnknownNameError, "no family 'poison'. Did you mean 'poisson'?"),
    (Y, {"family": 3}, UnknownNameError, "The family 3 is neither"),
    (Y, {"link": "lgo"}, UnknownNameError, "no link 'lgo'. Did you mean 'log'?"),
    (Y, {"link": {"sigmaa": "log"}}, UnknownNameError, "Did you mean 'sigma'?"),
    (Y, {"link": 3}, UnknownNameError, "link=3"),
    (Y, {"link": {"mu": 3}}, UnknownNameError, "no link 3"),
    ("count ~ x", {"family": "poisson", "link": "identty"}, UnknownNameError, "'identity'"),
    (Y, {"link": {"sigma": "inverse"}}, NotSupportedError, "'inverse' does not keep 'sigma'"),
    ("y ~ x + ss(1 | g)", {}, UnknownNameError, "no structure 'ss'"),
    ("y ~ x + homcss(1 | g)", {}, UnknownNameError, "Did you mean 'homcs'?"),
    ("y ~ I(x | g)", {}, UnknownNameError, "np.logical_or"),
    ("y ~ x + y", {}, DataError, "stands among the predictors of mu too"),
    ("y ~ x:ss(1 | g)", {}, FormulaError, "can only be added"),
    (["y ~ x", "sigmma ~ x"], {}, UnknownNameError, "'sigmma ~ x'. Did you mean 'sigma'?"),
    (Y, {"missing": "dorp"}, UnknownNameError, "missing='dorp'"),
    (Y, {"centering": "centred"}, UnknownNameError, "Did you mean 'centered'?"),
    (Y, {"centering": 3}, UnknownNameError, "centering=3"),
    (Y, {"centering": {"h": "centered"}}, UnknownNameError, "no random term 'h'"),
    (Y, {"centering": {"g": "cent"}}, UnknownNameError, "centering='cent'"),
    (Y, {"centering": {"g": 3}}, UnknownNameError, "centering=3"),
    (Y, {"context": 3}, UnknownNameError, "context=3"),
]

FORMULAS = [
    ("y ~ x | g", {}, FormulaError, "parentheses around the random-effect term 'x | g'"),
    ("y ~ 1 + x | g", {}, FormulaError, "(1 + x | g), in 'y ~ 1 + x | g'"),
    ("y ~ x + (1 | g", {}, FormulaError, "A ')' is missing"),
    ("y ~ x + 1 | g)", {}, FormulaError, "bracket that is not open"),
    ("y ~ x + (1 ||| g)", {}, FormulaError, "too many bars"),
    ("y ~ x + (1 | )", {}, FormulaError, "name the grouping variable"),
    ("y ~ x + (0 | g)", {}, FormulaError, "has no columns"),
    ("y x", {}, FormulaError, "no '~'"),
    ("", {}, FormulaError, "no '~'"),
    ("~ x", {}, FormulaError, "Nothing stands before '~'"),
    ("y ~ x ~ g", {}, FormulaError, "more than one '~'"),
    ([], {}, FormulaError, "not []"),
    (None, {}, FormulaError, "not None"),
    (["y ~ x", "sigma"], {}, FormulaError, "'sigma'"),
    ("log(2) ~ x", {}, FormulaError, "'log(2)' names no column"),
    ("y ~ te(x, z)", {}, NotSupportedError, "'te(x, z)' is not built yet"),
    ("y ~ ar1(x | g)", {}, DataError, "'ar1(x | g)' should be whole numbers"),
    ("y ~ x + (1 | 1)", {}, FormulaError, "'(1 | 1)' has no group"),
    ("y | censored(x) ~ x", {}, DataError, "should be 'left'"),
    (["y ~ x", "residual ~ ar1(x | g)"], {}, DataError, "'ar1(x | g)'"),
]

RESPONSES = [
    ("count", {"count": 1.5}, "poisson", "whole and not negative, but row r0 is 1.5"),
    ("count", {"count": -1}, "negbinomial", "row r0 is -1"),
    ("y", {}, "gamma", "does not fit family 'gamma': values must be positive, but row r"),
    ("count", {"count": 2}, "bernoulli", "0 or 1"),
    ("p", {"p": 1.0}, "beta", "strictly between 0 and 1, but row r0 is 1"),
    ("f", {}, "bernoulli", "levels a, b, c; the family 'bernoulli' takes two levels"),
    ("f", {}, "gaussian", "levels a, b, c; the family 'gaussian' takes numbers"),
    ("same", {}, "bernoulli", "levels t; the family 'bernoulli' takes two levels"),
    ("when", {}, "gaussian", "'when' has the levels 2020-01-01"),
    ("k | trials(n)", {"n": 2}, "binomial", "more successes than trials (2)"),
    ("k | trials(n)", {"n": 9.5}, "binomial", "must be whole and not negative"),
    ("k | trials(f)", {}, "binomial", "The trials 'f' must be numbers"),
    ("k | trials(n)", {}, "gaussian", "takes no trials, but the response is 'k | trials(n)'"),
    ("cbind(k, n)", {"n": -3}, "binomial", "whole and not negative"),
    ("cbind(k, f)", {}, "binomial", "'f' must be numbers"),
    ("k", {"k": 3}, "binomial", "needs the number of trials: write k | trials(n)"),
    ("y | weights(w)", {"w": -2.0}, "gaussian", "'w' must not be negative, but row r0 has -2"),
    ("y | weights(w)", {"w": "a"}, "gaussian", "The weights 'w' must be numbers"),
    ("log(y)", {"y": 0.0}, "gaussian", "The response 'log(y)' is -inf in row r0"),
]

CELLS = [
    ("y ~ x", {"x": np.nan}, "No row is complete: values are missing in 'x' (12) of 12 rows"),
    ("y ~ x", {"y": None}, "No row is complete"),
    (Y, {"g": None}, "No row is complete: values are missing in 'g' (12)"),
    ("y ~ x", {"x": [np.inf, *range(11)]}, "'x' is infinite in row r0;"),
    ("y ~ x", {"y": np.inf}, "'y' is infinite in row r0, r1, r2, r3, r4 and 7 more"),
    ("y ~ log(x)", {"x": [1.0] * 11 + [-1.0]}, "'log(x)' is nan in row r11"),
    ("y ~ x", {"x": 1 + 2j}, "'x' holds complex numbers"),
    ("y ~ x", {"x": [[1]] * N}, "'x'"),
    ("y ~ when", {}, "'when' cannot be evaluated"),
    ("y ~ bs(x, df=1)", {}, "'bs(x, df=1)' cannot be evaluated"),
    ("y ~ C(x, 3)", {}, "'C(x, 3)' cannot be evaluated"),
    ("y ~ x + offset(f)", {}, "The offset 'f' must be numbers"),
    ("y ~ x + (1 | log(g))", {}, "'log(g)' cannot be evaluated"),
    ("y ~ (1 | mm(g, f, weights=(w, x)))", {"x": -1.0}, "weights of mm(g,f) must not be negative"),
    ("y ~ (1 | mm(g, f, weights=(w, w)))", {"w": 0.0}, "all zero: row r0"),
    ("y ~ x + (1 | chain)", {"chain": "a"}, "The group 'chain' of '(1 | chain)'"),
    ("y ~ x + (1 | sigma)", {"sigma": "a"}, "rename the column"),
    ("y ~ x + (1 | beta)", {"beta": "a"}, "rename the column"),
]

PRIORS = [
    ({"beta": Prior("Normal", mu=[1, 2, 3])}, DataError, "it speaks of 2: Intercept, x"),
    ({"beta": Prior("Truncated", dist=Prior("Normal", mu=[1, 2, 3]), lower=0)}, DataError, "(3,)"),
    ({"sd_g": Prior("HalfNormal", sigma=[1, 2])}, DataError, "sigma with (2,) entries"),
    ({"sigma": Prior("HalfNormal", sigma=[1, 2])}, DataError, "it speaks of 1: sigma"),
    ({"betta": Prior("Normal")}, UnknownNameError, "'betta' to have a prior. Did you mean 'beta'?"),
    ({"beta[q]": Prior("Normal")}, UnknownNameError, "Did you mean 'beta[x]'?"),
    ({"sd_q": Prior("HalfNormal")}, UnknownNameError, "Did you mean 'sd_g'?"),
    ({"corr_g": Prior("LKJCorr", eta=2)}, UnknownNameError, "no parameter 'corr_g'"),
    ({"sigma": Prior("Normal")}, DataError, "'sigma', Normal(), reaches outside (0, inf)"),
    ({"sigma": -1}, DataError, "'sigma' cannot be -1"),
    ({"sd": 0}, DataError, "'sd' cannot be 0"),
    ({"sd_g": "wide"}, UnknownNameError, "The prior of 'sd_g' is 'wide'; give gb.Prior"),
    ({"beta": None}, UnknownNameError, "The prior of 'beta' is None"),
    ({"beta": True}, UnknownNameError, "The prior of 'beta' is True"),
    ({1: Prior("Normal")}, UnknownNameError, "priors={1: Normal()}"),
    (3, UnknownNameError, "priors=3"),
]  # fmt: skip


def expect(error, words, formula, data, **given):
    with pytest.raises(error) as caught:
        gb.Model(formula, data, **given)
    text = str(caught.value)
    assert words in text
    assert "\n" not in text
    assert text.endswith((".", ")"))


@pytest.mark.parametrize(("formula", "given", "error", "words"), NAMES)
def test_names(formula, given, error, words):
    expect(error, words, formula, DATA, **given)


@pytest.mark.parametrize(("formula", "given", "error", "words"), FORMULAS)
def test_formulas(formula, given, error, words):
    expect(error, words, formula, DATA, **given)


@pytest.mark.parametrize(("response", "changed", "family", "words"), RESPONSES)
def test_responses(response, changed, family, words):
    expect(DataError, words, f"{response} ~ x", DATA.assign(**changed), family=family)


@pytest.mark.parametrize(("formula", "changed", "words"), CELLS)
def test_cells(formula, changed, words):
    expect(DataError, words, formula, DATA.assign(**changed))


@pytest.mark.parametrize(("priors", "error", "words"), PRIORS)
def test_priors(priors, error, words):
    expect(error, words, Y, DATA, priors=priors)


@pytest.mark.parametrize(
    ("priors", "words"),
    [
        ({"corr_g": Prior("Normal")}, "'corr' of a 'us' term takes gb.Prior('LKJCorr', eta=2)"),
        ({"corr_g": 0.3}, "not Fixed(value=0.3)"),
    ],
)
def test_priors_of_a_correlation_matrix(priors, words):
    expect(NotSupportedError, words, "y ~ (1 + x | g)", DATA, priors=priors)


@pytest.mark.parametrize("data", [None, [1, 2], {"y": [1.0]}, np.ones((3, 2)), "data.csv"])
def test_what_is_no_data_frame(data):
    expect(DataError, f"The data are a {type(data).__name__}; give a pandas", Y, data)


def test_no_rows():
    expect(DataError, "The data have no rows", Y, DATA.iloc[:0])


def test_columns_of_one_name():
    twice = pd.concat([DATA, DATA[["x"]]], axis=1)
    expect(DataError, "several columns named 'x'; rename them", Y, twice)


def test_missing_values_where_they_are_refused():
    data = DATA.assign(x=[np.nan, *range(11)])
    expect(DataError, "missing in 'x' (1); fill them in", Y, data, missing="raise")


@pytest.mark.parametrize(
    "formula",
    [
        "y | weights(long) ~ x",
        "y ~ x + offset(long)",
        "y ~ x + (1 | long)",
        "y | weights(long * 2) ~ x",
    ],
)
def test_arrays_of_the_wrong_length(formula):
    expect(
        DataError,
        "has values of shape (3,) for 12 rows",
        formula,
        DATA,
        context={"long": np.ones(3)},
    )


def test_an_array_of_the_wrong_length_in_the_fixed_part():
    expect(DataError, "'long' cannot be evaluated", "y ~ long", DATA, context={"long": np.ones(3)})


def test_a_level_that_the_fixed_part_has_not_seen():
    model = gb.Model("y ~ f + (1 | g)", DATA)
    with pytest.raises(DataError, match="not fitted with f = 'z'; it knows a, b, c"):
        model.design.encode(DATA.assign(f="z"))


def test_a_missing_value_in_new_data():
    model = gb.Model("y ~ x", DATA)
    with pytest.raises(DataError, match="no value of 'x' in row r0"):
        model.design.encode(DATA.assign(x=[np.nan, *range(11)]))


def test_a_column_that_new_data_lack():
    model = gb.Model("y ~ x", DATA)
    with pytest.raises(UnknownNameError, match="'x' of the new data"):
        model.design.encode(DATA[["y"]])
