"""
Ticks on red grouse chicks: two ways to let counts vary more than Poisson.

403 chicks of 118 broods at 63 locations; the extra variation is either an effect for every
chick (Poisson-lognormal) or the negative binomial's.

    python examples/grouseticks.py
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb

FIXED = "TICKS ~ YEAR + cHEIGHT + (1 | BROOD) + (1 | LOCATION)"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=4000)
    parser.add_argument("--tune", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files

    data = gb.load_dataset("grouseticks")
    by_year = data.groupby("YEAR", observed=True)["TICKS"]
    print(f"Ticks per chick:\n{by_year.agg(['size', 'mean', 'var', 'max']).round(1).to_string()}\n")

    models = {
        "poisson": gb.Model(f"{FIXED} + (1 | INDEX)", data, family="poisson"),
        "negbinomial": gb.Model(FIXED, data, family="negbinomial"),
    }
    fits = {}
    for name, model in models.items():
        fit = model.fit(
            seed=options.seed, draws=options.draws, tune=options.tune, target_accept=0.95
        )
        print(f"{fit.summary()}\n")
        fits[name] = fit

    broods = data.groupby("LOCATION", observed=True)["BROOD"].nunique()
    print(
        f"{(broods == 1).sum()} of {len(broods)} locations have a single brood: the data hardly "
        f"tell these two standard deviations apart. Both are wide and mix slowly, hence the many "
        f"draws: where the diagnostics still complain, use more before quoting these two.\n"
    )
    tables = {name: fit.fixef()[["estimate", "std_error"]] for name, fit in fits.items()}
    both = pd.concat(tables, axis=1).round(3)
    print(f"The same coefficients by both models:\n{both.to_string()}\n")
    height = fits["poisson"].idata["posterior"]["beta"].sel(coef="cHEIGHT")
    low, middle, high = np.exp(100 * np.quantile(height, [0.025, 0.5, 0.975]))
    print(f"100 m higher up, chicks have {middle:.2f} ({low:.2f} to {high:.2f}) times the ticks.")

    sd = fits["poisson"].varcorr().set_index("group")["estimate"]
    alpha = float(fits["negbinomial"].idata["posterior"]["alpha"].mean())
    print(
        f"Between chicks of a brood ticks vary by a standard deviation of {sd['INDEX']:.2f} on the "
        f"log scale; the negative binomial says {alpha**-0.5:.2f}, from alpha = {alpha:.1f}."
    )
    for name, fit in fits.items():
        zeros = (fit.idata["posterior_predictive"]["y"] == 0).mean("__obs__").to_numpy()
        low, high = np.quantile(zeros, [0.025, 0.975])
        print(
            f"Chicks without ticks: {(data['TICKS'] == 0).mean():.0%} observed, "
            f"{low:.0%} to {high:.0%} replicated by {name}."
        )
        fit.plot_effects("cHEIGHT", by="YEAR").savefig(options.out / f"grouseticks_{name}.png")
        check = fit.plot_ppc().viz["figure"].item()
        check.savefig(options.out / f"grouseticks_{name}_check.png")
        fit.plot_residuals().savefig(options.out / f"grouseticks_{name}_residuals.png")
    fits["poisson"].plot_ranef().savefig(options.out / "grouseticks_ranef.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
