"""Private parts of Ray."""

from __future__ import annotations

import functools
import gc
import json
import logging
import shlex
import signal
import sys
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

import ray
import ray._private.parameter as ray_parameter
import ray._private.utils as ray_utils
import ray._private.worker as ray_worker
from ray._private.authentication.authentication_token_setup import (
    AuthenticationTokenLoader,
    maybe_enable_token_auth_if_token_available,
)
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files
from ray.job_config import JobConfig

from mgstudy.environment import for_a_while

logger = logging.getLogger(__name__)

_WORKER_COMMAND = "--python_worker_command="
_TIMEOUT_SECONDS = 10
_VITAL = ("raylet", "gcs_server")
_RAYLET_ENDED = "Raylet is terminated"


def use_token_that_is_here() -> None:
    """Connect with the token of ``~/.ray/auth_token`` or ``RAY_AUTH_TOKEN``, if there is one.

    Stands in for ``ray.init(address)``, which does so by itself only for the address ``auto``. An
    explicit ``RAY_AUTH_MODE`` is respected, and a cluster that asks for no token does not mind one.
    Ray keeps in the process the token of an earlier session, which may be another cluster's.
    """
    AuthenticationTokenLoader.instance().reset_cache()
    # Turning tokens on is news to someone who starts a cluster, not to one who joins it.
    with for_a_while(
        loggers={maybe_enable_token_auth_if_token_available.__module__: logging.ERROR}
    ):
        maybe_enable_token_auth_if_token_available(warn_if_disabled=False)


@contextmanager
def sigterm_left_alone() -> Iterator[None]:
    """Keep this process's handler of SIGTERM while ``ray.init`` runs.

    Stands in for an option of ``ray.init``, which puts a handler of its own that exits from
    wherever it is, in the middle of an import for example.
    """
    of_ray = ray_utils.set_sigterm_handler
    ray_utils.set_sigterm_handler = lambda handler: None
    try:
        yield
    finally:
        ray_utils.set_sigterm_handler = of_ray


@contextmanager
def agent_on_a_free_port() -> Iterator[None]:
    """Let the agent of a Ray that ``ray.init`` starts meanwhile take any port that is free.

    Stands in for an option of ``ray.init``. Where the machine has another Ray, whose agent has the
    usual port, Ray would try for that for three and a half seconds before it starts, and then have
    no agent that takes jobs.
    """
    parameters = ray_parameter.RayParams
    ray_parameter.RayParams = functools.partial(parameters, dashboard_agent_listen_port=0)
    try:
        yield
    finally:
        ray_parameter.RayParams = parameters


def end_session() -> None:
    """Shut Ray down, and let this process live.

    Stands in for ``ray.shutdown()`` alone. When another thread collects garbage between two of its
    steps, and an object of Ray's is among it, Ray ends the process without a word; and it keeps the
    session's token for the next one, which may have another.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        ray.shutdown()
    finally:
        AuthenticationTokenLoader.instance().reset_cache()
        if was_enabled:
            gc.enable()


def dead_process() -> str | None:
    """What has become of a process without which the Ray that this process started is dead;
    ``None`` while it lives.

    Stands in for a way to ask. Ray itself notices after seconds, and then ends this process, too,
    without a word as soon as it needs the object store.
    """
    node = ray_worker._global_node
    for kind, process in [] if node is None else node.dead_processes():
        if kind in _VITAL:
            code = process.returncode
            ended = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"exited ({code})"
            return f"its {kind} {ended}"
    return None


@contextmanager
def errors_told_in_a_line() -> Iterator[None]:
    """Let Ray tell of what goes wrong on its machines in one line each, on standard error.

    Stands in for an option of ``ray.init``, which with ``log_to_driver=False`` still prints them
    whole. The end of the raylet of a Ray that was started here is left to who asks for its
    ``dead_process``, and may be heard of before.
    """
    printed = ray_worker.print_to_stdstream

    def tell(data: Mapping[str, Any], ignore_prefix: bool) -> None:
        node = ray_worker._global_node
        is_ours = node is not None and node.is_head()
        if dead_process() is None:
            for message in data["lines"]:
                line = message.strip().partition("\n")[0]
                if not (is_ours and line.startswith(_RAYLET_ENDED)):
                    logger.warning("Ray: %s", line)

    ray_worker.print_to_stdstream = tell
    try:
        yield
    finally:
        ray_worker.print_to_stdstream = printed


class _Importable(list[str]):
    """Folders from which workers import what this process imports from there, and no other."""

    def extend(self, folders: Iterable[str]) -> None:
        here = {str(Path(folder).absolute()) for folder in sys.path}
        super().extend(folder for folder in folders if folder in here)


def job_that_imports_as_here() -> JobConfig:
    """A job whose workers do not import from the current folder, unless this process does.

    Stands in for an option of ``ray.init``, which puts that folder in front of the workers' path:
    a file ``random.py`` that happens to lie there would break every one of them.
    """
    job = JobConfig()
    job._py_driver_sys_path = _Importable()
    return job


def ignored_below(folder: Path) -> list[Callable[[Path], bool]]:
    """What the ``.gitignore`` and ``.rayignore`` of one folder leave out of a working directory.

    Stands in for a way to ask which files ``runtime_env={"working_dir": folder}`` would send.

    Returns:
        Functions that say whether a path below the folder is left out.
    """
    return list(get_excludes_from_ignore_files(folder, include_gitignore=True, logger=logger))


def worker_interpreter(dashboard: str, headers: Mapping[str, str]) -> str | None:
    """The Python that a cluster's head starts Ray's workers with.

    Stands in for a way to run a job's command in the environment of Ray's workers: Ray runs it with
    the PATH of whoever started Ray, where ``python`` may be another one.

    Args:
        dashboard: URL of the cluster's dashboard.
        headers: What lets us in.

    Returns:
        Its path; ``None`` where the dashboard does not say it.

    Raises:
        LookupError: If the dashboard knows nothing of its head yet.
        OSError: If the dashboard does not answer, or something else does.
    """
    request = urllib.request.Request(f"{dashboard}/nodes?view=summary", headers=dict(headers))
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
            nodes = json.load(answer)["data"]["summary"]
        for node in nodes:
            if "cmdline" in node and node["raylet"].get("isHeadNode"):
                commands = [word for word in node["cmdline"] if word.startswith(_WORKER_COMMAND)]
                command = commands[0].removeprefix(_WORKER_COMMAND) if commands else ""
                return shlex.split(command)[0] if command else None
    except (AttributeError, HTTPException, RecursionError, TypeError, ValueError) as error:
        raise ConnectionError(f"{dashboard} does not answer as a dashboard: {error!r}") from error
    raise LookupError(f"{dashboard} knows nothing of its head yet")
