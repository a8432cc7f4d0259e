"""
Do crabs and shrimps guard corals against the seastar Culcita?

80 corals in 10 blocks, preyed on or not; nearly all unguarded corals were, so that maximum
likelihood has very wide answers and weakly informative priors earn their keep. First four ways to a
maximum side by side, then the posterior.

    python examples/culcita.py
"""

import argparse
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb

WAYS = {
    "PQL": ("pql", {}),
    "Laplace": ("ml", {}),
    "quadrature, 25 nodes": ("ml", {"nagq": 25}),
    "with priors (MAP)": ("map", {"nagq": 25}),
}


def fit_all_ways(model: gb.Model) -> dict[str, gb.ModeFit]:
    fits = {words: model.fit(method, **options) for words, (method, options) in WAYS.items()}
    table = pd.DataFrame({words: fit.theta for words, fit in fits.items()})
    print(f"Estimates, each by another method:\n{table.round(2).to_string()}\n")
    sds = table.loc["sd_block[Intercept]"]
    print(
        f"PQL is known to underestimate the spread between blocks of yes-or-no data: "
        f"{sds['PQL']:.1f}, where 25 nodes give {sds['quadrature, 25 nodes']:.1f}.\n"
    )
    print(f"{fits['Laplace'].laplace_check()}\n")
    return fits


def draw_all_ways(intervals: dict[str, pd.DataFrame], path: Path) -> None:
    names = next(iter(intervals.values())).index
    figure, ax = plt.subplots(figsize=(8, 5), layout="constrained")
    for k, (words, found) in enumerate(intervals.items()):
        at = np.arange(len(names)) + 0.14 * (k - 0.5 * (len(intervals) - 1))
        ends = [found["estimate"] - found["lower"], found["upper"] - found["estimate"]]
        ax.errorbar(found["estimate"], at, xerr=ends, fmt="o", markersize=4, label=words)
    ax.set_yticks(np.arange(len(names)), names)
    ax.invert_yaxis()
    ax.axvline(0, color="grey", linewidth=0.8)
    ax.set_xlabel("estimate and 95% interval, logit scale")
    ax.legend(frameon=False, fontsize=9)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def intervals_of(posterior: gb.PosteriorFit) -> pd.DataFrame:
    """Give a posterior's intervals under the names that `confint` has."""
    columns = ["estimate", "lower", "upper"]
    spread = posterior.varcorr()[columns].set_axis(["sd_block[Intercept]"])
    return pd.concat([posterior.fixef()[columns], spread])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files

    try:
        data = gb.load_dataset("culcita")
    except gb.DataError as error:
        sys.exit(f"This example needs data that are not packaged. {error}")
    print("Corals preyed on, of 20 each:")
    print(data.groupby("ttt", observed=True)["predation"].sum().to_frame().T.to_string())

    # On the logit scale 5 is a factor of 150 in the odds: wide, but no estimate can run away.
    priors = {
        "beta": gb.Prior("Normal", mu=0, sigma=5),
        "sd_block": gb.Prior("HalfNormal", sigma=5),
    }
    model = gb.Model("predation ~ ttt + (1 | block)", data, family="bernoulli", priors=priors)
    print(f"\n{model}\n")
    maxima = fit_all_ways(model)
    fit = model.fit(seed=options.seed, draws=options.draws, tune=options.tune)
    print(f"{fit.summary()}\n")

    intervals = {words: maximum.confint() for words, maximum in maxima.items()}
    intervals["posterior (NUTS)"] = intervals_of(fit)
    draw_all_ways(intervals, options.out / "culcita_methods.png")

    chances = data[["ttt"]].drop_duplicates().assign(block="1")
    for words, groups in {
        "in an average block": "population",
        "averaged over blocks": "marginal",
    }.items():
        table = fit.predict(chances, groups=groups, seed=1).set_axis(chances["ttt"].astype(str))
        print(f"Probability of predation {words}:\n{table.round(2).to_string()}\n")

    beta = fit.idata["posterior"]["beta"]
    guarded = beta.sel(coef=["ttt[T.crabs]", "ttt[T.shrimp]"]).mean("coef")
    both = beta.sel(coef="ttt[T.both]")
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

    fit.plot_effects().savefig(options.out / "culcita_effects.png")
    fit.plot_ranef().savefig(options.out / "culcita_blocks.png")
    fit.plot_ppc().viz["figure"].item().savefig(options.out / "culcita_check.png")
    fit.plot_residuals().savefig(options.out / "culcita_residuals.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
