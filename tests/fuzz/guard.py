"""Run commands in processes that have everything imported, within limits.

A process that has imported all that commands import forks for every few of them, so that a command
costs no start-up, what it leaves in memory is soon gone, and the kernel ends it at its limits.
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
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

CPU_SECONDS = 10
MEMORY = 2 << 30
WALL_SECONDS = 120.0
"""For what waits instead of computing, such as for a pipe."""
TOGETHER = 24
"""Commands that one process runs after each other: a fork of so much memory takes longer than most
of them."""
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
    """Run commands in several processes at once; each with what it came to, in whatever order they
    end. A command that ends its process ends no other."""
    running: dict[int, list[Command]] = {}
    waiting, again = iter(commands), deque[Command]()
    while True:
        while len(running) < at_once:
            batch = [again.popleft() for _ in range(min(TOGETHER, len(again)))]
            batch += islice(waiting, TOGETHER - len(batch))
            if not batch:
                break
            running[_begun(batch)] = batch
        if not running:
            return
        done, status = os.waitpid(-1, 0)  # Each has set its alarm.
        with suppress(ProcessLookupError):
            os.killpg(done, signal.SIGKILL)  # What it has started.
        batch = running.pop(done)
        for position, command in enumerate(batch):
            code = _beside(command, "code")
            if code.exists():
                yield command, _ended(int(code.read_text()), command)
            else:
                yield command, _ended(os.waitstatus_to_exitcode(status), command)
                again.extend(batch[position + 1 :])
                break


def _ended(code: int, command: Command) -> Ended:
    out, err = (_beside(command, name).read_text("utf-8", "replace") for name in ("out", "err"))
    if code >= 0:
        return Ended(code, out, err)
    killed = {
        signal.SIGXCPU: f"{CPU_SECONDS} seconds of a processor",
        signal.SIGALRM: f"{WALL_SECONDS:g} seconds of waiting",
    }
    return Ended(None, out, err, killed.get(signal.Signals(-code), signal.Signals(-code).name))


def _beside(command: Command, ending: str) -> Path:
    return command.folder.with_name(f"{command.folder.name}.{ending}")


def _begun(batch: Sequence[Command]) -> int:
    process = os.fork()
    if process:
        return process
    code = 70
    try:
        os.setsid()
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        variables = dict(os.environ)
        for command in batch:
            command.folder.mkdir(parents=True)
            os.environ.clear()
            os.environ.update(variables, **command.variables)
            _run(command)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)


def _run(command: Command) -> None:
    signal.setitimer(signal.ITIMER_REAL, WALL_SECONDS)
    for descriptor, name in ((1, "out"), (2, "err")):
        file = os.open(_beside(command, name), os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(file, descriptor)
        os.close(file)
    os.chdir(command.folder)
    command.first()
    _limit()
    code = _typed(command.words)
    sys.stdout.flush()
    sys.stderr.flush()
    signal.setitimer(signal.ITIMER_REAL, 0)
    _beside(command, "code").write_text(str(code))


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, most = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (int(time.process_time()) + 1 + CPU_SECONDS, most))
    with open("/proc/self/status", encoding="ascii") as status:  # noqa: PTH123
        (data,) = (int(line.split()[1]) << 10 for line in status if line.startswith("VmData"))
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (data + MEMORY, most))


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
