"""What a command takes of the processor, as multiples of importing numpy in the same run.

    python benchmarks/commands.py                       # launches a small study first
    python benchmarks/commands.py --home WORKSPACE      # where the quickstart study was launched
    python benchmarks/commands.py --address http://HEAD:8265       # and asks a cluster for its jobs

The least processor seconds, user's and system's, of a few runs count, so that other work on the
machine disturbs little.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[1]
PIPELINE, STUDY = ROOT / "pipelines/synthetic.yaml", ROOT / "search_spaces/quickstart.yaml"
SMALL = (
    "--set", "trials=1", "--set", "confirmation.seeds=2", "--set", "training.epochs=2",
    "--set", "training.early_stopping=null",
)  # fmt: skip
"""What makes of the quickstart's study one that takes seconds."""
MGSTUDY = (sys.executable, "-m", "mgstudy.cli")
GOALS = {
    "--help": 3,
    "ls": 12,
    "status quickstart": 12,
    "cache ls": 12,
    "models": 12,
    f"plan {STUDY} --set name=another": 30,
    "compare quickstart": 30,
}
"""Commands to the most that they should take, in times of importing numpy."""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--home", type=Path)
    arguments.add_argument("--address", help="a cluster, to list its jobs")
    arguments.add_argument("--repeats", type=int, default=3)
    options = arguments.parse_args()
    goals = GOALS if options.address is None else {**GOALS, f"jobs --address {options.address}": 12}
    with workspace(options.home) as home:
        print(f"{'command':52} {'times numpy':>11} {'goal':>5}")
        for command, ratio in ratios(home, list(goals), options.repeats):
            print(f"{command.replace(f'{ROOT}/', ''):52} {ratio:11.1f} {goals[command]:5}")


def ratios(home: Path, commands: list[str], repeats: int) -> Iterator[tuple[str, float]]:
    """Each command's processor seconds, over those of importing numpy.

    Args:
        home: A workspace with the quickstart study.
        commands: What is typed after ``mgstudy``.
        repeats: Runs of each.
    """
    environment = environment_in(home)
    numpy = least_seconds((sys.executable, "-c", "import numpy"), environment, repeats)
    for command in commands:
        yield command, least_seconds((*MGSTUDY, *command.split()), environment, repeats) / numpy


def environment_in(home: Path) -> dict[str, str]:
    """What a program that is measured in a workspace is told. It keeps what Python compiles, else
    compiling libraries would be measured."""
    kept = {name: text for name, text in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**kept, "MGSTUDY_HOME": str(home)}


def least_seconds(command: tuple[str, ...], environment: Mapping[str, str], repeats: int) -> float:
    """The least processor seconds of a program, which has to end well."""
    return min(_seconds(command, environment) for _ in range(repeats))


def _seconds(command: tuple[str, ...], environment: Mapping[str, str]) -> float:
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return used.ru_utime + used.ru_stime


@contextmanager
def workspace(home: Path | None) -> Iterator[Path]:
    """A workspace where the quickstart study was launched; a small one is launched if none is
    given."""
    if home is not None:
        yield home
        return
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        for words in (("prepare", PIPELINE), ("launch", STUDY, *SMALL)):
            command = (*MGSTUDY, *map(str, words), "--home", folder)
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        yield Path(folder)


if __name__ == "__main__":
    main()
