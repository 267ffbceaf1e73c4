"""Whether a study's stores can be reached from where this runs."""

from __future__ import annotations

import urllib.error
import urllib.request

from mgstudy.cluster.findings import Finding, fine, problem
from mgstudy.errors import MgstudyError
from mgstudy.study.storage.lease import refuse_local_file
from mgstudy.study.storage.optuna_storage import close_storage, open_storage
from mgstudy.tracking.store import tracking_uri
from mgstudy.urls import expand_url, first_line, redacted
from mgstudy.workspace import Workspace

_TIMEOUT_SECONDS = 15


def check_storage(url: str, nodes: int = 1, create: bool = True) -> Finding:
    """Whether an Optuna storage opens.

    Args:
        url: As the study file writes it.
        nodes: Machines that the study would run on.
        create: Whether a SQLite file that does not exist may be made.
    """
    try:
        refuse_local_file(url, nodes)
        close_storage(open_storage(expand_url(url), create=create))
    except MgstudyError as error:
        return problem("storage", first_line(error), "a study needs it from the machine it runs on")
    return fine("storage", redacted(url))


def check_tracking(workspace: Workspace, configured: str | None = None) -> Finding:
    """Whether the MLflow server answers; a store that is no server is not opened.

    Args:
        workspace: The workspace, for the default store.
        configured: The study file's tracking URI.
    """
    try:
        uri = tracking_uri(workspace, configured)
    except MgstudyError as error:
        return problem("tracking", first_line(error), "set it where the study runs")
    shown = redacted(uri)
    if not uri.startswith(("http://", "https://")):
        return fine("tracking", shown)
    try:
        with urllib.request.urlopen(f"{uri.rstrip('/')}/health", timeout=_TIMEOUT_SECONDS):
            return fine("tracking", shown)
    except urllib.error.HTTPError as error:
        if error.code in (401, 403):  # It answers; whether it lets MLflow in, its client knows.
            return fine("tracking", shown)
        reason = f"answers {error.code} {error.reason}"
    except (OSError, ValueError) as error:
        reason = f"cannot be reached: {getattr(error, 'reason', error)}"
    return problem("tracking", f"{shown} {reason}", "start it, or correct `tracking.uri`")
