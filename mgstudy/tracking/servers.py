"""Start the servers whose pages a study is looked at in: MLflow's UI and Optuna's dashboard."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
from types import FrameType
from typing import NoReturn

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.tracking.pages import Page, study_pages
from mgstudy.urls import expand_url, first_line
from mgstudy.workspace import Workspace


def become_mlflow(uri: str, host: str, port: int) -> NoReturn:
    """Replace this process by MLflow's UI on a store.

    Args:
        uri: The store.
        host: Address to listen on.
        port: Port to listen on.
    """
    command, environment = _mlflow(uri, host, port)
    os.execve(sys.executable, command, environment)


def serve_dashboard(
    storage: str, host: str, port: int, beside: tuple[str, int] | None = None
) -> None:
    """Serve Optuna's dashboard until the process is told to end.

    Args:
        storage: URL of the Optuna storage.
        host: Address to listen on.
        port: Port to listen on.
        beside: MLflow store and port; MLflow's UI is served as well, by a process of its own.

    Raises:
        MgstudyError: If the storage cannot be opened or the port is taken.
    """
    from optuna_dashboard import run_server  # noqa: PLC0415

    opened = open_storage(storage, create=False)
    mlflow = None
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        if beside is not None:
            command, environment = _mlflow(beside[0], host, beside[1])
            mlflow = subprocess.Popen(command, env=environment)
        run_server(opened, host=host, port=port)
    except OSError as error:
        raise MgstudyError(f"Optuna's dashboard on {host}:{port}: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGTERM, previous)
        if mlflow is not None:
            mlflow.terminate()
            mlflow.wait()


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
    return expand_url(StudyManifest.read(StudyFolder.existing(workspace, study)).storage)


def known_pages(workspace: Workspace, study: str | None, server: str) -> list[Page]:
    """The pages of one study, or of every study of the workspace.

    A tracking server that does not answer costs the addresses and nothing else.

    Raises:
        InputError: If the workspace has no study of that name.
    """
    names = workspace.names(workspace.studies) if study is None else [study]
    pages: list[Page] = []
    for name in names:
        StudyFolder.existing(workspace, name)
        try:
            pages += study_pages(workspace, name, server)
        except MgstudyError:
            raise
        except Exception as error:  # Whatever the tracking server does.
            print(f"no addresses for study {name}: {first_line(error)}", file=sys.stderr)
    return pages


def _mlflow(uri: str, host: str, port: int) -> tuple[list[str], dict[str, str]]:
    command = [sys.executable, "-m", "mlflow", "ui", "--host", host, "--port", str(port)]
    # One worker is enough for one reader; several would each load everything when the UI opens.
    command += ["--workers", "1"]
    # Everyone on the machine can read a command's arguments; the URI may hold a password.
    return command, {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri}


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt
