"""The pages of studies in MLflow's UI and Optuna's dashboard: their addresses, and the servers that
show them."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from contextlib import suppress
from types import FrameType
from urllib.parse import quote

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.tracking.store import TrackingStore, using_mlflow
from mgstudy.tracking.views import experiment_tags, study_views
from mgstudy.urls import first_line
from mgstudy.workspace import Workspace

_COMPARED_RUNS = 100
_PORTS = 100
_ANSWER_SECONDS = 5
_LOOK_SECONDS = 0.2


@using_mlflow()
def study_pages(workspace: Workspace, studies: Sequence[str], server: str) -> dict[str, str]:
    """Titles and addresses of the pages of studies, the newest first, after their experiments have
    been told of the views they show.

    A study that MLflow has no record of has none. A tracking server that does not answer costs the
    addresses and nothing else.

    Args:
        workspace: The workspace.
        studies: Names of studies.
        server: Address of MLflow's UI, without a slash at its end.

    Raises:
        InputError: If the workspace has no study of that name.
        MgstudyError: If its manifest cannot be read.
    """
    manifests = [StudyManifest.read(StudyFolder.existing(workspace, name)) for name in studies]
    pages: dict[str, str] = {}
    for manifest in sorted(manifests, key=lambda of: of.launched, reverse=True):
        study = manifest.name
        try:
            pages |= _pages(
                TrackingStore(workspace, manifest.config.tracking, study), manifest, server
            )
        except Exception as error:  # Whatever the tracking server does.
            print(f"no addresses for study {study}: {first_line(error)}", file=sys.stderr)
    return pages


def _pages(store: TrackingStore, manifest: StudyManifest, server: str) -> dict[str, str]:
    if store.find_experiment() is None:
        return {}
    experiment = store.open_experiment(experiment_tags(manifest))
    pages = {view.title: view.address(server, experiment) for view in study_views(manifest)}
    best = store.runs({"mgstudy.study": store.study, "mgstudy.best_of_cell": "true"})
    if len(best) > 1:
        in_order = sorted(best, key=lambda run: run.info.start_time)[:_COMPARED_RUNS]
        runs = quote(json.dumps([run.info.run_id for run in in_order]))
        experiments = quote(json.dumps([experiment]))
        title = f"{store.study}: best runs of the cells, compared"
        pages[title] = f"{server}/#/compare-runs?runs={runs}&experiments={experiments}"
    return pages


def refuse_taken_port(host: str, port: int, option: str) -> None:
    """Refuse to serve where another server listens, or where none can.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        option: The option that chooses another port.

    Raises:
        MgstudyError: If the port cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MgstudyError(
                f"port {port} on {host} is taken; {option} chooses another"
            ) from error
        raise MgstudyError(f"nothing can listen on {host}:{port}: {error.strerror}") from error


def free_port(host: str, first: int) -> int:
    """The first port from one on that can be had.

    Raises:
        MgstudyError: If none of a hundred can.
    """
    for port in range(first, first + _PORTS - 1):
        with suppress(MgstudyError):
            refuse_taken_port(host, port, "")
            return port
    refuse_taken_port(host, first + _PORTS - 1, "--port")
    return first + _PORTS - 1


def serve(
    host: str,
    mlflow: tuple[str, int] | None,
    dashboard: tuple[str, int] | None,
    say: Callable[[], None],
) -> None:
    """Serve pages until the process is told to end.

    Args:
        host: Address to listen on.
        mlflow: The store that MLflow's UI shows, and its port.
        dashboard: URL of the Optuna storage that the dashboard shows, and its port.
        say: Called when MLflow's UI answers.

    Raises:
        MgstudyError: If the storage cannot be opened, or a server ends by itself.
    """
    storage = None if dashboard is None else open_storage(dashboard[0], create=False)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    server = None
    try:
        if mlflow is not None:
            server = _start_mlflow(host, *mlflow)
            _wait_for_answer(server, f"http://{host}:{mlflow[1]}")
        say()
        if dashboard is not None:
            from optuna_dashboard import run_server  # noqa: PLC0415

            run_server(storage, host=host, port=dashboard[1])
        elif server is not None and server.wait():
            raise MgstudyError(f"MLflow's UI ended with exit code {server.returncode}")
    except OSError as error:
        raise MgstudyError(f"nothing can be served on {host}: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGTERM, previous)
        if server is not None:
            server.terminate()
            server.wait()


def _start_mlflow(host: str, store: str, port: int) -> subprocess.Popen[bytes]:
    # It imports nothing from the current folder. One worker is enough for one reader; several
    # would each load everything at the start.
    command = [sys.executable, "-P", "-m", "mlflow", "ui", "--workers", "1"]
    command += ["--host", host, "--port", str(port)]
    # Everyone on the machine can read a command's arguments; the URI may hold a password.
    return subprocess.Popen(command, env={**os.environ, "MLFLOW_BACKEND_STORE_URI": store})


def _wait_for_answer(server: subprocess.Popen[bytes], address: str) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while server.poll() is None:
        try:
            direct.open(f"{address}/health", timeout=_ANSWER_SECONDS).close()
        except urllib.error.HTTPError:
            return  # An answer, too.
        except OSError:
            time.sleep(_LOOK_SECONDS)
        else:
            return
    raise MgstudyError(f"MLflow's UI at {address} ended with exit code {server.returncode}")


def dashboard_storage(workspace: Workspace, study: str | None) -> str:
    """URL of the Optuna storage to show: the study's, or the only study's.

    Raises:
        InputError: If the dashboard is not installed, or no single study is meant.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise InputError("--optuna needs optuna-dashboard; type `pip install 'mgstudy[dashboard]'`")
    if study is None:
        names = StudyFolder.names(workspace)
        if len(names) != 1:
            known = ", ".join(names) if names else "none"
            raise InputError(f"--optuna shows one study; name it (known: {known})")
        (study,) = names
    folder = StudyFolder.existing(workspace, study)
    return folder.database(StudyManifest.read(folder).config)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
