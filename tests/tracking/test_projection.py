"""What MLflow holds of a record, in a real store."""

from __future__ import annotations

import json
import logging
import math
import os

import pytest
import typer
from driven import Driven, content, steps
from mlflow.tracking import MlflowClient
from rich.console import Console
from waiting import wait_until

from mgstudy import api
from mgstudy.api.launching import Launched
from mgstudy.cli.studies import show_launched
from mgstudy.errors import MgstudyError
from mgstudy.study.results.summary import summarize

PLAIN, MIRROR = "plain #0", "MG #0"


def test_a_record_is_runs_with_curves_params_tags_and_files(driven, client, study) -> None:
    made = driven(trials=1, seeds=1)
    plain, mirror = made.begin(), made.begin()
    made.complete(plain, best_metrics={"recall@20": 0.5, "ndcg@20": math.nan, "x": None})
    made.report(mirror, range(1, 3))
    made.record.fail(mirror, {"reason": "diverged", "epochs": 2, "traceback": "line 1\nline 2"})
    replicate = made.begin()
    made.complete(replicate, 2, test_metrics={"recall@20": 0.25})
    projection = made.project()
    # Three runs, seven epochs, three ends.
    assert projection.written == 3 + 7 + 3
    found = content(client, study)
    assert set(found) == {study, PLAIN, MIRROR, "plain confirmation 0"}

    rate = str(plain.parameters["optimizer.learning_rate"])
    assert found[PLAIN]["params"].items() >= {
        "model": "BPR", "gradient": "plain", "optimizer.learning_rate": rate
    }.items()  # fmt: skip
    assert found[PLAIN]["status"] == "FINISHED"
    assert found[PLAIN]["tags"] == {
        "mgstudy.study": study,
        "mgstudy.role": "trial",
        "mgstudy.stage": "search",
        "mgstudy.seed": "999",
        "mgstudy.trial": plain.key,
        "mgstudy.cell": plain.cell.key,
        "mgstudy.state": "complete",
        "mgstudy.reason": "epochs",
        "mgstudy.best_of_cell": "true",
        "mlflow.parentRunId": study,
    }
    runs = client.search_runs([client.get_experiment_by_name(study).experiment_id])
    runs = [run for run in runs if "mgstudy.trial" in run.data.tags]
    assert [run.data.tags["mlflow.source.git.commit"] for run in runs] == ["abc"] * 3
    told = [entry.dataset for run in runs for entry in run.inputs.dataset_inputs]
    assert [dataset.name for dataset in told] == ["a"] * 3
    assert json.loads(told[0].source) == {"interactions": made.manifest.datasets["a"].interactions}
    curves = found[PLAIN]["curves"]
    assert [point[:2] for point in curves["validation/recall_at_20"]] == [
        (1, 0.01), (2, 0.02), (3, 0.03)
    ]  # fmt: skip
    assert steps(found, PLAIN) == [1, 2, 3]
    assert [point[:2] for point in curves["best/recall_at_20"]] == [(3, 0.5)]
    assert [point[:2] for point in curves["cost/seconds_training"]] == [(3, 1.5)]
    assert not {"best/x", "best/ndcg_at_20"} & set(curves)  # Not a number.

    assert found[MIRROR]["status"] == "FAILED"
    assert found[MIRROR]["tags"]["mgstudy.reason"] == "diverged"
    assert steps(found, MIRROR) == [1, 2]
    assert found[MIRROR]["files"] == {"traceback.txt": "line 1\nline 2"}

    confirmed = found["plain confirmation 0"]
    assert confirmed["tags"]["mgstudy.role"] == "confirmation"
    assert confirmed["tags"]["mgstudy.seed"] == str(replicate.seed) != "999"
    assert confirmed["curves"]["test/recall_at_20"][0][1] == 0.25

    parent = found[study]
    assert parent["status"] == "FINISHED"
    assert parent["tags"]["mgstudy.objective"] == "recall@20"
    files = parent["files"]
    assert files[f"checkpoints/{plain.cell.key}/best.pt"] == plain.key
    kept = (made.folder.checkpoints / plain.key / "best.pt").stat()
    assert kept.st_nlink == 2, "on one disk, weights lie there once"
    assert json.loads(files["best_runs.json"]) == {plain.cell.key: PLAIN}
    assert json.loads(files["study.json"])["question"] == "why?"
    assert [cell["levels"]["gradient"] for cell in json.loads(files["cells.json"])] == [
        "plain", "mirror_gradient"
    ]  # fmt: skip
    assert json.loads(files["environment.json"]) == {"git_revision": "abc"}
    tags = client.get_experiment_by_name(study).tags
    assert f"mlflow.sharedViewState.{study}-confirmations" in tags
    assert tags["mlflow.note.content"] == "why?"

    # A second pass finds nothing to write.
    assert made.project().written == 0
    assert content(client, study) == found


def test_a_trial_that_runs_again_goes_on_in_its_run_without_doubled_steps(
    driven, client, study
) -> None:
    made = driven(trials=1)
    trial = made.begin()
    made.report(trial, range(1, 3))
    # The driver is killed; another one finds the trial waiting.
    made = driven(trials=1)
    made.project(complete=False)
    found = content(client, study)
    assert found[study]["status"] == found[PLAIN]["status"] == "KILLED"
    assert found[PLAIN]["tags"]["mgstudy.state"] == "waiting"
    assert steps(found, PLAIN) == [1, 2]

    again = made.begin()
    assert again.key == trial.key
    made.report(again, range(2, 3))  # It repeats what may have been lost.
    tracker = made.tracker()
    made.report(again, range(3, 4))
    tracker.finish(False)
    made.record.prune(again, {"reason": "pruned", "epochs": 3, "best_value": 0.1})
    made.project(complete=False)
    found = content(client, study)
    assert found[PLAIN]["status"] == "KILLED"
    assert found[PLAIN]["tags"]["mgstudy.state"] == "pruned"
    assert steps(found, PLAIN) == [1, 2, 3]


def test_the_mark_of_the_best_run_moves_with_it_over_launches(driven, client, study) -> None:
    made = driven(trials=2)
    made.complete(made.begin(), value=0.3)
    made.complete(made.begin(), value=0.2)

    def marked() -> set[str]:
        return {
            name for name, run in content(client, study).items()
            if "mgstudy.best_of_cell" in run["tags"]
        }  # fmt: skip

    def kept() -> set[str]:
        files = content(client, study)[study]["files"]
        return {text for name, text in files.items() if name.startswith("checkpoints/")}

    made.project(complete=False)
    assert marked() == {PLAIN, MIRROR}
    first = kept()
    made = driven(trials=2)
    for _ in range(2):
        trial = made.begin()
        made.complete(trial, value=0.1 if trial.cell.gradient == "plain" else 0.5)
    made.project()
    assert marked() == {PLAIN, "MG #1"}
    assert len(first & kept()) == 1
    assert any("mirror_gradient" in text and text.endswith("/1") for text in kept())


def test_weights_that_are_gone_cost_a_warning_and_the_run_is_the_best_all_the_same(
    driven, client, study, caplog
) -> None:
    made = driven(trials=1)
    made.complete(made.begin())
    trial = made.begin()
    made.complete(trial)
    (made.folder.checkpoints / trial.key / "best.pt").unlink()
    made.project()
    assert [text for text in caplog.messages if f"{trial.key}/best.pt is gone" in text]
    assert content(client, study)[MIRROR]["tags"]["mgstudy.best_of_cell"] == "true"


def test_epochs_of_which_no_more_is_kept_have_the_objective(driven, client, study) -> None:
    made = driven(trials=1)
    trial = made.begin()
    made.report(trial, range(1, 3))
    made.record.metrics = None  # The disk is full.
    made.report(trial, range(3, 5))
    made.record.prune(trial, {"reason": "pruned", "epochs": 4, "best_value": 0.04})
    assert made.project().written == 1 + 2 + 1
    found = content(client, study)
    assert steps(found, PLAIN) == [1, 2]
    points = found[PLAIN]["curves"]["validation/recall_at_20"]
    assert [point[:2] for point in points] == [(1, 0.01), (2, 0.02), (3, 0.03), (4, 0.04)]
    assert points[2][2] <= points[3][2]


def test_any_number_of_metrics_params_and_epochs_is_written_in_few_requests(
    driven, client, study, monkeypatch
) -> None:
    made = driven(trials=1)
    trial = made.begin()
    many = {f"m{number}": float(number) for number in range(60)}
    made.report(trial, range(1, 41), **many)
    requests = []
    log_batch = MlflowClient.log_batch

    def counted(self, run_id, *arguments, **named) -> None:
        requests.append(run_id)
        log_batch(self, run_id, *arguments, **named)

    monkeypatch.setattr(MlflowClient, "log_batch", counted)
    made.project(complete=False)
    # 40 epochs of 62 numbers, of which 12 fit into a request of 800.
    assert len(requests) == 4
    found = content(client, study)
    assert {steps(found, PLAIN, name) == list(range(1, 41)) for name in many} == {True}


def test_two_runs_of_one_trial_become_one(driven, client, study) -> None:
    made = driven(trials=1)
    trial = made.begin()
    made.report(trial, range(1, 3))
    made.project(complete=False)
    before = content(client, study)
    experiment = client.get_experiment_by_name(study).experiment_id
    # What a request makes whose answer was lost, and which came late.
    tags = {"mgstudy.study": study, "mgstudy.role": "trial", "mgstudy.trial": trial.key}
    client.create_run(experiment, tags=tags)
    client.create_run(experiment, tags={"mgstudy.study": study, "mgstudy.role": "study"})
    made.project(complete=False)
    assert content(client, study) == before


def test_what_a_person_deleted_stays_deleted_until_it_is_asked_for(driven, client, study) -> None:
    made = driven(trials=1)
    made.complete(made.begin())
    made.complete(made.begin())
    made.project()
    before = content(client, study)
    experiment = client.get_experiment_by_name(study).experiment_id
    (run,) = client.search_runs([experiment], "tags.`mgstudy.role` = 'trial' and "
                                              "params.gradient = 'plain'")  # fmt: skip
    client.delete_run(run.info.run_id)
    made.project()
    assert set(content(client, study)) == {study, MIRROR}
    api.sync(study, made.home, rebuild=True)
    restored = content(client, study)
    assert restored[PLAIN] == before[PLAIN]
    assert set(restored) == set(before)


def test_an_experiment_that_was_deleted_is_restored_when_asked(
    recorded, client, study, caplog
) -> None:
    made = recorded()
    api.sync(study, made.home)
    before = content(client, study)
    experiment = client.get_experiment_by_name(study)
    client.delete_experiment(experiment.experiment_id)
    told = (
        f"experiment '{study}' was deleted in MLflow: `mlflow experiments restore "
        f"--experiment-id {experiment.experiment_id}`"
    )
    with pytest.raises(MgstudyError, match="was deleted in MLflow") as refused:
        api.sync(study, made.home)
    assert told in str(refused.value)
    assert "try again" not in str(refused.value)
    tracker = made.tracker()
    tracker.finish(False)
    assert any(told in text for text in caplog.messages)
    # The end of a launch does not take it for a server that comes back by itself.
    console = Console(record=True, width=200)
    launched = Launched(summarize(made.workspace, study), False, tracker.undelivered)
    with pytest.raises(typer.Exit):
        show_launched(launched, console, None)
    assert console.export_text().startswith(
        f"1 records wait for MLflow; `mgstudy sync {study}` delivers them once it takes records\n"
    )
    api.sync(study, made.home, rebuild=True)
    assert content(client, study) == before


def test_environment_and_loggers_are_afterwards_as_they_were(tmp_path, study, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "7")

    def state() -> object:
        loggers = [logging.getLogger(name) for name in ("", "mlflow.store.db.utils", "alembic")]
        return dict(os.environ), [(log.level, list(log.handlers)) for log in loggers]

    before = state()
    made = Driven(tmp_path, study, trials=1)  # Its database is made, too.
    tracker = made.tracker()
    made.complete(made.begin())
    wait_until(lambda: "MLFLOW_HTTP_REQUEST_MAX_RETRIES" in os.environ)
    assert os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "7"
    tracker.finish(False, seconds=300)
    assert tracker.undelivered == 0
    api.sync(study, made.home)
    assert state() == before
