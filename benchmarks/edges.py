"""What a study takes before its first training step and after its last validation.

    python benchmarks/edges.py              # the quickstart's study
    python benchmarks/edges.py --small      # two epochs of a trial of each cell

Wall time, from the start of the program to its end, over that of importing numpy in the same run.
Trainings count from a quarter of a second early, at most: a worker may tell of several epochs at
once.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from commands import MGSTUDY, PIPELINE, SMALL, STUDY, environment_in

LAUNCH = """
import json, sys, time
import mgstudy

class Watch(mgstudy.StudyListener):
    first = last = None
    def trial_reported(self, trial, step, value, metrics):
        self.last = time.monotonic()
        if self.first is None:
            taken = metrics["time/training_seconds"] + metrics["time/evaluation_seconds"]
            self.first = self.last - taken

watch = Watch()
mgstudy.launch(mgstudy.read_study(sys.argv[1], sys.argv[2:]), listeners=[watch])
print(json.dumps([watch.first, watch.last]))
"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--small", action="store_true")
    options = arguments.parse_args()
    overrides = SMALL[1::2] if options.small else ()
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        environment = environment_in(Path(folder))
        subprocess.run((*MGSTUDY, "prepare", str(PIPELINE)), check=True, env=environment)
        numpy = min(seconds("import numpy", (), environment)[0] for _ in range(3))
        whole, (first, last) = seconds(LAUNCH, (str(STUDY), *overrides), environment)
    print(f"import numpy                            {numpy:6.2f} s")
    for title, taken in (
        ("launch to the first training step", first),
        ("last validation to the end", whole - last),
        ("whole", whole),
    ):
        print(f"{title:39} {taken:6.2f} s, {taken / numpy:5.1f} times")


def seconds(
    program: str, arguments: tuple[str, ...], environment: dict[str, str]
) -> tuple[float, list[float]]:
    """The seconds of a Python program, and at how many of them what it prints last happened."""
    began = time.monotonic()
    command = (sys.executable, "-c", program, *arguments)
    ended = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    whole = time.monotonic() - began
    told = ended.stdout.splitlines()
    return whole, [at - began for at in json.loads(told[-1])] if told else []


if __name__ == "__main__":
    main()
