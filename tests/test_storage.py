"""A fit kept in a file comes back the same, also in another process."""

import json
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pandas as pd
import pytest
import xarray as xr

import glmm_bayes as gb
from glmm_bayes.families import FAMILIES
from glmm_bayes.fit import PosteriorFit
from glmm_bayes.results import posterior_tree
from glmm_bayes.verbs.prior_predictive import _prior_draws

ROOT = Path(__file__).resolve().parents[1]


def quick(model: gb.Model, **options) -> PosteriorFit:
    draws = _prior_draws(model, 30, np.random.default_rng(1))
    return PosteriorFit(
        model, posterior_tree(model, draws, xr.Dataset(), 2), "nuts", 2, 1.5, options
    )


def kinds_of_columns() -> pd.DataFrame:
    n = 12
    ordered = pd.Categorical(["low", "high", "mid"] * 4, ["low", "mid", "high"], ordered=True)
    return pd.DataFrame(
        {
            "y": np.linspace(-1, 2, n),
            "whole": np.arange(n, dtype="int32"),
            "nullable": pd.array(range(n), dtype="Int64"),
            "yes": [True, False, False] * 4,
            "dose": ordered,
            "year": pd.Categorical([2001, 2002, 2004] * 4),
            "word": ["ä", "b", "c c"] * 4,
            "an odd name": np.float32(0.1) * np.arange(n)[::-1],
            "day": pd.date_range("2024-03-30", periods=n, tz="Europe/Paris", unit="us"),
            "g": np.repeat([3, 1, 2], 4),
        },
        index=pd.Index([f"row {k}" for k in range(n)], name="which"),
    )


def test_another_process_predicts_the_same_numbers(sleepstudy_fit, tmp_path):
    path = tmp_path / "kept without suffix"
    sleepstudy_fit.save(path)
    new = "pd.DataFrame({'Days': [0.5, 3], 'Subject': ['308', 'unseen']})"
    code = (
        "import sys, pandas as pd, glmm_bayes as gb\n"
        "fit = gb.load(sys.argv[1])\n"
        f"print(fit.predict({new}, kind='response', seed=4).to_json(double_precision=15))\n"
        "print('pymc' in sys.modules, 'nutpie' in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code, str(path)],
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    table, loaded = done.stdout.splitlines()
    expected = sleepstudy_fit.predict(eval(new), kind="response", seed=4)
    assert json.loads(table) == json.loads(expected.to_json(double_precision=15))
    assert loaded == "False False"


def test_everything_comes_back(sleepstudy_fit, tmp_path):
    sleepstudy_fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    assert back.idata.equals(sleepstudy_fit.idata)
    assert "glmm_bayes" not in back.idata.attrs
    for name in ("method", "seed", "elapsed", "options"):
        assert getattr(back, name) == getattr(sleepstudy_fit, name)
    assert back.model.centering == sleepstudy_fit.model.centering
    pd.testing.assert_frame_equal(back.predict(), sleepstudy_fit.predict(), check_index_type=False)
    pd.testing.assert_frame_equal(back.fixef(), sleepstudy_fit.fixef())


def test_columns_of_every_kind_keep_their_type_order_and_index(tmp_path):
    data = kinds_of_columns()
    model = gb.Model(
        "y ~ whole + nullable + yes + dose + year + word + `an odd name` + I(day.dt.day) + (1 | g)",
        data,
    )
    fit = quick(model)
    fit.save(tmp_path / "fit")
    back = gb.load(tmp_path / "fit")
    pd.testing.assert_frame_equal(back.model.data, model.design.rows.frame)
    np.testing.assert_array_equal(
        back.model.design.predictors["mu"].X, model.design.predictors["mu"].X
    )
    pd.testing.assert_frame_equal(back.predict(data), fit.predict(data))


def test_an_index_of_several_levels_comes_back(tmp_path):
    index = pd.MultiIndex.from_product([["a", "b"], [1, 2]], names=["side", None])
    fit = quick(gb.Model("y ~ x", pd.DataFrame({"y": [1.0, 2, 3, 5], "x": [0.0, 1, 0, 2]}, index)))
    fit.save(tmp_path / "fit")
    pd.testing.assert_frame_equal(gb.load(tmp_path / "fit").predict(), fit.predict())


def test_priors_links_and_missing_rows_come_back(tmp_path):
    data = pd.DataFrame({"y": [1.0, 3, 2, np.nan, 7], "x": [0.0, 1, 2, 3, 4], "g": list("aabbb")})
    priors = {
        "beta": gb.Prior("Truncated", dist=gb.Prior("Normal", mu=0, sigma=[2.0]), lower=-3),
        "sd_g": gb.Prior("HalfNormal", sigma=2),
        "sigma": 1.5,
    }
    with pytest.warns(gb.DataWarning):
        model = gb.Model(
            "y ~ 0 + x + (1 | g)", data, link="log", priors=priors, centering={"g": "centered"}
        )
    fit = quick(model, draws=30, callback=print)
    fit.save(tmp_path / "fit")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        back = gb.load(tmp_path / "fit")
    assert [p for b in back.model.blocks for p in map(repr, b.priors)] == [
        p for b in model.blocks for p in map(repr, b.priors)
    ]
    assert back.model.links["mu"].name == "log"
    assert back.model.centering == {"g": True}
    rows = back.model.design.rows
    assert (rows.total, rows.missing, list(rows.kept)) == (5, {"y": 1}, [0, 1, 2, 4])
    assert back.options == {"draws": 30}


def test_saving_again_replaces_the_file(sleepstudy_fit, cbpp_fit, tmp_path):
    path = tmp_path / "fit.zip"
    sleepstudy_fit.save(path)
    cbpp_fit.save(str(path))
    assert gb.load(str(path)).model.family.name == "binomial"
    assert [p.name for p in tmp_path.iterdir()] == ["fit.zip"]


def test_the_context_has_to_be_given_again(tmp_path):
    def halved(x):
        return x / 2

    data = pd.DataFrame({"y": [1.0, 2, 4], "x": [2.0, 4, 7]})
    fit = quick(gb.Model("y ~ halved(x)", data, context={"halved": halved}))
    fit.save(tmp_path / "fit")
    with pytest.raises(gb.UnknownNameError, match=r"names 'halved'.*context="):
        gb.load(tmp_path / "fit")
    back = gb.load(tmp_path / "fit", context={"halved": halved})
    pd.testing.assert_frame_equal(back.predict(data), fit.predict(data))


def test_a_family_of_ones_own_has_to_be_registered(tmp_path, monkeypatch):
    own = replace(gb.FAMILIES["gaussian"], name="mine")
    fit = quick(gb.Model("y ~ x", pd.DataFrame({"y": [1.0, 2, 4], "x": [2.0, 4, 7]}), own))
    with pytest.raises(gb.NotSupportedError, match=r"gb.add_family"):
        fit.save(tmp_path / "fit")
    monkeypatch.setitem(FAMILIES._items, "mine", own)
    fit.save(tmp_path / "fit")
    assert gb.load(tmp_path / "fit").model.family is own
    monkeypatch.delitem(FAMILIES._items, "mine")
    with pytest.raises(gb.UnknownNameError, match=r"family 'mine', which is not registered"):
        gb.load(tmp_path / "fit")


def test_objects_in_a_column_are_refused(tmp_path):
    import datetime

    days = [datetime.date(2020, 1, k) for k in (1, 2, 3)]
    fit = quick(gb.Model("y ~ 1 + (1 | d)", pd.DataFrame({"y": [1.0, 2, 4], "d": days})))
    with pytest.raises(gb.DataError, match="column 'd' holds objects of type date"):
        fit.save(tmp_path / "fit")
    assert not list(tmp_path.iterdir())


def test_what_is_not_a_saved_fit_is_said_to_be_none(tmp_path):
    with pytest.raises(gb.DataError, match="There is no file"):
        gb.load(tmp_path / "nothing")
    (tmp_path / "text").write_text("reaction,days\n")
    with pytest.raises(gb.DataError, match="is not a fit that glmm_bayes saved"):
        gb.load(tmp_path / "text")
    with ZipFile(tmp_path / "zip", "w") as other:
        other.writestr("zarr.json", '{"zarr_format": 3, "node_type": "group", "attributes": {}}')
    with pytest.raises(gb.DataError, match="is not a fit that glmm_bayes saved"):
        gb.load(tmp_path / "zip")


def test_a_later_format_is_refused(sleepstudy_fit, tmp_path, monkeypatch):
    monkeypatch.setattr("glmm_bayes.verbs.storage.FORMAT", 99)
    sleepstudy_fit.save(tmp_path / "fit")
    monkeypatch.undo()
    with pytest.raises(gb.DataError, match=r"later version.*format 99"):
        gb.load(tmp_path / "fit")
