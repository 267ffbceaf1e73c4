"""What a study prints, keeps and records where its URLs hold passwords and tokens."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy
from mlflow_server import MlflowServer
from programs import MGSTUDY, finished

from mgstudy import api

pytestmark = pytest.mark.integration

SECRET = "s3cret"
PIPELINE = "name: tiny\nsource: {kind: synthetic, users: 30, items: 40, interactions_per_user: 8}\n"
STUDY = """\
name: quiet
factors: {{dataset: [tiny], model: [BPR, "theirs:Broken"]}}
space: {{optimizer: {{learning_rate: {{log_float: [1.0e-3, 1.0e-1]}}}}}}
trials: 1
training: {{epochs: 1, batch_size: 64, objective: ndcg@5, measures: [ndcg], cutoffs: [5]}}
storage: {storage}
tracking: {{uri: "{tracking}"}}
"""
THEIRS = """\
from mgstudy.models.bpr import BPR

class Broken(BPR):
    name = "broken"

    def loss(self, batch):
        raise KeyError("a bug")
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, short because of Ray's sockets, that holds all that a study writes."""
    folder = Path(tempfile.mkdtemp(prefix="mgs-", dir="/tmp"))
    monkeypatch.setenv("MGSTUDY_HOME", str(folder / "home"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder / "ray"))
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    (folder / "theirs.py").write_text(THEIRS)
    (folder / "tiny.yaml").write_text(PIPELINE)
    api.prepare(folder / "tiny.yaml")
    yield folder
    shutil.rmtree(folder)


def test_no_secret_of_a_study_is_printed_kept_or_recorded(
    folder: Path, postgresql: Any, command: Callable[..., Any]
) -> None:
    """Launched while MLflow is away and again once it is there, then read."""
    bare = postgresql.new_database("quiet")
    storage = bare.replace("study@", f"study:{SECRET}-1@")
    server = MlflowServer(folder / "server")
    server.folder.mkdir()
    token = server.uri.replace("://", f"://{SECRET}-2@")
    password = server.uri.replace("://", f"://me:{SECRET}-3@")
    study = folder / "study.yaml"
    study.write_text(STUDY.format(storage=storage, tracking=token))
    launched = finished(MGSTUDY, "launch", study, code=1)
    study.write_text(STUDY.format(storage=storage, tracking=password))
    server.start()
    try:
        unreachable = storage.replace(f":{postgresql.port}", ":1")
        said = [
            command("launch", study),
            command("compare", "quiet"),
            command("plan", study, "--set", f"storage={unreachable}"),
            command("plan", study, "--set", f"tracking.uri=nosuch://{SECRET}-4@host"),
        ]
    finally:
        server.kill()
    study.unlink()
    places = {
        "what was said": repr([launched, said]).encode(),
        "the storage": _content(bare).encode(),
    }
    places |= {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert [name for name, content in places.items() if SECRET.encode() in content] == []
    assert [ended.code for ended in said] == [1, 2, 1, 2]
    assert "does not take records" in launched.stderr
    assert any(b"KeyError" in content for name, content in places.items() if "mlflow.db" in name)


def _content(url: str) -> str:
    """All that a database holds."""
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        tables = sqlalchemy.inspect(connection).get_table_names()
        rows = [list(connection.execute(sqlalchemy.text(f"select * from {t}"))) for t in tables]
    engine.dispose()
    return repr(rows)
