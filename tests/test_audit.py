"""What the audit finds, and that it is silent where there is nothing to find."""

import itertools

import numpy as np
import pandas as pd
import pytest

import glmm_bayes as gb
from glmm_bayes.verbs import separation as search
from glmm_bayes.verbs.audit import Audit, Note
from glmm_bayes.verbs.columns import Angles
from glmm_bayes.verbs.separation import separation

N = 60


@pytest.fixture(scope="module")
def data() -> pd.DataFrame:
    rng = np.random.default_rng(1)
    x = rng.normal(size=N)
    frame = pd.DataFrame(
        {
            "y": rng.normal(size=N),
            "x": x,
            "twice": 3 - 2 * x,
            "close": x + 0.01 * rng.normal(size=N),
            "large": 1e5 * rng.normal(size=N),
            "small": 1e-5 * rng.normal(size=N),
            "none": 0.0,
            "same": 5.0,
            "exact": 1 + 2 * x,
            "g": np.repeat(list("abcdefghijkl"), 5),
            "pair": np.repeat(np.arange(N // 2), 2),
            "row": np.arange(N),
            "two": np.tile(["u", "v"], N // 2),
            "one": "z",
            "of_g": np.repeat(rng.normal(size=12), 5),
            "y_of_g": np.repeat(rng.normal(size=12), 5),
            "positive": np.exp(rng.normal(size=N)),
            "binary": rng.integers(0, 2, N),
            "told": (x > 0).astype(int),
            "count": rng.poisson(3, N) + 1,
        }
    )
    frame["rare"] = frame["count"].where(frame["g"] != "c", 0)
    frame["nearly"] = frame["binary"].where(frame["g"] != "c", 0)
    frame["unused"] = pd.Categorical(frame["two"], categories=["u", "v", "w"])
    return frame


PLANTED = [
    ("y ~ x + twice + (1 | g)", "gaussian", "warning", "twice is a combination of Intercept and x"),
    ("y ~ 0 + x + I(3 * x) + (1 | g)", "gaussian", "warning", "is a combination of x;"),
    ("y ~ x + none + (1 | g)", "gaussian", "warning", "none is zero in every row"),
    ("y ~ x + same + (1 | g)", "gaussian", "warning", "same is a combination of Intercept;"),
    ("y ~ x + close + (1 | g)", "gaussian", "note", "x and close are nearly collinear"),
    ("y ~ large + (1 | g)", "gaussian", "note", "use scale(large)"),
    ("y ~ small + (1 | g)", "gaussian", "note", "use scale(small)"),
    ("y ~ x + (1 | one)", "gaussian", "warning", "single level"),
    ("y ~ x + (1 | two)", "gaussian", "note", "only 2 levels"),
    ("y ~ x + (1 | row)", "gaussian", "warning", "cannot be told from sigma"),
    ("y ~ x + (1 | row)", "student", "warning", "cannot be told from sigma and nu"),
    ("positive ~ x + (1 | row)", "gamma", "warning", "cannot be told from alpha"),
    ("count ~ x + (1 | row)", "poisson", "note", "takes up overdispersion"),
    ("count ~ x + (1 | row)", "negbinomial", "warning", "cannot be told from alpha"),
    ("binary ~ x + (1 | row)", "bernoulli", "warning", "a single trial cannot vary"),
    ("y ~ x + (1 + x | pair)", "gaussian", "warning", "60 effects for 60 rows"),
    ("y ~ x + (1 + of_g | g)", "gaussian", "note", "of_g does not vary within any level of g"),
    ("same ~ x + (1 | g)", "gaussian", "fatal", "All responses are equal"),
    ("same ~ x", "gamma", "fatal", "All responses are equal"),
    ("exact ~ x + (1 | g)", "gaussian", "fatal", "The fixed part fits every row"),
    ("y_of_g ~ x + (1 | g)", "gaussian", "fatal", "same in all rows of each level of g"),
    ("y ~ C(row)", "gaussian", "warning", "60 coefficients for 60 rows"),
    ("none ~ x + (1 | g)", "bernoulli", "warning", "Every response 'none' is zero"),
    ("none ~ x + (1 | g)", "poisson", "warning", "Every response 'none' is zero"),
    ("told ~ x + (1 | g)", "bernoulli", "warning", "Separation (complete): Intercept and x"),
    ("nearly ~ g", "bernoulli", "warning", "Separation (quasi-complete): g[T.c] foretells 5 of 60"),
    ("rare ~ g", "poisson", "warning", "zero in the 5 rows that g[T.c] can tell apart"),
    ("rare ~ 0 + g", "negbinomial", "warning", "zero in the 5 rows that g[c] can tell apart"),
    ("y ~ unused + (1 | g)", "gaussian", "note", "No row used has unused = w;"),
]


@pytest.mark.parametrize(("formula", "family", "severity", "words"), PLANTED)
def test_what_is_planted_is_found(data, formula, family, severity, words):
    found = gb.Model(formula, data, family).audit()
    assert [note.severity for note in found.notes if words in note.words] == [severity], found
    assert len(found.notes) == 1, found
    assert found.ok == (severity == "note")


CLEAN = [
    ("sleepstudy", "Reaction ~ Days + (1 + Days | Subject)", "gaussian"),
    ("cbpp", "cbind(incidence, size - incidence) ~ period + (1 | herd)", "binomial"),
    (
        "arabidopsis",
        "`total.fruits` ~ nutrient * amd + rack + status + (1 | popu) + (1 + nutrient | gen)",
        "poisson",
    ),
    ("arabidopsis", "`total.fruits` ~ nutrient * amd + (1 | gen)", "negbinomial"),
]


@pytest.mark.parametrize(("name", "formula", "family"), CLEAN)
def test_clean_data_give_no_note(name, formula, family):
    assert gb.Model(formula, gb.load_dataset(name), family).audit() == Audit(())


def test_culcita_is_separated_only_without_the_odd_row(shared_data):
    """Without its one zero, the block of no predation under `none` would tell all apart."""
    culcita = gb.load_dataset("culcita")
    formula = "predation ~ ttt + (1 | block)"
    assert gb.Model(formula, culcita, "bernoulli").audit() == Audit(())
    untouched = culcita["ttt"] == "none"
    eaten = culcita.assign(predation=culcita["predation"].mask(untouched, 1))
    words = gb.Model(formula, eaten, "bernoulli").audit().notes[0].words
    assert "quasi-complete" in words
    assert f"foretell {untouched.sum()} of {len(culcita)}" in words


def test_a_fixed_dispersion_leaves_room_for_an_effect_a_row(data):
    found = gb.Model("y ~ x + (1 | row)", data, priors={"sigma": 0.5}).audit()
    assert [note.severity for note in found.notes] == ["note"]


def test_a_fixed_scale_keeps_the_posterior_proper(data):
    assert not gb.Model("same ~ x", data, "student", priors={"nu": 4.0}).audit().ok
    assert gb.Model("same ~ x", data, "student", priors={"sigma": 0.5}).audit().ok


def test_links_that_reach_their_bound_are_not_separated(data):
    model = gb.Model("rare ~ 0 + g", data, "poisson", link="identity")
    assert model.audit() == Audit(())


def test_rows_without_trials_say_nothing(data):
    frame = data.assign(n=np.where(data["g"] == "c", 0, 4), k=np.where(data["g"] == "c", 0, 2))
    found = gb.Model("k | trials(n) ~ 0 + g", frame, "binomial").audit()
    assert found == Audit(())


def test_the_gravest_comes_first(data):
    found = gb.Model("same ~ x + twice + large + (1 | two)", data).audit()
    assert [n.severity for n in found.notes] == ["fatal", "warning", "note", "note"]
    assert not found.ok


def test_a_large_mean_hides_no_variation():
    x = np.random.default_rng(2).normal(size=50)
    X = np.column_stack([np.ones(50), 1e9 + x, x])
    assert Angles.of(X[:, :2], ["Intercept", "year"]).aliases == {}
    assert Angles.of(X, ["Intercept", "year", "x"]).inflation(30).keys() == {"year", "x"}


def test_inflation_is_that_of_regressions():
    """VIF_j = 1 / (1 - R_j^2), each column regressed on the others: James et al., ISLR, 3.3.3."""
    rng = np.random.default_rng(3)
    X = np.column_stack([np.ones(40), rng.normal(size=(40, 3)) @ rng.normal(size=(3, 3))])
    names = ["Intercept", "a", "b", "c"]
    for k, factor in enumerate(Angles.of(X, names).inflation(0.0).values(), start=1):
        others = np.delete(X, k, axis=1)
        left = X[:, k] - others @ np.linalg.lstsq(others, X[:, k])[0]
        assert factor == pytest.approx(X[:, k].var() / left.var(), rel=1e-8)


# ---- separation


def by_hand(X, falls, rises):
    """
    Look for separation along every extreme ray of the cone of directions.

    With three columns of full rank the cone is pointed, and each of its rays lies in the planes
    of two rows: so a ray is the cross product of two rows, up to its sign.
    """
    sign = np.where(falls, -1.0, np.where(rises, 1.0, 0.0))
    best = 0
    for i, j in itertools.combinations(range(len(X)), 2):
        ray = np.cross(X[i], X[j])
        for d in (ray, -ray):
            eta = X @ d
            if np.any(d) and (sign * eta >= 0).all() and (eta[sign == 0] == 0).all():
                best = max(best, int((sign * eta > 0).sum()))
    return best > 0


@pytest.mark.parametrize("rows", [2000, 4], ids=["programme", "newton"])
def test_separation_agrees_with_an_enumeration_of_rays(monkeypatch, rows):
    monkeypatch.setattr(search, "FEW_ROWS", rows)
    monkeypatch.setattr(search, "MORE_ROWS", 2 * rows)
    rng = np.random.default_rng(4)
    seen = {True: 0, False: 0}
    for _ in range(300):
        X = np.column_stack([np.ones(12), rng.integers(-2, 3, (12, 2))]).astype(float)
        if np.linalg.matrix_rank(X) < 3:
            continue
        kind = rng.choice(3, size=12, p=rng.dirichlet([1.0, 1.0, 0.2]))
        falls, rises = kind == 0, kind == 1
        expected = by_hand(X, falls, rises)
        assert (separation(X, falls, rises) is not None) == expected
        seen[expected] += 1
    assert min(seen.values()) > 30


@pytest.mark.parametrize("ones", [[3, 4, 5], [2, 3, 4, 5], [0]])
def test_complete_separation_by_a_line(ones):
    X = np.column_stack([np.ones(6), np.arange(6.0)])
    y = np.isin(np.arange(6), ones)
    found = separation(X, ~y, y)
    assert found.complete
    assert found.rows == 6
    assert 1 in found.columns


def test_a_tie_makes_separation_quasi_complete():
    X = np.column_stack([np.ones(6), [0.0, 1, 2, 2, 3, 4]])
    y = np.array([0, 0, 0, 1, 1, 1])
    found = separation(X, y == 0, y == 1)
    assert (found.complete, found.rows) == (False, 4)


def test_one_exception_undoes_separation():
    X = np.column_stack([np.ones(8), np.arange(8.0)])
    y = np.array([0, 0, 1, 0, 1, 1, 1, 1])
    assert separation(X, y == 0, y == 1) is None


def test_many_rows_with_one_empty_cell():
    rng = np.random.default_rng(5)
    cell = rng.integers(0, 10, 20_000)
    X = np.column_stack([np.ones(20_000), rng.normal(size=20_000), np.eye(10)[cell][:, 1:]])
    y = rng.random(20_000) < 0.3
    assert separation(X, ~y, y) is None
    y &= cell != 4
    found = separation(X, ~y, y)
    assert found.columns == (5,)
    assert found.rows == (cell == 4).sum()
    assert not found.complete


def test_the_audit_is_printed_with_the_model_and_as_html(data):
    model = gb.Model("y ~ x + (1 | one)", data)
    words = model.audit().notes[0].words
    assert " ".join(repr(model).split()).endswith(f"- warning: {words}")
    assert "single level" in repr(model.audit())
    assert "single level" in model.audit()._repr_html_()
    assert "No problem found." in repr(Audit(()))
    assert not Audit((Note("fatal", "y", "nothing is left."),)).ok
