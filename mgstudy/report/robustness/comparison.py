"""How robust a study's models are: tables with confidence bands, from its measurements."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from mgstudy.config.robustness import FLATNESS_MEASURES
from mgstudy.report.robustness.scores import CellScores, interval, significance
from mgstudy.significance import ALPHA, holm
from mgstudy.statistics import t_test_p
from mgstudy.study.search.rounds import baseline_of

if TYPE_CHECKING:
    from mgstudy.study.robustness.plan import RobustnessPlan
    from mgstudy.study.robustness.results import RobustnessResults


@dataclass(frozen=True)
class RobustnessTables:
    """What was measured, one row for each thing that a person may ask about.

    Attributes:
        curves: The objective against severity: for each cell, risk, graph and severity the mean
            over users, replicates and the risk's seeds, the relative drop from the clean score, and
            95 % bootstrap intervals of both (``_low``, ``_high``).
        summary: For each cell, risk and graph the drop at the highest severity, the area under the
            drop curve over the length of the axis, and its difference from the cell's baseline;
            none where the baseline was measured on another split, other users, or other severities.
        flatness: For each cell and measure of flatness the mean and standard deviation over the
            replicates, and the ratio to the cell's baseline.
        landscapes: Slices of the loss, as they were measured.
    """

    curves: pd.DataFrame
    summary: pd.DataFrame
    flatness: pd.DataFrame
    landscapes: list[dict[str, Any]]


def robustness_tables(plan: RobustnessPlan, results: RobustnessResults) -> RobustnessTables:
    """Compute the tables from what has been measured so far.

    Bands are a bootstrap over users and seeds: sample b draws users, the same for everything, then
    replicates of the model, then the risk's seeds. The drop is measured against the clean score of
    the same users and replicates. p-values are two-sided: of Student's t over the bootstrap's
    standard error for areas, of Welch's t test over replicates for flatness; and Holm's within each
    table, since every cell and risk is one more chance to be surprised. A difference counts as
    significant below 0.05.
    """
    measured = measurements(plan, results)
    levels = {cell.key: dict(cell.levels) for cell in plan.summary.cells}
    cells, baseline = plan.summary.cells, plan.summary.baselines[0]
    found = ((cell.key, baseline_of(cell, cells, baseline)) for cell in cells)
    baselines = {key: other.key for key, other in found if other is not None}
    scores = {key: CellScores(key, [m for m in measured if m["cell"] == key]) for key in levels}
    rows = [
        {**levels[key], **row}
        for key, cell in scores.items()
        if cell.replicates
        for row in cell.curves()
    ]
    return RobustnessTables(
        curves=pd.DataFrame(rows),
        summary=_summary(scores, levels, baselines),
        flatness=_flatness(measured, levels, baselines),
        landscapes=[
            {
                # A measurement's "model" is its trial, a level's is an architecture.
                **levels[found["cell"]],
                "cell": found["cell"],
                "trial": found["model"],
                **{name: found[name] for name in ("line", "square") if name in found},
            }
            for found in measured
            if found["kind"] == "landscape"
        ],
    )


def measurements(plan: RobustnessPlan, results: RobustnessResults) -> list[dict[str, Any]]:
    """What has been measured so far of what the plan asks for."""
    done = results.read()
    return [
        measurement
        for trained in plan.trained
        for task in plan.tasks(trained)
        for measurement in done.get(task.key, [])
    ]


def main_split(table: pd.DataFrame) -> str:
    """The split of a table's cells that are confirmed, if any is: test before validation."""
    return "test" if (table["split"] == "test").any() else "validation"


def _summary(
    scores: Mapping[str, CellScores],
    levels: Mapping[str, Mapping[str, str]],
    baselines: Mapping[str, str],
) -> pd.DataFrame:
    rows = []
    for key, cell in scores.items():
        for risk, graph in cell.points:
            area = cell.area(risk, graph)
            low, high = interval(area.samples)
            row: dict[str, Any] = {
                **levels[key],
                "cell": key,
                "split": cell.split,
                "users": cell.users,
                "risk": risk,
                "graph": graph,
                "reached": area.reached,
                "clean": cell.clean,
                "severity": area.severity,
                "drop": area.drop,
                "area": area.mean,
                "area_low": low,
                "area_high": high,
                "difference": math.nan,
                "difference_low": math.nan,
                "difference_high": math.nan,
                "p": math.nan,
            }
            other = scores.get(baselines.get(key, ""))
            if other is not None and cell.is_comparable(other, risk, graph):
                area_of_other = other.area(risk, graph)
                row["difference"] = area.mean - area_of_other.mean
                tested = significance(
                    row["difference"],
                    area.samples - area_of_other.samples,
                    len(cell.replicates) + len(other.replicates) - 2,
                )
                row["difference_low"], row["difference_high"] = tested.low, tested.high
                row["p"] = tested.p
            rows.append(row)
    return _with_holm(pd.DataFrame(rows))


def _flatness(
    measured: Iterable[Mapping[str, Any]],
    levels: Mapping[str, Mapping[str, str]],
    baselines: Mapping[str, str],
) -> pd.DataFrame:
    values: dict[tuple[str, str], list[float]] = {}
    for found in measured:
        for name in FLATNESS_MEASURES if found["kind"] == "flatness" else ():
            if name in found:
                values.setdefault((found["cell"], name), []).append(float(found[name]))
    rows = []
    for (key, name), of_replicates in values.items():
        mean, several = float(np.mean(of_replicates)), len(of_replicates) > 1
        others = values.get((baselines.get(key, ""), name), [])
        reference = float(np.mean(others)) if others else math.nan
        rows.append(
            {
                **levels[key],
                "cell": key,
                "measure": name,
                "mean": mean,
                "deviation": float(np.std(of_replicates, ddof=1)) if several else math.nan,
                "replicates": len(of_replicates),
                "ratio": mean / reference if reference else math.nan,
                "p": _welch_p(of_replicates, others),
            }
        )
    return _with_holm(pd.DataFrame(rows))


def _with_holm(table: pd.DataFrame) -> pd.DataFrame:
    if not table.empty:
        table["p_holm"] = holm(table["p"].tolist())
        table["significant"] = table["p_holm"] < ALPHA
    return table


def _welch_p(left: Sequence[float], right: Sequence[float]) -> float:
    return math.nan if min(len(left), len(right)) < 2 else t_test_p(left, right, paired=False)
