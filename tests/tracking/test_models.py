"""A study's trained models: registered in MLflow, and what they recommend. Their weights are as
they begin: what they rank is no question here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from driven import Driven
from mlflow.tracking import MlflowClient

import mgstudy
from mgstudy import api
from mgstudy.data.loading import raw_ids
from mgstudy.models.base import EmbeddingRecommender
from mgstudy.tracking.models import cells_without_model, register_models
from mgstudy.tracking.removal import found_in_mlflow, remove_from_mlflow
from mgstudy.training.checkpoint import load_checkpoint, save_checkpoint
from mgstudy.training.run import build_model
from mgstudy.workspace import Workspace

USERS = [f"u{number}" for number in range(6)]
ITEMS = [f"B{number:03}" for number in range(24)]
PLAIN, MIRROR = "a-BPR-plain-none-adam-999", "a-BPR-mirror_gradient-none-adam-999"
BOUGHT = {
    user: [ITEMS[(5 * at + step) % len(ITEMS)] for step in range(5)]
    for at, user in enumerate(USERS)
}
"""What users bought, in this order: of the five items, three are trained on."""
PIPELINE = """\
name: a
source: {{kind: table, interactions: {log}, timestamp: time}}
steps: [reindex, split_leave_out]
"""


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a dataset that the raw data calls its users and items in words."""
    folder = tmp_path_factory.mktemp("models")
    rows = [f"{user},{item},{at}" for user, own in BOUGHT.items() for at, item in enumerate(own)]
    (folder / "log.csv").write_text("\n".join(["user,item,time", *rows]) + "\n")
    (folder / "a.yaml").write_text(PIPELINE.format(log=folder / "log.csv"))
    api.prepare(folder / "a.yaml", home=folder)
    return folder


@pytest.fixture
def trained(home: Path, driven: Callable[..., Driven]) -> Driven:
    """The test's study: a model of each of its two cells."""
    dataset = api.load_dataset("a", home)
    made = driven(trials=1, dataset=dataset)
    for _ in range(2):
        trial = made.begin()
        made.complete(trial)
        own = trial.cell.own("model", "BPR", trial.parameters)
        weights = build_model(dataset, model="BPR", model_parameters=own).state_dict()
        save_checkpoint(made.folder.checkpoints / trial.key / "best.pt", {"model": weights})
    made.project()
    return made


def _register(made: Driven) -> list[str]:
    study = api.read_launched_study(made.name, made.home)
    return register_models(made.store, study, api.read_summary(made.name, made.home))


def _expected(made: Driven, user: str, k: int) -> list[tuple[str, float]]:
    """Items and scores of the plain cell's model, from its weights."""
    dataset = api.load_dataset("a", made.home)
    state = next(c for c in api.read_summary(made.name, made.home).cells if "plain" in c.key)
    cell = next(c for c in api.read_launched_study(made.name, made.home).plan.cells
                if c.key == state.key)  # fmt: skip
    assert state.best is not None
    own = cell.own("model", "BPR", state.best.parameters)
    model = build_model(dataset, model="BPR", model_parameters=own)
    assert isinstance(model, EmbeddingRecommender)
    model.load_state_dict(load_checkpoint(state.best.weights)["model"])
    users, items = (table.detach().numpy() for table in model.representations())
    user_ids, item_ids = (ids.tolist() for ids in raw_ids(Workspace(made.home), "a"))
    scores = users[user_ids.index(user)] @ items.T
    scores[[item_ids.index(item) for item in BOUGHT[user][:3]]] = -np.inf
    best = np.argsort(-scores, kind="stable")[:k]
    return [(item_ids[item], scores[item]) for item in best]


def test_one_model_a_study_answers_in_raw_ids_from_any_folder(
    trained: Driven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = api.read_summary(trained.name, trained.home)
    with pytest.MonkeyPatch.context() as quiet:
        quiet.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{trained.home}/mlflow.db")
        registered = _register(trained)
    assert sorted(registered) == [f"models:/{trained.name}@{alias}" for alias in (MIRROR, PLAIN)]
    assert cells_without_model(trained.store, summary) == []
    assert _register(trained) == registered
    client = MlflowClient(summary.tracking_uri)
    assert len(client.search_model_versions(f"name = '{trained.name}'")) == 2
    monkeypatch.chdir(tmp_path)
    # As mlflow.set_tracking_uri(), which would outlive this test.
    monkeypatch.setenv(
        "MLFLOW_TRACKING_URI", mgstudy.read_summary(trained.name, trained.home).tracking_uri
    )
    model = mlflow.pyfunc.load_model(f"models:/{trained.name}@{PLAIN}")
    given = model.predict(["u4", "u0"], params={"k": 2})
    assert list(given.columns) == ["user", "rank", "item", "score"]
    assert given["user"].tolist() == ["u4", "u4", "u0", "u0"]
    expected = [pair for user in ("u4", "u0") for pair in _expected(trained, user, 2)]
    assert given["item"].tolist() == [item for item, _ in expected]
    assert given["score"].tolist() == pytest.approx([score for _, score in expected], rel=1e-5)
    with pytest.raises(ValueError, match="unknown user u9: the model knows 6 users, such as u"):
        model.predict(["u9"])


def test_lists_are_written_in_raw_ids(
    trained: Driven, command: Callable[..., Any], tmp_path: Path
) -> None:
    (tmp_path / "users.txt").write_text("u4\r\n\n u0 \n", "utf-8-sig")
    lists = tmp_path / "out" / "lists.parquet"
    at = ("--home", trained.home)
    asked = ("--users", tmp_path / "users.txt", "--k", 2, "--output", lists)
    ended = command("recommend", trained.name, "BPR/plain", *asked, *at)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"wrote {lists}: 4 rows, 2 users\n"
    written = pd.read_parquet(lists)
    expected = [pair for user in ("u4", "u0") for pair in _expected(trained, user, 2)]
    assert written["user"].tolist() == ["u4", "u4", "u0", "u0"]
    assert written["rank"].tolist() == [1, 2, 1, 2]
    assert written["item"].tolist() == [item for item, _ in expected]
    assert written["score"].tolist() == pytest.approx([score for _, score in expected], rel=1e-5)
    command("recommend", trained.name, "plain", "--k", 99, "--output", tmp_path / "all.csv", *at)
    every = pd.read_csv(tmp_path / "all.csv")
    # Of all items, what a user was trained on is left out.
    assert {user: set(rows["item"]) for user, rows in every.groupby("user")} == {
        user: set(ITEMS) - set(own[:3]) for user, own in BOUGHT.items()
    }


def test_what_cannot_be_recommended_is_refused_in_a_line(
    trained: Driven, command: Callable[..., Any], tmp_path: Path
) -> None:
    for cell, users, complaint in [
        ("BPR", "u0", "'BPR' is in more than one cell; give one of a/BPR/plain/none/"),
        ("VBPR", "u0", "has no cell 'VBPR'; known: a/BPR/"),
        ("plain", "u0\nu9\nx", "knows no user u9, x (2 of 3 are unknown); it has 6, such as u"),
        ("plain", "\n", "users.txt: names no user; expected one on each line"),
    ]:
        (tmp_path / "users.txt").write_text(users)
        files = ("--users", tmp_path / "users.txt", "--output", tmp_path / "x")
        ended = command("recommend", trained.name, cell, *files, "--home", trained.home)
        assert ended.code == 2
        assert complaint in ended.err and len(ended.err.splitlines()) == 1
        assert not (tmp_path / "x").exists()
    for users, complaint in (
        (tmp_path, "is a folder"),
        ("/dev/zero", "is a pipe"),
        ("no", "no such"),
    ):
        with pytest.raises(mgstudy.InputError, match=complaint):
            api.read_users(users)


def test_why_a_cell_has_no_model_is_said(trained: Driven) -> None:
    with pytest.raises(mgstudy.InputError, match="users: none are given"):
        api.recommend(trained.name, "plain", [], home=trained.home)
    (best,) = trained.folder.checkpoints.rglob("plain/**/best.pt")
    best.unlink()
    with pytest.raises(mgstudy.MgstudyError, match="its weights are no longer in "):
        api.recommend(trained.name, "plain", home=trained.home)


def test_a_model_of_the_same_name_that_is_not_the_studys_stays(trained: Driven) -> None:
    summary = api.read_summary(trained.name, trained.home)
    client = MlflowClient(summary.tracking_uri)
    client.create_registered_model(trained.name)
    theirs = client.create_model_version(trained.name, "file:///theirs")
    _register(trained)
    found = found_in_mlflow(trained.store, summary)
    assert sorted(found.models) == ["2", "3"]
    remove_from_mlflow(trained.store, found)
    (left,) = client.search_model_versions(f"name = '{trained.name}'")
    assert left.version == theirs.version
