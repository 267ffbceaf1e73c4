"""Studies as things that one handles from the command line."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sqlite3
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from disks import read_only, small_disk
from driven import Driven
from mlflow.entities import ViewType
from mlflow.tracking import MlflowClient
from programs import finished

from mgstudy import api
from mgstudy.api import upkeep
from mgstudy.files import remove_all
from mgstudy.study.storage.lease import holder
from mgstudy.study.storage.optuna_storage import opened_storage
from mgstudy.tracking.ui import dashboard_storage

Command = Callable[..., Any]


@pytest.fixture
def driven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Driven:
    """A workspace with a study ``s``: in each cell a trial that failed and one that is complete."""
    monkeypatch.setenv("MGSTUDY_HOME", str(tmp_path))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    study = Driven(tmp_path, "s", trials=2)
    for _ in range(2):
        failed = study.begin()
        study.report(failed, range(1, 3))
        study.record.fail(failed, {"reason": "a bug", "traceback": "Traceback:\n  [a] bug"})
    for _ in range(2):
        study.complete(study.begin())
    return study


def test_studies_are_listed_and_damaged_ones_named(driven: Driven, command: Command) -> None:
    damaged = driven.workspace.studies / "damaged"
    damaged.mkdir()
    (damaged / "study.json").write_text("{")
    (driven.workspace.studies / "never-launched").mkdir()
    ended = command("ls")
    assert (ended.code, ended.err) == (0, "")
    assert re.search(r"^ *s +finished +2 +4/4 +2026-01-01T00:00:00\+00:00", ended.out, re.MULTILINE)
    assert "damaged: " in ended.out and "cannot be read" in ended.out
    assert "never-launched" not in ended.out
    listed = json.loads(command("ls", "--json").out)
    assert [study["study"] for study in listed] == ["s", "damaged"]
    assert command("status").out == ended.out, "status without a name says what there is"
    (driven.workspace.studies / "away").symlink_to("nowhere")
    said = {
        study["study"]: study.get("problem") for study in json.loads(command("ls", "--json").out)
    }
    assert said["s"] is None and "the link leads nowhere" in str(said["away"])


def test_an_empty_workspace_says_so(tmp_path: Path, command: Command) -> None:
    assert command("ls", "--home", tmp_path).out.startswith("no studies; `mgstudy launch FILE`")
    assert command("data", "describe", "--home", tmp_path).out.startswith("no datasets; ")
    (tmp_path / ".mgstudy" / "datasets" / "a").mkdir(parents=True)
    (tmp_path / ".mgstudy" / "datasets" / "a" / "manifest.json").write_text("{}")
    assert command("data", "describe", "--home", tmp_path).out == "a\n"


def test_a_trial_is_shown_whole(driven: Driven, command: Command) -> None:
    failed = command("trial", "s", "plain/none/adam/999/0").out
    for line in ("trial: a/BPR/plain/none/adam/999/0", "state: failed", "  reason: a bug",
                 "  1: 0.0100, 2: 0.0200", "Traceback:", "  [a] bug"):  # fmt: skip
        assert f"{line}\n" in failed, line
    assert "  optimizer.learning_rate: " in failed
    assert "MLflow: none; `mgstudy sync s` brings MLflow what it lacks\n" in failed
    driven.project()
    failed = command("trial", "s", "plain/none/adam/999/0").out
    assert re.search(
        r"^MLflow: http://127.0.0.1:5000/#/experiments/\d+/runs/\w{32}$", failed, re.MULTILINE
    )
    shown = json.loads(command("trial", "s", "a/BPR/plain/none/adam/999/1", "--json").out)
    assert (shown["state"], shown["value"], shown["outcome"]["epochs"]) == ("complete", 0.04, 3)
    assert shown["curve"] == {"1": 0.02, "2": 0.03, "3": 0.04}
    several = command("trial", "s", "0")
    assert several.code == 2
    assert "more than one cell; give one of a/BPR/plain/none/adam/999/0, " in several.err
    assert "has no trial '7'" in command("trial", "s", "7").err


def test_a_study_is_carried_and_refused_in_a_line(
    driven: Driven, command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "s.tar.xz"
    assert re.match(rf"wrote {file} \([\d.]+ \w+\)\n", command("export", "s", "--output", file).out)
    out = command("import", file, "--as", "t").out
    assert out.startswith("study t: 2 cells, 4 trials; next: `mgstudy compare t`")
    again = command("import", file)
    assert again.code == 2
    assert "there is a study 's'" in again.err and len(again.err.splitlines()) == 1
    file.write_bytes(file.read_bytes()[:-20])
    cut = command("import", file, "--as", "u")
    assert cut.code == 2 and len(cut.err.splitlines()) == 1


def test_a_study_is_deleted_with_all_that_is_of_it_and_no_other(
    driven: Driven, command: Command
) -> None:
    other = Driven(driven.home, "other", trials=1)
    for _ in range(2):
        other.complete(other.begin())
    for study in (driven, other):
        study.project()
    client = MlflowClient(f"sqlite:///{driven.home}/mlflow.db")
    client.create_registered_model("s", {"mgstudy.study": "s"})
    (run, *_) = driven.store.runs({"mgstudy.study": "s"})
    client.create_model_version("s", "file:///model", run_id=run.info.run_id)
    asked = command("delete", "s")
    assert (asked.code, asked.err) == (2, "error: nobody is here to be asked; `--yes` deletes it\n")
    assert re.match(
        r"study s \(finished\): 4 trials in 2 cells, [\d.]+ \w+ in its folder, 5 MLflow runs with "
        r"their artifacts, 1 versions of its registered model\n",
        asked.out,
    )
    assert driven.folder.path.is_dir() and (driven.home / "mlruns" / "s").is_dir()
    ended = command("delete", "s", "--yes")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.endswith("deleted study s\n")
    assert not driven.folder.path.exists() and not (driven.home / "mlruns" / "s").exists()
    assert client.search_registered_models() == []
    names = {e.name for e in client.search_experiments(view_type=ViewType.ALL)}
    assert "s" not in names and "other" in names
    assert list(api.list_studies()) == ["other"]
    assert len(api.load_study("other").trials()) == 2
    assert (driven.home / "mlruns" / "other").is_dir()
    assert "no study 's'" in command("delete", "s").err


@pytest.mark.parametrize("place", ["", ".", "{home}", "{home}/mlruns/s"])
def test_a_store_that_says_of_a_run_that_it_lies_elsewhere_removes_nothing(
    driven: Driven, command: Command, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    driven.project()
    monkeypatch.chdir(driven.home)
    lies_in = place.format(home=driven.home)
    with closing(sqlite3.connect(driven.home / "mlflow.db")) as database, database:
        database.execute("update runs set artifact_uri = ?", (lies_in,))
    before = {path for path in driven.home.rglob("*") if "-" not in path.suffix}
    ended = command("delete", "s", "--yes")
    assert ended.code == 1 and len(ended.err.splitlines()) == 1
    assert f"has its artifacts in {lies_in!r}, which is not that run's own folder" in ended.err
    assert before <= set(driven.home.rglob("*"))
    assert list(api.list_studies()) == ["s"]
    assert command("rename", "s", "t").code == 1


@contextmanager
def immovable(folder: Path) -> Iterator[Path]:
    """What nobody can remove from a folder: for root, a disk; else where nobody may write."""
    held = folder / "held"
    folder.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        with small_disk(held, "1m"):
            yield held
        return
    held.mkdir()
    (held / "file").touch()
    held.chmod(0o555)
    yield held
    held.chmod(0o755)


@pytest.mark.parametrize("place", ["study", "artifacts"])
def test_a_deletion_says_what_it_cannot_remove_and_can_be_given_again(
    driven: Driven, command: Command, place: str
) -> None:
    driven.project()
    folder = driven.folder.checkpoints if place == "study" else driven.home / "mlruns" / "s"
    with immovable(folder) as held:
        for _ in range(2):
            ended = command("delete", "s", "--yes")
            assert ended.code == 1 and len(ended.err.splitlines()) == 1
            assert re.search(rf"{held}[^:]*: cannot be removed: [A-Z].*", ended.err), ended.err
            assert "deleted study" not in ended.out
            assert list(api.list_studies()) == ["s"], "it can be given again"
    assert command("delete", "s", "--yes").out.endswith("deleted study s\n")
    assert not driven.folder.path.exists() and not (driven.home / "mlruns" / "s").exists()


def test_trials_that_cannot_be_deleted_are_not_said_to_be(
    driven: Driven, command: Command, tmp_path: Path
) -> None:
    """Their storage may only be read, as if it lay on a disk that is mounted so."""
    folder, view = tmp_path / "folder", tmp_path / "view"
    with read_only(folder, view):
        shutil.copy(driven.folder.own_storage, folder / "optuna.db")
        content = json.loads(driven.folder.manifest.read_text())
        content["config"]["storage"] = f"sqlite:///{view}/optuna.db"
        driven.folder.manifest.write_text(json.dumps(content))
        for words in (("delete", "s", "--yes"), ("rename", "s", "t")):
            ended = command(*words)
            assert ended.code == 1 and ended.err.count("\n") == 1, ended
            assert "optuna.db cannot be opened: unable to open database file" in ended.err
            assert list(api.list_studies()) == ["s"]


def test_a_study_whose_password_is_not_known_here_is_listed(
    driven: Driven, command: Command
) -> None:
    content = json.loads(driven.folder.manifest.read_text())
    content["config"]["storage"] = "postgresql://me:${NOT_SET_HERE}@nowhere/studies"
    driven.folder.manifest.write_text(json.dumps(content))
    assert re.search(r"^s: .*NOT_SET_HERE", command("ls").out, re.MULTILINE)


def test_a_study_is_renamed_with_its_runs(driven: Driven, command: Command) -> None:
    driven.project()
    before = api.read_summary("s")
    refused = command("rename", "s", "../t")
    assert refused.code == 2 and "a study's name" in refused.err
    # What MLflow does not let happen can be tried again.
    database = driven.home / "mlflow.db"
    content = database.read_bytes()
    database.write_bytes(b"no database")
    assert command("rename", "s", "t").code == 1
    assert list(api.list_studies()) == ["s"]
    database.write_bytes(content)
    ended = command("rename", "s", "t")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "study s is t; `mgstudy sync t` makes its MLflow runs\n"
    assert list(api.list_studies()) == ["t"]
    after = api.read_summary("t")
    assert after.hidden == []
    for old, new in zip(before.cells, after.cells, strict=True):
        assert [(t.key, t.value, t.state) for t in old.trials] == [
            (t.key, t.value, t.state) for t in new.trials
        ]
        assert new.best.weights.is_file() and new.best.outcome["checkpoint"] == str(
            new.best.weights
        )
    command("sync", "t")
    client = MlflowClient(f"sqlite:///{driven.home}/mlflow.db")
    names = {e.name for e in client.search_experiments(view_type=ViewType.ALL)}
    assert "t" in names and "s" not in names
    (experiment,) = (e for e in client.search_experiments() if e.name == "t")
    assert len(client.search_runs([experiment.experiment_id])) == 5


KILLED = """
import os, signal, sys
from optuna.storages import RDBStorage
from mgstudy import api
from mgstudy.study.definition.manifest import StudyManifest

owner, name, calls = {"storage": RDBStorage, "manifest": StudyManifest}[sys.argv[1]], *sys.argv[2:]
called, left = getattr(owner, name), int(calls)

def count(*given):
    global left
    left -= 1
    if left < 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return called(*given)

setattr(owner, name, count)
api.rename_study("s", "t")
"""


def test_a_renaming_that_is_killed_anywhere_can_be_given_again(
    driven: Driven, command: Command
) -> None:
    before = [[trial.key for trial in cell.trials] for cell in api.read_summary("s").cells]
    for where in (("storage", "create_new_trial", 3), ("manifest", "write", 0),
                  ("storage", "delete_study", 3)):  # fmt: skip
        finished(sys.executable, "-c", KILLED, *where, code=-signal.SIGKILL)
        assert list(api.list_studies()) == ["s"]
        cells = api.read_summary("s").cells
        assert [[trial.key for trial in cell.trials] for cell in cells] == before, where
    ended = command("rename", "s", "t")
    assert (ended.code, ended.err) == (0, "")
    cells = api.read_summary("t").cells
    assert [[trial.key for trial in cell.trials] for cell in cells] == before
    assert all(cell.best.weights.is_file() for cell in cells)
    with opened_storage(f"sqlite:///{driven.workspace.studies}/t/optuna.db") as storage:
        names = [study.study_name for study in storage.get_all_studies()]
    assert len(names) == 2 and all(name.startswith("t/") for name in names)
    assert command("rename", "t", "s").code == 0


def test_a_study_that_is_being_deleted_is_held_until_nothing_is_left(
    driven: Driven, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url, held = driven.folder.path, f"sqlite:///{driven.folder.own_storage}", []

    def observed(paths: Iterable[Path]) -> None:
        held.append(holder(folder, url, "s").is_alive)
        remove_all(paths)
        held.append(not folder.exists() or holder(folder, url, "s").is_alive)

    monkeypatch.setattr(upkeep, "remove_all", observed)
    assert command("delete", "s", "--yes").code == 0
    assert held == [True] * 6
    assert not folder.exists()


def test_a_folder_without_a_study_is_no_page_and_no_dashboard(
    driven: Driven, command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As a launch leaves it that was killed before its Ray had started."""
    (driven.workspace.studies / "begun").mkdir()
    assert dashboard_storage(driven.workspace, None) == f"sqlite:///{driven.folder.own_storage}"
    away = tmp_path / "away"
    (away / ".mgstudy" / "studies" / "begun").mkdir(parents=True)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    ended = command("ui", "--home", away)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "MLflow's UI is where its server is: http://127.0.0.1:9\n"


def test_two_baselines_are_refused_rather_than_one_of_them_taken(command: Command) -> None:
    ended = command("compare", "s", "--baseline", "gradient=plain", "--baseline", "robust=none")
    assert ended.code == 2
    assert ended.err.startswith("error: give --baseline once: ")


def test_a_study_is_shown_with_where_it_lies_and_how_large(
    driven: Driven, command: Command
) -> None:
    shown = json.loads(command("show", "s", "--json").out)
    assert shown["folder"] == str(driven.folder.path)
    assert shown["bytes"]["checkpoints"] == len(
        "".join(path.read_text() for path in driven.folder.checkpoints.rglob("best.pt"))
    )
    assert shown["factors"] == {"gradient": ["plain", "mirror_gradient"]}
    assert (shown["ended"], shown["trials"], shown["git_revision"]) == (4, 4, "abc")
    out = command("show", "s").out
    assert f"folder: {driven.folder.path}\n" in out
    assert re.search(r"^size: .* optuna\.db .* checkpoints 64 bytes\)$", out, re.MULTILINE)
