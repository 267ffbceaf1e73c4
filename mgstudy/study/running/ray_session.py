"""Ray, for as long as something needs it: started on this machine, or a cluster joined."""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from mgstudy.environment import for_a_while, usable_cpus
from mgstudy.errors import InputError, MgstudyError
from mgstudy.private.ray import (
    agent_on_a_free_port,
    dead_process,
    end_session,
    errors_told_in_a_line,
    job_that_imports_as_here,
    use_token_that_is_here,
)
from mgstudy.study.running.gpus import judged
from mgstudy.study.running.interrupts import interrupt_deferred, terminated_like_interrupt
from mgstudy.urls import first_line, ray_token_file, reach_ray

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

_NODE_SECONDS = 120.0
_REACH_SECONDS = 5.0
_TOKEN = secrets.token_hex(32)
"""Of a Ray that lives no longer than this process, where HOME holds none."""
_RAY_ENVIRONMENT = {
    # The Optuna storage is the truth: Ray's own logs and experiment snapshots would be written
    # after every result and never read.
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "1000000000",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_USAGE_STATS_ENABLED": "0",
    # Tune's workers have an environment of their own: none of those that Ray starts ahead fits.
    "RAY_enable_worker_prestart": "0",
    # Torch gives large tensors back as soon as they are freed, and a gradient of a million rows is
    # had from the system anew in every step: by the page of 4 KiB, that took most of a step of BPR.
    "THP_MEM_ALLOC_ENABLE": "1",
}
_WHAT_THEN = (
    "where memory ran out, lower `resources: {max_concurrent: ...}`; the same command goes on"
)


class RayDiedError(MgstudyError):
    """Ray itself has died, not just a worker of it."""


def with_ray(act: Callable[[], Result], restarts: int) -> Result:
    """Do what needs Ray, in a ``ray_session``. When Ray dies meanwhile, it is started anew, and
    ``act`` called again for what is left.

    Args:
        act: What to do; it calls ``raise_if_ray_died`` now and then.
        restarts: How often Ray is started anew.

    Raises:
        RayDiedError: If Ray has died more often, or was not started here.
    """
    for left in reversed(range(restarts + 1)):
        was_open = ray.is_initialized()
        try:
            with ray_session():
                try:
                    return act()
                except Exception:  # What Ray raises when it dies is of many kinds.
                    raise_if_ray_died()
                    raise
        except RayDiedError as died:
            if was_open or left == 0:
                raise RayDiedError(f"{died}; {_WHAT_THEN}") from died
            logger.warning("%s; starting Ray anew, and going on", died)
    raise AssertionError("the last try returns or raises")


def raise_if_ray_died() -> None:
    """Look whether the Ray that this process has started still lives.

    Raises:
        RayDiedError: If it does not.
    """
    if (dead := dead_process()) is not None:
        raise RayDiedError(f"Ray has died: {dead}")


def alive_nodes() -> list[dict[str, float]]:
    """What each machine of the cluster has in all that this process is connected to."""
    return [node["Resources"] for node in ray.nodes() if node["Alive"]]


def usable_nodes() -> list[dict[str, float]]:
    """As ``alive_nodes``, and as each machine that has GPUs judges them itself (``judged``)."""
    here = ray.get_runtime_context().get_node_id()
    return [_judged_there(node, here) for node in ray.nodes() if node["Alive"]]


def _judged_there(node: Mapping[str, Any], here: str) -> dict[str, float]:
    resources: dict[str, float] = node["Resources"]
    if node["NodeID"] == here or not resources.get("GPU"):
        return judged(resources)
    try:
        asked = at_node(node["NodeID"], judged).remote(resources)
        return dict(ray.get(asked, timeout=_NODE_SECONDS))
    except ray.exceptions.RayError as error:
        said = "%s does not say whether trials can use its GPUs: %s"
        logger.warning(said, node["NodeManagerAddress"], first_line(error))
        return resources


def at_node(node: str, function: Callable[..., Any]) -> Any:
    """A Ray task that runs a function on one machine and takes nothing of it.

    Args:
        node: The machine's id, as ``ray.nodes()`` gives it.
        function: What to call.
    """
    there = NodeAffinitySchedulingStrategy(node, soft=False)
    return ray.remote(num_cpus=0, max_retries=0, scheduling_strategy=there)(function)


@contextmanager
def ray_session() -> Iterator[None]:
    """Connect to the cluster of ``RAY_ADDRESS``, or start Ray on this machine until the end.

    A session that the caller has already opened is used and left open.

    Raises:
        MgstudyError: If no cluster answers at that address, it does not let us in, or Ray does not
            start.
        KeyboardInterrupt: If Ctrl-C or SIGTERM comes meanwhile.
    """
    # Ray would print the traceback of every failed trial, which the record keeps.
    quiet = {"ray": logging.ERROR, "ray.tune": logging.CRITICAL}
    with for_a_while(_RAY_ENVIRONMENT, quiet), errors_told_in_a_line(), _last_words():
        if ray.is_initialized():
            yield
            return
        address = os.environ.get("RAY_ADDRESS") or "local"
        require_cluster(address)
        if address != "local":
            use_token_that_is_here()
        try:
            with for_a_while(_token() if address == "local" else {}):
                _init_ray(address)
            with terminated_like_interrupt():
                yield
        finally:
            end_session()


def _init_ray(address: str) -> None:
    own: dict[str, Any] = (
        {"include_dashboard": False, "num_cpus": usable_cpus()} if address == "local" else {}
    )
    if not address.startswith("ray://"):
        own["job_config"] = job_that_imports_as_here()
    try:
        # Ray imports much while it starts, and other threads import what MLflow needs.
        with interrupt_deferred(), agent_on_a_free_port():
            ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, **own)
    except Exception as error:  # Ray tells of a start that timed out by a bare Exception.
        raise _cannot_begin(address, error) from error


def _token() -> dict[str, str]:
    """What protects a Ray that is started here, as a variable: Ray keeps a token in HOME, if
    there is one that can be written to."""
    try:
        path = ray_token_file()
    except InputError:  # Nobody knows where HOME is.
        return {"RAY_AUTH_TOKEN": _TOKEN}
    nearest = path
    while not os.access(nearest, os.F_OK):  # Nor may somebody else's HOME be looked into.
        nearest = nearest.parent
    is_new = nearest != path and nearest.is_dir() and os.access(nearest, os.W_OK)
    is_there = nearest == path and path.is_file() and os.access(path, os.R_OK)
    return {} if is_new or is_there else {"RAY_AUTH_TOKEN": _TOKEN}


@contextmanager
def _last_words() -> Iterator[None]:
    """Have another process speak if this one ends without a word: so Ray ends the process it is in
    when it finds that a part of itself is gone."""
    told = (
        "error: killed, from outside or by Ray because a part of it died; what is recorded is "
        "kept, and the same command goes on"
    )
    try:
        witness = subprocess.Popen(
            ["sh", "-c", 'read -r ended || echo "$0" >&2', told],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is not meant for it.
        )
    except OSError:
        yield
        return
    try:
        yield
    finally:
        witness.communicate(b"ended\n")


def require_cluster(address: str) -> None:
    """See that something answers at an address of ``RAY_ADDRESS``.

    Raises:
        InputError: If it cannot be one.
        MgstudyError: If nothing does.
    """
    try:
        reach_ray(address, _REACH_SECONDS)
    except ValueError as error:
        raise InputError(f"RAY_ADDRESS={address}: {error}") from error
    except OSError as error:
        raise MgstudyError(
            f"no Ray cluster answers at RAY_ADDRESS={address}: {error.strerror or error}; start "
            "it, correct the address, or unset RAY_ADDRESS to run on this machine"
        ) from error


def _cannot_begin(address: str, error: Exception) -> MgstudyError:
    reason = first_line(error).rstrip(".")
    if address == "local":
        return MgstudyError(
            f"Ray does not start on this machine: {reason}; make sure that memory, processors and "
            f"space under {os.environ.get('RAY_TMPDIR') or tempfile.gettempdir()} are free "
            "(RAY_TMPDIR chooses another place, by a short path), then give the same command again"
        )
    return MgstudyError(
        f"RAY_ADDRESS={address}: cannot connect: {reason}; check the address and the token, or "
        "unset RAY_ADDRESS to run here"
    )
