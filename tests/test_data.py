"""One design whatever the frame: pandas, polars, pyarrow; missing values, odd names, dtypes."""

import datetime
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import glmm_bayes as gb
from glmm_bayes.data import labels, read_columns
from glmm_bayes.errors import DataError, DataWarning

ROWS = {
    "y": [1.5, 2.0, -0.5, 4.0, 0.25, 3.0, 2.5, 1.0],
    "x": [1, 2, 3, 4, 5, 6, 7, 8],
    "text": ["b", "a", "c", "a", "b", "c", "a", "b"],
    "flag": [True, False, True, True, False, False, True, False],
    "day": [datetime.date(2020, 1, 1 + k % 3) for k in range(8)],
    "site": [3, 10, 2, 3, 10, 2, 3, 10],
}
SIZES = ["small", "large", "small", "medium", "large", "medium", "small", "large"]
ORDER = ["small", "medium", "large"]
FORMULA = "y ~ x + text + flag + size + (1 + flag | site) + (1 | day)"


def pandas_frame():
    return pd.DataFrame({**ROWS, "size": pd.Categorical(SIZES, categories=ORDER)})


def nullable_frame():
    frame = pandas_frame()
    return frame.astype({"x": "Int64", "flag": "boolean", "text": "string", "y": "Float64"})


def arrow_backed_frame():
    return (
        pandas_frame()
        .drop(columns="size")
        .convert_dtypes(dtype_backend="pyarrow")
        .assign(size=pandas_frame()["size"])
    )


def polars_frame():
    return pl.DataFrame({**ROWS, "size": pl.Series(SIZES, dtype=pl.Enum(ORDER))})


def arrow_table():
    codes = pa.array([ORDER.index(s) for s in SIZES], pa.int32())
    return pa.table({**ROWS, "size": pa.DictionaryArray.from_arrays(codes, ORDER)})


FRAMES = [nullable_frame, arrow_backed_frame, polars_frame, arrow_table]


@pytest.mark.parametrize("make", FRAMES)
def test_every_frame_gives_the_design_of_pandas(make):
    expected = gb.Model(FORMULA, pandas_frame()).design
    found = gb.Model(FORMULA, make()).design
    X, Z = expected.predictors["mu"], expected.effects_matrix("mu")
    assert found.predictors["mu"].names == X.names
    np.testing.assert_array_equal(found.predictors["mu"].X, X.X)
    np.testing.assert_array_equal(found.y, expected.y)
    assert [t.levels for t in found.terms] == [t.levels for t in expected.terms]
    np.testing.assert_array_equal(found.effects_matrix("mu").toarray(), Z.toarray())


@pytest.mark.parametrize("make", [pandas_frame, *FRAMES])
def test_a_design_encodes_any_other_frame(make):
    design = gb.Model(FORMULA, pandas_frame()).design
    again = design.encode(make())
    np.testing.assert_array_equal(again.predictors["mu"].X, design.predictors["mu"].X)
    np.testing.assert_array_equal(
        again.effects_matrix("mu").toarray(), design.effects_matrix("mu").toarray()
    )


@pytest.mark.parametrize("make", [pandas_frame, polars_frame, arrow_table])
def test_categories_keep_their_order(make):
    design = gb.Model("y ~ 0 + size + (1 | size)", make()).design
    assert design.predictors["mu"].names == tuple(f"size[{s}]" for s in ORDER)
    assert design.terms[0].levels == tuple(ORDER)


def test_an_ordered_factor_gets_the_columns_of_a_plain_one():
    frame = pandas_frame()
    ordered = frame.assign(size=pd.Categorical(SIZES, categories=ORDER, ordered=True))
    plain, other = (gb.Model("y ~ size", f).design.predictors["mu"] for f in (frame, ordered))
    assert plain.names == other.names
    np.testing.assert_array_equal(plain.X, other.X)


def test_whole_numbers_are_labels_in_the_order_of_numbers():
    frame = pandas_frame()
    assert gb.Model("y ~ (1 | site)", frame).design.terms[0].levels == ("2", "3", "10")
    halves = frame.assign(site=frame["site"] / 2)
    assert gb.Model("y ~ (1 | site)", halves).design.terms[0].levels == ("1", "1.5", "5")


def test_numbers_with_gaps_are_labelled_as_without():
    frame = pandas_frame()
    frame.loc[0, "site"] = None
    with pytest.warns(DataWarning):
        model = gb.Model("y ~ (1 | site)", frame.astype({"site": float}))
    assert model.design.terms[0].levels == ("2", "3", "10")


def test_labels_of_booleans():
    codes, levels = labels(pd.Series([True, False, True]))
    assert levels == ("False", "True")
    np.testing.assert_array_equal(codes, [1, 0, 1])


# ---- missing values


@pytest.fixture
def gaps():
    frame = pandas_frame().astype({"x": float})
    frame.loc[[1, 4], "x"] = np.nan
    frame.loc[4, "text"] = None
    frame.loc[6, "y"] = np.nan
    frame["unused"] = np.nan
    return frame


@pytest.mark.parametrize("make", [lambda f: f, pl.from_pandas, pa.Table.from_pandas])
def test_rows_with_a_gap_in_a_used_column_are_left_out_and_counted(gaps, make):
    with pytest.warns(DataWarning) as caught:
        design = gb.Model("y ~ x + (1 | text)", make(gaps)).design
    words = "3 of 8 rows are left out: values are missing in 'y' (1), 'x' (2), 'text' (1)."
    assert str(caught[0].message) == words
    np.testing.assert_array_equal(design.rows.kept, [0, 2, 3, 5, 7])
    assert design.rows.total == 8
    assert design.rows.missing == {"y": 1, "x": 2, "text": 1}
    np.testing.assert_array_equal(design.y, [1.5, -0.5, 4.0, 3.0, 1.0])


def test_only_the_used_columns_matter(gaps):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert gb.Model("flag ~ size", gaps, family="bernoulli").nobs == 8


def test_gaps_in_weights_trials_and_offsets_count(gaps):
    for formula, family in [
        ("site | weights(x) ~ 1", "gaussian"),
        ("flag | trials(x) ~ 1", "binomial"),
        ("site ~ offset(x)", "gaussian"),
        ("site ~ (1 | mm(text, size, weights=(x, site)))", "gaussian"),
    ]:
        with pytest.warns(DataWarning, match=r"'x' \(2\)"):
            assert gb.Model(formula, gaps, family=family).nobs == 6


def test_gaps_may_be_refused(gaps):
    with pytest.raises(DataError, match=r"missing in 'x' \(2\); fill them in, or use missing="):
        gb.Model("site ~ x", gaps, missing="raise")


def test_rows_are_known_by_the_users_index(gaps):
    gaps.index = [f"row {k}" for k in range(8)]
    with pytest.warns(DataWarning):
        design = gb.Model("site ~ x", gaps).design
    assert list(design.rows.frame.index) == [f"row {k}" for k in (0, 2, 3, 5, 6, 7)]


def test_an_index_of_repeated_labels_is_no_key():
    frame = pandas_frame().set_axis([0] * 8)
    design = gb.Model("y ~ x + text + (1 | site)", frame).design
    expected = gb.Model("y ~ x + text + (1 | site)", pandas_frame()).design
    np.testing.assert_array_equal(design.predictors["mu"].X, expected.predictors["mu"].X)
    np.testing.assert_array_equal(design.terms[0].index, expected.terms[0].index)


def test_unused_levels_are_left_out_and_listed():
    frame = pandas_frame()
    some = frame[frame["size"] != "medium"]
    design = gb.Model("y ~ size + (1 | size)", some).design
    assert design.predictors["mu"].names == ("Intercept", "size[T.large]")
    assert design.terms[0].levels == ("small", "large")
    assert design.rows.unused_levels == {"size": ("medium",)}


def test_the_users_data_are_not_changed(gaps):
    before = gaps.copy(deep=True)
    with pytest.warns(DataWarning):
        gb.Model("y ~ x + size + (1 | text)", gaps)
    pd.testing.assert_frame_equal(gaps, before)


# ---- names

ODD = ["leaf area", "leaf.area", "größe", "it's", 'a "b"', "1st", "a-b", "class", "x|y", "種"]


@pytest.mark.parametrize("make", [pd.DataFrame, pl.DataFrame, pa.table])
@pytest.mark.parametrize("name", ODD)
def test_odd_names_by_backticks(make, name):
    frame = make({"y": ROWS["y"], name: ROWS["x"]})
    design = gb.Model(f"y ~ `{name}` + (1 | `{name}`)", frame).design
    np.testing.assert_array_equal(design.predictors["mu"].X[:, 1], ROWS["x"])
    assert design.predictors["mu"].names == ("Intercept", name)
    assert design.terms[0].name == name
    again = design.encode(frame)
    np.testing.assert_array_equal(again.predictors["mu"].X, design.predictors["mu"].X)


@pytest.mark.parametrize("name", ODD)
def test_odd_names_of_responses(name):
    frame = pd.DataFrame({name: ROWS["y"], "x": ROWS["x"]})
    np.testing.assert_array_equal(gb.Model(f"`{name}` ~ x", frame).design.y, ROWS["y"])


@pytest.mark.parametrize("name", ["leaf area", "leaf.area", "größe", "it's", "1st"])
def test_odd_names_within_expressions(name):
    frame = pd.DataFrame({"y": ROWS["y"], name: ROWS["x"]})
    design = gb.Model(f"y ~ log(`{name}`) + (1 | `{name}`) + offset(`{name}` / 2)", frame).design
    np.testing.assert_allclose(design.predictors["mu"].X[:, 1], np.log(ROWS["x"]))
    np.testing.assert_allclose(design.predictors["mu"].offset, np.array(ROWS["x"]) / 2)
    response = gb.Model(f"sqrt(`{name}`) ~ y", frame).design
    np.testing.assert_allclose(response.y, np.sqrt(ROWS["x"]))


def test_columns_whose_names_are_numbers():
    frame = pd.DataFrame(np.array([ROWS["y"], ROWS["x"]]).T)
    design = gb.Model("`0` ~ `1`", frame).design
    np.testing.assert_array_equal(design.y, ROWS["y"])


def test_categories_read_from_polars_are_those_that_occur():
    frame = pl.DataFrame({"s": pl.Series(["b", "a", "b"], dtype=pl.Categorical)})
    column = read_columns(frame, ["s"], where="a test")["s"]
    assert list(column) == ["b", "a", "b"]
    assert labels(column.cat.remove_unused_categories())[1] == ("b", "a")
