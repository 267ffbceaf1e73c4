"""What a search for several objectives has found: its trials, and the front of those that no other
beats in all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from mgstudy.report.figures import Drawing, Figure, Look, Panel, Series
from mgstudy.study.search.state import CellState


def fronts(drawing: Drawing) -> Figure | None:
    """The completed trials of each cell by its first objective and each of the others, with a line
    through those that are on the front; ``None`` where one objective is searched for."""
    first, *others = drawing.summary.manifest.config.training.objectives
    looks = drawing.looks()
    panels = []
    for other in others:
        for title, cells in drawing.panels():
            series = [
                entry
                for cell in cells
                for entry in _series(cell, looks[drawing.label(cell)], first, other)
            ]
            if series:
                panels.append(
                    Panel(
                        title=title,
                        x_label=f"{first} on validation",
                        y_label=f"{other} on validation",
                        description=f"Completed trials by {first} and {other}, {title}.",
                        series=series,
                    )
                )
    if not panels:
        return None
    return Figure(
        "fronts",
        f"A dot is a completed trial at its best epoch by {first}. A line joins those that no "
        "other trial of the cell equals or beats in both: the front of what can be had together.",
        panels,
        tuple(looks.values()),
    )


def _series(cell: CellState, look: Look, first: str, other: str) -> Iterator[Series]:
    measured = [(t.number, t.outcome.get("best_metrics") or {}) for t in cell.trials]
    points = [
        (float(metrics[first]), float(metrics[other]), number)
        for number, metrics in measured
        if metrics.get(first) is not None and metrics.get(other) is not None
    ]
    if not points:
        return
    hover = [f"trial {n}: {first} {x:.4f}, {other} {y:.4f}" for x, y, n in points]
    yield Series(look, [x for x, *_ in points], [y for _, y, _ in points], hover=hover)
    best = front([(x, y) for x, y, _ in points])
    if len(best) > 1:
        yield Series(look, [x for x, _ in best], [y for _, y in best], shape="line")


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Those points that no other equals or beats in both, from the largest first value on."""
    kept: list[tuple[float, float]] = []
    for x, y in sorted(set(points), reverse=True):
        if not kept or y > kept[-1][1]:
            kept.append((x, y))
    return kept
