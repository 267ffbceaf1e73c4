"""A workspace at a URL, on a real S3 server."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import s3fs
from moto.server import ThreadedMotoServer

from mgstudy import api
from mgstudy.data.loading import list_datasets
from mgstudy.data.tables import TableStore
from mgstudy.data.workspace import Workspace
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.folder import StudyFolder

PIPELINE = """\
name: tiny
source: {kind: synthetic, users: 40, items: 30, interactions_per_user: 6}
"""
URL = "s3://studies/team"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    running = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    running.start()
    _host, port = running.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    running.stop()


@pytest.fixture
def machine(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a machine that has seen nothing yet, and an empty bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    become(monkeypatch, tmp_path / "first")
    s3fs.S3FileSystem().mkdir("studies")
    yield
    s3fs.S3FileSystem.clear_instance_cache()
    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    s3fs.S3FileSystem().rm("studies", recursive=True)


def become(monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    """Go on as another machine, whose copies are in ``cache``."""
    monkeypatch.setenv("MGSTUDY_CACHE", str(cache))
    s3fs.S3FileSystem.clear_instance_cache()


@pytest.fixture
def prepared(machine: None, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(PIPELINE)
    api.prepare(tmp_path / "tiny.yaml", home=URL)


def test_what_one_machine_prepares_another_trains_on(
    prepared: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = api.load_dataset("tiny", home=URL)
    become(monkeypatch, tmp_path / "second")
    there = api.load_dataset("tiny", home=URL)
    assert there.fingerprint == here.fingerprint
    np.testing.assert_array_equal(there.train.items, here.train.items)
    for modality, table in here.features.items():
        np.testing.assert_array_equal(there.features[modality], table)
    assert [manifest.name for manifest in list_datasets(Workspace.resolve(URL))] == ["tiny"]
    assert str(Workspace.resolve(URL).home).startswith(str(tmp_path / "second"))


def test_a_table_is_fetched_once_and_a_manifest_every_time(
    prepared: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, tmp_path / "second")
    workspace = Workspace.resolve(URL)
    api.load_dataset("tiny", home=URL)
    tables = sorted(workspace.tables.glob("*.parquet"))
    assert tables
    files = s3fs.S3FileSystem()
    for table in tables:
        files.rm(f"studies/team/.mgstudy/tables/{table.name}")
    api.load_dataset("tiny", home=URL)

    files.rm("studies/team/.mgstudy/datasets/tiny/manifest.json")
    with pytest.raises(InputError, match=rf"'tiny' is not prepared in {URL}"):
        api.load_dataset("tiny", home=URL)


def test_a_table_that_was_cut_short_on_this_machine_is_made_again(prepared: None) -> None:
    workspace = Workspace.resolve(URL)
    manifest = list_datasets(workspace)[0]
    path = TableStore(workspace.tables).path(manifest.interactions.key)
    path.write_bytes(path.read_bytes()[:100])
    assert api.load_dataset("tiny", home=URL).fingerprint == manifest.interactions.key


def test_the_manifest_of_a_study_is_found_from_another_machine(
    machine: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StudyFolder.of(Workspace.resolve(URL), "tiktok").write_manifest({"name": "tiktok"})
    become(monkeypatch, tmp_path / "second")
    found = StudyFolder.existing(Workspace.resolve(URL), "tiktok")
    assert found.read_manifest() == {"name": "tiktok"}
    with pytest.raises(InputError, match=r"no study 'tictok' in .*did you mean 'tiktok'"):
        StudyFolder.existing(Workspace.resolve(URL), "tictok")


def test_a_study_there_needs_servers_and_says_how_to_name_them(
    prepared: None, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: x\nfactors: {dataset: [tiny], model: [BPR]}\ntrials: 1\n"
    )
    study = api.read_study(tmp_path / "study.yaml", home=URL)
    with pytest.raises(InputError, match=r"needs a database.*storage: postgresql://"):
        api.launch(study)
    database = f"storage=sqlite:///{tmp_path}/x.db"
    study = api.read_study(tmp_path / "study.yaml", [database], home=URL)
    with pytest.raises(InputError, match="needs an MLflow server"):
        api.launch(study)


def test_a_server_that_does_not_answer_is_named(
    machine: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    s3fs.S3FileSystem.clear_instance_cache()
    with pytest.raises(MgstudyError, match=rf"{URL}/.*manifest\.json: cannot be reached"):
        api.load_dataset("tiny", home=URL)
