"""
Sudden infant deaths in the counties of North Carolina, 1974-78: rates that neighbours lend to each.

Cressie (1993), Statistics for Spatial Data, section 6.2. Counties are neighbours here where a
triangulation of their seats joins them over less than 90 km.

    python examples/counties.py
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from scipy.spatial import Delaunay

import glmm_bayes as gb

FIXED = "SID74 ~ offset(log(expected)) + root_nonwhite"
LONGEST = 90.0  # km between neighbours


def counties() -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the table, with expected deaths, and the list of neighbours."""
    data = gb.load_dataset("nc_sids")
    rate = data["SID74"].sum() / data["BIR74"].sum()
    data = data.assign(
        expected=rate * data["BIR74"],
        root_nonwhite=np.sqrt(data["NWBIR74"] / data["BIR74"]),
    )
    at = data[["x", "y"]].to_numpy()
    sides = Delaunay(at).simplices[:, [[0, 1], [1, 2], [0, 2]]].reshape(-1, 2)
    sides = np.unique(np.sort(sides, axis=1), axis=0)
    near = np.linalg.norm(at[sides[:, 0]] - at[sides[:, 1]], axis=1) < LONGEST
    names = data["county"].to_numpy()
    W = pd.DataFrame(names[sides[near]], columns=["county", "neighbour"])
    return data, W


def plot_counties(
    data: pd.DataFrame, W: pd.DataFrame, pictures: dict[str, np.ndarray], cmap: str
) -> plt.Figure:
    at = data.set_index("county")[["x", "y"]]
    ends = np.stack([at.loc[W[column]].to_numpy() for column in W], axis=1)
    # A county of few births, counted far above all others, would leave these one colour.
    low, high = np.min(list(pictures.values())), np.quantile(list(pictures.values()), 0.985)
    fig, axes = plt.subplots(len(pictures), 1, figsize=(7, 3 * len(pictures)), layout="constrained")
    for ax, (title, value) in zip(np.atleast_1d(axes), pictures.items(), strict=True):
        ax.plot(ends[:, :, 0].T, ends[:, :, 1].T, color="0.85", lw=0.8, zorder=0)
        dots = ax.scatter(
            data["x"], data["y"], c=value, s=12 + 3 * data["expected"], cmap=cmap,
            vmin=low, vmax=high, edgecolor="0.3", lw=0.4,
        )  # fmt: skip
        ax.set(title=title, aspect="equal", xticks=[], yticks=[])
        fig.colorbar(dots, shrink=0.8, extend="max" if np.max(value) > high else "neither")
    return fig


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files
    data, W = counties()

    # Does a county's rate depend on its neighbours'? By maximum likelihood, to compare.
    terms = {
        "none": "",
        "each its own": "+ (1 | county)",
        "neighbours": "+ icar(1 | county, W)",
        "both": "+ bym2(1 | county, W)",
    }
    fits = {
        name: gb.Model(f"{FIXED} {term}", data, "poisson", context={"W": W}).fit("ml")
        for name, term in terms.items()
    }
    print(f"How counties differ:\n{gb.compare(fits).round(2).to_string()}\n")

    fit = gb.Model(f"{FIXED} {terms['both']}", data, "poisson", context={"W": W}).fit(
        "posthoc", seed=options.seed, draws=options.draws, tune=options.tune
    )
    print(f"{fit.summary()}\n")
    drawn = fit.predict(kind="mean", draws=True).to_numpy().reshape(-1, len(data))
    risk = drawn / data["expected"].to_numpy()
    raw = data["SID74"] / data["expected"]
    pictures = {"deaths over expected, as counted": raw, "as the model has it": risk.mean(axis=0)}
    plot_counties(data, W, pictures, "viridis").savefig(options.out / "counties_risk.png")
    above = {"chance that the risk is above the state's": (risk > 1).mean(axis=0)}
    plot_counties(data, W, above, "RdBu_r").savefig(options.out / "counties_above.png")
    names = data["county"].iloc[np.argsort(-(risk > 1.5).mean(axis=0))[:5]]
    print(f"Most likely over one and a half times the state's risk: {', '.join(names)}.\n")

    fit.plot_effects("root_nonwhite").savefig(options.out / "counties_nonwhite.png")
    check = fit.plot_ppc().viz["figure"].item()
    check.savefig(options.out / "counties_check.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
