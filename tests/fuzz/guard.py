"""Run a command in a process of its own that has everything imported, within limits.

A process that has imported all that commands import forks once for each of them, so that a command
costs no start-up, what it leaves in memory is gone, and the kernel ends it at its limits.
"""

from __future__ import annotations

import gc
import importlib
import os
import pkgutil
import resource
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

CPU_SECONDS = 10
MEMORY = 2 << 30
WALL_SECONDS = 120.0
"""For what waits instead of computing, such as for a pipe."""
LEFT_OUT = ("mgstudy.testing", "mgstudy.cli.__main__")
"""What no command imports."""
BESIDES = (
    "mlflow.tracking",
    "optuna.samplers._tpe.sampler",
    "pyarrow.csv",
    "pyarrow.json",
    "sklearn.decomposition",
    "sklearn.feature_extraction.text",
    "torch._dynamo",
)
"""What parts import when they are used."""


@dataclass(frozen=True)
class Command:
    """What is typed.

    Attributes:
        name: What it is called.
        words: After ``mgstudy``.
        folder: Where.
        variables: Environment variables that are set.
        first: Done before, in the same process and without limits.
    """

    name: str
    words: Sequence[str]
    folder: Path
    variables: Mapping[str, str]
    first: Callable[[], None]


@dataclass(frozen=True)
class Ended:
    """What a command came to.

    Attributes:
        code: Its exit code; ``None`` if it did not end by itself.
        out: What it printed.
        err: What it complained of.
        killed: What ended it, if it did not end by itself.
    """

    code: int | None
    out: str
    err: str
    killed: str = ""


def import_all() -> None:
    """Import what commands import."""
    import mgstudy

    found = pkgutil.walk_packages(mgstudy.__path__, "mgstudy.")
    ours = [module.name for module in found if not module.name.startswith(LEFT_OUT)]
    for name in (*ours, *BESIDES):
        importlib.import_module(name)


def ready_to_fork() -> None:
    """See that nothing runs besides, which a fork would lack, and that forks share what there is:
    the commands as they are made of their declarations, and what whoever collects garbage copies.
    """
    import typer

    from mgstudy import cli

    cli.import_commands()
    cli.app = typer.main.get_command(cli.app)  # type: ignore[assignment]
    assert threading.active_count() == 1, threading.enumerate()
    gc.collect()
    gc.freeze()


def run_all(commands: Iterable[Command], at_once: int) -> Iterator[tuple[Command, Ended]]:
    """Run commands, several at once; each with what it came to, in whatever order they end."""
    running: dict[int, tuple[Command, Path, float]] = {}
    waiting = iter(commands)
    while True:
        while len(running) < at_once and (command := next(waiting, None)) is not None:
            command.folder.mkdir(parents=True)
            printed = command.folder
            running[_begun(command, printed)] = command, printed, time.monotonic()
        if not running:
            return
        done, status = os.waitpid(-1, os.WNOHANG)
        if not done:
            time.sleep(0.01)
            for process, (_, _, begun) in running.items():
                if time.monotonic() - begun > WALL_SECONDS:
                    os.killpg(process, signal.SIGALRM)
            continue
        command, printed, _ = running.pop(done)
        texts = (_beside(printed, name).read_text("utf-8", "replace") for name in ("out", "err"))
        yield command, _ended(status, *texts)


def _ended(status: int, out: str, err: str) -> Ended:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return Ended(code, out, err)
    killed = {
        signal.SIGXCPU: f"{CPU_SECONDS} seconds of a processor",
        signal.SIGALRM: f"{WALL_SECONDS:g} seconds of waiting",
    }
    return Ended(None, out, err, killed.get(signal.Signals(-code), signal.Signals(-code).name))


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(f"{path.name}.{ending}")


def _begun(command: Command, printed: Path) -> int:
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        for descriptor, name in ((1, "out"), (2, "err")):
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            os.dup2(os.open(_beside(printed, name), flags), descriptor)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.chdir(command.folder)
        os.environ.update(command.variables)
        command.first()
        _limit()
        code = _typed(command.words)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        (data,) = (int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    resource.setrlimit(resource.RLIMIT_DATA, (data + MEMORY, data + MEMORY))


def _typed(words: Sequence[str]) -> int:
    from mgstudy import cli

    sys.argv = ["mgstudy", *words]
    try:
        cli.main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else 0 if ended.code is None else 1
    except BaseException:
        traceback.print_exc()
        return 1
    return 0
