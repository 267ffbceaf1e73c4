"""Published figures, shipped with their source, beside a study's own."""

from __future__ import annotations

import csv
import importlib.resources
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from mgstudy.report.comparison.studies import Comparison
from mgstudy.report.table import Table, percent, score
from mgstudy.study.definition.manifest import CellEntry

CAVEAT = (
    "Published figures come from one seed and from the configuration that was best on the test "
    "split itself; ours are means over seeds of the configuration that was best on validation."
)


@dataclass(frozen=True)
class Published:
    """One published figure: a metric on the test split.

    Attributes:
        dataset: ``baby``, ``sports`` or ``elec``, as the reference repositories call them.
        model: The model's name.
        gradient: ``plain``, or ``mirror_gradient`` as published (loss-scaled).
        metric: For example ``recall@20``.
        value: Rounded to four decimals by its authors.
        source: Where it stands.
    """

    dataset: str
    model: str
    gradient: str
    metric: str
    value: float
    source: str


def published_figures() -> list[Published]:
    """Every figure that is shipped."""
    file = importlib.resources.files("mgstudy.report.comparison").joinpath("published.csv")
    return [
        Published(**{**row, "value": float(row["value"])})  # type: ignore[arg-type]
        for row in csv.DictReader(file.read_text(encoding="utf-8").splitlines())
    ]


def against_published(comparison: Comparison) -> pd.DataFrame:
    """A row for each of our cells and metrics that has a published figure.

    A cell has one if its model has, its features are the prepared ones, it uses no robust method,
    its gradient strategy is ``plain`` or Mirror Gradient that may be loss-scaled, and a word of its
    dataset's name is the published one's
    (``baby`` in ``amazon_baby``).

    Returns:
        Columns ``study``, ``cell``, ``dataset``, ``model``, ``gradient``, ``metric``, ``mean``,
        ``low``, ``high``, ``published``, ``difference``, ``relative_difference`` and ``source``;
        no rows where nothing is published.
    """
    figures: dict[tuple[str, str, str, str], list[Published]] = {}
    for figure in published_figures():
        key = (figure.dataset, figure.model, figure.gradient, figure.metric)
        figures.setdefault(key, []).append(figure)
    entries = {
        (study.name, entry.key): entry
        for study in comparison.studies
        for entry in study.manifest.cells
        if entry.levels["dataset"] not in study.changed_datasets
    }
    rows = []
    for row in comparison.table.to_dict("records"):
        entry = entries.get((row["study"], row["cell"]))
        gradient = None if entry is None else _published_gradient(entry)
        if gradient is None:
            continue
        for word in re.split(r"[^a-z0-9]+", row["dataset"].lower()):
            key = (word, row["model"], gradient, row["metric"])
            rows += [_row(row, figure) for figure in figures.get(key, [])]
    return pd.DataFrame(rows, columns=_COLUMNS)


def published_table(found: pd.DataFrame) -> Table:
    """Our figures beside published ones; without rows where nothing is published.

    Args:
        found: What ``against_published`` returns.
    """
    levels = ["dataset", "model", "gradient", "metric"]
    titles = [*levels, "ours", "published", "difference", "source"]
    rows = [
        [
            *(str(row[name]) for name in levels),
            score(row["mean"], row["low"], row["high"]),
            score(row["published"]),
            percent(row["relative_difference"]),
            row["source"],
        ]
        for row in found.to_dict("records")
    ]
    return Table(titles, rows, levels, CAVEAT, notes=("source",))


def nothing_published(comparison: Comparison) -> str:
    """That nothing is published for these cells."""
    datasets = sorted({cell.levels["dataset"] for s in comparison.studies for cell in s.cells})
    return (
        f"No published figures for the cells on {', '.join(datasets)}: those that are shipped are "
        "of Amazon Baby, Sports and Elec, for models with or without Mirror Gradient alone."
    )


_COLUMNS = [
    "study", "cell", "dataset", "model", "gradient", "metric", "mean", "low", "high",
    "published", "difference", "relative_difference", "source",
]  # fmt: skip


def _row(row: Mapping[Any, Any], figure: Published) -> dict[str, Any]:
    taken = ("study", "cell", "dataset", "model", "gradient", "metric", "mean", "low", "high")
    return {
        **{name: row[name] for name in taken},
        "published": figure.value,
        "difference": row["mean"] - figure.value,
        "relative_difference": row["mean"] / figure.value - 1,
        "source": figure.source,
    }


def _published_gradient(entry: CellEntry) -> str | None:
    """Which published strategy the cell is, by the parameters it has; ``None`` if neither."""
    spaces = entry.spaces
    if entry.levels["robust"] != "none":
        return None
    strategies = {name.split(".")[1] for name in spaces if name.startswith("gradient.")}
    if not strategies:
        return "plain" if entry.levels["gradient"] == "plain" else None
    is_mirror = strategies == {"mirror_gradient"}
    variant = spaces.get("gradient.mirror_gradient.variant")
    return "mirror_gradient" if is_mirror and variant != "update_scaled" else None
