"""Tables of the report, of cells made by hand."""

from __future__ import annotations

from io import StringIO

import pandas as pd
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial
from rich.console import Console
from states import recorded, summary_of

from mgstudy.report.console.status import print_status
from mgstudy.report.console.studies import study_content
from mgstudy.report.figures import Drawing, Figure
from mgstudy.report.page.report import render, report_content
from mgstudy.report.page.scores import accuracy_against_robustness
from mgstudy.report.page.tables import importances, winners
from mgstudy.report.results import StudyResults
from mgstudy.report.table import Table
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import State

LEVELS = {"dataset": "a", "model": "FREEDOM", "gradient": "plain", "robust": "r_drop"}


def searched(*names: str, trials: int = 8, **levels: str) -> CellState:
    """A cell that searched these parameters: the first decides the score, the last is 0.9 less
    it."""
    found = []
    for number in range(trials):
        values = dict.fromkeys(names, number / 10) | {names[-1]: 0.9 - number / 10}
        values |= {names[0]: number / 10}
        frozen = create_trial(
            params=values,
            distributions=dict.fromkeys(names, FloatDistribution(0.0, 1.0)),
            value=number / 10,
        )
        found.append(
            recorded(
                number, State.COMPLETE, number / 10, values={1: number / 10},
                parameters=values, frozen=frozen,
            )
        )  # fmt: skip
    of = LEVELS | levels
    return CellState("/".join(of.values()), of, trials, frozenset(names), found)


def test_two_parameters_of_one_short_name_have_a_column_each() -> None:
    names = ("model.FREEDOM.dropout", "robust.r_drop.dropout")
    summary = summary_of(
        [searched("optimizer.learning_rate", *names), searched(*names, gradient="sam")]
    )
    table = winners(summary)
    assert table is not None
    assert list(table.titles[-3:]) == ["learning_rate", *names]
    assert list(table.rows[1][-3:]) == ["", "0.7", "0.2"]
    shares = importances(summary)
    assert shares is not None
    assert list(shares.titles[-3:]) == ["learning_rate", *names]
    said = [sum(int(text.rstrip("%")) for text in row[1:] if text) for row in shares.rows]
    assert said == pytest.approx([100, 100], abs=2)
    text = StringIO()
    print_status(summary, Console(file=text, width=250))
    assert "model.FREEDOM.dropout=0.7, robust.r_drop.dropout=0.2" in text.getvalue()


@pytest.fixture(params=[True, False])
def uneven(request: pytest.FixtureRequest) -> StudySummary:
    """A study whose earlier launch lacked a factor of the last one, or had one more."""
    had = searched("model.dropout", gradient="sam", completion="mean")
    lacks = searched("model.dropout", gradient="sam", model="BPR")
    plain = searched("model.dropout", completion="mean")
    cells = [plain, had, lacks] if request.param else [lacks, plain, had]
    return summary_of(cells)


def test_cells_of_other_factors_are_shown_together(uneven: StudySummary) -> None:
    text = StringIO()
    print_status(uneven, Console(file=text, width=250))
    assert text.getvalue().count("dropout=0.7") == 3
    assert study_content(uneven)["factors"]["completion"] == ["mean"]
    shares = StudyResults(uneven).importance()
    assert list(shares["cell"]) == [cell.key for cell in uneven.cells]
    assert list(shares["completion"]) == [
        cell.levels.get("completion", "") for cell in uneven.cells
    ]
    assert list(shares["model"]) == [cell.levels["model"] for cell in uneven.cells]
    for baseline in ({"gradient": "plain"}, {"gradient": "plain", "completion": "mean"}):
        content = report_content(uneven, baselines=[baseline])
        (curves,) = (section for section in content.sections if section.name == "curves")
        assert sum(len(panel.series) for panel in curves.parts[0].panels) == 3
        render(content)
    measured = pd.DataFrame(
        {"cell": shares["cell"], "split": "test", "clean": 0.4, "area/noise": 0.1}
    )
    drawing = Drawing(uneven, {"gradient": "plain"}, frozenset())
    figure, table = accuracy_against_robustness(drawing, measured)
    assert isinstance(figure, Figure) and isinstance(table, Table)
    assert sum(len(series.x) for series in figure.panels[0].series) == len(table.rows) == 3
