"""
Clutches of related species: what is by descent, how it evolved, and what a new species will do.

The data are simulated, 60 species with four nests each, along a tree of which some branches end
before the present. Replace `simulate` by your own tree and table.

    python examples/phylogeny.py
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb

SPECIES, NESTS = 60, 4
FIXED = "eggs ~ latitude"


def simulate(seed: int) -> tuple[gb.Tree, pd.DataFrame]:
    """Join lineages at random, from the present back, and let clutch sizes walk along them."""
    rng = np.random.default_rng(seed)
    # A third of the species died out before the present.
    ended = np.where(rng.random(SPECIES) < 0.33, rng.exponential(0.1, SPECIES), 0.0)
    parts = [(f"sp_{k}", end) for k, end in enumerate(ended)]
    now = float(ended.max())
    while len(parts) > 1:
        now += rng.exponential(1 / len(parts))
        pair = [parts.pop(rng.integers(len(parts))) for _ in range(2)]
        parts.append((f"({','.join(f'{text}:{now - t:.6f}' for text, t in pair)})", now))
    tree = gb.Tree.from_newick(parts[0][0] + ";")
    walk = rng.standard_normal(len(tree.labels)) * np.sqrt(tree.length / tree.height)
    for k in range(1, len(walk)):
        walk[k] += walk[tree.parent[k]]
    species = np.repeat(tree.tips, NESTS)
    latitude = rng.uniform(-1, 1, len(species))
    own = rng.normal(0, 0.15, SPECIES)
    eta = 1.2 + 0.3 * latitude + np.repeat(0.5 * walk[tree.is_tip] + own, NESTS)
    eggs = rng.poisson(np.exp(eta))
    return tree, pd.DataFrame({"species": species, "latitude": latitude, "eggs": eggs})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=100)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files

    tree, data = simulate(options.seed)
    print(f"{tree}\n")
    tree.plot().savefig(options.out / "phylogeny_tree.png")

    # How did it evolve? By maximum likelihood, to compare.
    context = {"tree": tree}
    kinds = {
        "no descent": "(1 | species)",
        "brownian": "phylo(1 | species, tree)",
        "lambda": "phylo(1 | species, tree, model='lambda')",
        "ou": "phylo(1 | species, tree, model='ou')",
    }
    fits = {
        name: gb.Model(f"{FIXED} + {term}", data, "poisson", context=context).fit("ml")
        for name, term in kinds.items()
    }
    print(f"Models of evolution:\n{gb.compare(fits).round(2).to_string()}\n")
    table = fits["lambda"].varcorr().set_index("kind")[["estimate", "lower", "upper"]]
    print(f"Pagel's lambda:\n{table.round(2).to_string()}\n")

    # The posterior, with what each species has of its own beside what it has by descent; three
    # species are left out, to be predicted from their relatives.
    unknown = list(tree.tips[:: SPECIES // 3])
    known = data[~data["species"].isin(unknown)]
    formula = f"{FIXED} + phylo(1 | species, tree) + (1 | species)"
    fit = gb.Model(formula, known, "poisson", context=context).fit(
        "posthoc", seed=options.seed, draws=options.draws, tune=options.tune
    )
    print(f"{fit.summary()}\n")
    names = ("sd_species", "sd_species_2")
    draws = [fit.idata["posterior"][name].to_numpy().ravel() for name in names]
    share = draws[0] ** 2 / (draws[0] ** 2 + draws[1] ** 2)
    low, middle, high = np.quantile(share, [0.025, 0.5, 0.975])
    print(
        f"Of what differs between species {middle:.0%} ({low:.0%} to {high:.0%}) is by descent.\n"
    )
    new = pd.DataFrame({"species": unknown, "latitude": 0.0})
    predicted = pd.concat([new, fit.predict(new, kind="mean").round(2)], axis=1)
    seen = data[data["species"].isin(unknown)].groupby("species")["eggs"].mean()
    predicted["observed mean"] = predicted["species"].map(seen)
    print(f"Species without data, predicted from their relatives:\n{predicted.to_string()}\n")

    fit.plot_effects("latitude").savefig(options.out / "phylogeny_latitude.png")
    fit.plot_ranef().savefig(options.out / "phylogeny_species.png")
    check = fit.plot_ppc().viz["figure"].item()
    check.savefig(options.out / "phylogeny_check.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
