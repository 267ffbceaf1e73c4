"""Several objectives: recorded together, pruned by none, and drawn as a front."""

from __future__ import annotations

from pathlib import Path

import pytest
from states import first_values

from mgstudy import api
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.base import Recommender
from mgstudy.report.page.fronts import front
from mgstudy.report.page.report import report_content
from mgstudy.report.results import StudyResults
from mgstudy.robustness.risks.base import make_risk
from mgstudy.robustness.trained_model import TrainedModel
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.optuna_storage import opened_storage
from mgstudy.testing.datasets import small_dataset
from mgstudy.training.run import train

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


def test_what_a_study_asks_may_change_when_it_has_begun(home: Path) -> None:
    study = api.read_study(home / "s.yaml", home=home)
    StudyManifest.of(study, {"uri": None, "experiment": "s"}).write(study.folder)
    with opened_storage(study.folder.database(study.config)) as storage:
        record = StudyRecord(study.config, study.plan.cells, study.datasets, storage)
        assert record.next_request() is not None
    with pytest.raises(InputError, match="training"):
        api.plan(api.read_study(home / "s.yaml", ["training.epochs=7"], home))
    asks = "questions=[{baseline: 'model=BPR, gradient=plain'}]"
    assert api.plan(api.read_study(home / "s.yaml", [asks], home))["baseline"] == {
        "model": "BPR",
        "gradient": "plain",
    }
    for wrong, told in (
        ("gradient=plane", "questions.0.baseline: gradient has no level 'plane'; did you mean"),
        ("gradien=plain", "questions.0.baseline: expected factor=level; did you mean 'gradient'"),
        ("plain", "questions.0.baseline: .*expected factor=level, got 'plain'"),
    ):
        with pytest.raises(InputError, match=told):
            api.read_study(home / "s.yaml", [f"questions=[{{baseline: {wrong}}}]"], home)


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ("{mirror: MG}", "names.mirror: no level, metric or factor is called 'mirror'"),
        ("{plain: base, BPR: base}", "names.BPR: plain is called 'base' already"),
    ],
)
def test_a_name_for_nothing_or_for_two_things_is_refused(home: Path, names: str, told: str) -> None:
    api.read_study(home / "s.yaml", ["names={plain: base, recall@20: R, gradient: by}"], home)
    with pytest.raises(InputError, match=told):
        api.read_study(home / "s.yaml", [f"names={names}"], home)


def test_what_names_no_objectives_is_refused(home: Path) -> None:
    for wrong, told in (
        ("{maximise: [recall@20]}", "expected a metric, or {maximize: "),
        ("{maximize: [recall@20, recal@20]}", "did you mean 'recall'"),
    ):
        with pytest.raises(InputError, match=told):
            api.read_study(home / "s.yaml", [f"training.objective={wrong}"], home)


def test_a_front_has_what_nothing_beats_in_both() -> None:
    assert front([(1, 1), (2, 1), (2, 0), (0, 3), (1, 2), (1, 2)]) == [(2, 1), (1, 2), (0, 3)]


RISKY = "{maximize: [recall@5, robustness.gaussian_noise, recall@5 under swap 0.5]}"


def test_an_objective_after_a_risk_is_what_the_trained_model_has_under_it(home: Path) -> None:
    factors = "factors={dataset: [tiny], model: [VBPR], gradient: [plain], robust: [[denoise]]}"
    study = api.read_study(home / "s.yaml", [factors, f"training.objective={RISKY}"], home)
    noise, swap = "recall@5 under gaussian_noise", "recall@5 under swap 0.5"
    assert study.config.training.objectives == ("recall@5", noise, swap)
    notes = " ".join(api.plan(study)["notes"])
    assert f"{noise}: each validation ranks once more, after gaussian_noise of severity 0.5" in (
        notes
    )
    settings = study.config.training.model_copy(update={"epochs": 2})
    (cell,), dataset = study.plan.cells, study.datasets["tiny"]
    values = first_values(cell)
    trainer = build_cell_trainer(cell, dataset, values, settings)
    *_, last = trainer.epochs()
    assert last.metrics is not None
    evaluator = trainer.validation

    def trained(changed: Dataset) -> Recommender:
        model = build_cell_trainer(cell, changed, values, settings).model
        model.load_state_dict(trainer.model.state_dict())
        return model

    model = TrainedModel(trained, dataset, evaluator, lambda changed: trained(changed).dataset)
    for name, risk, severity in ((noise, "gaussian_noise", 0.5), (swap, "swap", 0.5)):
        (found,) = model.under(make_risk(risk), severity, 0)
        assert last.metrics[name] == pytest.approx(found.values["recall@5"].mean(), abs=1e-12)
    assert len({last.metrics[name] for name in study.config.training.objectives}) == 3
    users, metrics = trainer.tested()
    assert metrics[swap] == pytest.approx(users[swap].mean()) != metrics["recall@5"]


def test_one_objective_after_a_risk_prunes_as_any(home: Path) -> None:
    change = ["training.objective=recall@5 under gaussian_noise 0.25"]
    study = api.read_study(home / "s.yaml", change, home)
    assert study.config.training.clean_objective == "recall@5"
    assert "nothing is pruned" not in " ".join(api.plan(study)["notes"])
    StudyManifest.of(study, {"uri": None, "experiment": "s"}).write(study.folder)
    with opened_storage(study.folder.database(study.config)) as storage:
        record = StudyRecord(study.config, study.plan.cells, study.datasets, storage)
        trial = record.next_request()
        assert trial is not None and record.report(trial, 1, 0.1, {}) is True


@pytest.mark.parametrize(
    ("objective", "told"),
    [
        ("recall@5 under noise 0.5", "unknown risk 'noise'"),
        ("recall@5 under swap 2", "severities"),
        ("recall@5 under swap much", "expected a risk and one severity"),
        ("recall@5 under swap 0.1 0.2", "expected a risk and one severity"),
        ("recall@5 under fgsm 0.5", "attacks a trained model, anew in each validation"),
        ("recall@5 under gaussian_noise 1e9", "would not be finite"),
        ("recal@5 under swap 0.1", "did you mean 'recall'"),
        ("{maximize: [recall@5, robustness.fsgm]}", "did you mean 'fgsm'"),
    ],
)
def test_a_risk_that_cannot_be_measured_is_refused(home: Path, objective: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as refused:
        api.read_study(home / "s.yaml", [f"training.objective={objective}"], home)
    assert "training.objective" in str(refused.value)


def test_training_outside_a_study_says_that_it_knows_no_risks() -> None:
    with pytest.raises(InputError, match="only a study measures after a risk"):
        train(small_dataset(), model="BPR", epochs=1, objective="recall@2 under swap 0.5")
