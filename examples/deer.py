"""
How much of birth weight is inherited: an animal model of a simulated herd, whose truth is known.

A deer's weight is the sum of what it has of both parents, of what its dam does for all her calves,
of its sex, and of chance. The pedigree tells these apart (Kruuk 2004, Phil. Trans. R. Soc. B 359,
873-890). Heritability is the first one's share of the variance.

    python examples/deer.py
"""

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb

YEARS, CALVES = 6, 90
ADDITIVE, MATERNAL, LEFT = 1.0, 0.6, 1.1  # standard deviations, in kg
FORMULA = "weight ~ sex + pedigree(1 | animal, ped) + (1 | dam)"
TRUE_H2 = ADDITIVE**2 / (ADDITIVE**2 + MATERNAL**2 + LEFT**2)


@dataclass(frozen=True)
class Herd:
    """Who descends from whom, the calves that were weighed, and everybody's breeding value."""

    pedigree: pd.DataFrame
    weighed: pd.DataFrame
    value: pd.Series


def herd(seed: int = 7) -> Herd:
    """Let a herd breed: heavy stags have more calves; every tenth calf is not weighed."""
    rng = np.random.default_rng(seed)
    value = {f"f{k}": ADDITIVE * rng.standard_normal() for k in range(60)}
    rows = [{"animal": name, "sire": None, "dam": None, "year": 0} for name in value]
    stags, hinds = list(value)[:20], list(value)[20:]
    care = {name: MATERNAL * rng.standard_normal() for name in value}
    for year in range(1, YEARS + 1):
        for k in range(CALVES):
            # Of some stags that meet, the one with the highest breeding value.
            sire = max(rng.choice(stags, 2), key=lambda name: value[name])
            dam, name = str(rng.choice(hinds)), f"{year}-{k}"
            # Half of each parent, and the other half of the variance by segregation.
            middle = 0.5 * (value[sire] + value[dam])
            value[name] = middle + ADDITIVE * np.sqrt(0.5) * rng.standard_normal()
            care[name] = MATERNAL * rng.standard_normal()
            sex = "male" if rng.random() < 0.5 else "female"
            weight = 6.5 + 0.8 * (sex == "male") + value[name] + care[dam]
            weight += LEFT * rng.standard_normal()
            born = {"animal": name, "sire": sire, "dam": dam, "year": year}
            rows.append({**born, "sex": sex, "weight": weight})
        last = pd.DataFrame(rows).query("year == @year")
        stags = [*stags[-10:], *last.query("sex == 'male'")["animal"].iloc[:15]]
        hinds = [*hinds[-20:], *last.query("sex == 'female'")["animal"].iloc[:25]]
    table = pd.DataFrame(rows)
    calves = table[table["year"] > 0]
    return Herd(table, calves[np.arange(len(calves)) % 10 > 0], pd.Series(value))


def heritability(fit: Any) -> float:
    """Give the share of the additive variance, of all that sex does not explain."""
    variance = fit.varcorr().set_index("group")["estimate"] ** 2
    return float(variance["animal"] / variance.sum())


def posterior_of_h2(fit: Any) -> np.ndarray:
    draws = fit.idata["posterior"]
    additive, maternal, left = (
        draws[name].to_numpy().ravel() ** 2 for name in ("sd_animal", "sd_dam", "sigma")
    )
    return additive / (additive + maternal + left)


def plot_h2(h2: np.ndarray, interval: pd.Series) -> plt.Figure:
    fig, ax = plt.subplots(figsize=(5.5, 3), layout="constrained")
    ax.hist(h2, bins=50, density=True, color="C0", alpha=0.35, label="posterior")
    ax.plot(np.quantile(h2, [0.025, 0.975]), [0.25, 0.25], lw=4, color="C0", label="its 95%")
    ax.plot(interval[["lower", "upper"]], [0.6, 0.6], lw=4, color="C1", label="reml, bootstrap 95%")
    ax.plot(interval["estimate"], 0.6, "o", color="C1")
    ax.axvline(TRUE_H2, color="0.2", ls="--", label="truth")
    ax.set(xlabel="heritability of birth weight", yticks=[], xlim=(0, 1))
    ax.legend(frameon=False)
    return fig


def plot_values(found: pd.DataFrame, deer: Herd) -> plt.Figure:
    """Picture breeding values beside the truth, and how their mean moved over the years."""
    truth, year = deer.value[found.index], deer.pedigree.set_index("animal")["year"][found.index]
    fig, axes = plt.subplots(1, 2, figsize=(8.5, 3.8), layout="constrained")
    axes[0].plot(truth, found["estimate"], ".", ms=4)
    axes[0].axline((0, 0), slope=1, color="0.7", lw=1)
    axes[0].set(xlabel="true breeding value, kg", ylabel="estimated")
    axes[1].plot(truth.groupby(year).mean(), "--", color="0.2", label="truth")
    axes[1].plot(found["estimate"].groupby(year).mean(), color="C0", label="estimated")
    axes[1].set(xlabel="year of birth", ylabel="mean breeding value, kg")
    axes[1].legend(frameon=False)
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
    deer = herd()

    # By restricted likelihood, with an interval from herds drawn anew.
    model = gb.Model(FORMULA, deer.weighed, context={"ped": deer.pedigree})
    fit = model.fit("reml")
    print(f"{fit.summary()}\n")
    again = gb.bootstrap(fit, heritability, n=200, seed=options.seed, n_jobs=1)
    interval = again.confint().iloc[0]
    print(f"Heritability, of which the truth is {TRUE_H2:.2f}:\n{interval.round(2).to_string()}\n")

    # The posterior.
    fit = model.fit("posthoc", seed=options.seed, draws=options.draws, tune=options.tune)
    print(f"{fit.summary()}\n")
    h2 = posterior_of_h2(fit)
    low, high = np.quantile(h2, [0.025, 0.975])
    print(f"Posterior of the heritability: {h2.mean():.2f} (95% {low:.2f} to {high:.2f})\n")
    plot_h2(h2, interval).savefig(options.out / "deer_heritability.png")
    found = fit.ranef().query("group == 'animal'").set_index("level")
    plot_values(found, deer).savefig(options.out / "deer_values.png")
    fit.plot_ranef("dam").savefig(options.out / "deer_dams.png")
    check = fit.plot_ppc().viz["figure"].item()
    check.savefig(options.out / "deer_check.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
