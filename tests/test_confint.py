"""Confidence intervals of all parameters in one table, and verbs that are not built."""

import numpy as np
import pytest

import glmm_bayes as gb
from glmm_bayes.errors import NotSupportedError, UnknownNameError


@pytest.fixture(scope="module")
def sleepstudy():
    data = gb.load_dataset("sleepstudy")
    return gb.Model("Reaction ~ Days + (1 + Days | Subject)", data).fit("reml")


def test_wald_intervals_of_coefficients_agree_with_lme4(sleepstudy):
    """lme4 1.1-31: estimates 251.4051, 10.46729; standard errors 6.824597, 1.545790."""
    found = sleepstudy.confint(parm=["Intercept", "Days"])
    for name, estimate, error in (("Intercept", 251.4051, 6.824597), ("Days", 10.46729, 1.545790)):
        expected = [estimate, estimate - 1.959964 * error, estimate + 1.959964 * error]
        np.testing.assert_allclose(found.loc[name], expected, rtol=1e-5)


def test_every_parameter_has_a_row(sleepstudy):
    names = ["Intercept", "Days", "sd_Subject[Intercept]", "sd_Subject[Days]"]
    names += ["corr_Subject[Intercept, Days]", "sigma"]
    assert sleepstudy.confint().index.to_list() == names
    assert len(sleepstudy.theta) == len(names)


def test_a_wider_level_gives_wider_intervals(sleepstudy):
    narrow, wide = sleepstudy.confint(level=0.5), sleepstudy.confint(level=0.99)
    assert (wide["lower"] < narrow["lower"]).all()
    assert (wide["upper"] > narrow["upper"]).all()


def test_rows_of_other_parameters_say_whose_they_are():
    data = gb.load_dataset("sleepstudy")
    fit = gb.Model(["Reaction ~ Days + (1 | Subject)", "sigma ~ Days"], data).fit("ml")
    assert "sigma:Days" in fit.confint().index


@pytest.mark.parametrize(
    ("formulas", "second"),
    [
        (["Reaction ~ 1 + (1 | Subject)", "sigma ~ 1 + (1 | Subject)"], "sd_sigma_Subject"),
        ("Reaction ~ Days + (1 | Subject) + (0 + Days | Subject)", "sd_Subject_2"),
    ],
)
def test_two_terms_of_one_group_have_names_of_their_own(formulas, second):
    names = gb.Model(formulas, gb.load_dataset("sleepstudy")).fit("ml").confint().index
    assert names.is_unique
    assert sum(name.startswith(second) for name in names) == 1


def test_names_and_methods_are_checked(sleepstudy):
    with pytest.raises(UnknownNameError, match="no parameter 'Dayz'. Did you mean 'Days'"):
        sleepstudy.confint(parm="Dayz")
    with pytest.raises(UnknownNameError, match="method='walt' is not known"):
        sleepstudy.confint(method="walt")


def test_a_maximum_leaves_no_rows_out_and_says_what_does(sleepstudy):
    with pytest.raises(NotSupportedError, match=r"sample\(\).loo\(\) is of the posterior"):
        sleepstudy.loo()


def test_a_name_that_is_nowhere_is_an_ordinary_error(sleepstudy):
    with pytest.raises(AttributeError, match="no attribute 'fixeff'"):
        sleepstudy.fixeff  # noqa: B018
