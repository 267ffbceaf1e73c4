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
from collections.abc import Sequence
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


@using_mlflow()
def study_pages(workspace: Workspace, studies: Sequence[str], server: str) -> dict[str, str]:
    """Titles and addresses of the pages of studies, after their experiments have been told of the
    views they show.

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
    pages: dict[str, str] = {}
    for study in studies:
        manifest = StudyManifest.read(StudyFolder.existing(workspace, study))
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


def serve(host: str, mlflow: tuple[str, int] | None, dashboard: tuple[str, int] | None) -> None:
    """Serve pages until the process is told to end; of MLflow's UI alone, by becoming it.

    Args:
        host: Address to listen on.
        mlflow: The store that MLflow's UI shows, and its port.
        dashboard: URL of the Optuna storage that the dashboard shows, and its port.

    Raises:
        MgstudyError: If the storage cannot be opened or the port is taken.
    """
    beside = None
    if mlflow is not None:
        # It imports nothing from the current folder. One worker is enough for one reader; several
        # would each load everything at the start.
        command = [sys.executable, "-P", "-m", "mlflow", "ui", "--workers", "1"]
        command += ["--host", host, "--port", str(mlflow[1])]
        # Everyone on the machine can read a command's arguments; the URI may hold a password.
        environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": mlflow[0]}
        if dashboard is None:
            os.execve(sys.executable, command, environment)
    if dashboard is None:
        return
    from optuna_dashboard import run_server  # noqa: PLC0415

    storage, port = dashboard
    opened = open_storage(storage, create=False)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        if mlflow is not None:
            beside = subprocess.Popen(command, env=environment)
        run_server(opened, host=host, port=port)
    except OSError as error:
        raise MgstudyError(f"Optuna's dashboard on {host}:{port}: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGTERM, previous)
        if beside is not None:
            beside.terminate()
            beside.wait()


def dashboard_storage(workspace: Workspace, study: str | None) -> str:
    """URL of the Optuna storage to show: the study's, or the only study's.

    Raises:
        InputError: If the dashboard is not installed, or no single study is meant.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise InputError("--optuna needs optuna-dashboard; type `pip install 'mgstudy[dashboard]'`")
    if study is None:
        names = workspace.names(workspace.studies)
        if len(names) != 1:
            known = ", ".join(names) if names else "none"
            raise InputError(f"--optuna shows one study; name it (known: {known})")
        (study,) = names
    folder = StudyFolder.existing(workspace, study)
    return folder.database(StudyManifest.read(folder).config)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
