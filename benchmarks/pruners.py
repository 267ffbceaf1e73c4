"""How often a pruner would have stopped what was to win, in a study that is finished.

    python benchmarks/pruners.py --home WORKSPACE --study tiktok

The completed trials of each cell are replayed in random orders, two at a time, under one pruner
after another. They are those that the study's own pruner let pass: what every pruner stops is not
among them, so a pruner loses more here, and saves less, than it would in a whole search.

Printed, over all cells and orders: how often the best trial was stopped, the best of those that ran
to their end over the best of all, and the share of the epochs that was trained.
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, PercentilePruner
from optuna.pruners import SuccessiveHalvingPruner as HalvingPruner
from search_replay import Curve, Search, replay

import mgstudy
from mgstudy.study.events import Stage

PRUNERS: dict[str, BasePruner] = {
    "none": NopPruner(),
    **{f"median, from epoch {n} on": MedianPruner(4, n) for n in (5, 10, 20, 30)},
    **{f"lowest quarter, from epoch {n} on": PercentilePruner(75, 4, n) for n in (5, 10, 20)},
    **{
        f"halving by {factor}, from epoch {n} on": HalvingPruner(n, factor)
        for n in (5, 10, 20)
        for factor in (2, 4)
    },
}


class InOrder(Search):
    """Recorded trials, one after another, under a pruner of Optuna's."""

    def __init__(self, curves: list[Curve], pruner: BasePruner) -> None:
        self.left = list(curves)
        self.study = optuna.create_study(direction="maximize", pruner=pruner)

    def begin(self) -> tuple[optuna.Trial, Curve] | None:
        return (self.study.ask(), self.left.pop()) if self.left else None

    def report(self, trial: optuna.Trial, epoch: int, value: float) -> bool:
        trial.report(value, epoch)
        return trial.should_prune()

    def end(self, trial: optuna.Trial, best: float, stopped: bool) -> None:
        state = optuna.trial.TrialState.PRUNED if stopped else optuna.trial.TrialState.COMPLETE
        self.study.tell(trial, None if stopped else best, state)


def completed_curves(home: Path, study: str) -> dict[str, list[Curve]]:
    """The completed trials of each cell; an epoch counts as a second."""
    results = mgstudy.load_study(study, home)
    trials = results.trials()
    complete = trials.loc[trials["state"] == "complete", ["cell", "trial"]]
    curves = results.curves()
    rows = curves[curves["stage"] == Stage.SEARCH.value].merge(complete)
    cells: dict[str, list[Curve]] = {}
    for (cell, _trial), epochs in rows.groupby(["cell", "trial"]):
        values = epochs["value"].tolist()
        cells.setdefault(cell, []).append(Curve(values, [1.0] * len(values)))
    return cells


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--home", type=Path, required=True, help="the workspace of the study")
    arguments.add_argument("--study", required=True)
    arguments.add_argument("--orders", type=int, default=20, help="random orders of each cell")
    options = arguments.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    cells = completed_curves(options.home, options.study)
    print(
        f"{options.study}: {sum(map(len, cells.values()))} completed trials of {len(cells)} cells, "
        f"each cell in {options.orders} orders\n"
    )
    print("| pruner | best trial stopped | best of the finished | worst cell | epochs trained |")
    print("|---|---:|---:|---:|---:|", flush=True)
    for name, pruner in PRUNERS.items():
        lost, shares, kept = [], [], {}
        for cell, curves in cells.items():
            best, epochs = max(curve.best for curve in curves), sum(len(c.values) for c in curves)
            courses = [
                replay(InOrder(random.Random(order).sample(curves, len(curves)), pruner), best, 2)
                for order in range(options.orders)
            ]
            lost += [course.winner < best for course in courses]
            shares += [course.computed / epochs for course in courses]
            kept[cell] = statistics.mean(course.winner / best for course in courses)
        print(
            f"| {name} | {statistics.mean(lost):.0%} | {statistics.mean(kept.values()):.2%} | "
            f"{min(kept.values()):.2%} | {statistics.mean(shares):.0%} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
