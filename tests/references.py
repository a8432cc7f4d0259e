"""
The models that lme4, glmmTMB and nlme fitted, in our words.

Left out: what is not a model of ours, or has tests of its own (zero inflation, ordinal responses,
space, time, phylogenies and animals, residuals, priors); nAGQ of 0 or over 1; lme4's Gamma and
negative binomial models, whose Laplace approximation has the expected curvature in place of the
observed where the link is not canonical; talk_glycera's fits by lme4, which rounds probabilities.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

import glmm_bayes as gb

type Table = Callable[[], pd.DataFrame]


@dataclass(frozen=True)
class Fit:
    """
    One of a case's fits, `label`, as a model of ours; `method` as in `Model.fit`.

    `coarse` where the peer searched with its default tolerance; `better` where it ended below the
    maximum, so that only the likelihoods can be compared; `unlike` has what means something else.
    """

    case: str
    label: str
    formula: str | list[str]
    table: Table
    family: str = "gaussian"
    link: str | None = None
    method: str = "ml"
    priors: Mapping[str, Any] = field(default_factory=dict)
    coarse: bool = False
    better: bool = False
    unlike: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        return f"{self.case}-{self.label}"

    def model(self) -> gb.Model:
        return gb.Model(self.formula, self.table(), self.family, self.link, self.priors)


# ---- the tables, prepared as each case says


def factor(values: Any) -> pd.Categorical:
    return pd.Categorical(np.asarray(values).astype(str))


def table(name: str, *factors: str) -> Table:
    def read() -> pd.DataFrame:
        data = gb.load_dataset(name)
        return data.assign(**{column: factor(data[column]) for column in factors})

    return read


def sleepstudy() -> pd.DataFrame:
    data = gb.load_dataset("sleepstudy")
    return data.assign(Dayf=factor(data["Days"]))


def cbpp() -> pd.DataFrame:
    data = gb.load_dataset("cbpp")
    late = (data["period"].astype(str) != "1").astype(int)
    return data.assign(obs=np.arange(len(data)), late=late)


def ovary() -> pd.DataFrame:
    data = gb.load_dataset("ovary")
    turn = 2 * np.pi * data["Time"]
    return data.assign(s=np.sin(turn), c=np.cos(turn))


def gasoline() -> pd.DataFrame:
    data = gb.load_dataset("gasoline_yield")
    return data.rename(columns={"yield": "y"}).assign(
        ctemp=(data["temp"] - data["temp"].mean()) / 100
    )


def orthodont() -> pd.DataFrame:
    data = gb.load_dataset("orthodont")
    return data.assign(cage=data["age"] - 11)


def three_species() -> pd.DataFrame:
    data = gb.load_dataset("salamanders")
    return data[data["spp"].isin(["GP", "DM", "EC-A"])]


def arabidopsis() -> pd.DataFrame:
    data = gb.load_dataset("arabidopsis")
    amd = pd.Categorical(data["amd"], ["unclipped", "clipped"])
    factors = {name: factor(data[name]) for name in ("nutrient", "rack", "gen")}
    return data.assign(amd=amd, obs=np.arange(len(data)), **factors)


def clipped() -> pd.DataFrame:
    data = gb.load_dataset("arabidopsis")
    return data[(data["amd"] == "clipped") & (data["nutrient"] == 1)]


def contraception() -> pd.DataFrame:
    data = gb.load_dataset("contraception")
    return data.assign(y=(data["use"] == "Y").astype(int), age2=data["age"] ** 2)


def epil() -> pd.DataFrame:
    data = gb.load_dataset("epil")
    return data.assign(obs=np.arange(len(data)))


def toenail() -> pd.DataFrame:
    data = gb.load_dataset("toenail")
    return data.assign(y=(data["outcome"] == "moderate or severe").astype(int))


def verbagg() -> pd.DataFrame:
    data = gb.load_dataset("verbagg")
    return data.assign(y=(data["r2"] == "Y").astype(int))


def oats() -> pd.DataFrame:
    data = gb.load_dataset("oats")
    return data.rename(columns={"yield": "Yield"}).assign(fN=factor(data["nitro"]))


def repeated() -> pd.DataFrame:
    data = gb.load_dataset("brms_phylo_repeat")
    mean = data.groupby("species")["cofactor"].transform("mean")
    return data.assign(mcf=mean, wcf=data["cofactor"] - mean)


def plants() -> pd.DataFrame:
    data = gb.load_dataset("phyr_comm")
    return data.assign(cshade=(data["shade"] - data["shade"].mean()) / 10)


def scotlip() -> pd.DataFrame:
    data = gb.load_dataset("scotlip")
    return data.assign(aff=data["prop_ag"] / 10, loge=np.log(data["expected"]), r=data["region"])


def coral_acr() -> pd.DataFrame:
    data = gb.load_dataset("coral_acr").dropna(subset=["Previous.size"])
    return data.assign(ctrsize=data["Previous.size"] - 1)


def culcita_talk() -> pd.DataFrame:
    data = gb.load_dataset("culcita")
    codes = {
        "symb": {"none": 0, "shrimp": 1, "crabs": 1, "both": 1},
        "crabVshr": {"none": 0, "shrimp": 1, "crabs": -1, "both": 0},
        "addsymb": {"none": 0, "shrimp": 1, "crabs": 1, "both": -2},
    }
    ttt = data["ttt"].astype(str)
    return data.assign(**{name: ttt.map(code) for name, code in codes.items()})


def glycera() -> pd.DataFrame:
    data = gb.load_dataset("glycera")
    scaled = {
        name: (data[name] - data[name].min()) / (data[name].max() - data[name].min())
        for name in ("Osm", "Cu", "H2S", "Anoxia")
    }
    scaled["Osm"] = scaled["Osm"] - 0.5
    return data.assign(**scaled, obs=np.arange(len(data)))


def mite() -> pd.DataFrame:
    data = gb.load_dataset("mite")
    counts = data.groupby("species")["count"].sum().sort_values(ascending=False)
    data = data[data["species"].isin(counts.index[:12])]
    water = data["WatrCont"]
    return data.assign(cw=(water - water.mean()) / 100, species=factor(data["species"]))


def tundra() -> pd.DataFrame:
    return gb.load_dataset("tundra_agg").rename(columns={"GS.NEE": "nee"})


# ---- the models

CBPP = "cbind(incidence, size - incidence) ~ period + (1 | herd)"
SLEEP = "Reaction ~ Days + (Days | Subject)"
CULCITA = "predation ~ ttt + (1 | block)"
CORAL = "Mortality ~ PERIOD * ctrsize * Treatment + `Reef.size` + (1 | PR) + (1 | REEF)"
GLYCERA = "cbind(Alive, Dead) ~ Osm * Cu * H2S * Anoxia + (1 | Trial)"
TICKS = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | INDEX) + (1 | LOCATION)"
USE = "y ~ age + age2 + urban + livch"
EPIL = "y ~ lbase * trt + lage + V4 + (1 | subject)"
FRUITS = "`total.fruits` ~ nutrient * amd + rack + status"
DIST = "distance ~ cage * Sex + (cage | Subject)"
OATS = "Yield ~ fN + Variety + (1 | Block/Variety)"
SHELLS = "shells ~ prev + offset(log(Area)) + year + (1 | Site)"
# A residual variance over n, as the weights of lme4 mean.
NEE = ["nee ~ cYear + (1 + cYear | Site)", "sigma ~ 1 + offset(-0.5 * log(n))"]
SMALL = 2.0**-13  # the residual sd that glmmTMB has for dispformula = ~0

SALAMANDERS = table("salamanders")
TICKS_TABLE = table("grouseticks")
GOPHER = table("gopher", "year")
EVAL = table("insteval")

FITS = [
    Fit("cov_sleepstudy_glmmTMB", "us_slopes", SLEEP, sleepstudy),
    Fit("cov_ovary_nlme", "lme_REML_iid", "follicles ~ s + c + (1 | Mare)", ovary, method="reml"),
    # lme4's errors take the variances as known; where sigma has a formula, ours do not: glmmTMB
    # gives 8.3107 and 8.0850 for the intercept's, as we do.
    Fit("cov_tundra_car1", "lme4_REML_weights", NEE, tundra, method="reml",
        unlike=("beta_errors",)),
    Fit("cov_tundra_car1", "lme4_ML_weights", NEE, tundra, unlike=("beta_errors",)),
    Fit("cov_mite_rr", "rr1_nbinom2",
        "count ~ species + species:cw + rr(0 + species | site, d=1)", mite, "negbinomial"),
    Fit("cov_mite_rr", "rr2_nbinom2",
        "count ~ species + species:cw + rr(0 + species | site, d=2)", mite, "negbinomial"),
    Fit("cov_mite_rr", "diag_poisson", "count ~ species + species:cw + diag(0 + species | site)",
        mite, "poisson"),
    Fit("diag_residuals", "cbpp_binomial", CBPP, cbpp, "binomial"),
    Fit("diag_residuals", "cbpp_poisson_offset",
        "incidence ~ period + offset(log(size)) + (1 | herd)", cbpp, "poisson"),
    Fit("diag_residuals", "sleepstudy_REML", SLEEP, sleepstudy, method="reml"),
    Fit("emm_glmm", "cbpp", CBPP, cbpp, "binomial"),
    Fit("emm_glmm", "culcita", CULCITA, table("culcita"), "bernoulli"),
    Fit("fam_cbpp_betabinomial", "betabinomial_herd", CBPP, cbpp, "beta_binomial"),
    Fit("fam_cbpp_betabinomial", "betabinomial_no_re",
        "cbind(incidence, size - incidence) ~ period", cbpp, "beta_binomial"),
    Fit("fam_cbpp_betabinomial", "binomial_OLRE", CBPP + " + (1 | obs)", cbpp, "binomial"),
    Fit("fam_gasoline_beta", "beta", "y ~ ctemp + (1 | batch)", gasoline, "beta"),
    Fit("fam_gasoline_beta", "beta_disp", ["y ~ ctemp + (1 | batch)", "phi ~ ctemp"], gasoline,
        "beta"),
    Fit("fam_gasoline_beta", "gaussian", "y ~ ctemp + (1 | batch)", gasoline),
    Fit("fam_orthodont_disp", "glmmTMB_ML_disp_Sex", [DIST, "sigma ~ Sex"], orthodont),
    Fit("fam_orthodont_disp", "nlme_ML_varIdent", [DIST, "sigma ~ Sex"], orthodont),
    Fit("fam_orthodont_disp", "nlme_REML_varIdent", [DIST, "sigma ~ Sex"], orthodont,
        method="reml"),
    Fit("fam_salamanders_compois_genpois", "nbinom2", "count ~ mined + (1 | site)", three_species,
        "negbinomial"),
    Fit("fam_salamanders_compois_genpois", "poisson", "count ~ mined + (1 | site)", three_species,
        "poisson"),
    Fit("fam_salamanders_disp", "nbinom2_disp_DOY",
        ["count ~ spp + mined + (1 | site)", "alpha ~ DOY"], SALAMANDERS, "negbinomial"),
    Fit("fam_salamanders_nb", "poisson", "count ~ spp * mined + (1 | site)", SALAMANDERS,
        "poisson"),
    Fit("fam_salamanders_nb", "nbinom2", "count ~ spp * mined + (1 | site)", SALAMANDERS,
        "negbinomial"),
    Fit("fam_salamanders_nb", "nbinom1", "count ~ spp * mined + (1 | site)", SALAMANDERS,
        "nbinom1"),
    Fit("fam_salamanders_nb", "nbinom2_additive", "count ~ mined + spp + (1 | site)", SALAMANDERS,
        "negbinomial"),
    Fit("fam_sleepstudy_student", "glmmTMB_t_slopes", SLEEP, sleepstudy, "student"),
    # glmmTMB went to infinite degrees of freedom; -891.29 is at 4.54.
    Fit("fam_sleepstudy_student", "glmmTMB_t_intercept", "Reaction ~ Days + (1 | Subject)",
        sleepstudy, "student", better=True),
    Fit("fam_sleepstudy_student", "gaussian", SLEEP, sleepstudy),
    Fit("glmm_arabidopsis", "lme4_intercepts_OLRE",
        FRUITS + " + (1 | popu) + (1 | gen) + (1 | obs)", arabidopsis, "poisson"),
    Fit("glmm_arabidopsis", "lme4_full_OLRE_singular",
        FRUITS + " + (amd * nutrient | popu) + (amd * nutrient | gen) + (1 | obs)", arabidopsis,
        "poisson", better=True),
    Fit("glmm_arabidopsis", "glmmTMB_intercepts_OLRE",
        FRUITS + " + (1 | popu) + (1 | gen) + (1 | obs)", arabidopsis, "poisson"),
    Fit("glmm_arabidopsis", "glmmTMB_nbinom2", FRUITS + " + (1 | popu) + (1 | gen)", arabidopsis,
        "negbinomial"),
    Fit("glmm_cbpp_agq", "lme4_nAGQ1", CBPP, cbpp, "binomial"),
    Fit("glmm_cbpp_agq", "glmmTMB_Laplace", CBPP, cbpp, "binomial"),
    Fit("glmm_cbpp_agq", "lme4_Laplace_default_tolerance", CBPP, cbpp, "binomial", coarse=True),
    Fit("glmm_contraception", "lme4_nAGQ1", USE + " + (1 | district)", contraception, "bernoulli"),
    Fit("glmm_contraception", "lme4_Laplace_slope", USE + " + (urban | district)", contraception,
        "bernoulli"),
    Fit("glmm_contraception", "glmmTMB_Laplace_slope", USE + " + (urban | district)",
        contraception, "bernoulli"),
    Fit("glmm_culcita_agq", "lme4_nAGQ1", CULCITA, table("culcita"), "bernoulli"),
    Fit("glmm_culcita_agq", "glmmTMB_Laplace", CULCITA, table("culcita"), "bernoulli"),
    Fit("glmm_epil", "lme4_nAGQ1", EPIL, epil, "poisson"),
    Fit("glmm_epil", "lme4_Laplace_OLRE", EPIL + " + (1 | obs)", epil, "poisson"),
    Fit("glmm_epil", "glmmTMB_nbinom2", EPIL, epil, "negbinomial"),
    Fit("glmm_epil", "glmmTMB_nbinom1", EPIL, epil, "nbinom1"),
    Fit("glmm_gopher_singular", "lme4_Laplace", SHELLS, GOPHER, "poisson"),
    Fit("glmm_gopher_singular", "glmmTMB_Laplace", SHELLS, GOPHER, "poisson"),
    Fit("glmm_gopher_singular", "glm_pooled", SHELLS.replace(" + (1 | Site)", ""), GOPHER,
        "poisson"),
    Fit("glmm_grouseticks", "lme4_Laplace_crossed_notation", TICKS, TICKS_TABLE, "poisson"),
    Fit("glmm_grouseticks", "glmmTMB_Laplace", TICKS, TICKS_TABLE, "poisson"),
    Fit("glmm_grouseticks", "glmmTMB_nbinom2", TICKS.replace(" + (1 | INDEX)", ""), TICKS_TABLE,
        "negbinomial"),
    Fit("glmm_sleepstudy_gamma", "glmmTMB_Gamma_log", "Reaction ~ Days + (1 | Subject)",
        sleepstudy, "gamma"),
    Fit("glmm_sleepstudy_gamma", "glmmTMB_gaussian_log", "Reaction ~ Days + (1 | Subject)",
        sleepstudy, "gaussian", "log"),
    Fit("glmm_toenail_agq", "lme4_nAGQ1", "y ~ treatment * time + (1 | patientID)", toenail,
        "bernoulli"),
    Fit("glmm_verbagg_crossed", "lme4_Laplace",
        "y ~ Anger + Gender + btype + situ + mode + (1 | id) + (1 | item)", verbagg, "bernoulli"),
    Fit("glmm_verbagg_crossed", "glmmTMB_Laplace",
        "y ~ Anger + Gender + btype + situ + mode + (1 | id) + (1 | item)", verbagg, "bernoulli"),
    Fit("inf_beets_pb_kr", "lme4_ML", "sugpct ~ block + sow + harvest + (1 | block:harvest)",
        table("beets")),
    Fit("inf_cbpp", "lme4_Laplace", CBPP, cbpp, "binomial"),
    Fit("inf_cbpp_pb", "big", CBPP, cbpp, "binomial", coarse=True),
    Fit("inf_cbpp_pb", "small", CBPP.replace("period", "late"), cbpp, "binomial", coarse=True),
    Fit("inf_sleepstudy_boot", "lme4_REML", SLEEP, sleepstudy, method="reml"),
    Fit("inf_sleepstudy_ci_lrt", "lme4_ML", SLEEP, sleepstudy),
    Fit("lmm_dyestuff", "lme4_REML", "Yield ~ 1 + (1 | Batch)", table("dyestuff"), method="reml"),
    Fit("lmm_dyestuff", "lme4_ML", "Yield ~ 1 + (1 | Batch)", table("dyestuff")),
    Fit("lmm_dyestuff2_singular", "lme4_REML", "Yield ~ 1 + (1 | Batch)", table("dyestuff2"),
        method="reml"),
    Fit("lmm_dyestuff2_singular", "lme4_ML", "Yield ~ 1 + (1 | Batch)", table("dyestuff2")),
    Fit("lmm_insteval_big", "lme4_ML", "y ~ service + (1 | s) + (1 | d) + (1 | dept)", EVAL),
    Fit("lmm_insteval_big", "lme4_REML", "y ~ service + (1 | s) + (1 | d) + (1 | dept)", EVAL,
        method="reml"),
    Fit("lmm_machines_ddf", "lme4_REML_vector", "score ~ Machine + (Machine | Worker)",
        table("machines"), method="reml"),
    Fit("lmm_machines_ddf", "nlme_REML_vector", "score ~ Machine + (0 + Machine | Worker)",
        table("machines"), method="reml"),
    Fit("lmm_machines_ddf", "lme4_REML_nested", "score ~ Machine + (1 | Worker/Machine)",
        table("machines"), method="reml"),
    Fit("lmm_oats_emmeans", "lme4_REML", OATS, oats, method="reml"),
    Fit("lmm_oats_emmeans", "nlme_REML", OATS, oats, method="reml"),
    Fit("lmm_oats_emmeans", "lme4_ML_linear", "Yield ~ nitro + (1 | Block/Variety)", oats),
    Fit("lmm_pastes_nested", "lme4_REML", "strength ~ 1 + (1 | batch/cask)", table("pastes"),
        method="reml"),
    Fit("lmm_pastes_nested", "lme4_ML_explicit_sample",
        "strength ~ 1 + (1 | batch) + (1 | sample)", table("pastes")),
    Fit("lmm_pastes_nested", "glmmTMB_REML", "strength ~ 1 + (1 | batch/cask)", table("pastes"),
        method="reml"),
    Fit("lmm_penicillin_crossed", "lme4_REML", "diameter ~ 1 + (1 | plate) + (1 | sample)",
        table("penicillin"), method="reml"),
    Fit("lmm_penicillin_crossed", "lme4_ML", "diameter ~ 1 + (1 | plate) + (1 | sample)",
        table("penicillin")),
    Fit("lmm_penicillin_crossed", "glmmTMB_REML", "diameter ~ 1 + (1 | plate) + (1 | sample)",
        table("penicillin"), method="reml"),
    Fit("lmm_radon", "lme4_REML", "log_radon ~ floor + log_uranium + (1 | county)",
        table("radon"), method="reml"),
    Fit("lmm_radon", "lme4_ML_slopes", "log_radon ~ floor + log_uranium + (floor | county)",
        table("radon")),
    Fit("lmm_sleepstudy_slopes", "lme4_REML", SLEEP, sleepstudy, method="reml"),
    Fit("lmm_sleepstudy_slopes", "lme4_ML", SLEEP, sleepstudy),
    Fit("lmm_sleepstudy_slopes", "glmmTMB_REML", SLEEP, sleepstudy, method="reml"),
    Fit("lmm_sleepstudy_slopes", "glmmTMB_ML", SLEEP, sleepstudy),
    Fit("lmm_sleepstudy_slopes", "nlme_REML", SLEEP, sleepstudy, method="reml"),
    Fit("lmm_sleepstudy_uncorr", "lme4_REML", "Reaction ~ Days + (Days || Subject)", sleepstudy,
        method="reml"),
    Fit("lmm_sleepstudy_uncorr", "lme4_ML", "Reaction ~ Days + (Days || Subject)", sleepstudy),
    Fit("lmm_sleepstudy_uncorr", "glmmTMB_diag_ML", "Reaction ~ Days + diag(Days | Subject)",
        sleepstudy),
    Fit("lmm_starling", "lme4_REML", "stmass ~ mnth * roostsitu + (1 | subject)",
        table("starling"), method="reml"),
    Fit("lmm_starling", "nlme_REML", "stmass ~ mnth * roostsitu + (1 | subject)",
        table("starling"), method="reml"),
    Fit("mode_full_vcov", "cbpp", CBPP, cbpp, "binomial"),
    Fit("mode_full_vcov", "culcita", CULCITA, table("culcita"), "bernoulli"),
    Fit("mode_full_vcov", "sleepstudy", SLEEP, sleepstudy),
    Fit("mode_full_vcov", "grouseticks", TICKS, TICKS_TABLE, "poisson"),
    Fit("phylo_brms_repeat", "lme4_ML_no_phylogeny", "phen ~ mcf + wcf + (1 | species)", repeated),
    Fit("phylo_comm_binary", "lme4_Laplace_no_phylogeny", "pa ~ cshade + (1 | site) + (1 | sp)",
        plants, "bernoulli", coarse=True),
    Fit("pred_sleepstudy", "lme4_REML", SLEEP, sleepstudy, method="reml"),
    Fit("spat_scotlip_bym", "Laplace_iid", "cases ~ aff + offset(loge) + (1 | region)", scotlip,
        "poisson"),
    Fit("spat_scotlip_bym", "lme4_iid", "cases ~ aff + offset(loge) + (1 | r)", scotlip,
        "poisson", coarse=True),
    Fit("talk_arabidopsis_shrinkage", "lme4_nAGQ1", "`total.fruits` ~ 1 + (1 | gen)", clipped,
        "poisson"),
    Fit("talk_coral_acr", "lme4_Laplace_full", CORAL, coral_acr, "bernoulli"),
    Fit("talk_coral_acr", "lme4_Laplace_red1",
        "Mortality ~ PERIOD + ctrsize + Treatment + `Reef.size` + (1 | PR) + (1 | REEF) "
        "+ PERIOD:ctrsize + PERIOD:Treatment + ctrsize:Treatment", coral_acr, "bernoulli"),
    Fit("talk_coral_acr", "glmmTMB_Laplace_full", CORAL, coral_acr, "bernoulli"),
    Fit("talk_culcita_methods", "Laplace",
        "predation ~ symb + crabVshr + addsymb + (1 | block)", culcita_talk, "bernoulli"),
    Fit("talk_culcita_methods", "glm_pooled",
        "predation ~ symb + crabVshr + addsymb", culcita_talk, "bernoulli"),
    Fit("talk_glycera", "glmmTMB_binomial", GLYCERA, glycera, "binomial"),
    Fit("talk_glycera", "glmmTMB_betabinomial", GLYCERA, glycera, "beta_binomial"),
    Fit("talk_glycera", "glmmTMB_OLRE", GLYCERA + " + (1 | obs)", glycera, "binomial"),
]  # fmt: skip

# The structure is the whole residual covariance: sigma is held next to zero.
NO_RESIDUAL = [
    Fit("cov_sleepstudy_glmmTMB", "cs_hetero_R", "Reaction ~ Days + cs(0 + Dayf | Subject)",
        sleepstudy, priors={"sigma": SMALL}),
    Fit("cov_sleepstudy_glmmTMB", "diag_R", "Reaction ~ Days + diag(0 + Dayf | Subject)",
        sleepstudy, priors={"sigma": SMALL}),
    Fit("cov_sleepstudy_glmmTMB", "ar1_R", "Reaction ~ Days + ar1(0 + Dayf | Subject)",
        sleepstudy, priors={"sigma": 0.01}),
    Fit("cov_sleepstudy_glmmTMB", "toep_hetero_R", "Reaction ~ Days + toep(0 + Dayf | Subject)",
        sleepstudy, priors={"sigma": 0.01}),
    # glmmTMB stops at -874.057 here; nlme has the structure among the residuals.
    Fit("cov_sleepstudy_glmmTMB", "nlme_intercept_plus_AR1_ML",
        "Reaction ~ Days + (1 | Subject) + ar1(0 + Dayf | Subject)", sleepstudy,
        priors={"sigma": 0.01}),
]  # fmt: skip
