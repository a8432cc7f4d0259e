"""
Which interval? Wald, profile, bootstrap and posterior side by side, for four well-known tables.

Reaction times (linear, 18 subjects), disease of cattle (binomial, 15 herds), fruits of Arabidopsis
(counts, crossed groups and one effect a plant) and predation on corals (yes or no, 10 blocks), each
beside intervals that were published or that lme4 gives. Where a parameter has few groups behind it,
or the data are nearly separated, the four kinds part.

    python examples/intervals.py
"""

import argparse
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb

type Ends = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Published:
    """Intervals by name that others found, and where."""

    source: str
    ends: Mapping[str, Ends]


SLEEPSTUDY = Published(
    "Bates et al. (2015), J. Stat. Softw. 67(1), section 5.1: confint of lme4",
    {
        "profile": {
            "Intercept": (237.681, 265.130), "Days": (7.359, 13.576),
            "sd_Subject[Intercept]": (14.381, 37.716), "sd_Subject[Days]": (3.801, 8.753),
            "corr_Subject[Intercept, Days]": (-0.482, 0.685), "sigma": (22.898, 28.858),
        }
    },
)  # fmt: skip

CULCITA = Published(
    "Bolker, talks on mixed models: figure of the Culcita intervals, by glmer",
    {
        "wald": {
            "Intercept": (1.546, 8.646), "ttt[T.crabs]": (-6.713, -0.972),
            "ttt[T.shrimp]": (-7.472, -1.390), "ttt[T.both]": (-8.978, -2.220),
        },
        "profile": {
            "Intercept": (2.090, 10.069), "ttt[T.crabs]": (-7.307, -1.327),
            "ttt[T.shrimp]": (-8.131, -1.806), "ttt[T.both]": (-9.694, -2.721),
            "sd_block[Intercept]": (1.715, 7.678),
        },
        "bootstrap": {
            "Intercept": (2.472, 24.142), "ttt[T.crabs]": (-17.302, -1.382),
            "ttt[T.shrimp]": (-18.698, -1.701), "ttt[T.both]": (-19.911, -2.819),
            "sd_block[Intercept]": (1.400, 19.720),
        },
    },
)  # fmt: skip


def all_intervals(
    fit: gb.ModeFit, replicates: int, published: Published | None = None
) -> pd.DataFrame:
    """Put a fit's intervals side by side, and those published beside them."""
    parts = {
        "wald": fit.confint(),
        "profile": fit.confint(method="profile"),
        "bootstrap": fit.confint(method="bootstrap", nsim=replicates, seed=1),
    }
    for kind, ends in (published.ends if published else {}).items():
        theirs = pd.DataFrame.from_dict(ends, orient="index", columns=["lower", "upper"])
        parts[f"{kind}, published"] = theirs
    columns = {kind: part[["lower", "upper"]] for kind, part in parts.items()}
    found = pd.concat(columns, axis=1).reindex(parts["wald"].index)
    print(found.round(2).to_string(na_rep=""))
    if published:
        print(f"Published: {published.source}.")
    print(f"Bootstrap: {', '.join(parts['bootstrap'].attrs['notes'])}.\n")
    return found


def show(found: pd.DataFrame, estimates: pd.Series, path: Path) -> None:
    """Draw the intervals of each parameter in a panel of its own."""
    kinds = list(dict.fromkeys(found.columns.get_level_values(0)))
    names = list(found.index)
    figure, axes = plt.subplots(
        1, len(names), figsize=(2.2 * len(names), 2.6), sharey=True, layout="constrained"
    )
    for ax, name in zip(np.atleast_1d(axes), names, strict=True):
        for k, kind in enumerate(kinds):
            low, high = found.loc[name, kind]
            own = "0.55" if "published" in kind else "C0"
            ax.plot([low, high], [k, k], color=own, lw=2, solid_capstyle="butt")
        ax.axvline(estimates[name], color="0.8", lw=1, zorder=0)
        ax.set_title(name, fontsize=8)
        ax.set_yticks(range(len(kinds)), kinds)
        ax.tick_params(labelsize=8)
    np.atleast_1d(axes)[0].invert_yaxis()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def reaction_times(replicates: int, out: Path) -> None:
    data = gb.load_dataset("sleepstudy")
    fit = gb.Model("Reaction ~ Days + (1 + Days | Subject)", data).fit("reml")
    print("Reaction times under sleep deprivation, by restricted likelihood:")
    found = all_intervals(fit, replicates, SLEEPSTUDY)
    show(found, fit.confint()["estimate"], out / "intervals_sleepstudy.png")
    kinds = ("satterthwaite", "kenward-roger", "CR2")
    tests = {ddf: fit.ttest(ddf).loc["Days"] for ddf in kinds}
    columns = ["estimate", "std_error", "df", "p_value", "lower", "upper"]
    print(f"The slope by t:\n{pd.DataFrame(tests).loc[columns].T.to_string()}\n")


def cattle(replicates: int, out: Path) -> None:
    data = gb.load_dataset("cbpp")
    fit = gb.Model("incidence | trials(size) ~ period + (1 | herd)", data, "binomial").fit("ml")
    print("Pleuropneumonia in herds, by Laplace's method:")
    found = all_intervals(fit, replicates)
    show(found, fit.confint()["estimate"], out / "intervals_cbpp.png")
    without = fit.update(formula="incidence | trials(size) ~ 1 + (1 | herd)")
    for test in ("lrt", "bootstrap"):
        table = fit.anova(without, test=test, nsim=replicates if test == "bootstrap" else None)
        print(f"Periods by {test}:\n{table.round(6).to_string(na_rep='')}\n")


def fruits(replicates: int, out: Path) -> None:
    data = gb.load_dataset("arabidopsis")
    data["amd"] = data["amd"].cat.reorder_categories(["unclipped", "clipped"])
    for column in ("nutrient", "rack"):
        data[column] = data[column].astype(str).astype("category")
    data["plant"] = [f"p{k}" for k in range(len(data))]
    formula = (
        "`total.fruits` ~ nutrient * amd + rack + status + (1 | popu) + (1 | gen) + (1 | plant)"
    )
    fit = gb.Model(formula, data, "poisson").fit("ml")
    print("Fruits of Arabidopsis, Poisson with an effect of each plant:")
    # A replicate is 625 plants with an effect each: fewer of them.
    found = all_intervals(fit, max(replicates // 5, 40))
    kept = [name for name in found.index if "status" not in name and "rack" not in name]
    show(found.loc[kept], fit.confint()["estimate"], out / "intervals_arabidopsis.png")


def corals(replicates: int, out: Path, sampling: Mapping[str, int]) -> None:
    data = gb.load_dataset("culcita")
    model = gb.Model("predation ~ ttt + (1 | block)", data, "bernoulli")
    fit = model.fit("ml")
    print("Predation on corals, by Laplace's method:")
    found = all_intervals(fit, replicates, CULCITA)
    show(found, fit.confint()["estimate"], out / "intervals_culcita.png")
    fit.profile().plot().savefig(out / "intervals_culcita_profile.png", dpi=120)

    print("The coral in row 20 left out, the data are nearly separated:")
    rest = data.drop(index=data.index[19])
    parts, heads = {}, {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what they say is the point here
        without = model.fit("ml").update(data=rest)
        parts["wald"] = without.confint()
        parts["profile"] = without.confint(method="profile")
        penalised = gb.Model(
            "predation ~ ttt + (1 | block)", rest, "bernoulli",
            priors={"beta": gb.Prior("Normal", mu=0, sigma=5)},
        )  # fmt: skip
        parts["profile, with priors"] = penalised.fit("map").confint(method="profile")
        posterior = penalised.fit("nuts", **sampling)
    heads = {kind: part[["lower", "upper"]] for kind, part in parts.items()}
    heads["posterior"] = _posterior(posterior, list(parts["wald"].index))
    table = pd.concat(heads, axis=1)
    print(f"{table.round(1).to_string()}\n")


def _posterior(fit: gb.PosteriorFit, names: Sequence[str]) -> pd.DataFrame:
    tables = [fit.fixef(), fit.varcorr()]
    found = pd.concat([table[["lower", "upper"]] for table in tables])
    return found.set_axis(names)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000, help="replicates, and posterior draws")
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files
    reaction_times(options.draws, options.out)
    cattle(options.draws, options.out)
    fruits(options.draws, options.out)
    sampling = {"draws": options.draws, "tune": options.tune, "seed": options.seed}
    try:
        corals(options.draws, options.out, sampling)
    except gb.DataError as error:
        print(f"Corals are left out, their data are not packaged. {error}", file=sys.stderr)
        return 1
    print(f"Figures are in {options.out}/.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
