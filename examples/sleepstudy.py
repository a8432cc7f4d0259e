"""
Reaction times under sleep deprivation: do people differ in how fast they slow down?

A linear mixed model with correlated intercepts and slopes, compared with one in which subjects
differ in their intercepts only: first by maximum likelihood, then by their posteriors.

    python examples/sleepstudy.py
"""

import argparse
import warnings
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd

import glmm_bayes as gb

SLOPES = "Reaction ~ Days + (1 + Days | Subject)"
INTERCEPTS = "Reaction ~ Days + (1 | Subject)"


def by_maximum(model: gb.Model) -> gb.ModeFit:
    """Print the maximum of the restricted likelihood, and AIC without slopes that differ."""
    restricted = model.fit("reml")
    print(f"{restricted.summary()}\n")
    slopes = model.fit("ml")
    table = gb.compare(
        {"slopes": slopes, "intercepts only": slopes.update(formula=INTERCEPTS)},
    )
    print(f"By AIC, of fits by maximum likelihood:\n{table.round(1).to_string()}\n")
    return restricted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("--draws", type=int, default=1000)
    parser.add_argument("--tune", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("figures"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    plt.switch_backend("Agg")  # the figures go to files
    sampling = {
        "seed": options.seed,
        "draws": options.draws,
        "tune": options.tune,
        "target_accept": 0.95,
    }

    data = gb.load_dataset("sleepstudy")
    print(data.groupby("Days")["Reaction"].agg(["mean", "std"]).round(0).T.to_string())
    print("Mean and spread both grow with the days: subjects may have slopes of their own.\n")

    model = gb.Model(SLOPES, data)
    print(f"{model}\n")
    restricted = by_maximum(model)
    slopes = model.fit(**sampling)
    print(f"{slopes.summary()}\n")
    days = slopes.fixef().loc["Days"]
    spread = slopes.varcorr().query("coef1 == 'Days' and kind == 'sd'").iloc[0]
    print(
        f"A day of deprivation costs {days['estimate']:.1f} ms on average "
        f"({days['lower']:.1f} to {days['upper']:.1f}); between subjects this slope has a "
        f"standard deviation of {spread['estimate']:.1f} ms a day."
    )
    both = restricted.confint(parm=["Days", "sd_Subject[Days]"]).round(1)
    print(f"The same by restricted maximum likelihood:\n{both.to_string()}")

    # Ten rows a subject say much about its intercept: drawn as it is, it mixes better.
    plain = gb.Model(INTERCEPTS, data, centering="centered")
    intercepts = plain.fit(**sampling)
    with warnings.catch_warnings():
        # ArviZ warns of rows with a large Pareto k; the table has their number.
        warnings.filterwarnings("ignore", message="Estimated shape parameter")
        table = gb.compare({"slopes": slopes, "intercepts only": intercepts})
    print(f"\nLeave-one-out comparison:\n{table.to_string()}")
    best, other = table.index
    apart = table.loc[other]
    print(
        f"{best!r} predicts better by {abs(apart['elpd_diff']):.0f} (standard error "
        f"{apart['dse']:.0f}) in expected log predictive density; the difference is rough, since "
        f"a few readings are so unusual that leaving them out changes the fit (k̂ > 0.7)."
    )

    last = pd.DataFrame({"Days": [9], "Subject": ["308"]})
    for words, groups in {"subject 308": "conditional", "a new subject": "new"}.items():
        found = slopes.predict(last, groups=groups, kind="response", seed=1).iloc[0]
        print(
            f"On day 9, {words} will react after {found['estimate']:.0f} ms "
            f"({found['lower']:.0f} to {found['upper']:.0f})."
        )

    slopes.plot_effects("Days", groups="new").savefig(options.out / "sleepstudy_effects.png")
    by_subject = slopes.plot_effects("Days", by="Subject", groups="conditional")
    by_subject.savefig(options.out / "sleepstudy_subjects.png")
    slopes.plot_ranef().savefig(options.out / "sleepstudy_ranef.png")
    slopes.plot_residuals().savefig(options.out / "sleepstudy_residuals.png")
    slopes.plot_ppc().viz["figure"].item().savefig(options.out / "sleepstudy_check.png")
    print(f"Figures are in {options.out}/.")


if __name__ == "__main__":
    main()
