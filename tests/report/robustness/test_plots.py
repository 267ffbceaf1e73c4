"""What is drawn of measurements, and which cells stand in one plot."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from states import summary_of

from mgstudy.config.study import DEFAULT_BASELINE
from mgstudy.report.figures import Drawing, Figure
from mgstudy.report.robustness.comparison import RobustnessTables
from mgstudy.report.robustness.plots import _figures, write_plots
from mgstudy.study.search.state import CellState

CELLS = {
    f"{model}/{gradient}": {"model": model, "gradient": gradient}
    for model in ("BPR", "VBPR")
    for gradient in ("plain", "mg")
}
SUMMARY = summary_of([CellState(key, levels, 1) for key, levels in CELLS.items()])


def curve(cell: str, split: str = "test", graph: str = "none", drop: float = 0.2) -> list[dict]:
    return [
        {
            **CELLS[cell],
            "cell": cell,
            "risk": "hiss",
            "graph": graph,
            "severity": severity,
            "recall@20": 0.4 - drop * severity,
            "low": 0.3 - drop * severity,
            "high": 0.5 - drop * severity,
            "reached": drop > 0 and severity > 0,
            "split": split,
        }
        for severity in (0.0, 1.0)
    ]


def figures(*curves: list[dict], **tables: Any) -> dict[str, Figure]:
    rows = pd.DataFrame([row for rows in curves for row in rows])
    measured = RobustnessTables(
        rows, pd.DataFrame(), tables.get("flatness", pd.DataFrame()), tables.get("landscapes", [])
    )
    drawing = Drawing(SUMMARY, DEFAULT_BASELINE, frozenset())
    return {f.name: f for f in _figures(measured, drawing, {"hiss": "gaussian_noise"}) if f.panels}


def test_scores_fall_with_severity_in_a_panel_for_each_model() -> None:
    (found,) = figures(curve("BPR/plain", drop=0.0), curve("VBPR/plain"), curve("VBPR/mg")).values()
    unreached, panel = found.panels
    assert unreached.title == "BPR (scores read no features)"
    assert panel.title == "VBPR"
    assert [series.label for series in panel.series] == ["plain", "mg"]
    assert list(panel.series[0].x) == [0, 1]
    assert list(panel.series[0].y) == pytest.approx([0.4, 0.2])
    assert panel.series[0].low == pytest.approx([0.3, 0.1])
    assert "on test against severity" in found.caption


def test_a_frozen_graph_is_dashed_and_left_out_where_scores_read_no_features() -> None:
    (found,) = figures(
        curve("VBPR/plain", graph="rebuilt"),
        curve("VBPR/plain", graph="frozen", drop=0.1),
        curve("VBPR/mg", graph="frozen", drop=0.0),
    ).values()
    assert [(series.label, series.dashed) for series in found.panels[0].series] == [
        ("plain, graph rebuilt", False),
        ("plain, graph frozen", True),
    ]


def test_a_plot_has_one_split() -> None:
    found = figures(curve("BPR/plain"), curve("BPR/mg", "validation"), curve("VBPR/plain"))
    assert list(found) == ["risk_hiss", "risk_hiss_validation"]
    on_validation = found["risk_hiss_validation"]
    assert "recall@20 on validation" in on_validation.caption
    assert [[series.label for series in panel.series] for panel in on_validation.panels] == [["mg"]]
    # Where nothing is confirmed, validation is what there is.
    assert list(figures(curve("BPR/plain", "validation"))) == ["risk_hiss"]


def flatness(means: Mapping[str, float]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {**CELLS[key], "cell": key, "measure": "gradient_norm", "mean": mean, "deviation": d}
            for (key, mean), d in zip(means.items(), (0.5, float("nan")), strict=True)
        ]
    )


def test_flatness_is_a_dot_with_the_deviation_of_its_replicates() -> None:
    (found,) = figures(flatness=flatness({"BPR/plain": 2.0, "VBPR/mg": 3.0})).values()
    (panel,) = found.panels
    assert list(panel.categories) == ["BPR", "VBPR"]
    plain, mirrored = panel.series
    assert (plain.x, plain.y, plain.low, plain.high) == ([2.0], ["BPR"], [1.5], [2.5])
    # One replicate has no deviation.
    assert (mirrored.low, mirrored.high) == ([3.0], [3.0])
    assert not panel.x_is_logarithmic
    (found,) = figures(flatness=flatness({"BPR/plain": 2.0, "VBPR/mg": 70.0})).values()
    assert found.panels[0].x_is_logarithmic


def test_slices_of_the_loss_rise_from_its_value_at_the_weights(tmp_path: Path) -> None:
    def landscape(cell: str, height: float) -> dict[str, Any]:
        line = {"coordinates": [-1, 0, 1], "losses": [height, 0.5, height]}
        square = [[height] * 3, [height, 0.5, height], [height] * 3]
        return {
            **CELLS[cell],
            "cell": cell,
            "line": line,
            "square": {"coordinates": [-1, 0, 1], "losses": square},
        }

    # Two replicates of a cell are two lines.
    landscapes = [landscape("BPR/plain", 1.5), landscape("BPR/plain", 1.0), landscape("BPR/mg", 3)]
    found = figures(landscapes=landscapes)
    (panel,) = found["landscape_line"].panels
    assert [series.label for series in panel.series] == [
        "plain (loss 0.5)",
        "plain (loss 0.5)",
        "mg (loss 0.5)",
    ]
    assert list(panel.series[0].y) == [1.0, 0.0, 1.0]
    surfaces = [panel.surface for panel in found["landscape_square"].panels]
    assert [surface.limits for surface in surfaces if surface] == [(0, 2.5)] * 3
    tables = RobustnessTables(pd.DataFrame(), pd.DataFrame(), pd.DataFrame(), landscapes)
    written = write_plots(tables, SUMMARY, tmp_path / "plots", {})
    assert sorted(path.name for path in written) == [
        "landscape_line.png",
        "landscape_line.svg",
        "landscape_square.png",
        "landscape_square.svg",
    ]
    assert all(path.stat().st_size > 1000 for path in written)
