"""Studies launched for real: Ray Tune, Optuna in SQLite, MLflow in SQLite."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from heard import Heard
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from rich.console import Console

from mgstudy import api
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.study.search.events import StudyListener, TrialRequest
from mgstudy.study.search.trials import RecordedTrial, State
from mgstudy.study.storage.lease import holder
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.study.storage.write_behind import study_names
from mgstudy.training.checkpoint import load_checkpoint
from mgstudy.training.evaluation import Evaluator
from mgstudy.urls import sqlite_url

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("two_slots")]

WORKS = """\
name: works
question: does [it] work from end to end?
factors:
  dataset: [tiny]
  model: [BPR, VBPR]
  gradient: [plain, mirror_gradient]
space:
  model: {embedding_size: {choice: [4, 8]}, regularization: 0.01}
  gradient: {mirror_gradient: {alpha1: 1.0, alpha2: 0.3, interval: 2}}
  optimizer: {learning_rate: {choice: [0.05, 1e-9]}}
trials: 3
confirmation: null
training: {epochs: 5, batch_size: 128, objective: ndcg@5, measures: [ndcg, recall], cutoffs: [5]}
sampler: GridSampler
pruner: 'their_parts:PruneSlow'
"""
BREAKS = """\
name: breaks
factors:
  dataset: [tiny]
  model: ['their_parts:Diverging', 'their_parts:Killed', 'their_parts:Buggy', BPR]
space:
  model: {embedding_size: 4, regularization: 0.01}
  optimizer: {learning_rate: 0.01}
trials: 2
confirmation: null
training: {epochs: 4, batch_size: 128, objective: ndcg@5, cutoffs: [5]}
"""

Printed = Callable[..., str]


@dataclass
class Launches:
    """A study launched several times: what was heard and found after each launch."""

    study: Study
    heard: list[Heard] = field(default_factory=list)
    summaries: list[StudySummary] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


def read(home: Path, text: str, *overrides: str) -> Study:
    path = home / "study.yaml"
    path.write_text(text)
    return api.read_study(path, overrides, home)


@pytest.fixture(scope="module")
def works(home: Path, two_slots: None) -> Launches:
    """Launched, launched again, and launched with a larger budget."""
    launches = Launches(read(home, WORKS))
    for trials in (3, 3, 4):
        study = read(home, WORKS, f"trials={trials}")
        heard, text = Heard(), StringIO()
        launched = api.launch(study, Console(file=text, width=200), listeners=[heard])
        assert launched.finished
        assert launched.undelivered == 0
        launches.heard.append(heard)
        launches.summaries.append(launched.summary)
        launches.shown.append(text.getvalue())
    return launches


@pytest.fixture(scope="module")
def breaks(home: Path, two_slots: None) -> StudySummary:
    launched = api.launch(read(home, BREAKS))
    assert launched.finished
    return launched.summary


# A study that works.


def test_all_trials_run_and_end_as_the_pruner_says(works: Launches) -> None:
    first = works.summaries[0]
    assert first.finished
    assert not first.driven
    for cell in first.cells:
        assert sum(cell.counts.values()) == 3
        for trial in cell.trials:
            slow = trial.parameters["optimizer.learning_rate"] < 1e-6
            assert trial.state is (State.PRUNED if slow else State.COMPLETE)
            assert list(trial.values) == ([1, 2] if slow else [1, 2, 3, 4, 5])
            assert (trial.value is None) == slow
            assert trial.value is None or trial.value == max(trial.values.values())
            assert trial.outcome["epochs"] == len(trial.values)


def test_a_mirrored_trial_costs_what_it_should(works: Launches) -> None:
    for cell in works.summaries[0].cells:
        dataset = works.study.datasets["tiny"]
        batches = -(-len(dataset.train) // 128)
        mirrored = -(-batches // 2) if cell.levels["gradient"] == "mirror_gradient" else 0
        for trial in cell.trials:
            assert trial.outcome["gradient_computations"] == trial.outcome["epochs"] * (
                batches + mirrored
            )


def test_every_event_is_heard_once(works: Launches) -> None:
    heard, summary = works.heard[0], works.summaries[0]
    trials = {
        f"{cell.key}/{trial.number}": trial for cell in summary.cells for trial in cell.trials
    }
    assert Counter(heard.started) == Counter(trials.keys())
    assert heard.finished == {key: trial.state for key, trial in trials.items()}
    assert Counter(heard.reported) == Counter(
        (key, step) for key, trial in trials.items() for step in trial.values
    )


def test_launched_again_it_runs_nothing(works: Launches) -> None:
    assert works.heard[1].started == []
    assert works.summaries[1].cells == works.summaries[0].cells


def test_a_larger_budget_runs_the_difference(works: Launches) -> None:
    assert len(works.heard[2].started) == 4
    for before, after in zip(works.summaries[1].cells, works.summaries[2].cells, strict=True):
        assert list(after.trials[:3]) == list(before.trials)
        assert after.counts["complete"] == after.counts["pruned"] == 2
        combinations = {
            (
                trial.parameters[f"model.{after.levels['model']}.embedding_size"],
                trial.parameters["optimizer.learning_rate"],
            )
            for trial in after.trials
        }
        assert len(combinations) == 4


def test_plain_lines_tell_of_every_trial_where_there_is_no_terminal(works: Launches) -> None:
    lines = works.shown[0].splitlines()
    assert lines[0] == "4 cells, 12 trials to run (0 done), 2 at once"
    assert len(lines) == 13
    assert lines[-1].startswith("[12/12] ")
    assert lines[-1].endswith("remaining 0 s")
    assert sum(" pruned after 2 epochs" in line for line in lines) == sum(
        cell.counts["pruned"] for cell in works.summaries[0].cells
    )
    assert works.shown[2].splitlines()[:2] == [
        "trials: was 3, is 4; what has run stays as it is",
        "4 cells, 4 trials to run (12 done), 2 at once",
    ]


def test_the_best_weights_of_each_cell_give_the_recorded_score(works: Launches) -> None:
    study, summary = works.study, works.summaries[2]
    for cell, found in zip(study.plan.cells, summary.cells, strict=True):
        best = found.best
        assert best is not None
        folder = study.folder.checkpoints / cell.key
        assert [path.name for path in folder.iterdir()] == [str(best.number)]
        assert best.outcome["checkpoint"] == str(folder / str(best.number) / "best.pt")
        dataset = study.datasets["tiny"]
        trainer = build_cell_trainer(cell, dataset, best.parameters, study.config.training)
        trainer.model.load_state_dict(load_checkpoint(Path(best.outcome["checkpoint"]))["model"])
        trainer.model.eval()
        evaluator = Evaluator(dataset, "validation", study.config.training.metrics)
        scores = evaluator.evaluate(trainer.model.scorer())
        assert scores == best.outcome["best_metrics"]
        assert scores["ndcg@5"] == best.value == best.values[best.outcome["best_epoch"]]


def test_a_trial_is_repeated_to_the_bit_by_the_library(works: Launches) -> None:
    study = works.study
    cell, found = study.plan.cells[3], works.summaries[0].cells[3]
    trial = next(trial for trial in found.trials if trial.state is State.COMPLETE)
    trainer = build_cell_trainer(
        cell, study.datasets["tiny"], trial.parameters, study.config.training
    )
    scores = {result.epoch + 1: result.metrics["ndcg@5"] for result in trainer.epochs()}
    assert scores == dict(trial.values)


def test_a_changed_space_is_refused_and_nothing_is_touched(works: Launches, home: Path) -> None:
    before = works.study.folder.manifest.read_bytes()
    changed = read(home, WORKS, "space.model.regularization=0.02")
    with pytest.raises(InputError) as caught:
        api.launch(changed)
    assert "spaces.model.BPR.regularization: was 0.01, is 0.02" in str(caught.value)
    assert works.study.folder.manifest.read_bytes() == before
    folder = works.study.folder
    assert not holder(folder.path, folder.storage_url(works.study.config), "works").is_alive


def test_a_damaged_file_of_curves_is_said_in_a_line(works: Launches) -> None:
    path = works.study.folder.epoch_metrics
    whole = path.read_bytes()
    path.write_bytes(whole + b"rubbish\n")
    try:
        with pytest.raises(MgstudyError, match=r"^/.*metrics\.jsonl: cannot be read: [^\n]*$"):
            api.launch(works.study)
    finally:
        path.write_bytes(whole)


def test_where_no_trial_fits_on_the_cluster_nothing_is_left(
    home: Path, two_slots: None, client: MlflowClient
) -> None:
    storage = sqlite_url(home / "large.db")
    study = read(home, WORKS, "name=large", "resources.cpu=50", f"storage={storage}")
    with pytest.raises(InputError, match="no trial fits"):
        api.launch(study)
    assert not study.folder.path.exists()
    assert study_names(open_storage(storage)) == []
    assert client.get_experiment_by_name("large") is None


# MLflow.


@pytest.fixture(scope="module")
def client(home: Path) -> MlflowClient:
    """The store that ``mlflow ui`` typed in the workspace opens by itself."""
    return MlflowClient(f"sqlite:///{home}/mlflow.db")


def runs(client: MlflowClient, experiment: str, role: str) -> list[Run]:
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    wanted = f"tags.`mgstudy.role` = '{role}'"
    return list(client.search_runs([found.experiment_id], wanted, max_results=1000))


def by_trial(client: MlflowClient, summary: StudySummary) -> dict[str, tuple[Run, RecordedTrial]]:
    found = {run.data.tags["mgstudy.trial"]: run for run in runs(client, summary.name, "trial")}
    return {
        f"{cell.key}/{trial.number}": (found.pop(f"{cell.key}/{trial.number}"), trial)
        for cell in summary.cells
        for trial in cell.trials
    } | {key: (run, None) for key, run in found.items()}


def test_the_study_is_one_parent_run_with_what_it_was_asked(
    works: Launches, client: MlflowClient
) -> None:
    (parent,) = runs(client, "works", "study")
    assert parent.info.status == "FINISHED"
    assert parent.info.run_name == "works"
    assert parent.data.tags["mlflow.note.content"] == "does [it] work from end to end?"
    names = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert names >= {"study.json", "environment.json", "requirements.txt", "checkpoints"}
    config = json.loads(
        Path(client.download_artifacts(parent.info.run_id, "study.json")).read_text()
    )
    assert config["training"]["epochs"] == 5
    assert config["trials"] == 4
    environment = json.loads(
        Path(client.download_artifacts(parent.info.run_id, "environment.json")).read_text()
    )
    assert {"python", "packages", "git_revision"} <= set(environment)


def test_every_trial_is_one_child_run_with_all_of_its_parameters(
    works: Launches, client: MlflowClient
) -> None:
    (parent,) = runs(client, "works", "study")
    found = by_trial(client, works.summaries[2])
    assert len(found) == len(runs(client, "works", "trial")) == 16
    levels = {cell.key: cell.levels for cell in works.study.plan.cells}
    for key, (run, trial) in found.items():
        assert run.data.tags["mlflow.parentRunId"] == parent.info.run_id
        cell = levels[key.rpartition("/")[0]]
        expected = {**cell, **trial.parameters}
        assert run.data.params == {name: str(value) for name, value in expected.items()}
        assert run.data.tags["mgstudy.state"] == trial.state.value
        assert run.info.status == ("KILLED" if trial.state is State.PRUNED else "FINISHED")
        reason = "pruned" if trial.state is State.PRUNED else "epochs"
        assert run.data.tags["mgstudy.reason"] == reason


def test_every_epoch_is_recorded_under_its_step(works: Launches, client: MlflowClient) -> None:
    for run, trial in by_trial(client, works.summaries[2]).values():
        for name in ("validation/ndcg_at_5", "validation/recall_at_5", "training/loss"):
            history = client.get_metric_history(run.info.run_id, name)
            assert [point.step for point in history] == list(trial.values)
            if name == "validation/ndcg_at_5":
                assert [point.value for point in history] == list(trial.values.values())
        assert run.data.metrics["cost/epochs"] == len(trial.values)
        if trial.state is State.COMPLETE:
            best = trial.outcome["best_metrics"]["recall@5"]
            assert run.data.metrics["best/recall_at_5"] == best


def test_the_best_run_of_each_cell_is_marked_and_its_weights_kept(
    works: Launches, client: MlflowClient
) -> None:
    (parent,) = runs(client, "works", "study")
    marked = {
        run.data.tags["mgstudy.trial"]
        for run in runs(client, "works", "trial")
        if run.data.tags.get("mgstudy.best_of_cell") == "true"
    }
    assert marked == {f"{cell.key}/{cell.best.number}" for cell in works.summaries[2].cells}
    for cell in works.summaries[2].cells:
        path = client.download_artifacts(parent.info.run_id, f"checkpoints/{cell.key}/best.pt")
        kept = Path(cell.best.outcome["checkpoint"])
        assert Path(path).read_bytes() == kept.read_bytes()


# What the command line says of it.


def strict_json(text: str) -> Any:
    return json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is not JSON"))


def test_status_as_json_names_the_stores_and_tells_of_every_cell(
    works: Launches, home: Path, printed: Printed
) -> None:
    content = strict_json(printed("status", "works", "--json"))
    database = works.study.folder.path / "optuna.db"
    assert content["optuna_storage"] == f"sqlite:///{database}"
    assert database.exists()
    assert content["mlflow_tracking_uri"] == f"sqlite:///{home}/mlflow.db"
    assert content["mlflow_experiment"] == "works"
    assert (content["finished"], content["driven"]) == (True, False)
    assert len(content["cells"]) == 4
    for cell, found in zip(content["cells"], works.summaries[2].cells, strict=True):
        assert cell["levels"] == found.levels
        assert cell["trials"] == {
            "complete": 2, "pruned": 2, "failed": 0, "running": 0, "waiting": 0
        }  # fmt: skip
        assert found.best is not None
        assert cell["best"]["value"] == found.best.value
        assert cell["best"]["parameters"] == found.best.parameters
        assert cell["best"]["parameters"]["optimizer.learning_rate"] == 0.05


def test_status_for_a_person(works: Launches, printed: Printed) -> None:
    out = printed("status", "works")
    assert "study works: finished" in out
    assert "trials: 8 complete, 8 pruned, 0 failed, 0 running, 0 waiting" in out
    assert "learning_rate=0.05" in out


def scores(works: Launches) -> list[float]:
    return [cell.best.value for cell in works.summaries[2].cells]


def test_a_comparison_reads_back_in_every_format(works: Launches, printed: Printed) -> None:
    values = scores(works)
    content = strict_json(printed("compare", "works", "--json"))
    rows = content["cells"]
    assert content["split"] == "validation"
    assert [row["metrics"]["ndcg@5"]["mean"] for row in rows] == values
    assert [row["best_trial"] for row in rows] == [
        cell.best.number for cell in works.summaries[2].cells
    ]
    assert [(row["model"], row["gradient"]) for row in rows] == [
        ("BPR", "plain"), ("BPR", "mirror_gradient"),
        ("VBPR", "plain"), ("VBPR", "mirror_gradient"),
    ]  # fmt: skip
    differences = [row["metrics"]["ndcg@5"]["relative_difference"] for row in rows]
    assert differences[0] is differences[2] is None
    assert differences[1] == pytest.approx(values[1] / values[0] - 1)
    assert differences[3] == pytest.approx(values[3] / values[2] - 1)

    table = pd.read_csv(StringIO(printed("compare", "works", "--csv")))
    main = table[table["metric"] == "ndcg@5"]
    assert list(main["mean"]) == values
    assert list(main["pruned"]) == [2] * 4

    latex = printed("compare", "works", "--latex").splitlines()
    body = [line for line in latex if line.endswith(r"\\") and "&" in line][:5]
    assert body[0].split(" & ")[:3] == ["model", "gradient", "ndcg@5"]
    shown = [
        re.sub(r"\\(?:textbf|underline){(.*?)}|\$.*?\$", r"\1", line).split(" & ")
        for line in body[1:]
    ]
    assert [line[1] for line in shown] == ["plain", r"mirror\_gradient"] * 2
    assert [float(line[2]) for line in shown] == [round(value, 4) for value in values]
    best = max(range(4), key=lambda row: values[row])
    assert rf"\textbf{{{values[best]:.4f}}}" in body[1 + best]
    assert r"\toprule" in latex


def test_popularity_stands_in_the_table(works: Launches, printed: Printed) -> None:
    dataset = works.study.datasets["tiny"]
    counts = np.bincount(dataset.train.items, minlength=dataset.item_count).astype(np.float32)
    evaluator = Evaluator(dataset, "validation", ["ndcg@5"])
    expected = evaluator.evaluate(lambda users: torch.from_numpy(counts).repeat(len(users), 1))
    content = strict_json(printed("compare", "works", "--json"))
    assert content["popularity"]["tiny"]["ndcg@5"] == pytest.approx(expected["ndcg@5"])


def test_a_comparison_with_another_baseline(works: Launches, printed: Printed) -> None:
    values = scores(works)
    out = printed("compare", "works", "--baseline", "model=BPR", "--json")
    cells = strict_json(out)["cells"]
    differences = [row["metrics"]["ndcg@5"]["relative_difference"] for row in cells]
    assert differences[:2] == [None, None]
    assert differences[2] == pytest.approx(values[2] / values[0] - 1)
    assert differences[3] == pytest.approx(values[3] / values[1] - 1)


def test_a_comparison_for_a_person_names_its_split(works: Launches, printed: Printed) -> None:
    out = printed("compare", "works")
    assert "does [it] work from end to end?" in out
    assert all(f"{value:.4f}" in out for value in scores(works))
    assert "the test split is not touched" in out


def test_a_comparison_as_markdown_is_a_table(works: Launches, printed: Printed) -> None:
    head, rule, *rows = printed("compare", "works", "--markdown").splitlines()
    assert head.startswith("| model | gradient | ndcg@5 | ")
    assert set(rule) <= set("|-: ")
    shown = [row.split(" | ")[2].rstrip("‡") for row in rows[:4]]
    assert shown == [f"{x:.4f}" for x in scores(works)]
    assert {line.count("|") for line in (head, rule, *rows[:4])} == {head.count("|")}


def test_a_plan_of_a_finished_study_has_nothing_to_run(
    works: Launches, home: Path, printed: Printed
) -> None:
    path = home / "planned.yaml"
    path.write_text(WORKS)
    content = strict_json(printed("plan", str(path), "--set", "trials=4", "--json"))
    assert content["trials_to_run"] == 0
    assert [cell["done"] for cell in content["cells"]] == [4] * 4
    assert all(cell["seconds_per_trial"] > 0 for cell in content["cells"])
    assert "nothing is left to run" in printed("plan", str(path))
    # A new cell is expected to take as long as those of the same dataset and model.
    more = "factors.gradient=[plain, mirror_gradient, sam]"
    content = strict_json(printed("plan", str(path), "--set", more, "--json"))
    assert content["trials_to_run"] == 6
    assert content["seconds_estimated"] > 0


def test_launching_a_finished_study_prints_its_table(
    works: Launches, home: Path, printed: Printed
) -> None:
    path = home / "again.yaml"
    path.write_text(WORKS)
    out = printed("launch", str(path), "--set", "trials=4", "--home", str(home))
    # With nothing to run, no Ray is started, and the table comes at once.
    assert out.splitlines()[0] == "does [it] work from end to end?"
    assert "to run" not in out
    assert f"next: `mgstudy compare works --home {home}` for" in out
    assert f"{max(scores(works)):.4f}" in out


def test_a_comparison_without_a_single_score(
    breaks: StudySummary, printed: Printed, home: Path
) -> None:
    folder = home / ".mgstudy" / "studies" / "broken"
    shutil.copytree(folder.with_name("breaks"), folder)
    manifest = json.loads((folder / "study.json").read_text())
    (scored,) = (cell for cell in manifest["cells"] if cell["levels"]["model"] == "BPR")
    manifest["cells"].remove(scored)
    # A cell that is in the storage is shown, whatever the manifest says.
    optuna.delete_study(study_name=scored["study"], storage=f"sqlite:///{folder}/optuna.db")
    manifest["name"] = "broken"
    (folder / "study.json").write_text(json.dumps(manifest))
    for format in ("--csv", "--latex", None):
        assert "Diverging" in printed("compare", "broken", *([format] if format else []))
    cells = strict_json(printed("compare", "broken", "--json"))["cells"]
    assert [row["metrics"]["ndcg@5"]["mean"] for row in cells] == [None] * 3
    assert strict_json(printed("status", "broken", "--json"))["cells"][0]["best"] is None


# A study whose parts break.


def reason(summary: StudySummary, model: str) -> tuple[State, str]:
    (trial,) = next(cell for cell in summary.cells if cell.levels["model"] == model).trials
    return trial.state, trial.outcome["reason"]


def test_a_loss_that_is_no_number_fails_its_trial_with_epoch_and_batch(
    breaks: StudySummary,
) -> None:
    assert reason(breaks, "Diverging") == (
        State.FAILED,
        "training diverged: the loss became nan in epoch 2, batch 1",
    )


def test_a_bug_fails_its_trial_with_its_message(breaks: StudySummary, client: MlflowClient) -> None:
    state, said = reason(breaks, "Buggy")
    assert (state, said) == (State.FAILED, "KeyError: 'a bug'")
    (run,) = [r for r in runs(client, "breaks", "trial") if r.data.params["model"] == "Buggy"]
    trace = Path(client.download_artifacts(run.info.run_id, "traceback.txt")).read_text()
    assert "their_parts.py" in trace


def test_a_killed_worker_fails_its_trial_and_no_other(
    breaks: StudySummary, client: MlflowClient
) -> None:
    state, said = reason(breaks, "Killed")
    assert state is State.FAILED
    assert said.startswith("the worker broke: ")
    assert reason(breaks, "BPR") == (State.COMPLETE, "epochs")
    states = {run.data.params["model"]: run for run in runs(client, "breaks", "trial")}
    assert {model: run.info.status for model, run in states.items()} == {
        "Diverging": "FAILED",
        "Killed": "FAILED",
        "Buggy": "FAILED",
        "BPR": "FINISHED",
    }
    assert states["Killed"].data.tags["mgstudy.reason"] == said


def test_a_cell_in_which_everything_failed_ends_the_launch_with_1(
    breaks: StudySummary, home: Path, command
) -> None:
    path = home / "again.yaml"
    path.write_text(BREAKS)
    code, out, err = command("launch", path)
    assert code == 1
    assert err.startswith("error: a cell has no trial that did not fail")
    assert len(err.splitlines()) == 1
    assert "the loss became nan in epoch 2, batch 1" in out


def test_a_launch_ends_in_its_time_and_the_next_goes_on(
    home: Path, command: Callable[..., Any]
) -> None:
    text = BREAKS.replace("name: breaks", "name: limited").replace(
        "['their_parts:Diverging', 'their_parts:Killed', 'their_parts:Buggy', BPR]",
        "['their_parts:Gated']",
    )
    text += "resources: {max_concurrent: 1}\n"
    study = read(home, text.replace("learning_rate: 0.01", "learning_rate: {choice: [0.1, 0.01]}"))
    # Nobody opens the gate in time.
    ended = command("launch", home / "study.yaml", "--home", home, "--for", "6s")
    assert (ended.code, ended.err) == (0, "")
    assert (
        "the time is over: 2 trials are left; "
        f"`mgstudy resume limited --home {home} --for 6s` goes on" in ended.out
    )
    (home / "gate").touch()
    launched = api.launch(study, within="1h")
    assert launched.finished and not launched.out_of_time
    (cell,) = launched.summary.cells
    assert cell.counts["complete"] == 2
    assert [list(trial.values) for trial in cell.trials] == [[1, 2, 3, 4]] * 2


class InterruptsOnce(StudyListener):
    """Types Ctrl-C when the first trial has ended and no other has begun."""

    def trial_finished(
        self, trial: TrialRequest, state: State, value: float | None, outcome: Mapping[str, Any]
    ) -> None:
        if trial.number == 0:
            os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.parametrize("within", [None, "1h"])
def test_ctrl_c_between_two_trials_is_not_taken_for_the_end_of_a_time(
    home: Path, within: str | None
) -> None:
    text = BREAKS.replace("name: breaks", f"name: stopped-{within}").replace(
        "['their_parts:Diverging', 'their_parts:Killed', 'their_parts:Buggy', BPR]", "[BPR]"
    )
    text = text.replace("learning_rate: 0.01", "learning_rate: {choice: [0.1, 0.01]}")
    study = read(home, f"{text}resources: {{max_concurrent: 1}}\n")
    stopped = api.launch(study, listeners=[InterruptsOnce()], within=within)
    assert (stopped.finished, stopped.out_of_time) == (False, False)
    assert stopped.summary.cells[0].counts["waiting"] == 1
    assert api.launch(study).finished


def test_failed_trials_run_again_once_their_cause_is_repaired(
    home: Path, client: MlflowClient, printed: Printed
) -> None:
    text = BREAKS.replace("name: breaks", "name: repaired").replace(
        "['their_parts:Diverging', 'their_parts:Killed', 'their_parts:Buggy', BPR]",
        "['their_parts:Repairable']",
    )
    text += "resources: {max_concurrent: 1}\n"
    study = read(home, text.replace("learning_rate: 0.01", "learning_rate: {choice: [0.1, 0.01]}"))
    assert api.launch(study).summary.cells[0].counts["failed"] == 2
    (home / "repaired").touch()
    # Without being asked, nothing that failed runs again.
    assert api.launch(study).summary.cells[0].counts["failed"] == 2
    printed("resume", "repaired", "--retry-failed")
    content = strict_json(printed("status", "repaired", "--json"))
    (cell,) = content["cells"]
    assert (cell["trials"]["complete"], cell["trials"]["failed"]) == (2, 0)
    assert cell["failed_and_retried"] == 2
    out = printed("status", "repaired")
    assert "2 failed in tiny/Repairable/" in out
    assert "and got another try: KeyError: 'a bug'" in out
    states = {run.data.tags["mgstudy.trial"]: run for run in runs(client, "repaired", "trial")}
    assert [states[key].info.status for key in sorted(states)] == 2 * ["FAILED"] + 2 * ["FINISHED"]
    first, second, third, fourth = (states[key].data.params for key in sorted(states))
    assert (first, second) == (third, fourth)
