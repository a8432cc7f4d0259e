import gzip
import hashlib
from pathlib import Path

import pandas as pd
import pooch
import pytest
import rdata

from glmm_bayes import datasets
from glmm_bayes.datasets import list_datasets, load_dataset
from glmm_bayes.errors import DataError, UnknownNameError

LISTED = list_datasets()
PACKAGED = sorted(LISTED.index[LISTED["where"] == "packaged"])
ELSEWHERE = sorted(LISTED.index[LISTED["where"] != "packaged"])
TABLES = Path(datasets.__file__).parent / "tables"


def assert_as_described(name):
    table = load_dataset(name)
    assert table.shape == tuple(LISTED.loc[name, ["rows", "columns"]])
    assert list(table.attrs["units"]) == list(table.columns)
    assert all(table.attrs["units"].values())
    assert all(table.attrs[key] for key in ("description", "source", "origin", "licence"))
    for column in table:
        values = table[column]
        assert values.notna().any()
        if isinstance(values.dtype, pd.CategoricalDtype):
            assert set(values.dropna()) == set(values.cat.categories)
            assert "" not in values.cat.categories


@pytest.mark.parametrize("name", PACKAGED)
def test_packaged_tables_are_as_described(name, monkeypatch, tmp_path):
    monkeypatch.setenv("GLMM_BAYES_DATA", str(tmp_path))
    assert_as_described(name)


@pytest.mark.parametrize("name", ELSEWHERE)
def test_tables_of_the_folder_are_as_described(name, shared_data):
    if not (shared_data / f"{name}.csv").is_file():
        pytest.skip(f"{shared_data} has no {name}.csv.")
    assert_as_described(name)


def test_every_packaged_file_is_listed():
    assert sorted(path.name.removesuffix(".csv.gz") for path in TABLES.iterdir()) == PACKAGED


@pytest.mark.parametrize(
    ("name", "column", "levels", "ordered"),
    [
        ("arabidopsis", "amd", ["clipped", "unclipped"], False),
        ("owls", "FoodTreatment", ["Deprived", "Satiated"], False),
        ("oats", "Block", ["I", "II", "III", "IV", "V", "VI"], False),
        ("verbagg", "resp", ["no", "perhaps", "yes"], True),
        ("salamanders", "mined", ["yes", "no"], False),
        ("mite", "Shrub", ["None", "Few", "Many"], True),
        ("cbpp", "period", ["1", "2", "3", "4"], False),
    ],
)
def test_levels_stand_in_the_order_of_r(name, column, levels, ordered):
    factor = load_dataset(name)[column].cat
    assert list(factor.categories) == levels
    assert factor.ordered is ordered


def test_levels_of_a_long_factor_are_ordered_as_numbers():
    levels = list(load_dataset("insteval")["s"].cat.categories)
    assert levels == [str(k) for k in range(1, 2973)]


def test_columns_have_the_kinds_of_their_values():
    table = load_dataset("grouseticks")
    assert table["TICKS"].dtype == "int64"
    assert table["cHEIGHT"].dtype == "float64"
    assert isinstance(table["BROOD"].dtype, pd.CategoricalDtype)


def test_grouseticks_has_the_groups_of_its_paper():
    """Elston et al. (2001): 403 chicks from 118 broods at 63 locations in three years."""
    table = load_dataset("grouseticks")
    groups = table[["INDEX", "BROOD", "LOCATION", "YEAR"]].nunique()
    assert list(groups) == [403, 118, 63, 3]


def test_a_missing_value_is_an_empty_field_and_nothing_else():
    assert "None" in set(load_dataset("mite")["Shrub"])
    assert load_dataset("meuse")["om"].isna().sum() == 2


def test_unknown_name_is_met_with_a_suggestion():
    with pytest.raises(UnknownNameError, match="'sleepstdy'. Did you mean 'sleepstudy'\\?"):
        load_dataset("sleepstdy")


def test_a_changed_file_in_the_folder_is_refused(monkeypatch, tmp_path):
    path = tmp_path / "gopher.csv"
    path.write_text('"Site","year","shells","Area","density","prev"\n"BS",2004,9,15.2,4.8,1\n')
    monkeypatch.setenv("GLMM_BAYES_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"content of {path} is not what it should be"):
        load_dataset("gopher")


def test_a_table_that_cannot_be_reached_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.delenv("GLMM_BAYES_DATA", raising=False)
    with pytest.raises(DataError, match="GLMM_BAYES_DATA is not set. It comes from https://github"):
        load_dataset("gopher")
    monkeypatch.setenv("GLMM_BAYES_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"is not in {tmp_path}. .* with the columns Site,"):
        load_dataset("gopher")


def test_a_failed_download_says_what_to_do(monkeypatch):
    def refuse(url, **_):
        raise OSError("no route")

    monkeypatch.delenv("GLMM_BAYES_DATA", raising=False)
    monkeypatch.setattr(pooch, "retrieve", refuse)
    with pytest.raises(DataError, match="not be downloaded from https://.*: no route. Set"):
        load_dataset("glycera")


def test_a_download_is_checked_by_its_bytes(monkeypatch, shared_data):
    expected = hashlib.sha256((shared_data / "glycera.csv").read_bytes()).hexdigest()
    asked = {}

    def retrieve(url, known_hash, **_):
        asked.update(url=url, known_hash=known_hash)
        return str(shared_data / "glycera.csv")

    monkeypatch.delenv("GLMM_BAYES_DATA")
    monkeypatch.setattr(pooch, "retrieve", retrieve)
    assert len(load_dataset("glycera")) == 1600
    assert asked["known_hash"] == f"sha256:{expected}"
    assert asked["url"].endswith("Live-Dead%20Tabulated%20Counts.csv")


UPSTREAM = {
    "none": ("1", "No Symbionts,C-,S-,a,n,n"),
    "shrimp": ("2", "Pair of Shrimp,C-,S+,b,n,y"),
    "crabs": ("3", "Pair of Crabs,C+,S-,c,y,n"),
    "both": ("4", "Pair of Shrimp and Crabs,C+,S+,d,y,y"),
}


@pytest.fixture
def upstream_culcita(monkeypatch, shared_data, tmp_path):
    """The table as its authors keep it: numbered treatments, nine columns, carriage returns."""
    local = load_dataset("culcita")
    lines = ["block,ttt,predation,ttt,crab,shrimp,ttt2,crab2,shrimp2"]
    for row in local.itertuples():
        number, rest = UPSTREAM[row.ttt]
        lines.append(f"{row.block},{number},{row.predation},{rest}")
    path = tmp_path / "culcita.csv"
    path.write_bytes("\r".join(lines).encode())
    monkeypatch.delenv("GLMM_BAYES_DATA")
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(path))
    return path, local


def test_an_upstream_table_in_another_form_becomes_the_same_table(upstream_culcita):
    _, local = upstream_culcita
    pd.testing.assert_frame_equal(load_dataset("culcita"), local)


def test_an_upstream_table_that_changed_is_refused(upstream_culcita):
    path, _ = upstream_culcita
    path.write_bytes(path.read_bytes().replace(b"1,1,0,", b"1,1,1,", 1))
    with pytest.raises(DataError, match="is not what it should be"):
        load_dataset("culcita")


def test_a_data_frame_of_an_upstream_r_file_becomes_the_same_table(
    monkeypatch, shared_data, tmp_path
):
    """Written in R's own format, factors and missing values and all, as its authors keep it."""
    local = load_dataset("coral_acr")
    path = tmp_path / "corals.RData"
    whole = local.select_dtypes("int64").columns
    words = local.select_dtypes("str").columns
    frame = local.astype(dict.fromkeys(whole, float) | dict.fromkeys(words, object))
    rdata.write_rda(path, {"m.acr.nofr": frame, "other": frame.head(2)})
    monkeypatch.delenv("GLMM_BAYES_DATA")
    monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(path))
    pd.testing.assert_frame_equal(load_dataset("coral_acr"), local)
    rdata.write_rda(path, {"m.acr.nofr": frame.assign(Mortality=0.0)})
    with pytest.raises(DataError, match="is not what it should be"):
        load_dataset("coral_acr")


def test_the_packaged_bytes_are_those_of_the_folder(shared_data):
    """The package and the folder are two copies of the same tables."""
    same = [name for name in PACKAGED if (shared_data / f"{name}.csv").is_file()]
    assert len(same) > 30
    for name in same:
        packed = gzip.decompress((TABLES / f"{name}.csv.gz").read_bytes())
        assert packed == (shared_data / f"{name}.csv").read_bytes()
