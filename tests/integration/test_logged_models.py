"""Each cell's model in MLflow's registry, loaded as anyone would, after launches on a real Ray."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from programs import MGSTUDY, finished

from mgstudy import api
from mgstudy.errors import InputError
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.training.checkpoint import load_checkpoint

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("two_slots")]

STUDY = """\
name: logged
factors: {dataset: [tiny], model: [BPR], gradient: [plain]}
space:
  model: {embedding_size: 4, regularization: 0.01}
  optimizer: {learning_rate: {choice: [0.01, 0.05]}}
sampler: GridSampler
trials: 2
training: {epochs: 3, batch_size: 128, objective: ndcg@5, measures: [ndcg], cutoffs: [5]}
resources: {max_concurrent: 1}
"""
ALIAS = "tiny-BPR-plain-none-adam-999"
URI = f"models:/logged@{ALIAS}"


@pytest.fixture(scope="module")
def client(home: Path, two_slots: None) -> Iterator[MlflowClient]:
    uri = f"sqlite:///{home}/mlflow.db"
    # By the environment: mlflow.set_tracking_uri() would outlive this module.
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", uri)
        yield MlflowClient(uri)


@pytest.fixture(scope="module")
def summaries(home: Path, client: MlflowClient) -> list[StudySummary]:
    """Launched without confirmation, with it, and again."""
    found = []
    for seeds in (0, 3, 3):
        launched = api.launch(_study(home, seeds))
        assert launched.finished
        assert launched.undelivered == 0
        found.append(launched.summary)
    return found


def _study(home: Path, seeds: int) -> Study:
    (home / "logged.yaml").write_text(STUDY)
    return api.read_study(home / "logged.yaml", [f"confirmation.seeds={seeds}"], home)


def test_the_loaded_model_ranks_as_the_weights_score(
    home: Path, summaries: list[StudySummary]
) -> None:
    study, (cell,) = _study(home, 3), summaries[-1].cells
    winner = max(cell.confirmations, key=lambda replicate: replicate.value or 0.0)
    dataset = study.datasets["tiny"]
    model = build_cell_trainer(
        study.plan.cells[0], dataset, winner.parameters, study.config.training
    ).model
    model.load_state_dict(load_checkpoint(winner.weights)["model"])
    users, items = (table.detach().numpy() for table in model.representations())
    scores = users @ items.T
    scores[dataset.train.users, dataset.train.items] = -np.inf

    loaded = mlflow.pyfunc.load_model(URI)
    asked = [7, 0, 79]
    given = loaded.predict(pd.DataFrame({"user": asked}), params={"k": 5})
    assert list(given) == ["user", "rank", "item", "score"]
    assert given["user"].tolist() == np.repeat(asked, 5).tolist()
    assert given["rank"].tolist() == [1, 2, 3, 4, 5] * 3
    for user, rows in given.groupby("user"):
        best = np.argsort(-scores[user], kind="stable")[:5]
        assert rows["item"].tolist() == best.tolist()
        assert rows["score"].to_numpy() == pytest.approx(scores[user, best], rel=1e-5)
    for form in (asked, np.array(asked)):
        assert len(loaded.predict(form)) == 60
    # 60 items are all there are; those of the training are never recommended.
    everything = loaded.predict([7], params={"k": 60})
    assert set(everything["item"]) == set(range(60)) - set(
        dataset.train.items[dataset.train.users == 7]
    )


@pytest.mark.parametrize(
    ("users", "k", "complaint"),
    [
        ([0, 80], 5, "unknown user 80: the model knows 80 users, such as 0"),
        ([-1], 5, "unknown user -1"),
        ([0], 61, "k must be 1 to 60, got 61"),
        ([0], 0, "k must be 1 to 60, got 0"),
        (pd.DataFrame({"item": [3]}), 5, "expected users in a column 'user', got column 'item'"),
    ],
)
def test_what_cannot_be_answered_is_refused(
    summaries: list[StudySummary], users: object, k: int, complaint: str
) -> None:
    loaded = mlflow.pyfunc.load_model(URI)
    with pytest.raises((ValueError, MlflowException), match=complaint):
        loaded.predict(users, params={"k": k})


def test_launching_again_makes_no_further_version(
    client: MlflowClient, summaries: list[StudySummary]
) -> None:
    versions = client.search_model_versions("name = 'logged'")
    assert len(versions) == 2  # Of the search's best trial, then of the best replicate.
    model = client.get_registered_model("logged")
    assert {alias: int(number) for alias, number in model.aliases.items()} == {ALIAS: 2}
    (cell,) = summaries[-1].cells
    winner = max(cell.confirmations, key=lambda replicate: replicate.value or 0.0)
    version = client.get_model_version_by_alias("logged", ALIAS)
    run = client.get_run(version.run_id)
    assert run.data.tags["mgstudy.trial"] == (
        f"{cell.key}/confirmation/{cell.best.number if cell.best else None}/{winner.number}"
    )
    (output,) = run.outputs.model_outputs
    logged = client.get_logged_model(output.model_id)
    assert (logged.source_run_id, logged.artifact_location) == (version.run_id, version.source)


def test_the_weights_and_what_they_are_of_lie_beside_the_lists(
    home: Path, summaries: list[StudySummary]
) -> None:
    path = Path(mlflow.artifacts.download_artifacts(URI)) / "artifacts"
    assert "model" in load_checkpoint(path / "best.pt")
    # In the study's folder and in MLflow's, they lie on the disk once.
    winners = [replicate.weights for replicate in summaries[-1].cells[0].confirmations]
    assert max(weights.stat().st_nlink for weights in winners) == 2
    described = json.loads((path / "model.json").read_text())
    (cell,) = summaries[-1].cells
    assert described["parameters"] == dict(cell.confirmations[0].parameters)
    dataset = _study(home, 3).datasets["tiny"]
    assert described["dataset"]["interactions"] == dataset.fingerprint


def test_what_is_recommended_is_what_the_registered_model_says(
    home: Path, summaries: list[StudySummary]
) -> None:
    given = mlflow.pyfunc.load_model(URI).predict([7, 3], params={"k": 5})
    made = api.recommend("logged", "BPR/plain", ["7", 3], k=5, home=home)
    pd.testing.assert_frame_equal(made, given)
    with pytest.raises(InputError, match=r"knows no user 80 \(1 of 2 are unknown\)"):
        api.recommend("logged", "BPR", [3, 80], home=home)


def test_a_lost_store_gets_its_models_back_while_there_are_weights(
    home: Path, summaries: list[StudySummary], tmp_path: Path
) -> None:
    given = mlflow.pyfunc.load_model(URI).predict([3, 17])
    (cell,) = summaries[-1].cells
    store, kept = home / "mlflow.db", home / "kept.db"
    weights = _study(home, 3).folder.checkpoints
    away = weights.with_name("away")

    def sync(*options: str) -> list[str]:
        return finished(MGSTUDY, "sync", "logged", *options).stdout.splitlines()

    store.rename(kept)
    weights.rename(away)
    try:
        reason = "their weights are no longer in the study's folder"
        assert sync("--rebuild")[1] == f"no model is registered of {cell.key}: {reason}"
    finally:
        away.rename(weights)
    assert sync()[:2] == ["0 records delivered to MLflow", "models registered there: 1"]
    # What this process knows of the store is of the one that was there before.
    rebuilt = store.rename(tmp_path / "rebuilt.db")
    kept.rename(store)
    uri = f"sqlite:///{rebuilt}"
    client = MlflowClient(uri)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MLFLOW_TRACKING_URI", uri)
        again = mlflow.pyfunc.load_model(URI).predict([3, 17])
    pd.testing.assert_frame_equal(again, given)
    experiment = client.get_experiment_by_name("logged")
    assert experiment is not None
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`mgstudy.role` = 'study'")
    assert "report.html" in {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert "mlflow.sharedViewState.logged-best" in experiment.tags


def test_a_store_that_refuses_models_is_a_warning(
    home: Path, summaries: list[StudySummary], client: MlflowClient, caplog
) -> None:
    lost = client.get_model_version_by_alias("logged", ALIAS)
    client.delete_model_version("logged", lost.version)
    with closing(sqlite3.connect(home / "mlflow.db")) as store:
        store.execute(
            "CREATE TRIGGER refused BEFORE INSERT ON model_versions "
            "BEGIN SELECT RAISE(ABORT, 'no more models'); END"
        )
        with caplog.at_level(logging.WARNING):
            launched = api.launch(_study(home, 3))
        store.execute("DROP TRIGGER refused")
    assert launched.finished
    (warning,) = [text for text in caplog.messages if "no models are registered" in text]
    assert "Model Version creation error" in warning
    assert "launching again tries again" in warning
    api.launch(_study(home, 3))
    again = client.get_model_version_by_alias("logged", ALIAS)
    assert (again.run_id, int(again.version)) == (lost.run_id, int(lost.version) + 1)
