"""
Do hungry owlets beg more, and does it depend on which parent comes?

Nestlings of 27 nests of barn owls in Switzerland, fed beforehand or not (Roulin & Bersier 2007,
Animal Behaviour 74, 1099-1106): calls in the 15 minutes before a parent arrives, per nest and
visit. Many visits hear no call at all. The example is about questions after the fit: marginal
means, ratios, how the answer splits into silence and calls, how both go through the night, and for
whom an average is meant.

    python examples/owls.py
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

import glmm_bayes as gb
from glmm_bayes.fit import ModeFit

CALLS = (
    "SiblingNegotiation ~ FoodTreatment * SexParent + ArrivalTime + offset(log(BroodSize)) "
    "+ (1 | Nest)"
)
SHOWN = ["estimate", "lower", "upper"]
PER_CHICK = {"BroodSize": 1}


def choose(data: pd.DataFrame) -> ModeFit:
    """Fit with and without silent visits, and keep what AIC prefers."""
    models = {
        "negbinomial": gb.Model(CALLS, data, "negbinomial"),
        "silence": gb.Model(
            [CALLS, "zi ~ FoodTreatment + ArrivalTime + (1 | Nest)"],
            data,
            "zero_inflated_negbinomial",
        ),
    }
    fits = {name: model.fit("ml") for name, model in models.items()}
    print(f"{gb.compare(fits).round(1).to_string()}\n")
    return fits["silence"]


def say(words: str, table: pd.DataFrame) -> None:
    print(f"{words}:\n{table.round(3).to_string(index=False)}\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files

    data = gb.load_dataset("owls")
    fit = choose(data)

    calls = fit.emmeans("FoodTreatment", by="SexParent", at=PER_CHICK, type="response")
    say("Calls a chick where a nest is not silent, by whether it was fed", calls)
    ratios = calls.contrast("pairwise")
    say("How many times as many when hungry", ratios[["SexParent", "contrast", *SHOWN]])
    interaction = ratios.contrast("pairwise", by="contrast").iloc[0]
    print(
        f"The parent makes hardly a difference: the two ratios differ by a factor of "
        f"{interaction['estimate']:.2f} ({interaction['lower']:.2f} to {interaction['upper']:.2f}; "
        f"p = {interaction['p_value']:.2f}).\n"
    )
    calls.plot().savefig(options.out / "owls_calls.png", bbox_inches="tight")

    silent = fit.emmeans("FoodTreatment", param="zi", type="response", hypothesis="pairwise")
    say("Odds that a nest is silent, hungry against fed", silent[["contrast", *SHOWN]])

    night = gb.datagrid(
        fit,
        ArrivalTime=np.linspace(data["ArrivalTime"].min(), data["ArrivalTime"].max(), 40),
        FoodTreatment=["Deprived", "Satiated"],
        **PER_CHICK,
    )
    fit.predictions(night).plot().savefig(options.out / "owls_night.png", bbox_inches="tight")
    fit.slopes("ArrivalTime", night).plot().savefig(
        options.out / "owls_slopes.png", bbox_inches="tight"
    )
    say(
        "An hour later, in calls a visit, averaged over all visits",
        fit.slopes("ArrivalTime", by="FoodTreatment")[["FoodTreatment", *SHOWN]],
    )

    both = {
        groups: fit.comparisons("FoodTreatment", by=True, groups=groups)[SHOWN].iloc[0]
        for groups in ("population", "marginal", "conditional")
    }
    say(
        "Calls a visit fewer when fed: of a typical nest, of all nests there are, of these nests",
        pd.DataFrame(both).T.rename_axis("groups").reset_index(),
    )
    posterior = fit.model.fit(
        seed=options.seed, draws=options.draws, tune=options.tune, progressbar=False
    )
    found = posterior.comparisons("FoodTreatment", by="SexParent", comparison="ratio")
    say("The posterior of the ratio of all calls", found[["contrast", "SexParent", *SHOWN]])
    found.plot().savefig(options.out / "owls_posterior.png", bbox_inches="tight")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
