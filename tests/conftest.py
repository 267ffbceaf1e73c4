"""What tests of every part share."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from filelock import FileLock
from programs import restore_signals
from torch_threads import torch_threads
from waiting import free_port

from mgstudy import cli
from mgstudy.data.dataset import Dataset
from mgstudy.testing import datasets

INTEGRATION = r"^pytestmark = (\[\s*)?pytest\.mark\.integration\b"


def pytest_configure() -> None:
    restore_signals()
    # Where tests run in several processes, these say a width that no terminal has.
    os.environ.pop("COLUMNS", None)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out files that ``-m`` leaves out whole: every process of a run would import them."""
    if not collection_path.name.startswith("test_"):
        return None
    text = collection_path.read_text("utf-8")
    if config.option.markexpr == "integration":
        return True if "mark.integration" not in text else None
    if config.option.markexpr == "not integration":
        return True if re.search(INTEGRATION, text, re.MULTILINE) else None
    return None


@pytest.fixture
def one_thread() -> Iterator[None]:
    """On small tensors, threads only wait for each other."""
    with torch_threads(1):
        yield


class Ended(NamedTuple):
    """What a command came to: its exit code, what it printed, and what it complained of."""

    code: int
    out: str
    err: str


Command = Callable[..., Ended]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Type a command, in this process."""

    def run(*arguments: object) -> Ended:
        monkeypatch.setattr(sys, "argv", ["mgstudy", *map(str, arguments)])
        capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            cli.main()
        printed = capsys.readouterr()
        code = ended.value.code
        return Ended(code if isinstance(code, int) else 0, printed.out, printed.err)

    return run


@pytest.fixture
def printed(command: Command) -> Callable[..., str]:
    """Type a command that succeeds, and read what it prints."""

    def run(*arguments: object) -> str:
        code, out, err = command(*arguments)
        assert (code, err) == (0, "")
        return out

    return run


class PostgresqlServer:
    """A PostgreSQL server of our own, on this machine, that can be stopped and started again.

    Args:
        programs: The folder of ``initdb`` and ``pg_ctl``.
        host: The address it listens on; whoever reaches it is let in.
    """

    def __init__(self, programs: Path, host: str = "127.0.0.1") -> None:
        self.programs = programs
        self.host = host
        self.folder = Path(tempfile.mkdtemp(prefix="mgstudy-postgresql-"))
        # It refuses to run as root.
        self.user = "postgres" if os.geteuid() == 0 else None
        if self.user:
            shutil.chown(self.folder, self.user)
        self.port = free_port(host)
        self._run("initdb", "--auth=trust", "--username=study", "--no-sync")
        with (self.folder / "data" / "pg_hba.conf").open("a") as access:
            access.write("host all all samenet trust\n")
        self.start()

    def start(self) -> None:
        options = f"-h {self.host} -p {self.port} -k {self.folder} -c max_connections=40"
        self._run("pg_ctl", "start", "--wait", "-o", options, "-l", f"{self.folder}/log")

    def stop(self, how: str = "immediate") -> None:
        """Stop it; ``immediate`` cuts all connections and flushes nothing."""
        self._run("pg_ctl", "stop", "--wait", "-m", how)

    def new_database(self, name: str) -> str:
        """Create a database; its URL."""
        self._run("psql", "-h", self.host, "-p", f"{self.port}", "-U", "study", "-d", "postgres",
                  "-c", f'CREATE DATABASE "{name}"', data=False)  # fmt: skip
        return f"postgresql://study@{self.host}:{self.port}/{name}"

    def remove(self) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _run(self, program: str, *arguments: str, data: bool = True) -> None:
        where = ["-D", str(self.folder / "data")] if data else []
        subprocess.run(
            [self.programs / program, *where, *arguments],
            user=self.user,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=120,
            cwd=self.folder,
        )


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgresqlServer]:
    """A running PostgreSQL server; skipped where none is installed."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    program = found[-1] if found else shutil.which("initdb")
    if program is None:
        pytest.skip("no PostgreSQL server is installed (initdb is not found)")
    server = PostgresqlServer(Path(program).parent)
    yield server
    server.remove()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real datasets; a test that needs it is skipped where there is none."""
    beside_the_repository = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(os.environ.get("MGSTUDY_TEST_DATA", beside_the_repository))
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; set MGSTUDY_TEST_DATA to where it is")
    return folder


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """MLflow's store as MLflow makes it, to be copied: making one takes seconds. There is one for
    all processes in which tests run."""
    from mlflow.tracking import MlflowClient

    own = tmp_path_factory.getbasetemp()
    store = (own if worker_id == "master" else own.parent) / "empty.db"
    with FileLock(f"{store}.lock"):
        if not store.exists():
            begun = store.with_name("begun.db")
            MlflowClient(f"sqlite:///{begun}").search_experiments()
            begun.rename(store)
    return store


@pytest.fixture
def small_dataset() -> Dataset:
    """60 users and 40 items in four tastes, which interactions and both modalities share."""
    return datasets.small_dataset()
