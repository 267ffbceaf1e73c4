"""The tables of ``docs/results/missing_modalities.md``, from the finished studies.

    python benchmarks/missing_modalities.py --home WORKSPACE

One table a model: what it comes to without Mirror Gradient at each level and completion, where
nothing is missing first. Then what other completions than the mean, and Mirror Gradient, change of
the objective, with verdicts.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

import mgstudy

STUDIES = ("missing_modalities_search", "missing_modalities")
OBJECTIVE = "recall@20"
SHOWN = {
    OBJECTIVE: "recall@20",
    "recall-incomplete@20": "of incomplete items",
    "recall-complete@20": "of complete items",
    "fairness@20": "F@20",
    "fairness_chance@20": "F by chance",
    "incomplete_share@20": "incomplete share",
    "exposure_ratio@20": "exposure ratio",
    "coverage@20": "coverage",
    "novelty@20": "novelty",
}
NOTHING_MISSING = "nothing missing"
PLAIN = "gradient=plain"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--home", required=True)
    arguments.add_argument("--studies", nargs="+", default=STUDIES)
    options = arguments.parse_args()

    def compared(baseline: str) -> pd.DataFrame:
        found = mgstudy.compare(options.studies, baseline, everything=True, home=options.home)
        changed = {label for study in found.studies for label in study.changed_datasets}
        completions = found.table.get("completion", NOTHING_MISSING)
        return found.table.assign(
            completion=pd.Series(completions, found.table.index).where(
                found.table["dataset"].isin(changed), NOTHING_MISSING
            )
        )

    scores = compared(PLAIN)
    is_varied = scores["completion"].nunique() > 1
    levels(scores[scores["gradient"] == "plain"])
    for title, baseline in (
        ("What other completions change, against the mean", "completion=mean"),
        ("What Mirror Gradient changes, against plain training", PLAIN),
    ):
        if baseline == PLAIN or is_varied:
            print(f"\n{title}: {OBJECTIVE}\n")
            found = scores if baseline == PLAIN else compared(baseline)
            verdicts(found[found["metric"] == OBJECTIVE])


def levels(scores: pd.DataFrame) -> None:
    """What each model comes to, by level and completion."""
    for model, of_model in scores.groupby("model", sort=False):
        print(f"\n{model}\n")
        wide = of_model[of_model["metric"].isin(SHOWN)]
        rows = []
        for (dataset, completion), of_level in wide.groupby(["dataset", "completion"], sort=False):
            means = of_level.set_index("metric")
            cells = [score(means.loc[metric]) if metric in means.index else "–" for metric in SHOWN]
            rows.append([str(dataset), str(completion), *cells])
        table(["dataset", "completion", *SHOWN.values()], rows)


def verdicts(compared: pd.DataFrame) -> None:
    """Each comparison, and what it says."""
    rows = [
        [
            row["dataset"],
            row["completion"],
            row["model"],
            row["gradient"],
            shown(row["relative_difference"], "+.1%"),
            shown(row["p_holm"], ".3g"),
            row["verdict"],
        ]
        for row in compared[compared["baseline"].notna()].to_dict("records")
    ]
    table(["dataset", "completion", "model", "gradient", "difference", "p, Holm", "verdict"], rows)


def score(row: Any) -> str:
    """A mean and half of its 95 % interval over seeds."""
    mean = shown(row["mean"], ".4f")
    return (
        mean if math.isnan(row["mean"]) else f"{mean} ± {shown(row['high'] - row['mean'], '.4f')}"
    )


def shown(value: float, form: str) -> str:
    """A number, or a dash for none."""
    return "–" if math.isnan(value) else format(value, form)


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Print a table in Markdown."""
    print("| " + " | ".join(titles) + " |\n|" + "---|" * len(titles))
    for row in rows:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main()
