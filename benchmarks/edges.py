"""What a study takes before its first training step and after its last validation.

    python benchmarks/edges.py              # the quickstart's study
    python benchmarks/edges.py --small      # two epochs of a trial of each cell
    python benchmarks/edges.py --study FILE --home WORKSPACE          # another one, new there

Wall time of `mgstudy launch`, from the start of the program to its end, over that of importing
numpy in the same run; and how much of the slots' time in between was training and evaluation.
Trainings count from a quarter of a second early, at most: a worker may tell of several epochs at
once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from commands import MGSTUDY, PIPELINE, SMALL, STUDY, environment_in

from mgstudy import read_study
from mgstudy.study.running.placement import this_machine, trial_resources
from mgstudy.study.storage.epoch_metrics import EpochMetrics, EpochRecord

TIMES = ("time/training_seconds", "time/evaluation_seconds")


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--small", action="store_true")
    arguments.add_argument("--study", type=Path, default=STUDY)
    arguments.add_argument("--home", type=Path, help="a workspace with the study's datasets")
    arguments.add_argument("--set", action="append", default=[], help="as of `mgstudy launch`")
    options = arguments.parse_args()
    overrides = [*(SMALL[1::2] if options.small else ()), *options.set]
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True)
        if options.home is None
        else nullcontext(options.home)
    ) as home:
        environment = environment_in(Path(home))
        if options.home is None:
            prepared = (*MGSTUDY, "prepare", str(PIPELINE))
            subprocess.run(prepared, check=True, env=environment, stdout=subprocess.DEVNULL)
        study = read_study(options.study, overrides, home=home)
        if study.folder.path.exists():
            arguments.error(f"{study.config.name} was launched in {home} before")
        numpy = min(seconds((sys.executable, "-c", "import numpy"), environment) for _ in range(3))
        changed = (word for override in overrides for word in ("--set", override))
        began = time.time()
        whole = seconds((*MGSTUDY, "launch", str(options.study), *changed), environment)
        epochs = [epoch for epoch, _ in EpochMetrics(study.folder.epoch_metrics).read()]
    slots = trial_resources(study.config.resources, [this_machine()]).slots
    print_edges(numpy, whole, [each.at / 1000 - began for each in epochs], epochs, slots)


def print_edges(
    numpy: float, whole: float, at: Sequence[float], epochs: Sequence[EpochRecord], slots: int
) -> None:
    """Print the edges of a study.

    Args:
        numpy: Seconds of importing numpy.
        whole: Seconds of the study.
        at: When its epochs were told of, in seconds from its start.
        epochs: The epochs.
        slots: How many trials run at once.
    """
    taken = [sum(epoch.metrics[name] for name in TIMES) for epoch in epochs]
    first = min(told - seconds for told, seconds in zip(at, taken, strict=True))
    between = max(at) - first
    print(f"import numpy                            {numpy:6.2f} s")
    for title, edge in (
        ("launch to the first training step", first),
        ("last validation to the end", whole - max(at)),
        ("whole", whole),
    ):
        print(f"{title:39} {edge:6.2f} s, {edge / numpy:5.1f} times")
    for title, time_of_slots in (("in between", between), ("whole", whole)):
        share = sum(taken) / (slots * time_of_slots)
        print(f"training and evaluation, of {slots} slots' time, {title:10} {share:6.1%}")


def seconds(command: Sequence[str], environment: dict[str, str]) -> float:
    """The seconds of a program, which has to end well."""
    began = time.monotonic()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
