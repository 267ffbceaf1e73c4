"""Several objectives: recorded together, pruned by none, and drawn as a front."""

from __future__ import annotations

from pathlib import Path

import pytest

from mgstudy import api
from mgstudy.errors import InputError
from mgstudy.report.page.fronts import front
from mgstudy.report.page.report import report_content
from mgstudy.report.results import StudyResults
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.optuna_storage import opened_storage

PIPELINE = "name: tiny\nsource: {kind: synthetic, users: 30, items: 40, interactions_per_user: 8}\n"
STUDY = """\
name: s
factors: {dataset: [tiny], model: [BPR], gradient: [plain]}
trials: 4
training: {objective: {maximize: [recall@20, coverage@20]}}
pruner: {name: ThresholdPruner, arguments: {lower: 0.9}}
confirmation: {seeds: 1}
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    (tmp_path / "tiny.yaml").write_text(PIPELINE)
    (tmp_path / "s.yaml").write_text(STUDY)
    api.prepare(tmp_path / "tiny.yaml", home=tmp_path)
    return tmp_path


def test_objectives_are_searched_together_and_the_first_chooses(home: Path) -> None:
    study = api.read_study(home / "s.yaml", home=home)
    assert "nothing is pruned" in " ".join(api.plan(study)["notes"])
    StudyManifest.of(study, {"uri": None, "experiment": "s"}).write(study.folder)
    scores = [(0.1, 0.9), (0.3, 0.2), (0.2, 0.5), (0.1, 0.3)]
    with opened_storage(study.folder.database(study.config)) as storage:
        record = StudyRecord(study.config, study.plan.cells, study.datasets, storage)
        for first, second in scores:
            trial = record.next_request()
            assert trial is not None
            assert record.report(trial, 1, first, {}) is False, "the pruner would stop it"
            measured = {"recall@20": first, "coverage@20": second}
            record.complete(trial, {"best_value": first, "best_metrics": measured})
        (cell,) = record.cells.values()
        assert [trial.values for trial in cell.study.trials] == [list(pair) for pair in scores]
        replicate = record.next_request()
        assert replicate is not None and replicate.replicate is not None
        assert replicate.replicate.winner == 1
    summary = api.read_summary("s", home)
    assert [trial.value for trial in summary.cells[0].trials] == [0.1, 0.3, 0.2, 0.1]
    (drawn,) = [
        s
        for s in report_content(StudyResults.load(study.workspace, "s").summary).sections
        if s.name == "fronts"
    ]
    dots, line = drawn.parts[0].panels[0].series  # type: ignore[union-attr]
    assert len(dots.x) == 4 and list(line.x) == [0.3, 0.2, 0.1]
    api.export_study("s", home / "s.tar.xz", home=home)
    assert api.import_study(home / "s.tar.xz", "t", home).cells[0].best.value == 0.3  # type: ignore[union-attr]


def test_what_names_no_objectives_is_refused(home: Path) -> None:
    for wrong, told in (
        ("{maximise: [recall@20]}", "expected a metric, or {maximize: "),
        ("{maximize: [recall@20, recal@20]}", "did you mean 'recall'"),
    ):
        with pytest.raises(InputError, match=told):
            api.read_study(home / "s.yaml", [f"training.objective={wrong}"], home)


def test_a_front_has_what_nothing_beats_in_both() -> None:
    assert front([(1, 1), (2, 1), (2, 0), (0, 3), (1, 2), (1, 2)]) == [(2, 1), (1, 2), (0, 3)]
