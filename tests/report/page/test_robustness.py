"""Accuracy against robustness in the report, from tables that the product's own writer wrote."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import pytest

from mgstudy import api
from mgstudy.config.robustness import Robustness
from mgstudy.config.study import DEFAULT_BASELINE
from mgstudy.report.figures import Figure
from mgstudy.report.page.report import ReportContent, render, report_content
from mgstudy.report.results import StudyResults
from mgstudy.report.robustness.comparison import RobustnessTables, _summary
from mgstudy.report.robustness.formats import write_tables
from mgstudy.report.robustness.scores import CellScores
from mgstudy.report.table import Table
from mgstudy.study.results.summary import summarize
from mgstudy.study.robustness.plan import RobustnessPlan
from mgstudy.study.robustness.results import RobustnessResults
from mgstudy.study.search.rounds import baseline_of
from mgstudy.study.search.state import CellState
from mgstudy.workspace import Workspace

CLEAN = {"plain": 0.4, "mirror_gradient": 0.5}
# At the only severity: a trapezoid from no drop has half the drop as its area.
NOISY = {"plain": 0.2, "mirror_gradient": 0.45}
AREA = {"plain": 25.0, "mirror_gradient": 5.0}


def measured(cell: CellState, split: str) -> list[dict]:
    gradient = cell.levels["gradient"]
    common = {"cell": cell.key, "replicate": 0, "split": split, "users": 30}
    common |= {"objective": "recall@20", "reached": True}
    risk = {"risk": "feature_noise", "graph": "none", "severity": 1.0, "risk_seed": 0}
    return [
        {
            "kind": kind,
            **common,
            "metrics": {"recall@20": value},
            "resampled": [value] * 20,
            **more,
        }
        for kind, value, more in (
            ("clean", CLEAN[gradient], {}),
            ("risk", NOISY[gradient], risk),
        )
    ]


def write_robustness(
    workspace: Workspace, study: str, splits: tuple[str, str, str] = ("test",) * 3
) -> None:
    summary = summarize(workspace, study)
    # A cell that was never measured is in no table.
    some = zip(summary.cells, splits, strict=False)
    of_cells = {cell.key: measured(cell, split) for cell, split in some}
    scores = {key: CellScores(key, found) for key, found in of_cells.items()}
    levels = {cell.key: cell.levels for cell in summary.cells}
    others = [(cell, baseline_of(cell, summary.cells, DEFAULT_BASELINE)) for cell in summary.cells]
    baselines = {cell.key: other.key for cell, other in others if other is not None}
    table = _summary(scores, levels, baselines)
    read = api.read_study(workspace.home / "study.yaml", [f"name={study}"], workspace.home)
    results = RobustnessResults(read.folder)
    results.path.mkdir(parents=True)
    tables = RobustnessTables(pd.DataFrame(), table, pd.DataFrame(), [])
    write_tables(tables, RobustnessPlan(read, summary, Robustness(), ()), results)


@pytest.fixture(scope="module")
def record_short(record, complete) -> Callable[[str], Workspace]:
    """Record a study of one trial a cell."""
    return lambda name: record(complete, name=name, overrides=["trials=1"])


@pytest.fixture(scope="module")
def content(record_short) -> ReportContent:
    workspace = record_short("risky")
    write_robustness(workspace, "risky")
    return report_content(StudyResults.load(workspace, "risky").summary)


def test_measured_cells_are_drawn_by_score_and_area(content: ReportContent) -> None:
    (section,) = [entry for entry in content.sections if entry.name == "robustness"]
    figure, table = section.parts
    assert isinstance(figure, Figure) and isinstance(table, Table)
    (panel,) = figure.panels
    assert panel.title == "feature noise"
    assert [series.look.label for series in panel.series] == ["plain", "mirror_gradient"]
    plain, mirrored = panel.series
    assert list(plain.x) == [0.4, 0.4]
    assert list(plain.y) == pytest.approx([AREA["plain"]] * 2)
    assert list(mirrored.x) == [0.5]
    assert list(mirrored.y) == pytest.approx([AREA["mirror_gradient"]])
    assert plain.hover[1] == "LightGCN, plain<br>clean 0.4000, area +25.0%"
    assert table.titles == ["model", "gradient", "clean", "feature noise"]
    assert table.rows == [
        ["BPR", "plain", "0.4000", "+25.0%"],
        ["BPR", "mirror_gradient", "0.5000", "+5.0%"],
        ["LightGCN", "plain", "0.4000", "+25.0%"],
    ]


def test_the_plot_is_in_the_page(content: ReportContent) -> None:
    document = render(content)
    assert 'id="plot-robustness-1"' in document
    assert "No risk was measured" not in document


def test_without_measurements_the_section_says_what_to_type(record_short) -> None:
    content = report_content(StudyResults.load(record_short("clean"), "clean").summary)
    (section,) = [entry for entry in content.sections if entry.name == "robustness"]
    assert not section.parts
    assert "`mgstudy robustness clean`" in section.absent


def test_cells_on_another_split_are_not_drawn_beside_the_others(record_short) -> None:
    workspace = record_short("mixed")
    write_robustness(workspace, "mixed", splits=("test", "validation", "test"))
    content = report_content(StudyResults.load(workspace, "mixed").summary)
    (section,) = [entry for entry in content.sections if entry.name == "robustness"]
    figure, table = section.parts
    assert isinstance(figure, Figure) and isinstance(table, Table)
    assert [row[:2] for row in table.rows] == [["BPR", "plain"], ["LightGCN", "plain"]]
    assert figure.panels[0].x_label == "recall@20 on test, clean"
    assert [len(series.x) for series in figure.panels[0].series] == [2]
    assert "on the test split; cells without a model confirmed there are left out" in figure.caption
