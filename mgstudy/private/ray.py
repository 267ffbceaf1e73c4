"""Private parts of Ray."""

from __future__ import annotations

import json
import logging
import shlex
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import ray._private.utils as ray_utils
from ray._private.authentication.authentication_token_setup import (
    maybe_enable_token_auth_if_token_available,
)
from ray._private.runtime_env.packaging import get_excludes_from_ignore_files

from mgstudy.environment import for_a_while

_GRACE = "_actor_force_cleanup_timeout"
_WORKER_COMMAND = "--python_worker_command="
_TIMEOUT_SECONDS = 10


def use_token_that_is_here() -> None:
    """Connect with the token of ``~/.ray/auth_token`` or ``RAY_AUTH_TOKEN``, if there is one.

    Stands in for ``ray.init(address)``, which does so by itself only for the address ``auto``. An
    explicit ``RAY_AUTH_MODE`` is respected, and a cluster that asks for no token does not mind one.
    """
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


def stop_trials_at_once(tune_controller: Any) -> None:
    """Let trials of a Ray Tune run that ends finish their step for a moment only.

    Stands in for a setting such as ``TUNE_FORCE_TRIAL_CLEANUP_S``: when a run ends, Tune waits ten
    seconds, whatever that says, until it kills the actors that have not stopped.
    """
    if hasattr(tune_controller, _GRACE):
        setattr(tune_controller, _GRACE, 0)


def ignored_below(folder: Path) -> list[Callable[[Path], bool]]:
    """What the ``.gitignore`` and ``.rayignore`` of one folder leave out of a working directory.

    Stands in for a way to ask which files ``runtime_env={"working_dir": folder}`` would send.

    Returns:
        Functions that say whether a path below the folder is left out.
    """
    logger = logging.getLogger(__name__)  # Its own would tell of every folder.
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
        OSError: If the dashboard does not answer.
    """
    request = urllib.request.Request(f"{dashboard}/nodes?view=summary", headers=dict(headers))
    with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:
        nodes = json.load(answer)["data"]["summary"]
    for node in nodes:
        if "cmdline" in node and node["raylet"].get("isHeadNode"):
            commands = [word for word in node["cmdline"] if word.startswith(_WORKER_COMMAND)]
            return shlex.split(commands[0].removeprefix(_WORKER_COMMAND))[0] if commands else None
    raise LookupError(f"{dashboard} knows nothing of its head yet")
