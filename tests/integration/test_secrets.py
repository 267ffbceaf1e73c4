"""What a study prints, keeps and records where its URLs hold passwords and tokens."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import sqlalchemy
from mlflow_server import MlflowServer
from waiting import free_port

from mgstudy import api
from mgstudy.private.ray import agent_on_a_free_port

pytestmark = pytest.mark.integration

SECRET = "s3cret"
PIPELINE = """\
name: tiny
source:
  {kind: synthetic, users: 30, items: 40, interactions_per_user: 8, modalities: {image: {width: 2}}}
"""
STUDY = """\
name: quiet
factors: {{dataset: [tiny], model: [VBPR, "theirs:Broken"]}}
space: {{optimizer: {{learning_rate: {{log_float: [1.0e-3, 1.0e-1]}}}}}}
trials: 1
training: {{epochs: 2, objective: ndcg@5, measures: [ndcg], cutoffs: [5]}}
storage: {storage}
tracking: {{uri: "{tracking}"}}
"""
THEIRS = """\
from mgstudy.models.bpr import BPR

class Broken(BPR):
    name = "broken"

    def before_epoch(self, epoch):
        if epoch == 1:  # In the first, a plan would see it.
            raise KeyError("a bug")
"""


@pytest.fixture
def folder(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder, short because of Ray's sockets, that holds all that a study writes."""
    folder = Path(tempfile.mkdtemp(prefix="mgs-", dir="/tmp"))
    monkeypatch.setenv("MGSTUDY_HOME", str(folder / "home"))
    monkeypatch.setenv("RAY_TMPDIR", str(folder / "ray"))
    monkeypatch.setenv("STORAGE_PASSWORD", f"{SECRET}-1")
    monkeypatch.setenv("TRACKING_PASSWORD", f"{SECRET}-2")
    monkeypatch.setenv("PYTHONPATH", str(folder), prepend=os.pathsep)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.chdir(folder)
    (folder / "theirs.py").write_text(THEIRS)
    (folder / "tiny.yaml").write_text(PIPELINE)
    api.prepare(folder / "tiny.yaml")
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def dashboard(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a Ray on this machine, with room for one trial, that takes jobs."""
    with agent_on_a_free_port():
        started = ray.init(
            address="local",
            num_cpus=1,
            num_gpus=0,
            include_dashboard=True,
            dashboard_port=free_port(),
            log_to_driver=False,
            logging_level="ERROR",
        )
    yield f"http://{started.dashboard_url}"
    ray.shutdown()


def test_no_secret_of_a_study_is_printed_kept_or_recorded(
    folder: Path,
    dashboard: str,
    postgresql: Any,
    empty_store: Path,
    command: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Launched while MLflow is away and submitted with the passwords in variables; delivered,
    measured and read once MLflow is there."""
    bare = postgresql.new_database("quiet")
    server = MlflowServer(folder / "server", empty_store)
    study = folder / "sent" / "study.yaml"
    study.parent.mkdir()
    said: list[Any] = []

    def typed(code: int, *words: object) -> None:
        said.append(command(*words))
        assert said[-1].code == code, said[-1]

    def write(storage: str, tracking: str) -> str:
        kept = bare.replace("study@", f"study:{storage}@")
        sent = server.uri.replace("://", f"://{tracking}@")
        study.write_text(STUDY.format(storage=kept, tracking=sent))
        return kept

    storage = write(f"{SECRET}-3", f"{SECRET}-4")
    typed(1, "launch", study)
    assert "does not take records" in caplog.text
    typed(2, "compare", "quiet")
    typed(2, "sync", "quiet")
    unreachable = storage.replace(f":{postgresql.port}", ":1")
    typed(1, "plan", study, "--set", f"storage={unreachable}")
    typed(2, "plan", study, "--set", f"tracking.uri=nosuch://{SECRET}-5@host")
    write(f"{SECRET}-3", f"me:{SECRET}-6")
    typed(1, "launch", study)
    write("${STORAGE_PASSWORD}", "me:${TRACKING_PASSWORD}")
    where = ("--working-directory", study.parent, "--home", folder / "home")
    typed(1, "submit", study, "--address", dashboard, "--no-check", *where)
    assert "records wait for MLflow" in said[-1].out, said[-1]
    server.start()
    try:
        typed(0, "sync", "quiet")
        typed(0, "robustness", "quiet", "--risks", "gaussian_noise")
        typed(0, "report", "quiet")
    finally:
        server.kill()
    shutil.rmtree(study.parent)
    places = {
        "what was said": repr(said).encode(),
        "what was logged": caplog.text.encode(),
        "the storage": _content(bare).encode(),
    }
    places |= {str(file): file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    assert [name for name, content in places.items() if SECRET.encode() in content] == []
    assert any(b"KeyError" in content for name, content in places.items() if "mlflow.db" in name)


def _content(url: str) -> str:
    """All that a database holds."""
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg:"))
    with engine.connect() as connection:
        tables = sqlalchemy.inspect(connection).get_table_names()
        rows = [list(connection.execute(sqlalchemy.text(f"select * from {t}"))) for t in tables]
    engine.dispose()
    return repr(rows)
