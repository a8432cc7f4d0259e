"""
Follicles of mares through their cycle: residuals that hang together, and forecasts from the last.

Pierson & Ginther (1987), Theriogenology 28, 929-936: the number of ovarian follicles over 10 mm of
11 mares, each day from three days before ovulation to three days after the next.

    python examples/mares.py
"""

import argparse
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb

MEAN, ALIKE = "follicles ~ s + c", "residual ~ ar1(step | Mare)"
AHEAD = 10


def with_curve(data: pd.DataFrame) -> pd.DataFrame:
    turn = 2 * np.pi * data["Time"]
    return data.assign(s=np.sin(turn), c=np.cos(turn))


def autocorrelation(residuals: pd.Series, data: pd.DataFrame, most: int) -> np.ndarray:
    """Average over mares the products of residuals some steps apart."""
    series = [part.to_numpy() for _, part in residuals.groupby(data["Mare"], observed=True)]
    pairs = [np.concatenate([r[k:] * r[: len(r) - k] for r in series]) for k in range(most + 1)]
    return np.array([p.mean() for p in pairs]) / pairs[0].mean()


def plot_residuals(fits: dict[str, Any], data: pd.DataFrame) -> plt.Figure:
    fig, axes = plt.subplots(1, len(fits), figsize=(7.5, 2.8), sharey=True, layout="constrained")
    bound = 1.96 / np.sqrt(len(data))
    for ax, (name, fit) in zip(axes, fits.items(), strict=True):
        found = autocorrelation(fit.residuals(), data, 12)
        ax.axhspan(-bound, bound, color="0.9")
        ax.vlines(np.arange(13), 0, found, color="C0", lw=3)
        ax.set(title=name, xlabel="steps apart")
    axes[0].set_ylabel("correlation of residuals")
    return fig


def plot_forecasts(fit: Any, data: pd.DataFrame, mares: list[str], seed: int) -> plt.Figure:
    fig, axes = plt.subplots(1, len(mares), figsize=(8, 3), sharey=True, layout="constrained")
    for ax, mare in zip(axes, mares, strict=True):
        own = data[data["Mare"] == mare]
        step = own["step"].max() + np.arange(1, AHEAD + 1)
        pace = own["Time"].diff().median()
        later = pd.DataFrame({"Mare": mare, "step": step})
        later["Time"] = own["Time"].max() + pace * np.arange(1, AHEAD + 1)
        later = with_curve(later)
        band = fit.predict(later, kind="response", level=0.8, seed=seed)
        every = pd.concat([own, later])
        ax.plot(own["Time"], own["follicles"], ".", color="0.4", label="counted")
        curve = fit.predict(every, kind="linear")["estimate"]
        ax.plot(every["Time"], curve, color="C0", lw=1, label="curve")
        ax.plot(later["Time"], band["estimate"], color="C1", label="forecast")
        ax.fill_between(later["Time"], band["lower"], band["upper"], color="C1", alpha=0.25)
        ax.set(title=f"mare {mare}", xlabel="cycle")
    axes[0].set_ylabel("follicles")
    axes[-1].legend(frameon=False, fontsize=8)
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

    data = gb.load_dataset("ovary")
    data = with_curve(data.assign(step=data.groupby("Mare", observed=True).cumcount()))

    # Are a mare's days alike beyond her own level? By maximum likelihood, to compare.
    kinds = {
        "independent": [f"{MEAN} + (1 | Mare)"],
        "ar1": [f"{MEAN} + (1 | Mare)", ALIKE],
        "arma": [f"{MEAN} + (1 | Mare)", "residual ~ arma(step | Mare)"],
    }
    fits = {name: gb.Model(formula, data).fit("ml") for name, formula in kinds.items()}
    print(f"Residuals:\n{gb.compare(fits).round(2).to_string()}\n")
    plot_residuals(fits, data).savefig(options.out / "mares_residuals.png")

    # The posterior, and what comes next.
    fit = gb.Model(kinds["ar1"], data).fit(
        "posthoc", seed=options.seed, draws=options.draws, tune=options.tune
    )
    print(f"{fit.summary()}\n")
    mares = ["4", "1", "8"]
    plot_forecasts(fit, data, mares, options.seed).savefig(options.out / "mares_forecasts.png")
    fit.plot_ranef().savefig(options.out / "mares_levels.png")
    check = fit.plot_ppc().viz["figure"].item()
    check.savefig(options.out / "mares_check.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
