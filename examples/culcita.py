"""
Do crabs and shrimps guard corals against the seastar Culcita?

80 corals in 10 blocks, preyed on or not; nearly all unguarded corals were. The same model is fitted
by every method there is: one table and one figure of what they say. Then one coral is left out,
which is enough for the data to be nearly separated: maximum likelihood runs away, and weakly
informative priors earn their keep.

    python examples/culcita.py
"""

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb
from glmm_bayes.verbs.compare_methods import MethodComparison

FORMULA = "predation ~ ttt + (1 | block)"
# On the logit scale 5 is a factor of 150 in the odds: wide, but no estimate can run away.
PRIORS = {
    "beta": gb.Prior("Normal", mu=0, sigma=5),
    "sd_block": gb.Prior("HalfNormal", sigma=5),
}
BOTH = "ttt[T.both]"
NUMBERS = ["estimate", "lower", "upper"]


def model_of(data: pd.DataFrame) -> gb.Model:
    return gb.Model(FORMULA, data, family="bernoulli", priors=PRIORS)


def discuss_methods(found: MethodComparison) -> None:
    """Say what the table shows: which methods differ, by how much, and why."""
    sds = found.of("sd_block[Intercept]").set_index("method")["estimate"]
    both = found.of(BOTH).set_index("method")["estimate"]
    print(
        f"Penalised quasi-likelihood finds too little spread between blocks, {sds['pql']:.1f} for "
        f"{sds['agq']:.1f} by quadrature, and too small effects, {both['pql']:.1f} for "
        f"{both['agq']:.1f}: so it does with yes or no. Laplace's method, {sds['ml']:.2f} and "
        f"{both['ml']:.2f}, is near enough; how near, the check below says. The priors pull the "
        f"mode towards zero, {both['map']:.1f}; the posterior is skewed, so that its mean "
        f"lies beyond its mode: {both['nuts']:.1f}, and {sds['nuts']:.1f} for the spread.\n"
    )
    print(f"{found.fits['ml'].laplace_check()}\n")


def discuss_separation(
    before: MethodComparison, after: MethodComparison, spared: pd.Series
) -> None:
    """Put numbers on what near-separation does to estimates, intervals and tests."""
    tables = {
        "all corals": before.of(BOTH).set_index("method")[NUMBERS],
        "but one": after.of(BOTH).set_index("method")[NUMBERS],
    }
    print(
        f"\nLeft out: one of the two unguarded corals that were spared, in block "
        f"{spared['block']}. The effect of both guards, logit scale:\n"
        f"{pd.concat(tables, axis=1).round(1).to_string()}\n"
    )
    for method in ("ml", "agq"):
        print(f"{method}: {after.runs.loc[method, 'words'] or 'no warning'}\n")
    fit = after.fits["agq"]
    wald = fit.fixef().loc[BOTH]
    alone = fit.update(formula="predation ~ 1 + (1 | block)")
    rise = 2 * (fit.loglik - alone.loglik)
    print(
        f"By quadrature the interval is now {wald['upper'] - wald['lower']:.0f} wide and has zero "
        f"in it (z = {wald['statistic']:.1f}, p = {wald['p_value']:.2f}), although the guards "
        f"raise twice the log likelihood by {rise:.0f} for 3 parameters: where estimates run "
        f"away, their standard errors run faster (Hauck & Donner 1977), and Wald's test is "
        f"blind. Quasi-likelihood is narrow and far off, and says nothing. That guards help is "
        f"certain; how much, these data do not say. With the priors, for which a factor of e^10 "
        f"in the odds is hardly possible, one coral moves the posterior from "
        f"{_written(tables['all corals'])} to {_written(tables['but one'])}.\n"
    )


def _written(table: pd.DataFrame) -> str:
    row = table.loc["nuts"]
    return f"{row['estimate']:.1f} ({row['lower']:.1f} to {row['upper']:.1f})"


def ask_the_posterior(fit: gb.PosteriorFit, data: pd.DataFrame) -> None:
    """Answer the biologist: how likely is predation, and do two guards do more than one?"""
    chances = data[["ttt"]].drop_duplicates().assign(block="1")
    for words, groups in {
        "in an average block": "population",
        "averaged over blocks": "marginal",
    }.items():
        table = fit.predict(chances, groups=groups, seed=1).set_axis(chances["ttt"].astype(str))
        print(f"Probability of predation {words}:\n{table.round(2).to_string()}\n")

    beta = fit.idata["posterior"]["beta"]
    guarded = beta.sel(coef=["ttt[T.crabs]", "ttt[T.shrimp]"]).mean("coef")
    both = beta.sel(coef=BOTH)
    print(
        f"Guards lower predation with probability {float((guarded < 0).mean()):.3f}; both kinds "
        f"together protect better than one with probability {float((both < guarded).mean()):.2f}."
    )
    additive = beta.sel(coef=["ttt[T.crabs]", "ttt[T.shrimp]"]).sum("coef")
    low, middle, high = np.quantile(both - additive, [0.025, 0.5, 0.975])
    print(
        f"Both together do {middle:.1f} ({low:.1f} to {high:.1f}) on the logit scale beyond the "
        f"sum of one and the other: above 0 means less than that sum."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files
    sampling = {"nuts": {"draws": options.draws, "tune": options.tune}}

    try:
        data = gb.load_dataset("culcita")
    except gb.DataError as error:
        sys.exit(f"This example needs data that are not packaged. {error}")
    print("Corals preyed on, of 20 each:")
    print(data.groupby("ttt", observed=True)["predation"].sum().to_frame().T.to_string())

    model = model_of(data)
    print(f"\n{model}\n")
    methods = gb.compare_methods(model, seed=options.seed, options=sampling)
    print(f"{methods}\n")
    methods.plot().savefig(options.out / "culcita_methods.png", dpi=120)
    discuss_methods(methods)

    unguarded = data[(data["ttt"] == "none") & (data["predation"] == 0)]
    spared = unguarded.iloc[-1]
    nearly = gb.compare_methods(
        model_of(data.drop(spared.name)), seed=options.seed, options=sampling
    )
    nearly.plot().savefig(options.out / "culcita_separated.png", dpi=120)
    discuss_separation(methods, nearly, spared)

    fit = methods.fits["nuts"]
    ask_the_posterior(fit, data)
    fit.plot_effects().savefig(options.out / "culcita_effects.png")
    fit.plot_ranef().savefig(options.out / "culcita_blocks.png")
    fit.plot_ppc().viz["figure"].item().savefig(options.out / "culcita_check.png")
    fit.plot_residuals().savefig(options.out / "culcita_residuals.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
