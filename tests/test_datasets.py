import gzip
import hashlib
import json
import re
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
REGISTRY = Path(datasets.__file__).parent / "registry.json"


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
        load_dataset("scotlip")
    monkeypatch.setenv("GLMM_BAYES_DATA", str(tmp_path))
    with pytest.raises(DataError, match=f"is not in {tmp_path}. .* with the columns region,"):
        load_dataset("scotlip")


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


def test_every_address_is_that_of_one_commit():
    entries = json.loads(REGISTRY.read_text(encoding="utf-8"))
    urls = [e["upstream"]["url"] for e in entries.values() if "url" in e.get("upstream", {})]
    assert len(urls) > 20
    for url in urls:
        assert re.match(
            r"https://raw\.githubusercontent\.com/[\w.-]+/[\w.-]+/[0-9a-f]{40}/\S+$", url
        )


@pytest.fixture
def upstream(monkeypatch, tmp_path):
    """Put bytes where the table of the next `load_dataset` is downloaded to."""

    def put(content):
        path = tmp_path / "upstream"
        path.write_bytes(content)
        monkeypatch.delenv("GLMM_BAYES_DATA", raising=False)
        monkeypatch.setattr(pooch, "retrieve", lambda *_, **__: str(path))

    return put


TOY = b"""\
"id","fish","length","site"
1,"cod",12.5,"a b"
2,"ling",0.333333333333333,
3,"cod",,"c"
"""
TOY_ENTRY = {
    **dict.fromkeys(("description", "source", "origin", "licence"), "a toy"),
    "packaged": False,
    "sha256": hashlib.sha256(TOY).hexdigest(),
    "columns": {
        "id": {"type": "integer", "meaning": "row"},
        "fish": {"type": "factor", "meaning": "species", "levels": ["cod", "ling"]},
        "length": {"type": "number", "meaning": "cm"},
        "site": {"type": "text", "meaning": "site"},
    },
}
RENAMED = {
    "columns": {"id": None, "length": "Len cm"},
    "labels": {"fish": {"1": "cod", "2": "ling"}},
}
COMMAS = b"site,Len cm,x,fish\na b,12.50,7,1\nNA,0.33333333333333331,8,2\nc,,9,1\n"
SPACES = b'"site"  "Len cm" fish\n"a b" 12.5 1  \n- .33333333333333331 2\nc - 1\n'


@pytest.mark.parametrize(
    ("recipe", "content"),
    [
        ({"separator": ","}, COMMAS),
        ({"separator": ","}, COMMAS.replace(b"\n", b"\r\n")),
        ({"separator": ","}, COMMAS.replace(b"\n", b"\r").rstrip()),
        ({"separator": ","}, gzip.compress(COMMAS, mtime=0)),
        ({"separator": r"\s+", "missing": ["-"]}, SPACES),
        ({"separator": r"\s+", "missing": ["-"]}, SPACES.replace(b"\n", b"\r\n")),
    ],
)
def test_a_recipe_makes_our_table_of_a_text_in_another_form(recipe, content, upstream, monkeypatch):
    entry = TOY_ENTRY | {"upstream": {"url": "https://toy", "recipe": recipe | RENAMED}}
    monkeypatch.setattr(datasets, "_entries", lambda: {"toy": entry})
    upstream(content)
    table = load_dataset("toy")
    assert table["fish"].to_list() == ["cod", "ling", "cod"]
    assert table["site"].isna().to_list() == [False, True, False]
    upstream(content[:-4])
    with pytest.raises(DataError, match="it should"):
        load_dataset("toy")


def spaced(table, *, quoted=(), first=1):
    """Write as R's write.table does; whole numbers of the first column may count from 0."""
    lines = [" ".join(f'"{column}"' for column in table)]
    for row in table.itertuples(index=False):
        cells = dict(zip(table, row, strict=True))
        cells |= {column: f'"{cells[column]}"' for column in quoted}
        cells |= {} if first else {"region": cells["region"] - 1}
        lines.append(" ".join(str(cell) for cell in cells.values()))
    return ("\n".join(lines) + "\n").encode()


def numbered_culcita(table):
    """Numbered treatments, nine columns, two of one name, carriage returns."""
    codes = {
        "none": ("1", "No Symbionts,C-,S-,a,n,n"),
        "shrimp": ("2", "Pair of Shrimp,C-,S+,b,n,y"),
        "crabs": ("3", "Pair of Crabs,C+,S-,c,y,n"),
        "both": ("4", "Pair of Shrimp and Crabs,C+,S+,d,y,y"),
    }
    lines = ["block,ttt,predation,ttt,crab,shrimp,ttt2,crab2,shrimp2"]
    for row in table.itertuples():
        number, rest = codes[row.ttt]
        lines.append(f"{row.block},{number},{row.predation},{rest}")
    return "\r".join(lines).encode()


def dashed_tundra(table):
    """Spaces in names, dashes for missing values, zeros at the end of numbers."""
    decimals = {"Lat": 5, "Long": 5, "GS.NEE": 1, "GS.GPP": 1, "GS.ER": 1, "W.NEE": 1}
    for column, places in decimals.items():
        texts = [f"{value:.{places}f}" for value in table[column]]
        table = table.assign(**{column: texts}).replace({column: {"nan": "-"}})
    table = table.rename(columns=lambda name: re.sub(r"^(GS|W)\.", r"\1 ", name))
    return table.to_csv(index=False, lineterminator="\n").encode()


FORMS = {
    "brms_phylo_effect": lambda table: spaced(table, quoted=["phylo"]),
    "brms_phylo_pois": lambda table: spaced(table, quoted=["phylo"]),
    "brms_phylo_repeat": lambda table: spaced(table, quoted=["species", "phylo"]),
    "brms_phylo_simple": lambda table: spaced(table, quoted=["phylo"]),
    "btdata": lambda table: table.to_csv(index=False).encode(),
    "culcita": numbered_culcita,
    "germany": lambda table: spaced(table, first=0),
    "gopher": lambda table: table.assign(type="Fresh").to_csv(index=False).encode(),
    "leuk": lambda table: spaced(table).replace(b'"', b"").replace(b"\n", b"\r\n"),
    "plodia_po": lambda table: gzip.compress(spaced(table), mtime=0),
    "salm": spaced,
    "seeds": spaced,
    "tokyo": spaced,
    "tundra": dashed_tundra,
}


@pytest.mark.parametrize("name", FORMS)
def test_a_text_of_the_authors_becomes_the_same_table(name, upstream, shared_data):
    local = load_dataset(name)
    upstream(FORMS[name](local))
    pd.testing.assert_frame_equal(load_dataset(name), local)


def test_site_years_are_averaged_from_the_tundra_of_its_authors(upstream, shared_data):
    local = load_dataset("tundra_agg")
    upstream(dashed_tundra(load_dataset("tundra")))
    pd.testing.assert_frame_equal(load_dataset("tundra_agg"), local)


def test_an_upstream_table_that_changed_is_refused(upstream, shared_data):
    content = numbered_culcita(load_dataset("culcita"))
    upstream(content.replace(b"1,1,0,", b"1,1,1,", 1))
    with pytest.raises(DataError, match="is not what it should be"):
        load_dataset("culcita")


@pytest.mark.parametrize(
    ("name", "content", "problem"),
    [
        ("gopher", b"<html>Not found</html>", "KeyError\\('Site'\\)"),
        ("tokyo", b"", "No columns"),
        ("plodia_po", b"\x1f\x8b and then nothing", "GzipFile|zlib|Compressed|method"),
    ],
)
def test_a_download_that_is_something_else_is_refused(name, content, problem, upstream):
    upstream(content)
    with pytest.raises(DataError, match=f"has not the form it should have .*({problem})"):
        load_dataset(name)


OBJECTS = {
    "coral_acr": "m.acr.nofr",
    "coral_poc": "m.poc.nofr",
    "gryphon": "Gryphon_df",
    "loaloa": "Loaloa",
    "salamander_mating": "salamander",
    "spdetoy": "SPDEtoy",
    "starling": "dataf",
    "wafers": "wafers",
    "zambia": "Zambia",
}


def test_every_download_is_tested_in_its_upstream_form():
    tested = {*FORMS, *OBJECTS, "glycera", "tundra_agg"}
    assert tested == set(LISTED.index[LISTED["where"] == "download"])


def as_kept_in_r(table):
    """Whole numbers as floats; colonies without a number have one that is an empty text."""
    whole = table.select_dtypes("int64").columns
    words = table.select_dtypes("str").columns
    # rdata writes a missing level of a factor as its last level.
    gaps = [c for c in table.select_dtypes("category") if c != "NUM" and table[c].hasnans]
    frame = table.astype(dict.fromkeys(whole, float) | dict.fromkeys([*words, *gaps], object))
    if "NUM" in table:
        frame["NUM"] = table["NUM"].cat.add_categories("").fillna("")
    return frame


@pytest.mark.parametrize("name", OBJECTS)
def test_a_data_frame_of_an_upstream_r_file_becomes_the_same_table(
    name, upstream, shared_data, tmp_path
):
    """Written in R's own format, factors and missing values and all, as its authors keep it."""
    local = load_dataset(name)
    frame = as_kept_in_r(local)
    path = tmp_path / "tables.RData"
    rdata.write_rda(path, {"other": frame.head(2), OBJECTS[name]: frame})
    upstream(path.read_bytes())
    pd.testing.assert_frame_equal(load_dataset(name), local)
    rdata.write_rda(path, {OBJECTS[name]: frame.iloc[::-1]})
    upstream(path.read_bytes())
    with pytest.raises(DataError, match="is not what it should be"):
        load_dataset(name)
    rdata.write_rda(path, {"other": frame})
    upstream(path.read_bytes())
    with pytest.raises(DataError, match=f"has not the form .*KeyError\\('{OBJECTS[name]}'"):
        load_dataset(name)


def test_the_packaged_bytes_are_those_of_the_folder(shared_data):
    """The package and the folder are two copies of the same tables."""
    same = [name for name in PACKAGED if (shared_data / f"{name}.csv").is_file()]
    assert len(same) > 30
    for name in same:
        packed = gzip.decompress((TABLES / f"{name}.csv.gz").read_bytes())
        assert packed == (shared_data / f"{name}.csv").read_bytes()
