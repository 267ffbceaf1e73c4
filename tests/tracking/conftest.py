"""One MLflow database for all tests, each with an experiment of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest
from driven import Driven
from mlflow.tracking import MlflowClient
from mlflow_server import MlflowServer, Proxy


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Path:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    home = tmp_path_factory.mktemp("home")
    shutil.copy(empty_store, home / "mlflow.db")
    return home


@pytest.fixture
def study(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a study, and of its experiment, that no other test has."""
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return str(request.node.name)


@pytest.fixture
def driven(home: Path, study: str) -> Callable[..., Driven]:
    """Open the test's study, as every launch does."""
    return lambda **settings: Driven(**{"home": home, "name": study, **settings})


@pytest.fixture
def client(home: Path, study: str) -> MlflowClient:
    return MlflowClient(f"sqlite:///{home}/mlflow.db")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, empty_store: Path) -> Iterator[MlflowServer]:
    made = MlflowServer(tmp_path_factory.mktemp("server") / "store", empty_store)
    made.start()
    yield made
    made.kill()
    shutil.rmtree(made.folder)


@pytest.fixture
def proxy(server: MlflowServer) -> Iterator[Proxy]:
    with Proxy(server.port) as made:
        yield made


@pytest.fixture
def recorded(driven: Callable[..., Driven]) -> Callable[..., Driven]:
    """Record the test's study: a complete, a pruned, a failed and an interrupted trial."""

    def record(**settings: object) -> Driven:
        made = driven(trials=2, **settings)
        made.complete(made.begin())
        pruned, failed, waiting = made.begin(), made.begin(), made.begin()
        made.report(pruned, range(1, 3))
        made.record.prune(pruned, {"reason": "pruned", "epochs": 2, "best_value": 0.02})
        made.report(failed, range(1, 5))
        made.record.fail(failed, {"reason": "diverged", "epochs": 4, "traceback": "line 1"})
        made.report(waiting, range(1, 2))
        return made

    return record
