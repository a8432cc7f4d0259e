"""Formulas: what each form is read as, and what is refused."""

import contextlib

import pytest
from formulaic import Formula as FormulaicFormula
from hypothesis import given, settings
from hypothesis import strategies as st

from glmm_bayes.errors import FormulaError, GlmmError, UnknownNameError
from glmm_bayes.formula import (
    STRUCTURE_NAMES,
    Group,
    PredictorPart,
    RandomPart,
    SpecialPart,
    plain_name,
    read_formula,
)


def right(text):
    """The one right side of `y ~ text`."""
    return read_formula(f"y ~ {text}").predictors["mu"]


def term(columns, *groups, structure="us", independent=False, id=None, **arguments):
    return [
        (
            structure,
            columns,
            group,
            independent,
            id,
            {k.strip("_"): v for k, v in arguments.items()},
        )
        for group in groups
    ]


def found(part):
    return [
        (r.structure, r.columns, r.group.label, r.independent, r.id, dict(r.arguments))
        for r in part.random
    ]


RANDOM = {
    # left sides
    "(1 | g)": term("1", "g"),
    "(x | g)": term("x", "g"),
    "(1 + x | g)": term("1 + x", "g"),
    "(0 + x | g)": term("0 + x", "g"),
    "(x - 1 | g)": term("x - 1", "g"),
    "(-1 + x | g)": term("-1 + x", "g"),
    "(1 + x * f | g)": term("1 + x * f", "g"),
    "(bs(x, df=3) | g)": term("bs(x, df=3)", "g"),
    '(C(f, levels=["a|b", "c"]) | g)': term('C(f, levels=["a|b", "c"])', "g"),
    "(`my x` | `my g`)": term("`my x`", "my g"),
    "(höhe | 树)": term("höhe", "树"),
    # bars
    "(x || g)": term("x", "g", independent=True),
    "(x | | g)": term("x", "g", independent=True),
    "(x |p| g)": term("x", "g", id="p"),
    "(x|1|g)": term("x", "g", id="1"),
    "(x |`my id`| g)": term("x", "g", id="my id"),
    # groups
    "(1 | a:b)": term("1", "a:b"),
    "(1 | a/b)": term("1", "a", "a:b"),
    "(1 | a/b/c)": term("1", "a", "a:b", "a:b:c"),
    "(1 | a + b)": term("1", "a", "b"),
    "(1 | a*b)": term("1", "a", "b", "a:b"),
    "(1 | (a + b)/c)": term("1", "a", "b", "a:b:c"),
    "(1 | (a + b):c)": term("1", "a:c", "b:c"),
    "(1 | a/(b + c))": term("1", "a", "a:b", "a:c"),
    "(x || a/b)": term("x", "a", "a:b", independent=True),
    "(1 | C(g))": term("1", "C(g)"),
    "(1 | {x > 2})": term("1", "I(x > 2)"),
    "(1 | `a b`:`c d`)": term("1", "a b:c d"),
    "(1 | 1)": term("1", "1"),
    "(1 | mm(g1, g2))": term("1", "mm(g1,g2)"),
    "(1 | mm(`g 1`, g2, scale=False))": term("1", "mm(g 1,g2)"),
    # structures
    "us(1 + x | g)": term("1 + x", "g"),
    "diag(1 + x | g)": term("1 + x", "g", structure="diag"),
    "ar1(t | g)": term("t", "g", structure="ar1"),
    "ar1(0 + t |p| g)": term("0 + t", "g", structure="ar1", id="p"),
    "ar1(t | 1)": term("t", "1", structure="ar1"),
    "cs(1 + x | a/b)": term("1 + x", "a", "a:b", structure="cs"),
    "exp(x + y | g)": term("x + y", "g", structure="exp"),
    "rr(0 + f | g, d=2)": term("0 + f", "g", structure="rr", d="2"),
    "phylo(1 | species, tree)": term("1", "species", structure="phylo", _0="tree"),
    "mat(x + y | g, 3, nu=(1, 2))": term("x + y", "g", structure="mat", _0="3", nu="(1, 2)"),
    "car(1 | area, f(W, k=1))": term("1", "area", structure="car", _0="f(W, k=1)"),
    "kron(t | g, ar1, K)": term("t", "g", structure="kron", _0="ar1", _1="K"),
    "gp(x | g)": term("x", "g", structure="gp"),
    # several terms
    "(1 | g) + (0 + x | g)": term("1", "g") + term("0 + x", "g"),
    "(1 | a:b) + (1 | a)": term("1", "a:b") + term("1", "a"),
    "(1 | g) + phylo(1 | g, tree)": term("1", "g") + term("1", "g", structure="phylo", _0="tree"),
    "(1 | g) + relmat(1 | g, A) + relmat(1 | g, D)": term("1", "g")
    + term("1", "g", structure="relmat", _0="A")
    + term("1", "g", structure="relmat", _0="D"),
}


@pytest.mark.parametrize(("text", "expected"), RANDOM.items(), ids=str)
def test_random_terms(text, expected):
    part = right(text)
    assert found(part) == expected
    assert (part.fixed, part.offsets, part.special) == ("1", (), ())


@pytest.mark.parametrize("text", RANDOM)
def test_a_term_is_read_from_its_own_text_as_from_the_formula(text):
    parts = right(f"x + {text}").random
    own = {part.text: right(part.text).random for part in parts}
    assert [part for text in own for part in own[text]] == list(parts)


@pytest.mark.parametrize("name", sorted(STRUCTURE_NAMES))
def test_every_structure_is_a_random_term_with_a_bar(name):
    assert found(right(f"{name}(x | g)")) == term("x", "g", structure=name)


@pytest.mark.parametrize("name", ["exp", "ar", "car", "mat", "log", "mm", "scale"])
def test_without_a_bar_a_call_is_a_function_of_the_user(name):
    assert right(f"{name}(x) + (1 | g)").fixed == f"{name}(x)"


def test_members_of_several_groups_with_weights():
    (part,) = right("(1 | mm(g1, factor(h), weights=(w1, w2 / 2)))").random
    assert part.group == Group(("g1", "factor(h)"), ("w1", "I(w2 / 2)"), membership=True)
    assert part.group.label == "mm(g1,factor(h))"
    (part,) = right("(1 | mm(g1, g2, weights=[w1, w2], scale=False))").random
    assert part.group == Group(("g1", "g2"), ("w1", "w2"), membership=True, scale=False)


def test_factors_keep_the_backticks_that_formulaic_needs():
    (part,) = right("(1 | `g`:`my g`:`1`)").random
    assert part.group == Group(("g", "`my g`", "`1`"))
    assert part.group.label == "g:my g:1"


FIXED = {
    "1": "1",
    "0": "0",
    "x": "x",
    "0 + x": "0 + x",
    "x - 1": "x - 1",
    "-1 + x": "-1 + x",
    "- x - -z": "-x + z",
    "x + -1": "x - 1",
    "a * b + (c + d)^2": "a * b + (c + d)^2",
    "a / b - a:b": "a / b - a:b",
    "  x\n  + `my  x`\t+ log( z )": "x + `my  x` + log( z )",
    "poly(x, 2) + bs(z, df=5)": "poly(x, 2) + bs(z, df=5)",
    "me(x, sd):z + mi(w)": "me(x, sd):z + mi(w)",
    "C(f, contr.sum) + I(x % 2) + {x + 1}": "C(f, contr.sum) + I(x % 2) + {x + 1}",
    "x + (1 | g)": "x",
    "(1 | g) + x": "x",
    "(1 | g) - 1 + x": "-1 + x",
    "0 + (1 | g)": "0",
    "(1 | g) + 0 + (1 | h)": "0",
    "x + ar1(t | g) + (1 | h) + z": "x + z",
    "offset(x) + (1 | g)": "1",
}


@pytest.mark.parametrize(("text", "fixed"), FIXED.items(), ids=str)
def test_fixed_part(text, fixed):
    assert right(text).fixed == fixed


OFFSETS = {
    "offset(n)": ("n",),
    "x + offset(log(n))": ("log(n)",),
    "offset(`log n`) + offset(m)": ("`log n`", "m"),
    "offset(log(n) - m)": ("I(log(n) - m)",),
    "offset(2 * n)": ("I(2 * n)",),
    "offset({n / m})": ("I({n / m})",),
}


@pytest.mark.parametrize(("text", "offsets"), OFFSETS.items(), ids=str)
def test_offsets(text, offsets):
    assert right(text).offsets == offsets


SPECIAL = {
    "s(x)": ("s", ("x",)),
    's(x, k=10, bs="cr")': ("s", ("x", "k=10", 'bs="cr"')),
    "t2(x, z)": ("t2", ("x", "z")),
    "te(x, z, k=(3, 4))": ("te", ("x", "z", "k=(3, 4)")),
    "ti(x)": ("ti", ("x",)),
    "cs(x)": ("cs", ("x",)),
}


def test_penalised_levels_are_a_random_term():
    found = right("x + s(g, bs='re')")
    assert (found.random[0].columns, found.random[0].group) == ("1", Group(("g",)))
    assert found.special == ()
    with pytest.raises(FormulaError, match="should be a random term"):
        right("s(x, g, bs='re')")


@pytest.mark.parametrize(
    ("text", "structure", "columns", "given"),
    [
        ("gp(x, z)", "gp", "x + z", {}),
        ("gp(log(x), cov='matern32')", "gp", "log(x)", {"cov": "'matern32'"}),
        ("hsgp(x, m=20, c=1.5)", "hsgp", "x", {"m": "20", "c": "1.5"}),
        ("hsgp(x + z | 1, m=20)", "hsgp", "x + z", {"m": "20"}),
    ],
)
def test_processes_of_all_rows_need_no_bar(text, structure, columns, given):
    found = right(f"{text} + w")
    assert (found.fixed, found.special) == ("w", ())
    assert found.random == (RandomPart(structure, columns, Group(()), False, None, given, text),)


@pytest.mark.parametrize(("text", "expected"), SPECIAL.items(), ids=str)
def test_special_terms(text, expected):
    assert right(f"{text} + z") == PredictorPart("z", (), (), (SpecialPart(*expected, text),))


RESPONSES = {
    "y": ("y", None, ()),
    "`my y`": ("`my y`", None, ()),
    "größe": ("größe", None, ()),
    "log(y)": ("log(y)", None, ()),
    "I(y**2)": ("I(y**2)", None, ()),
    "s / n": ("I(s / n)", None, ()),
    "y > 2": ("I(y > 2)", None, ()),
    "cbind(s, f)": ("s", "f", ()),
    "cbind(`s s`, n - s)": ("`s s`", "I(n - s)", ()),
    "cbind(s, f) | weights(w)": ("s", "f", (("weights", "w"),)),
    "y | trials(n)": ("y", None, (("trials", "n"),)),
    "y|trials(10)": ("y", None, (("trials", "I(10)"),)),
    "y | trials(n) + weights(w)": ("y", None, (("trials", "n"), ("weights", "w"))),
    "y | censored(c, y2)": ("y", None, (("censored", "c, y2"),)),
    "y | truncated(lb=0, ub=9)": ("y", None, (("truncated", "lb=0, ub=9"),)),
    "y | se(s) + subset(ok)": ("y", None, (("se", "s"), ("subset", "ok"))),
}


@pytest.mark.parametrize(("text", "expected"), RESPONSES.items(), ids=str)
def test_response(text, expected):
    response = read_formula(f"{text} ~ x").response
    assert (response.expression, response.failures, response.extras) == expected
    assert response.text == text


# lme4 1.1's own reading of the groups, from innermost outwards there.
PUBLISHED = [
    ("Reaction ~ Days + (Days | Subject)", "Days", [("Days", "Subject")]),
    ("Reaction ~ 0 + Days + (0 + Days | Subject)", "0 + Days", [("0 + Days", "Subject")]),
    ("Reaction ~ poly(Days, 2) + (1 | Subject)", "poly(Days, 2)", [("1", "Subject")]),
    ("Reaction ~ Days * grp + (grp | Subject)", "Days * grp", [("grp", "Subject")]),
    ("Reaction ~ Days:grp + (1 | Subject:grp)", "Days:grp", [("1", "Subject:grp")]),
    ("Reaction ~ Days + (1 | grp/Subject)", "Days", [("1", "grp"), ("1", "grp:Subject")]),
    ("Reaction ~ offset(Days) + grp + (1 | Subject)", "grp", [("1", "Subject")]),
    (
        "Reaction ~ (Days + grp)^2 + (Days + grp || Subject)",
        "(Days + grp)^2",
        [("Days + grp", "Subject")],
    ),
    (
        "Reaction ~ scale(Days) + (scale(Days) | Subject)",
        "scale(Days)",
        [("scale(Days)", "Subject")],
    ),
    (
        "score ~ C(Machine, contr.sum) + (1 | Worker)",
        "C(Machine, contr.sum)",
        [("1", "Worker")],
    ),
    (
        "score ~ Machine * x + (1 | Worker) + (1 | Worker:Machine)",
        "Machine * x",
        [("1", "Worker"), ("1", "Worker:Machine")],
    ),
    ("strength ~ 1 + (1 | batch/cask)", "1", [("1", "batch"), ("1", "batch:cask")]),
]


@pytest.mark.parametrize(("text", "fixed", "random"), PUBLISHED)
def test_formulas_of_the_literature(text, fixed, random):
    part = read_formula(text).predictors["mu"]
    assert part.fixed == fixed
    assert [(r.columns, r.group.label) for r in part.random] == random


def test_further_formulas_are_predictors_of_their_parameters():
    read = read_formula(["y ~ x + (1 |p| g)", "sigma ~ z + (1 |p| g)", "zi ~ 1"])
    assert list(read.predictors) == ["mu", "sigma", "zi"]
    assert read.texts == ("y ~ x + (1 |p| g)", "sigma ~ z + (1 |p| g)", "zi ~ 1")
    assert read.predictors["sigma"].fixed == "z"
    assert found(read.predictors["sigma"]) == term("1", "g", id="p")
    assert read.residual is None


def test_a_further_formula_for_the_residual():
    read = read_formula(("y ~ x", "residual ~ ar1(time | g)"))
    assert list(read.predictors) == ["mu"]
    assert read.residual == RandomPart(
        "ar1", "time", Group(("g",)), False, None, {}, "ar1(time | g)"
    )


def test_a_response_may_be_called_as_a_parameter_is():
    assert read_formula("mu ~ x").response.expression == "mu"


def test_white_space_means_nothing():
    dense = read_formula("y|trials(n)~x+(1+x|a/b)")
    loose = read_formula("\n y |\ttrials(n)\n ~ x\n   + ( 1 + x\n | a / b )  ")
    assert loose.response.extras == dense.response.extras
    assert loose.predictors["mu"].fixed == "x"
    assert [r.group for r in loose.predictors["mu"].random] == [
        r.group for r in dense.predictors["mu"].random
    ]
    assert loose.texts == ("y | trials(n) ~ x + ( 1 + x | a / b )",)


NAMES = {
    "x": "x",
    "`my x`": "my x",
    "`x`": "x",
    " x ": "x",
    "größe": "größe",
    "a.b": "a.b",
    "x + y": None,
    "f(x)": None,
    "{x}": None,
    "1": None,
    '"x"': None,
    "": None,
    "`x": None,
}


@pytest.mark.parametrize(("text", "name"), NAMES.items())
def test_plain_name(text, name):
    assert plain_name(text) == name


REFUSED = [
    # the whole
    ("", "There is no '~'"),
    ("   ", "There is no '~'"),
    ("y x", "There is no '~' outside brackets in 'y x'"),
    ("(y ~ x)", "There is no '~' outside"),
    ("y ~ x ~ z", "more than one '~'"),
    ("~ x", "Nothing stands before '~'"),
    ("y ~", "Nothing stands after '~'"),
    ("y ~ `x", "'y ~ `x' cannot be read"),
    ("y ~ f('x", "cannot be read"),
    ("y ~ log(x", "'y ~ log(x' cannot be read"),
    ("y ~ (1 | g", "A ')' is missing after '(1 | g', in 'y ~ (1 | g'."),
    ("y ~ 1 | g)", "closes a bracket that is not open"),
    ("y ~ (x + [z)]", "closes a bracket that is not open"),
    ("y ~ ``", "Nothing is quoted by '``'"),
    ("y ~ x + {}", "Nothing is quoted by '{}'"),
    ("y ~ x %% z", "cannot be read"),
    ("y ~ x %%", "Nothing is quoted by '%%'"),
    ("y ~ ``x", "Nothing is quoted by '``'"),
    ("y ~ ar1(t | g, ``)", "Nothing is quoted"),
    ("y ~ x %in% g", "'%in%' does not mean here"),
    # bars
    (
        "y ~ x | g",
        "Put parentheses around the random-effect term 'x | g': (x | g), in 'y ~ x | g'.",
    ),
    ("y ~ 1 + x | g", "'1 + x | g': (1 + x | g), in 'y ~ 1 + x | g'."),
    ("y ~ (1 | h) + x | g + z", "term 'x | g': (x | g), in"),
    ("y ~ x || g", "'x || g': (x || g)"),
    ("y ~ (x ||| g)", "too many bars in '(x ||| g)'"),
    ("y ~ (x | g | h + k | j)", "too many bars"),
    ("y ~ (x | a:b | g)", "too many bars"),
    ("y ~ (x |p|| g)", "has both '||' and an id"),
    ("y ~ (x ||p| g)", "has both '||' and an id"),
    ("y ~ (| g)", "Nothing stands before the bar of '(| g)'"),
    ("y ~ (x |)", "Nothing stands after the bar of '(x |)'"),
    ("y ~ (x | (1 | g))", "within the random term '(x | (1 | g))'"),
    ("y ~ ((1 | h) | g)", "within the random term"),
    ("y ~ us((1 | h) + x | g)", "within the random term"),
    ("y ~ ((1 | g))", "take it out of '((1 | g))'"),
    ("y ~ (x + (1 | g))", "take it out of '(x + (1 | g))'"),
    # sides of the bar
    ("y ~ (0 | g)", "'(0 | g)' has no columns"),
    ("y ~ (x + | g)", "cannot be read"),
    ("y ~ (x z | g)", "Missing operator"),
    ("y ~ (. | g)", "The '.' in '.' has no fixed meaning"),
    ("y ~ (s(x) | g)", "'s(x)' can only be added"),
    ("y ~ (offset(x) | g)", "'offset(x)' can only be added"),
    ("y ~ (1 | g - h)", "'-' has no meaning in the group 'g - h'"),
    ("y ~ (1 | g + 1)", "'1' has no meaning in the group"),
    ("y ~ (1 | 0)", "'0' has no meaning in the group"),
    ("y ~ (1 | a +)", "cannot be read"),
    ("y ~ (1 | a b)", "Missing operator"),
    ("y ~ (1 | g:mm(a, b))", "'mm(a, b)' should be the whole group"),
    ("y ~ (1 | mm(a))", "'mm(a)' needs two"),
    ("y ~ (1 | mm(a, b, weights=(v,)))", "is empty"),
    ("y ~ (1 | mm(a, b, weights=(v, w, u)))", "2 groups but 3 weights"),
    ("y ~ (1 | mm(a, b, weights=cbind(v, w)))", "should be a tuple"),
    ("y ~ (1 | mm(a, b, weights=(v, k=w)))", "no keywords"),
    ("y ~ (1 | mm(a, b, weight=(v, w)))", "Did you mean 'weights'?"),
    ("y ~ (1 | mm(a, b, scale=2))", "True or False"),
    ("y ~ (1 | mm(a, b:c))", "cannot be read"),
    # structures
    ("y ~ ar1(t || g)", "contradict each other in 'ar1(t || g)'"),
    ("y ~ us(x || g)", "write (x || g) or us(x | g)"),
    ("y ~ ar1(k=t | g)", "should be in the first argument"),
    ("y ~ ar1(t, x | g)", "should be in the first argument"),
    ("y ~ ar1(t | g, x | h)", "more than one argument"),
    ("y ~ ar1(t | g,)", "is empty"),
    ("y ~ rr(x | g, d=1, d=2)", "the argument 'd' twice"),
    ("y ~ kron(x, z)", "'kron(x, z)' has no bar"),
    ("y ~ ar1 (t | g)", "take it out"),
    ("y ~ us((x | g))", "is not that of a random term"),
    # additions only
    ("y ~ x:(1 | g)", "take it out of 'x:(1 | g)'"),
    ("y ~ x * (1 | g)", "take it out"),
    ("y ~ x - (1 | g)", "'(1 | g)' can be added but not subtracted"),
    ("y ~ x:ar1(t | g)", "'ar1(t | g)' can only be added"),
    ("y ~ x:s(z)", "'s(z)' can only be added"),
    ("y ~ x - s(z)", "not subtracted"),
    ("y ~ x:offset(z)", "'offset(z)' can only be added"),
    ("y ~ (x + offset(z))", "'offset(z)' can only be added"),
    ("y ~ x - offset(z)", "not subtracted"),
    ("y ~ offset()", "is empty"),
    ("y ~ offset(x, z)", "should have one argument"),
    ("y ~ s()", "is empty"),
    # twins
    ("y ~ (1 | g) + (1 | g)", "'(1 | g)' and '(1 | g)' are the same term on group 'g'"),
    ("y ~ (x | g) + (1 + x || g)", "are the same term"),
    ("y ~ (1 | a) + (1 | a/b)", "the same term on group 'a'"),
    ("y ~ (1 | a:b) + (1 | b:a)", "are the same term"),
    ("y ~ (1 |p| a) + (x |p| b)", "the id 'p' but not the same group"),
    ("y ~ (1 |p| a/b)", "the id 'p' but not the same group"),
    ("y ~ (1 |p| g) + ar1(t |p| g)", "the id 'p' but not the same group and structure"),
    # fixed part
    ("y ~ .", "has no fixed meaning"),
    ("y ~ ar1(~ t | g)", "There is a '~' within '~ t'"),
    ("y ~ offset(x # z\n)", "cannot be read"),
    ("y ~ x + . + (1 | g)", "has no fixed meaning"),
    ("y ~ x +", "A term is missing at the end"),
    ("y ~ +", "A term is missing"),
    ("y ~ x z", "Missing operator"),
    ("y ~ x * * z", "cannot be read"),
    ("y ~ ()", "cannot be read"),
    ("y ~ 2", "cannot be read"),
    ('y ~ "x"', "cannot be read"),
    ('y ~ "x"z', "names need no quotes"),
    ("y ~ [x]", "Use parentheses"),
    ("y ~ log(x +)", "cannot be read"),
    ("y ~ I(x^2)", "for exclusive or: write ** for a power"),
    ("y ~ log(I(x | z))", "not that of a random term"),
    # response
    ("y | n ~ x", "trials(…)"),
    ("y | -trials(n) ~ x", "should be added"),
    ("y | ~ x", "One side of the bar"),
    ("| trials(n) ~ x", "One side of the bar"),
    ("y | trials(n) | weights(w) ~ x", "more than one bar"),
    ("(y | trials(n)) ~ x", "not that of a random term"),
    ("y | trials(n) + trials(m) ~ x", "trials(…) twice"),
    ("y | trials(n, m) ~ x", "too many arguments"),
    ("y | trials(k=n) ~ x", "too many arguments"),
    ("y | trials() ~ x", "is empty"),
    ("cbind(s) ~ x", "should have two columns"),
    ("cbind(s) ~ x", "should have two columns"),
    ("cbind(s, k=f) ~ x", "should have two columns"),
    ("cbind(s, f) | trials(n) ~ x", "number of trials twice"),
    ("1 ~ x", "'1' names no column"),
    ("y, z ~ x", "without a comma"),
    ("y z ~ x", "cannot be read"),
    ("y^2 ~ x", "for exclusive or"),
    # several formulas
    ([], "A formula is a text"),
    (None, "not None"),
    (3, "not 3"),
    (b"y ~ x", "A formula is a text"),
    (["y ~ x", 3], "A formula is a text"),
    ({"y ~ x"}, "A formula is a text"),
    (["y ~ x", "sigma"], "There is no '~' outside brackets in 'sigma'"),
    (["y ~ x", "mu ~ z"], "The formula for 'mu' is the first"),
    (["y ~ x", "sigma ~ z", "sigma ~ x"], "two formulas for 'sigma'"),
    (["y ~ x", "sigma ~ z | g"], "(z | g), in 'sigma ~ z | g'."),
    (["y ~ x", "residual ~ t"], "The residual has one structure"),
    (["y ~ x", "residual ~ 0 + ar1(t | g)"], "The residual has one structure"),
    (["y ~ x", "residual ~ ar1(t | a/b)"], "The residual has one structure"),
    (["y ~ x", "residual ~ ar1(t | g)", "residual ~ ou(t | g)"], "two formulas for 'residual'"),
    (["y ~ (1 |p| g)", "sigma ~ (1 |p| h)"], "the id 'p'"),
]


@pytest.mark.parametrize(("formula", "fragment"), REFUSED, ids=str)
def test_refused(formula, fragment):
    with pytest.raises(FormulaError) as caught:
        read_formula(formula)
    message = str(caught.value)
    assert fragment in message
    assert "\n" not in message


UNKNOWN = [
    ("y | wieghts(w) ~ x", "Did you mean 'weights'?"),
]


@pytest.mark.parametrize(("formula", "fragment"), UNKNOWN)
def test_unknown_names(formula, fragment):
    with pytest.raises(UnknownNameError) as caught:
        read_formula(formula)
    assert fragment in str(caught.value)


@pytest.mark.parametrize("deep", ["(", "f(", "{", "-", "(1 | ", "`", "I(-", "f(x, "])
def test_deep_nesting_ends_in_an_error_of_ours(deep):
    closers = {"(": ")", "{": "}"}
    closing = "".join(closers.get(symbol, "") for symbol in reversed(deep))
    for size in (300, 3000):
        with contextlib.suppress(GlmmError):
            read_formula(f"y ~ {deep * size}x{closing * size}")


def test_bound_responses_share_a_right_side():
    read = read_formula("mvbind(y1, log(y2)) ~ x + (1 |p| g)")
    assert (read.response.expression, read.predictors["mu"].fixed) == ("y1", "x")
    assert [(r.expression, part) for r, part in read.beside] == [("log(y2)", read.predictors["mu"])]


def test_a_left_side_that_is_no_name_is_a_response():
    read = read_formula(["y1 ~ x", "y2 | trials(n) ~ z", "sigma ~ x"])
    (response, part), *_ = read.beside
    assert (response.expression, dict(response.extras), part.fixed) == ("y2", {"trials": "n"}, "z")
    assert list(read.predictors) == ["mu", "sigma"]


def test_what_binds_several_responses_has_no_extras():
    with pytest.raises(FormulaError, match="give each a formula of its own"):
        read_formula("mvbind(y1, y2) | trials(n) ~ x")


@pytest.mark.parametrize("left", ["mvbind(y1)", "mvbind(y1, b=y2)"])
def test_binding_needs_several_responses(left):
    with pytest.raises(FormulaError, match=r"mvbind\(y1, y2\)"):
        read_formula(f"{left} ~ x")


WORDS = [
    *("x", "y", "g", "h", "`a b`", "é", "1", "0", "2", ".", '"s"', "f(", "ar1(", "mm(", "s("),
    *("offset(", "cbind(", "trials(", "weights=", "(", ")", "[", "]", "{", "}", "`", "'", '"'),
    *("|", "||", "~", "+", "-", "*", "/", ":", "^", "**", "%", "%in%", ",", "=", " ", "\n"),
    *("(1 | g)", "(1 | a/b)", "ar1(t | g)", "offset(z)", "mm(g, h)", "|p|", "f(x)", "\\", "#"),
]


def texts_of(read):
    for part in read.predictors.values():
        yield from (part.fixed, *part.offsets)
        for r in part.random:
            yield from (r.columns, *r.group.factors, *r.group.weights)
    yield read.response.expression
    if read.response.failures is not None:
        yield read.response.failures
    yield from (t for name, t in read.response.extras if name in ("trials", "weights"))


def check(formula):
    """Whatever the text, it is read into parts that formulaic can read, or refused in words."""
    try:
        read = read_formula(formula)
    except GlmmError:
        return
    for text in texts_of(read):
        assert FormulaicFormula(f"0 + {text}").required_variables is not None
    for part in read.predictors.values():
        for r in part.random:
            assert r in right(r.text).random


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=30), st.text(max_size=30))
def test_any_text_is_read_or_refused(left, right_side):
    check(left)
    check(f"{left} ~ {right_side}")
    check(f"y ~ ({left} | {right_side})")
    assert plain_name(left) is None or isinstance(plain_name(left), str)


@settings(max_examples=600, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
def test_any_words_of_a_formula_are_read_or_refused(text):
    check(text)
    check(f"y ~ {text}")
    check(f"y | {text} ~ x")
    check(f"y ~ ({text} | g)")
    check(f"y ~ (1 | {text})")
    check(f"y ~ (1 | mm({text}))")
    check(f"y ~ ar1({text} | g)")
    check(f"y ~ ar1(t | {text})")
    check(f"y ~ offset({text})")
    check(["y ~ x", f"residual ~ {text}"])
