"""A study of models that were trained on noisy features, from its file to its report."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

import mgstudy
from mgstudy import api
from mgstudy.study.robustness.results import RobustnessResults

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("two_slots")]

STUDY = """\
name: noise
question: Does Mirror Gradient help where features are noise?
factors:
  dataset:
    - tiny
    - {name: tiny, label: noisy, features: {gaussian_noise: {severity: 20.0, seed: 1}}}
  model: [VBPR]
  gradient: [plain, mirror_gradient]
space:
  model: {embedding_size: 8, regularization: 0.01}
  gradient: {mirror_gradient: {alpha1: 1.0, alpha2: 0.3, interval: 2}}
  optimizer: {learning_rate: 0.02}
trials: 1
confirmation: {seeds: 2}
training: {epochs: 3, batch_size: 128, objective: recall@5, measures: [recall], cutoffs: [5]}
resources: {max_concurrent: 1}
robustness:
  risks: [{name: missing_modality, parameters: {severities: [1.0], seeds: [0]}}]
  resamples: 100
"""


class Launched:
    """The study launched, which measures its models at the end."""

    def __init__(self, home: Path) -> None:
        (home / "noise.yaml").write_text(STUDY)
        self.study = api.read_study(home / "noise.yaml", home=home)
        launched = api.launch(self.study)
        assert launched.finished
        assert launched.undelivered == 0
        self.cells = launched.summary.cells


@pytest.fixture(scope="module")
def launched(home: Path, two_slots: None) -> Launched:
    return Launched(home)


def test_models_are_trained_and_measured_on_the_noisy_features(launched: Launched) -> None:
    """A model rebuilt in another process scores on test as when it was confirmed, exactly, which it
    does only over the features that it was trained with."""
    confirmed = {
        (cell.levels["dataset"], cell.levels["gradient"], replicate.seed): replicate.test_metrics
        for cell in launched.cells
        for replicate in cell.confirmations
    }
    assert [key[0] for key in confirmed] == ["tiny"] * 4 + ["noisy"] * 4
    levels = {cell.key: cell.levels for cell in launched.cells}
    measured = {
        (levels[each["cell"]]["dataset"], levels[each["cell"]]["gradient"], each["seed"]): each[
            "metrics"
        ]
        for found in RobustnessResults(launched.study.folder).read().values()
        for each in found
        if each["kind"] == "clean"
    }
    assert measured == confirmed


def test_noise_of_twenty_spreads_costs_accuracy(launched: Launched) -> None:
    best = {(c.levels["dataset"], c.levels["gradient"]): c.best for c in launched.cells}
    for gradient in ("plain", "mirror_gradient"):
        clean, noisy = best["tiny", gradient], best["noisy", gradient]
        assert clean is not None and noisy is not None
        assert noisy.value < clean.value


def test_each_strategy_is_compared_with_plain_on_the_same_features(
    launched: Launched, home: Path
) -> None:
    table = mgstudy.load_study("noise", home=home).comparison()
    rows = table[table["metric"] == "recall@5"].set_index(["dataset", "gradient"])
    means = {
        (c.levels["dataset"], c.levels["gradient"]): sum(
            each.test_metrics["recall@5"] for each in c.confirmations
        )
        / 2
        for c in launched.cells
    }
    for dataset in ("tiny", "noisy"):
        row = rows.loc[(dataset, "mirror_gradient")]
        assert row["popularity"] > 0  # It reads no features, so that both levels have one score.
        assert row["popularity"] == rows.loc[("tiny", "plain"), "popularity"]
        assert row["difference"] == pytest.approx(
            means[dataset, "mirror_gradient"] - means[dataset, "plain"]
        )


def test_every_record_says_which_features(launched: Launched, home: Path) -> None:
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("noise")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`mgstudy.role` = 'trial'")
    assert sorted(run.data.params["dataset"] for run in runs) == ["noisy"] * 2 + ["tiny"] * 2
    manifest = json.loads(launched.study.folder.manifest.read_text())
    assert manifest["config"]["factors"]["dataset"][1]["features"] == {
        "gaussian_noise": {"severity": 20.0, "seed": 1}
    }
    api.write_report("noise", home / "noise.html", home)
    page = (home / "noise.html").read_text()
    assert "gaussian_noise" in page


CARRIED = """\
name: carried
parameters_from: noise
factors:
  dataset: [{name: tiny, label: gaps, missing: {pattern: protected, rate: 0.4, seed: 0}}]
  model: [VBPR, MoDiCF]
space:
  model:
    embedding_size: 8
    MoDiCF: {joint: true, visibility_weight: 0.5, feature_weight: 0.4, reference: 0.01}
  optimizer: {learning_rate: 0.02}
trials: 3
confirmation: {seeds: 2}
training:
  {epochs: 2, batch_size: 128, objective: coverage@5, measures: [recall, coverage, fairness],
   cutoffs: [5]}
resources: {max_concurrent: 1}
"""


def test_a_study_of_gaps_takes_its_parameters_from_it_and_is_judged_by_coverage(
    launched: Launched, home: Path
) -> None:
    """One that trains a diffusion beside its recommender, too."""
    (home / "carried.yaml").write_text(CARRIED)
    study = api.read_study(home / "carried.yaml", home=home)
    result = api.launch(study)
    assert result.finished and result.undelivered == 0
    cells = {cell.levels["model"]: cell for cell in result.summary.cells}
    for cell in cells.values():
        # One trial with validation, and both replicates, of coverage in steps of an item.
        assert (cell.counts["complete"], cell.confirmed) == (1, 2)
        for trial in (*cell.trials, *cell.confirmations):
            shown = (trial.test_metrics or {"coverage@5": trial.value})["coverage@5"] * 60
            assert 5 <= shown <= 60 and shown == pytest.approx(round(shown))
    (winner,) = (c for c in launched.cells if c.key.startswith("tiny/VBPR/plain"))
    (trial,) = cells["VBPR"].trials
    assert trial.parameters == winner.best.parameters
    assert trial.parameters["model.VBPR.regularization"] == 0.01

    client = MlflowClient(f"sqlite:///{home}/mlflow.db")
    experiment = client.get_experiment_by_name("carried")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], "tags.`mgstudy.role` = 'trial'")
    values = {run.data.params["model"]: run.data.metrics for run in runs}
    for model, cell in cells.items():
        assert values[model]["best/coverage_at_5"] == cell.best.value
    api.write_report("carried", home / "carried.html", home)
    assert "coverage@5" in (home / "carried.html").read_text()
    table = mgstudy.load_study("carried", home=home).comparison()
    rows = table[table["metric"] == "coverage@5"].set_index("model")
    for model, cell in cells.items():
        mean = sum(each.test_metrics["coverage@5"] for each in cell.confirmations) / 2
        assert rows.loc[model, "mean"] == pytest.approx(mean)
