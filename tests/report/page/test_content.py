from __future__ import annotations

import json
import statistics
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from states import recorded, summary_of

from mgstudy import api
from mgstudy.report.figures import Figure, Panel
from mgstudy.report.page.report import ReportContent, render, report_content
from mgstudy.report.page.tables import costs
from mgstudy.report.results import StudyResults
from mgstudy.report.table import Table
from mgstudy.study.results.summary import summarize
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import State
from mgstudy.workspace import Workspace

PREFIX = "gradient.mirror_gradient."


@pytest.fixture(scope="module")
def workspace(record, some) -> Workspace:
    return record(some)


@pytest.fixture(scope="module")
def content(workspace: Workspace) -> ReportContent:
    return report_content(StudyResults.load(workspace, "s").summary)


def parts(content: ReportContent, section: str) -> list[Figure | Table]:
    (found,) = [entry for entry in content.sections if entry.name == section]
    return list(found.parts)


def panel(figure: Figure | Table, title: str) -> Panel:
    assert isinstance(figure, Figure)
    (found,) = [entry for entry in figure.panels if entry.title == title]
    return found


def column(table: Figure | Table, title: str) -> list[str]:
    assert isinstance(table, Table)
    place = list(table.titles).index(title)
    return [row[place] for row in table.rows]


def test_the_search_alone_gives_no_verdict(content: ReportContent) -> None:
    assert content.verdict[0].startswith("There is no verdict yet")
    assert [sentence[:31] for sentence in content.missing] == ["No confirmation was asked for ("]
    assert dict(content.facts)["trials"] == "48 complete, 4 pruned, 4 failed"


def test_strengths_are_drawn_against_the_baselines_best(
    workspace: Workspace, content: ReportContent
) -> None:
    figure = parts(content, "strengths")[0]
    interval = panel(figure, "BPR: interval")
    plain, mirrored = summarize(workspace, "s").cells[:2]
    assert plain.best is not None
    assert interval.reference == (plain.best.value, "best plain")
    dots, medians = interval.series
    by_interval: dict[float, list[float]] = {}
    for trial in mirrored.trials:
        if trial.value is not None:
            by_interval.setdefault(trial.parameters[f"{PREFIX}interval"], []).append(trial.value)
    assert sorted(zip(dots.x, dots.y, strict=True)) == sorted(
        (x, y) for x, values in by_interval.items() for y in values
    )
    assert list(medians.x) == sorted(by_interval)
    assert list(medians.y) == [statistics.median(by_interval[x]) for x in sorted(by_interval)]
    # Every value of a continuous strength is another: no median.
    assert len(panel(figure, "BPR: alpha2").series) == 1
    assert isinstance(figure, Figure)
    assert [look.label for look in figure.legend] == ["mirror_gradient"]


def test_a_surface_through_a_plane_is_that_plane(content: ReportContent) -> None:
    surface = panel(parts(content, "strengths")[1], "BPR, mirror_gradient").surface
    assert surface is not None
    expected = 0.2 + 0.02 * surface.x[None, :] + 0.1 * surface.y[:, None]
    known = ~np.isnan(surface.z)
    assert known.sum() > 0.3 * known.size
    np.testing.assert_allclose(surface.z[known], expected[known], rtol=1e-9)


def test_learning_curves_are_those_of_the_best_trials(
    workspace: Workspace, content: ReportContent
) -> None:
    curve = panel(parts(content, "curves")[0], "LightGCN")
    cells = [c for c in summarize(workspace, "s").cells if c.levels["model"] == "LightGCN"]
    assert [series.look.label for series in curve.series] == ["plain", "mirror_gradient"]
    for series, cell in zip(curve.series, cells, strict=True):
        assert cell.best is not None and cell.best.value is not None
        assert list(series.x) == [1, 2, 3]
        assert list(series.y) == [cell.best.value / 2, cell.best.value, cell.best.value / 3]


def test_importance_is_a_table_and_a_command(
    workspace: Workspace, printed: Callable[..., str]
) -> None:
    frame = StudyResults.load(workspace, "s").importance()
    assert frame.columns[0] == "cell" and [*frame.columns[-2:]] == ["parameter", "importance"]
    assert frame.groupby("cell")["importance"].sum().to_numpy() == pytest.approx(1.0)
    told = json.loads(printed("importance", "s", "--home", workspace.home, "--json"))
    assert told == frame.to_dict("records")
    assert "learning_rate" in printed("importance", "s", "--home", workspace.home)


def test_a_parameter_that_alone_decides_has_all_the_importance(content: ReportContent) -> None:
    table = parts(content, "importance")[0]
    plain = [row for row in range(4) if column(table, "gradient")[row] == "plain"]
    shares = column(table, "learning_rate")
    assert all(int(shares[row].rstrip("%")) > 80 for row in plain)
    for row in set(range(4)) - set(plain):
        assert int(shares[row].rstrip("%")) < 30
    assert isinstance(table, Table)
    for cells in table.rows:
        shares = [text for place, text in enumerate(cells) if text and not table.is_text(place)]
        assert sum(int(text.rstrip("%")) for text in shares) in range(98, 103)


def test_ends_and_their_reasons_are_counted(content: ReportContent) -> None:
    outcomes, failures, endings = parts(content, "trials")
    assert column(outcomes, "complete") == ["12"] * 4
    assert column(outcomes, "pruned share") == ["7%"] * 4
    assert column(failures, "reason") == ["training diverged"] * 4
    assert column(failures, "trials") == ["0"] * 4
    assert column(endings, "trials") == ["48"]


def test_costs_add_up(content: ReportContent) -> None:
    (table,) = parts(content, "cost")
    # 12 completed trials of 1 + 5 + 2 seconds, or 1 + 7 + 2 with Mirror Gradient.
    assert column(table, "training") == ["1 min 0 s", "1 min 24 s"] * 2
    assert column(table, "processor time") == ["1 min 36 s", "2 min 0 s"] * 2
    # A pruned and a failed trial made an epoch each, whose computations nobody told of.
    assert column(table, "epochs") == ["38"] * 4
    assert column(table, "gradient computations") == ["360", "540"] * 2
    assert column(table, "per epoch vs baseline") == ["", "× 1.50"] * 2
    assert "GPU time" not in table.titles


def test_gpu_time_is_of_the_shares_held() -> None:
    def cell(gradient: str, *gpu_seconds: float) -> CellState:
        trials = [
            recorded(n, State.PRUNED, None, {"gpu_seconds": seconds})
            for n, seconds in enumerate(gpu_seconds)
        ]
        trials.append(recorded(9, State.FAILED, None, {"reason": "it broke"}))
        return CellState(gradient, {"model": "BPR", "gradient": gradient}, 4, frozenset(), trials)

    cells = [cell("plain", 1800.0, 900.0), cell("sam")]
    summary = summary_of(cells)
    assert column(costs(summary, 1.0), "GPU time") == ["45 min 0 s", "0 s"]


def test_the_appendix_has_the_winners_parameters_and_the_datasets(
    workspace: Workspace, prepared: Path
) -> None:
    summary = StudyResults.load(workspace, "s").summary
    content = report_content(summary, workspace)
    winners, datasets = parts(content, "appendix")
    assert isinstance(datasets, Table)
    best = summary.cells[1].best
    assert best is not None
    rate = f"{best.parameters['optimizer.learning_rate']:.3g}"
    assert column(winners, "learning_rate")[1] == rate
    assert column(winners, "alpha2")[0] == "", "a cell without a parameter has no value"
    assert column(datasets, "items") == ["40"]
    assert content.commands[0].startswith("mgstudy prepare tiny-pipeline.yaml ")
    assert "kind: synthetic" in content.pipelines["tiny"]
    # What the reader is given makes the same dataset.
    again = prepared / "again.yaml"
    again.write_text(content.pipelines["tiny"])
    assert api.prepare(again, home=prepared).interactions.key == (
        summary.manifest.datasets["tiny"].interactions
    )


def test_each_baseline_that_is_asked_for_has_a_section(workspace: Workspace) -> None:
    summary = StudyResults.load(workspace, "s").summary
    asked = [{"gradient": "plain"}, {"model": "BPR"}]
    content = report_content(summary, baselines=asked)
    (second,) = [entry for entry in content.sections if entry.name == "comparison-2"]
    assert second.title == "Comparison with model=BPR"
    (table,) = [part for part in second.parts if isinstance(part, Table)]
    assert "vs BPR" in table.titles
    assert len(content.verdict) == 1, "that there is no verdict yet is said once"
    render(content)


def test_provenance_names_seeds_revision_and_data(content: ReportContent) -> None:
    found = dict(content.provenance)
    assert found["study seed"] == "999"
    assert found["training seeds"] == "999"
    assert len(found["dataset tiny, interactions"]) >= 16
    assert {"git revision", "torch", "optuna", "processor"} <= set(found)
    assert "alpha2" in content.configuration


ONE_CELL = """\
name: s
factors: {dataset: [tiny], model: [BPR]}
trials: 2
confirmation: {seeds: 0}
"""
NO_BASELINE = """\
name: s
factors: {dataset: [tiny], model: [BPR], gradient: [sam, asam]}
trials: 2
confirmation: {seeds: 0}
"""


def test_one_cell_has_nothing_to_be_compared_with(record, complete) -> None:
    content = report_content(StudyResults.load(record(complete, ONE_CELL, "one"), "one").summary)
    assert any("one cell" in sentence for sentence in content.missing)
    assert parts(content, "strengths") == []
    assert parts(content, "importance") == []
    assert len(parts(content, "curves")) == 1


def test_a_missing_baseline_is_said(record, complete) -> None:
    content = report_content(
        StudyResults.load(record(complete, NO_BASELINE, "none"), "none").summary
    )
    assert content.missing[1:] == ["No cell has the baseline's levels (gradient=plain)."]


def test_a_study_without_a_completed_trial_says_so(record) -> None:
    broken = record(lambda trial: {"reason": "out of [memory]"}, NO_BASELINE, "broken")
    content = report_content(StudyResults.load(broken, "broken").summary)
    assert any(sentence.startswith("Without a completed trial") for sentence in content.missing)
    assert parts(content, "curves") == []
    assert column(parts(content, "trials")[1], "count") == ["2", "2"]


def test_an_interrupted_study_says_what_is_left(record, complete) -> None:
    begun = record(
        lambda trial: complete(trial) if trial.number == 0 else None, NO_BASELINE, "begun"
    )
    content = report_content(StudyResults.load(begun, "begun").summary)
    assert content.missing[0].startswith("2 trials have not ended")
    assert dict(content.facts)["state"] == "not finished"
