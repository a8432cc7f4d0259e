"""
Fruits of Arabidopsis thaliana under fertilisation and simulated herbivory.

Does clipping a plant cost it fruits, and does fertiliser make up for it? 625 plants of 24
genotypes from 9 populations; counts, more variable than Poisson, in crossed groups.

    python examples/arabidopsis.py
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb

FORMULA = "`total.fruits` ~ nutrient * amd + rack + status + (1 | popu) + (1 | gen)"


def read_data() -> pd.DataFrame:
    """Numbers that are labels become factors, and the control comes first."""
    data = gb.load_dataset("arabidopsis")
    data["amd"] = data["amd"].cat.reorder_categories(["unclipped", "clipped"])
    for column in ("nutrient", "rack"):
        data[column] = data[column].astype(str).astype("category")
    return data


def look(data: pd.DataFrame, out: Path) -> None:
    groups = data.groupby(["nutrient", "amd"], observed=True)["total.fruits"]
    print("\nFruits per plant by treatment:")
    table = groups.agg(plants="size", mean="mean", variance="var", none=lambda y: (y == 0).mean())
    print(table.round(2).to_string())
    print("The variance is many times the mean: counts more variable than Poisson.")
    populations = data["popu"].cat.categories
    figure, axes = plt.subplots(1, len(populations), figsize=(14, 3.4), sharey=True)
    for ax, population in zip(axes, populations, strict=True):
        own = data[data["popu"] == population]
        means = np.log1p(own["total.fruits"]).groupby([own["nutrient"], own["amd"]], observed=True)
        means.mean().unstack().plot(ax=ax, marker="o", legend=ax is axes[0])
        ax.set_title(population)
    axes[0].set_ylabel("mean log(1 + fruits)")
    figure.savefig(out / "arabidopsis_data.png", dpi=120, bbox_inches="tight")


def treatments(data: pd.DataFrame) -> pd.DataFrame:
    """Every combination of the treatments, for a plant that germinated normally, in rack 1."""
    pairs = [(n, a) for n in data["nutrient"].cat.categories for a in data["amd"].cat.categories]
    rows = pd.DataFrame(pairs, columns=["nutrient", "amd"])
    # A genotype that is not in the data, of a population that is.
    return rows.assign(rack="1", status="Normal", popu="3.NL", gen=99)


def show_clipping(fit: gb.PosteriorFit) -> None:
    clipped, more = "amd[T.clipped]", "nutrient[T.8]:amd[T.clipped]"
    for nutrient, weights in {"1": {clipped: 1}, "8": {clipped: 1, more: 1}}.items():
        effect = np.exp(fit.contrast(weights)[["estimate", "lower", "upper"]]).iloc[0]
        print(
            f"At nutrient {nutrient} clipping multiplies fruits by {effect['estimate']:.2f} "
            f"({effect['lower']:.2f} to {effect['upper']:.2f})."
        )
    sure = fit.hypothesis(f"{more} > 0")["probability"].iloc[0]
    print(f"That fertiliser makes up for some of the loss has probability {sure:.3f}.")


def show_predictions(fit: gb.PosteriorFit, data: pd.DataFrame) -> None:
    plants = treatments(data)
    labels = [f"nutrient {n}, {a}" for n, a in zip(plants["nutrient"], plants["amd"], strict=True)]
    for title, options in {
        "Expected fruits, average population and genotype": {"groups": "population"},
        "Expected fruits, a new genotype of population 3.NL": {"groups": "conditional"},
        "Fruits of one new plant, new population and genotype": {
            "groups": "new",
            "kind": "response",
        },
    }.items():
        table = fit.predict(plants, seed=1, **options).set_axis(labels)
        print(f"\n{title}:\n{table.round(1).to_string()}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files

    data = read_data()
    look(data, options.out)

    model = gb.Model(FORMULA, data, family="negbinomial")
    print(f"\n{model}\n")  # ends with the audit of the design
    fit = model.fit(seed=options.seed, draws=options.draws, tune=options.tune)
    print(f"{fit.summary()}\n")  # ends with the diagnostics
    show_clipping(fit)
    show_predictions(fit, data)

    fit.plot_effects("nutrient", by="amd").savefig(options.out / "arabidopsis_effects.png")
    fit.plot_ranef().savefig(options.out / "arabidopsis_groups.png")
    fit.plot_residuals().savefig(options.out / "arabidopsis_residuals.png")
    fit.plot_ppc().viz["figure"].item().savefig(options.out / "arabidopsis_check.png")
    zeros = (fit.idata["posterior_predictive"]["y"] == 0).mean("__obs__")
    print(
        f"\nPlants without fruits: {np.mean(data['total.fruits'] == 0):.0%} observed, "
        f"{float(zeros.quantile(0.025)):.0%} to {float(zeros.quantile(0.975)):.0%} replicated. "
        f"Where the first lies outside the others, the model has too few or too many zeros."
    )
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
