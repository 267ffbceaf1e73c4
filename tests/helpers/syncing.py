"""Bring MLflow up to a study in a process that may be killed."""

from __future__ import annotations

import multiprocessing
from multiprocessing.process import BaseProcess
from pathlib import Path

from mgstudy.api.results import sync


def sync_in_process(name: str, home: Path, rebuild: bool = False) -> BaseProcess:
    """Begin ``mgstudy sync`` in another process, which has everything imported.

    What is imported for it must lie where any Python looks: the server that forks searches no
    folder that pytest has added, and does not say so.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([sync.__module__, "mlflow.tracking", "mlflow.entities"])
    process = context.Process(target=sync, args=(name, home, rebuild))
    process.start()
    return process
