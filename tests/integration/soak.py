"""Kill a study again and again, and compare what comes of it with the same study undisturbed.

    python tests/integration/soak.py --faults 26       one study, that many faults
    python tests/integration/soak.py --minutes 60      studies for an hour; `make soak`

Processes are really killed, at points drawn from the seed: the driver, a worker, or the driver with
all of Ray. Launched again each time, the study must come to the same record, trial by trial and
metric by metric. Two studies take turns, and each has its share of the minutes: one has a sampler
that learns, and one trial at a time, for its proposals depend on what has finished; the other walks
a grid, two trials at once. The pruner judges a trial by its own values.

Every line that it prints is appended to a file as well, and holds the count so far: what is known
when somebody ends it early is known. All it writes, Ray's files included, is in one temporary
folder, of which that file stays, and everything when something was not as it should be.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import psutil

PIPELINE = """
name: tiny
source:
  kind: synthetic
  users: 80
  items: 60
  interactions_per_user: 8
  modalities: {image: {width: 4, noise: 1.0}}
"""
MODEL = '''
import os
import time

from mgstudy.models.vbpr import VBPR


class Paced(VBPR):
    """Takes its time, so that there is one to be killed in."""

    name = "paced"

    def before_epoch(self, epoch):
        super().before_epoch(epoch)
        time.sleep(float(os.environ["SOAK_PACE"]))
'''
STUDY = """
name: {name}
factors:
  dataset: [tiny]
  model: ['soaked_model:Paced']
  gradient: [mirror_gradient, swa]
  robust: [feature_noise]
space:
  model: {{embedding_size: 4, regularization: 0.01}}
  gradient:
    mirror_gradient: {{alpha1: 1.0, alpha2: 0.3, interval: 2}}
  robust: {{scale: 0.1}}
  optimizer: {{learning_rate: {rates}}}
trials: 6
training: {{epochs: 24, batch_size: 128, objective: ndcg@5, measures: [ndcg, recall], cutoffs: [5],
           early_stopping: null}}
sampler: {sampler}
pruner: {{name: ThresholdPruner, arguments: {{lower: 0.01, n_warmup_steps: 6}}}}
confirmation: {{seeds: 2}}
resources: {{max_concurrent: {at_once}}}
checkpoints: {{every_epochs: 3, every_seconds: null}}
retries: {{max_retries: 1000}}
"""
KINDS = {
    "learning": {
        "rates": "{log_float: [1e-9, 0.1]}",
        "sampler": "{name: TPESampler, arguments: {n_startup_trials: 2}}",
        "at_once": 1,
    },
    "grid": {
        "rates": "{choice: [0.05, 0.02, 0.01, 0.005, 0.002, 1e-9]}",
        "sampler": "GridSampler",
        "at_once": 2,
    },
}
STUCK_SECONDS = 600.0
"""A study that reports nothing for so long is given up."""
LONGEST_SECONDS = 1800.0
"""And one that does not end after so long, when nothing disturbs it; a busy machine is slow."""
BUSY = "Ray does not start on this machine"
"""Ray has half a minute to start, which a busy machine may exceed. The command that says so asks
for being given again, and is."""
MOST_STARTS = 30
MOST_FAILURES = 5
"""What goes wrong in so many ways is not worth the rest of the hour."""
SECONDS_PER_EPOCH = 0.5
"""While a killed worker is replaced, the other one goes on: at full speed it would finish the study
before it has been killed often enough."""
_NOT_TRIALS = ("ray::IDLE", "ray::DashboardAgent", "ray::RuntimeEnvAgent")
_TIMES = ("seconds_", "checkpoint", "test_users")


@dataclass
class Tally:
    """What was done to a study, and what came of it."""

    faults: Counter[str] = field(default_factory=Counter)
    trials: int = 0
    lost: int = 0
    duplicated: int = 0
    differing: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not (self.lost or self.duplicated or self.differing or self.failures)

    def __add__(self, other: Tally) -> Tally:
        return Tally(
            self.faults + other.faults,
            self.trials + other.trials,
            self.lost + other.lost,
            self.duplicated + other.duplicated,
            self.differing + other.differing,
            self.failures + other.failures,
        )

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(self.faults.items()))
        failures = f", failures {len(self.failures)}" if self.failures else ""
        return (
            f"faults injected {self.faults.total()} ({kinds or 'none'}), trials {self.trials}, "
            f"trials lost {self.lost}, trials duplicated {self.duplicated}, "
            f"metrics differing {len(self.differing)}{failures}"
        )


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--faults", type=int, default=26, help="in each study, at most")
    arguments.add_argument("--minutes", type=float, help="go on with other studies for so long")
    arguments.add_argument("--seed", type=int, default=1)
    arguments.add_argument("--log", type=Path, help="a file for what is printed")
    options = arguments.parse_args()
    # Whoever ends it politely is told the count so far, and no process is left behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    folder = Path(tempfile.mkdtemp(prefix="mgstudy-soak-"))
    say = Log(options.log or folder / "soak.log")
    tallies: list[Tally] = []
    is_clean = False
    try:
        soak(options, folder / "home", tallies, say)
        is_clean = sum(tallies, Tally()).is_clean
    except KeyboardInterrupt:
        say("ended early")
        sys.exit(130)
    finally:
        if is_clean:
            shutil.rmtree(folder / "home", ignore_errors=True)
        else:
            say(f"everything about it stays in {folder}")
        say(str(sum(tallies, Tally())))
    sys.exit(0 if is_clean else 1)


class Log:
    """Prints, and appends to a file, with the time since it was made."""

    def __init__(self, path: Path) -> None:
        self.path, self._began = path, time.monotonic()
        print(f"What is printed here is in {path} as well", flush=True)

    def __call__(self, line: str) -> None:
        print(line, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")

    def progress(self, line: str) -> None:
        """A line with the time before it."""
        self(f"{timedelta(seconds=int(time.monotonic() - self._began))} {line}")


def soak(options: argparse.Namespace, home: Path, tallies: list[Tally], say: Log) -> None:
    """Disturb one study of each kind, or as many as the minutes allow; each adds its tally."""
    until = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    say.progress("the undisturbed studies")
    workspace = SoakedWorkspace(home)
    for number, kind in enumerate(itertools.cycle(KINDS)):
        tally = Tally()
        tallies.append(tally)
        seed = options.seed + number
        name = f"{kind}-{seed}"
        chance = random.Random(seed)
        share = until
        if until is not None and number < len(KINDS):
            now = time.monotonic()
            share = now + (until - now) / (len(KINDS) - number)
        disturbing = workspace.disturb(kind, name, options.faults, chance, tally, share)
        try:
            with contextlib.closing(disturbing):
                for killed in disturbing:
                    say.progress(f"{name}: killed {killed}; {sum(tallies, Tally())}")
        except (RuntimeError, OSError, psutil.Error) as error:
            tally.failures.append(f"{name}: {error}")
        for found in [*tally.failures, *tally.differing[:20]]:
            say(f"  {found}")
        say.progress(f"{name}: compared; {sum(tallies, Tally())}")
        failures = sum(len(one.failures) for one in tallies)
        is_late = len(tallies) == len(KINDS) if until is None else time.monotonic() >= until
        if is_late or failures >= MOST_FAILURES:
            return


class SoakedWorkspace:
    """A workspace in which one study of each kind ran undisturbed.

    Args:
        home: Where to make it.
    """

    def __init__(self, home: Path) -> None:
        self.home = home
        self._family: list[psutil.Process] = []
        self._starts = 0
        home.mkdir()
        (home / "tiny.yaml").write_text(PIPELINE)
        (home / "soaked_model.py").write_text(MODEL)
        self.environment = {
            **os.environ,
            "MGSTUDY_HOME": str(home),
            "SOAK_PACE": "0",
            "RAY_TMPDIR": str(home),
            "PYTHONPATH": os.pathsep.join([str(home), os.environ.get("PYTHONPATH", "")]),
        }
        for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI"):
            self.environment.pop(name, None)
        self._command("prepare", "tiny.yaml")
        for kind in KINDS:
            self._write(kind, kind)
            self._command("launch", f"{kind}.yaml")

    def disturb(
        self,
        kind: str,
        name: str,
        faults: int,
        chance: random.Random,
        tally: Tally,
        until: float | None,
    ) -> Iterator[str]:
        """Run a study under another name and kill it that often, or until it is late; compare the
        two. Yields what was killed, each time."""
        self._write(kind, name)
        self.environment["SOAK_PACE"] = str(SECONDS_PER_EPOCH)

        def goes_on() -> bool:
            in_time = until is None or time.monotonic() < until
            return in_time and tally.faults.total() < faults and len(tally.failures) < MOST_FAILURES

        has_ended = False
        while goes_on() and not has_ended:
            with self._launching(name) as process:
                driver = psutil.Process(process.pid)
                while goes_on():
                    what = chance.choice(["worker", "worker", "worker", "driver", "everything"])
                    if not self._progressed(name, chance.randint(1, 9), process):
                        has_ended = process.returncode == 0
                        if not has_ended and not self._was_busy(name):
                            tally.failures.append(
                                f"{name}: launch ended with {process.returncode} by itself: "
                                f"{self._last_words(name)}"
                            )
                        break
                    self._family = descendants(driver)
                    if kill(driver, self._family, what, chance):
                        tally.faults[what] += 1
                        yield what
                        if what != "worker":
                            break
        self.environment["SOAK_PACE"] = "0"
        self._command("launch", f"{name}.yaml")
        kill_all(self._family)
        self._compare(kind, name, tally)
        # Every launch begins a Ray with logs of its own.
        shutil.rmtree(self.home / "ray", ignore_errors=True)

    def _progressed(self, name: str, reports: int, process: subprocess.Popen[bytes]) -> bool:
        """Wait for so many new reports; false when the study ended before."""
        epochs = self.home / ".mgstudy" / "studies" / name / "metrics.jsonl"

        def reported() -> int:
            return epochs.read_bytes().count(b'"step":') if epochs.exists() else 0

        wanted, deadline = reported() + reports, time.monotonic() + STUCK_SECONDS
        while reported() < wanted:
            if process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise RuntimeError(f"no report in {STUCK_SECONDS:g} s: {self._last_words(name)}")
            time.sleep(0.05)
        return True

    def _was_busy(self, name: str) -> bool:
        """Whether a command ended because Ray did not start in its time, as it may."""
        self._starts += BUSY in self._last_words(name)
        return BUSY in self._last_words(name) and self._starts <= MOST_STARTS

    def _last_words(self, name: str) -> str:
        lines = (self.home / f"{name}.log").read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "it printed nothing"

    def _write(self, kind: str, name: str) -> None:
        (self.home / f"{name}.yaml").write_text(STUDY.format(name=name, **KINDS[kind]))

    def _command(self, *words: str) -> None:
        """Run a command to its end."""
        name = Path(words[-1]).stem
        with self._running(name, *words) as process:
            try:
                code = process.wait(timeout=LONGEST_SECONDS)
            except subprocess.TimeoutExpired:
                code = None
        if code and self._was_busy(name):
            self._command(*words)
        elif code != 0:
            ended = "did not end" if code is None else f"ended with {code}"
            raise RuntimeError(f"mgstudy {' '.join(words)} {ended}: {self._last_words(name)}")

    @contextlib.contextmanager
    def _launching(self, name: str) -> Iterator[subprocess.Popen[bytes]]:
        orphans, self._family = self._family, []
        with self._running(name, "launch", f"{name}.yaml") as process:
            try:
                yield process
            finally:
                # What a killed driver leaves behind has lived beside the next one for a while.
                kill_all(orphans)

    @contextlib.contextmanager
    def _running(self, name: str, *words: str) -> Iterator[subprocess.Popen[bytes]]:
        """Begin a command whose output goes to the log of that name, and leave nothing of it."""
        with (self.home / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(Path(sys.executable).with_name("mgstudy")), *words],
                cwd=self.home,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        command = psutil.Process(process.pid)
        try:
            yield process
        finally:
            kill_all([command, *descendants(command)])
            process.wait(timeout=60)

    # Comparing.

    def _compare(self, kind: str, name: str, tally: Tally) -> None:
        expected, found = self._trials(kind), self._trials(name)
        tally.trials = len(found)
        tally.lost = len(expected.keys() - found.keys())
        tally.duplicated = len(found.keys() - expected.keys())
        runs, expected_runs = self._runs(name), self._runs(kind)
        tally.lost += len(expected_runs.keys() - runs.keys())
        tally.duplicated += sum(len(same) - 1 for same in runs.values())
        for key in expected.keys() & found.keys():
            tally.differing += _differences(key, expected[key], found[key])
            if key in runs and key in expected_runs:
                tally.differing += _differences(
                    f"MLflow {key}", expected_runs[key][0], runs[key][0]
                )

    def _trials(self, name: str) -> dict[str, dict[str, Any]]:
        """Everything that is recorded of each trial, but for times and places."""
        from mgstudy.study.results.summary import summarize
        from mgstudy.workspace import Workspace

        found: dict[str, dict[str, Any]] = {}
        for cell in summarize(Workspace(self.home), name).cells:
            for stage, trials in (("", cell.trials), ("confirmation/", cell.confirmations)):
                for trial in trials:
                    outcome = {
                        key: value
                        for key, value in trial.outcome.items()
                        if not key.startswith(_TIMES)
                    }
                    found[f"{cell.key}/{stage}{trial.number}"] = {
                        "state": trial.state.value,
                        "value": trial.value,
                        "parameters": dict(trial.parameters),
                        **{f"epoch {step}": value for step, value in trial.values.items()},
                        **outcome,
                    }
        return found

    def _runs(self, name: str) -> dict[str, list[dict[str, Any]]]:
        """The MLflow runs of each trial, with the history of every metric that is no time."""
        from mlflow.tracking import MlflowClient

        client = MlflowClient(f"sqlite:///{self.home}/mlflow.db")
        experiment = client.get_experiment_by_name(name)
        assert experiment is not None
        found: dict[str, list[dict[str, Any]]] = {}
        for run in client.search_runs([experiment.experiment_id], max_results=1000):
            key = run.data.tags.get("mgstudy.trial", "the study")
            content: dict[str, Any] = {"status": run.info.status, **run.data.params}
            for metric in run.data.metrics:
                if "seconds" not in metric:
                    history = client.get_metric_history(run.info.run_id, metric)
                    content[metric] = [(point.step, point.value) for point in history]
            parts = key.split("/confirmation/")
            key = f"{parts[0]}/confirmation/{parts[1].split('/')[1]}" if parts[1:] else key
            found.setdefault(key, []).append(content)
        return found


def kill(
    driver: psutil.Process, family: list[psutil.Process], kind: str, chance: random.Random
) -> bool:
    """Kill with SIGKILL what is named; whether there was such a process."""
    if kind == "driver":
        driver.kill()
        return True
    if kind == "everything":
        kill_all([driver, *family])
        return True
    workers = sorted(
        (process for process in family if is_busy_worker(process)), key=lambda found: found.pid
    )
    if not workers:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        chance.choice(workers).kill()
        return True
    return False


def descendants(process: psutil.Process) -> list[psutil.Process]:
    """All that a process has started, and what that has."""
    try:
        return process.children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def is_busy_worker(process: psutil.Process) -> bool:
    """Whether Ray runs a trial in the process."""
    try:
        title = " ".join(process.cmdline())
    except psutil.Error:
        return False
    # Ray's own agents carry such titles as well, and take their whole node with them.
    return title.startswith("ray::") and not title.startswith(_NOT_TRIALS)


def kill_all(processes: list[psutil.Process]) -> None:
    """Kill and wait for them."""
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    psutil.wait_procs(processes, timeout=30)


def _differences(name: str, expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    return [
        f"{name}: {key}: {json.dumps(found.get(key))}, undisturbed {json.dumps(expected.get(key))}"
        for key in sorted(expected.keys() | found.keys())
        if expected.get(key) != found.get(key)
    ]


if __name__ == "__main__":
    main()
