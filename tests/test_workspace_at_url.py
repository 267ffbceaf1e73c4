"""A workspace at a URL, on servers that speak Amazon S3 and Google Cloud Storage."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import fsspec.config
import gcp_storage_emulator.server
import numpy as np
import pytest
from fsspec import AbstractFileSystem, get_filesystem_class
from moto.server import ThreadedMotoServer
from states import summary_of
from waiting import free_port

from mgstudy import api
from mgstudy.data.loading import read_manifest
from mgstudy.data.tables import TableStore
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace

pytestmark = pytest.mark.integration

PIPELINE = """\
name: tiny
source: {kind: synthetic, users: 40, items: 30, interactions_per_user: 6}
"""


@dataclass(frozen=True)
class Cloud:
    """An object store on this machine, with a bucket ``shared``; moto keeps those of other tests
    for the whole process."""

    scheme: str
    address_variable: str
    address: str

    @property
    def url(self) -> str:
        return f"{self.scheme}://shared/team"

    def files(self) -> AbstractFileSystem:
        """A client that remembers nothing."""
        cls = get_filesystem_class(self.scheme)
        cls.clear_instance_cache()
        files: AbstractFileSystem = cls()
        return files


@pytest.fixture(scope="module", params=["s3", "gs"])
def cloud(request: pytest.FixtureRequest) -> Iterator[Cloud]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    if request.param == "s3":
        amazon = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        amazon.start()
        _host, port = amazon.get_host_and_port()
        yield Cloud("s3", "AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
        amazon.stop()
        return
    port = free_port()
    with gcp_storage_emulator.server.create_server("127.0.0.1", port, in_memory=True):
        yield Cloud("gs", "STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")


@pytest.fixture
def machine(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """This process as a machine that has seen nothing yet, and an empty bucket."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    # Else its client asks Google who this is, and what kind of bucket that.
    monkeypatch.setitem(fsspec.config.conf, "gs", {"token": "anon"})
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")
    monkeypatch.setenv(cloud.address_variable, cloud.address)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    become(monkeypatch, tmp_path / "first", cloud)
    cloud.files().mkdir("shared")
    yield
    monkeypatch.setenv(cloud.address_variable, cloud.address)
    cloud.files().rm("shared", recursive=True)
    cloud.files()


def become(monkeypatch: pytest.MonkeyPatch, cache: Path, cloud: Cloud) -> None:
    """Go on as another machine, whose copies are in ``cache``."""
    monkeypatch.setenv("MGSTUDY_CACHE", str(cache))
    cloud.files()


@pytest.fixture
def prepared(machine: None, cloud: Cloud, tmp_path: Path) -> None:
    (tmp_path / "tiny.yaml").write_text(PIPELINE)
    api.prepare(tmp_path / "tiny.yaml", home=cloud.url)


def test_what_one_machine_prepares_another_trains_on(
    prepared: None, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = api.load_dataset("tiny", home=cloud.url)
    become(monkeypatch, tmp_path / "second", cloud)
    there = api.load_dataset("tiny", home=cloud.url)
    assert there.fingerprint == here.fingerprint
    np.testing.assert_array_equal(there.train.items, here.train.items)
    for modality, table in here.features.items():
        np.testing.assert_array_equal(there.features[modality], table)
    workspace = Workspace.resolve(cloud.url)
    assert workspace.names(workspace.datasets) == ["tiny"]
    assert str(Workspace.resolve(cloud.url).home).startswith(str(tmp_path / "second"))


def test_a_table_is_fetched_once_and_a_manifest_every_time(
    prepared: None, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, tmp_path / "second", cloud)
    workspace = Workspace.resolve(cloud.url)
    api.load_dataset("tiny", home=cloud.url)
    tables = sorted(workspace.tables.glob("*.parquet"))
    assert tables
    files = cloud.files()
    for table in tables:
        files.rm(f"shared/team/.mgstudy/tables/{table.name}")
    api.load_dataset("tiny", home=cloud.url)

    files.rm("shared/team/.mgstudy/datasets/tiny/manifest.json")
    with pytest.raises(InputError, match=rf"'tiny' is not prepared in {cloud.url}"):
        api.load_dataset("tiny", home=cloud.url)


def test_a_table_that_was_cut_short_on_this_machine_is_made_again(
    prepared: None, cloud: Cloud
) -> None:
    workspace = Workspace.resolve(cloud.url)
    manifest = read_manifest(workspace, "tiny")
    path = TableStore(workspace.tables).path(manifest.interactions.key)
    path.write_bytes(path.read_bytes()[:100])
    assert api.load_dataset("tiny", home=cloud.url).fingerprint == manifest.interactions.key


def test_the_manifest_of_a_study_is_found_from_another_machine(
    machine: None, cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    manifest = summary_of([], "tiktok").manifest
    manifest.write(StudyFolder.of(Workspace.resolve(cloud.url), "tiktok"))
    become(monkeypatch, tmp_path / "second", cloud)
    found = StudyFolder.existing(Workspace.resolve(cloud.url), "tiktok")
    assert StudyManifest.read(found) == manifest
    with pytest.raises(InputError, match=r"no study 'tictok' in .*did you mean 'tiktok'"):
        StudyFolder.existing(Workspace.resolve(cloud.url), "tictok")


def test_a_study_there_needs_servers_and_says_how_to_name_them(
    prepared: None, cloud: Cloud, tmp_path: Path
) -> None:
    (tmp_path / "study.yaml").write_text(
        "name: x\nfactors: {dataset: [tiny], model: [BPR]}\ntrials: 1\n"
    )
    study = api.read_study(tmp_path / "study.yaml", home=cloud.url)
    with pytest.raises(InputError, match=r"needs a database.*storage: postgresql://"):
        api.launch(study)
    database = f"storage=sqlite:///{tmp_path}/x.db"
    study = api.read_study(tmp_path / "study.yaml", [database], home=cloud.url)
    with pytest.raises(InputError, match="needs an MLflow server"):
        api.launch(study)


@pytest.mark.parametrize("cloud", ["s3"], indirect=True)
def test_a_server_that_does_not_answer_is_named(
    machine: None, cloud: Cloud, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(cloud.address_variable, f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    cloud.files()
    with pytest.raises(MgstudyError, match=rf"{cloud.url}/.*manifest\.json: cannot be reached"):
        api.load_dataset("tiny", home=cloud.url)
