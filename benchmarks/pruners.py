"""How often a pruner would have stopped what was to win, in a study that is finished.

    python benchmarks/pruners.py --home WORKSPACE --study tiktok
    python benchmarks/pruners.py --curves FILE  # of search.py --curves

The completed trials of each cell, or those of a grid, are replayed in random orders, two at a time,
under one pruner after another. A study's completed trials are those that its own pruner let pass:
what every pruner stops is not among them, so a pruner loses more, and saves less, than it would in
a whole search. A grid's are all.

Printed, over all cells and orders: how often the best trial was stopped, the best of those that ran
to their end over the best of all, and the share of the epochs that was trained.
"""

from __future__ import annotations

import argparse
import random
import statistics
from pathlib import Path

import optuna
from optuna.pruners import BasePruner, MedianPruner, NopPruner, PatientPruner
from optuna.pruners import SuccessiveHalvingPruner as HalvingPruner
from search_replay import Curve, OptunaStudy, Recorded, replay

import mgstudy
from mgstudy.study.search.trials import Stage

PRUNERS: dict[str, BasePruner] = {
    "none": NopPruner(),
    **{f"median, from epoch {n} on": MedianPruner(4, n) for n in (10, 20, 30)},
    **{
        f"median, from epoch {n} on, patience {patience}": PatientPruner(
            MedianPruner(4, n), patience
        )
        for patience in (0, 1, 3)
        for n in (10, 20)
    },
    **{
        f"halving by {factor}, from epoch {n} on": HalvingPruner(n, factor)
        for factor in (2, 4)
        for n in (10, 20)
    },
}


class InOrder(OptunaStudy):
    """Recorded trials, one after another, under a pruner of Optuna's."""

    def __init__(self, curves: list[Curve], pruner: BasePruner) -> None:
        super().__init__(optuna.create_study(direction="maximize", pruner=pruner))
        self.left = list(curves)

    def begin(self) -> tuple[optuna.Trial, Curve] | None:
        return (self.study.ask(), self.left.pop()) if self.left else None


def completed_curves(home: Path | None, study: str) -> dict[str, list[Curve]]:
    """The completed trials of each cell."""
    results = mgstudy.load_study(study, home)
    trials = results.trials()
    complete = trials.loc[trials["state"] == "complete", ["cell", "trial"]]
    curves = results.curves()
    rows = curves[curves["stage"] == Stage.SEARCH.value].merge(complete)
    cells: dict[str, list[Curve]] = {}
    for (cell, _trial), epochs in rows.groupby(["cell", "trial"]):
        cells.setdefault(str(cell), []).append(timed(epochs["value"].tolist()))
    return cells


def timed(values: list[float]) -> Curve:
    """A training whose epochs count as a second each."""
    return Curve(values, [1.0] * len(values))


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    what = arguments.add_mutually_exclusive_group(required=True)
    what.add_argument("--study", help="a finished study")
    what.add_argument("--curves", type=Path, help="what search.py --curves wrote")
    arguments.add_argument("--home", type=Path, help="the workspace of the study")
    arguments.add_argument("--orders", type=int, default=20, help="random orders of each cell")
    options = arguments.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    if options.curves is None:
        cells = completed_curves(options.home, options.study)
    else:
        recorded = Recorded.read(options.curves)
        cells = {recorded.task.model: [timed(c.values) for c in recorded.curves.values()]}
    print(
        f"{options.study or options.curves.name}: {sum(map(len, cells.values()))} completed trials "
        f"of {len(cells)} cells, each cell in {options.orders} orders\n"
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
