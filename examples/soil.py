"""
Zinc in the soil along the Meuse: a field between the samples, a map of it, and what it is worth.

Burrough & McDonnell (1998), Principles of Geographical Information Systems: topsoil of a flood
plain in the Netherlands; coordinates in km here, zinc in mg per kg.

    python examples/soil.py
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb

SETS = 80  # of draws of the field
FIXED, FIELD = "log_zinc ~ root", "exp(east + north | 1)"


def soil() -> pd.DataFrame:
    data = gb.load_dataset("meuse")
    return data.assign(
        log_zinc=np.log(data["zinc"]),
        root=np.sqrt(data["dist"]),
        east=data["x"] / 1000,
        north=data["y"] / 1000,
    )


def grid_near(data: pd.DataFrame, step: float, reach: float) -> pd.DataFrame:
    """Lay a grid over the samples, as far as one is near; distances to the river as the nearest."""
    sides = [np.arange(data[k].min(), data[k].max() + step, step) for k in ("east", "north")]
    places = np.stack(np.meshgrid(*sides), axis=-1).reshape(-1, 2)
    apart = np.linalg.norm(places[:, None] - data[["east", "north"]].to_numpy(), axis=2)
    weight = 1 / np.maximum(apart, 1e-3) ** 2
    root = weight @ data["root"].to_numpy() / weight.sum(axis=1)
    grid = pd.DataFrame({"east": places[:, 0], "north": places[:, 1], "root": root})
    return grid[apart.min(axis=1) < reach].reset_index(drop=True)


def plot_map(grid: pd.DataFrame, data: pd.DataFrame, values: dict[str, np.ndarray]) -> plt.Figure:
    fig, axes = plt.subplots(1, len(values), figsize=(8.5, 4.6), layout="constrained")
    for ax, (title, value) in zip(axes, values.items(), strict=True):
        dots = ax.scatter(grid["east"], grid["north"], c=value, s=20, marker="s", cmap="viridis")
        ax.plot(data["east"], data["north"], ".", color="white", ms=2)
        ax.set(title=title, xlabel="east, km", aspect="equal")
        fig.colorbar(dots, shrink=0.8)
    axes[0].set_ylabel("north, km")
    return fig


def semivariance(residuals: pd.Series, data: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Give half the mean squared difference of residuals by how far apart they are, in km."""
    at, r = data[["east", "north"]].to_numpy(), residuals.to_numpy()
    i, j = np.triu_indices(len(r), 1)
    apart, half = np.linalg.norm(at[i] - at[j], axis=1), 0.5 * (r[i] - r[j]) ** 2
    ends = np.linspace(0, 1.5, 16)
    own = [(apart >= a) & (apart < b) for a, b in zip(ends[:-1], ends[1:], strict=True)]
    return (ends[:-1] + ends[1:]) / 2, np.array([half[k].mean() for k in own])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files
    data = soil()

    # Are samples alike that are near each other? By maximum likelihood, to compare.
    flat = gb.Model(FIXED, data).fit("ml")
    field = gb.Model(f"{FIXED} + {FIELD}", data).fit("ml")
    print(f"With and without a field:\n{gb.compare({'flat': flat, 'field': field}).round(2)}\n")
    table = field.varcorr().set_index(["group", "kind"])[["estimate", "lower", "upper"]]
    print(f"The field, and what is left:\n{table.round(3).to_string()}\n")
    apart, half = semivariance(flat.residuals("response"), data)
    sd, reach, left = field.varcorr()["estimate"]
    fig, ax = plt.subplots(figsize=(5, 3), layout="constrained")
    ax.plot(apart, half, "o", color="0.4", label="residuals of the flat model")
    ax.plot(apart, left**2 + sd**2 * (1 - np.exp(-apart / reach)), label="field by ml")
    ax.set(xlabel="km apart", ylabel="half squared difference", ylim=(0, None))
    ax.legend(frameon=False)
    fig.savefig(options.out / "soil_semivariance.png")

    # The posterior, at the samples and between them.
    fit = gb.Model(f"{FIXED} + {FIELD}", data).fit(
        "posthoc", seed=options.seed, draws=options.draws, tune=options.tune
    )
    print(f"{fit.summary()}\n")
    grid = grid_near(data, 0.1, 0.15)
    # Each set from another draw of the posterior: a field at so many places is dear.
    zinc = np.exp(fit.simulate(SETS, newdata=grid, seed=options.seed).to_numpy())
    chance = (zinc > 500).mean(axis=0)
    pictures = {"zinc, mg/kg, median": np.median(zinc, axis=0), "chance of over 500": chance}
    plot_map(grid, data, pictures).savefig(options.out / "soil_map.png")
    fit.plot_effects("root").savefig(options.out / "soil_river.png")
    check = fit.plot_ppc().viz["figure"].item()
    check.savefig(options.out / "soil_check.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
