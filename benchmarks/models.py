"""What every model costs: time to build, to train an epoch and to evaluate, and memory.

Each model is measured in a process of its own, with default parameters, Adam and batches of 2048.

    python benchmarks/models.py --data data/tiktok --threads 2
    python benchmarks/models.py --users 192403 --items 63001 --interactions 1689188 --batches 3

Without ``--data``, a dataset of the given size is generated, with features of 4,096 and 384
columns. An epoch that is cut by ``--batches`` is extrapolated from the batches that were trained.

A busy machine slows everything. So epochs, validations and a 2048 x 2048 x 2048 matrix product are
timed in turn, and the least disturbed of each is reported: seconds can be divided by the product's
to compare machines, or to see that a row was measured at a bad moment.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmark_data import generate, read, read_generated

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.derived import DerivedArrays
from mgstudy.models.base import models
from mgstudy.training.run import build_trainer
from mgstudy.training.trainer import Trainer

COLUMNS = {
    "first": ("build s, first trial", ".2f"),
    "again": ("build s, later trial", ".2f"),
    "plain": ("train s/epoch, plain", ".2f"),
    "mirror_gradient": ("with MG", ".2f"),
    "optimizer": ("optimizer share", ".0%"),
    "evaluation": ("evaluate s", ".3f"),
    "memory": ("peak RSS MB", ".0f"),
    "parameters": ("parameters", ",d"),
    "product": ("matrix product ms", ".0f"),
}
LONG_S = 8.0
"""A model that has been measured for so long is not measured again, whatever ``--rounds`` says."""


def main() -> None:
    options = parse_arguments()
    if options.measure is not None:
        if options.limit_gib is not None:
            limit = int(options.limit_gib * 2**30)
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        print(json.dumps(measure(options)))
        return
    print("| model | " + " | ".join(title for title, _ in COLUMNS.values()) + " |")
    print("|---|" + "---:|" * len(COLUMNS))
    with scratch_folder(options) as scratch:
        for name in options.models or models.names():
            command = [sys.executable, __file__, *sys.argv[1:], "--measure", name]
            result = subprocess.run(
                [*command, "--scratch", scratch], capture_output=True, text=True, check=False
            )
            if result.returncode == 0:
                print(table_row(name, json.loads(result.stdout.splitlines()[-1])), flush=True)
            else:
                print(f"| {name} | {(result.stderr.splitlines() or ['killed'])[-1]} |", flush=True)


@contextmanager
def scratch_folder(options: argparse.Namespace) -> Iterator[Path]:
    """A folder for graphs, and for generated data where no data are given."""
    with tempfile.TemporaryDirectory() as folder:
        scratch = options.scratch or Path(folder)
        if options.data is None and not (scratch / "interactions.npz").exists():
            generate(
                scratch,
                options.users,
                options.items,
                options.interactions,
                held_out_users=options.held_out_users,
            )
        yield scratch


def table_row(name: str, figures: dict[str, Any]) -> str:
    cells = (
        "–" if figures.get(key) is None else format(figures[key], form)
        for key, (_, form) in COLUMNS.items()
    )
    return f"| {name} | " + " | ".join(cells) + " |"


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", type=Path, help="folder with one *.inter and *_feat.npy files")
    arguments.add_argument("--users", type=int, default=9308)
    arguments.add_argument("--items", type=int, default=6710)
    arguments.add_argument("--interactions", type=int, default=59541)
    arguments.add_argument("--held-out-users", type=int, help="generate no more; by default all")
    arguments.add_argument("--models", nargs="*", help="names; by default all")
    arguments.add_argument("--batches", type=int, help="train at most this many per epoch")
    arguments.add_argument("--rounds", type=int, default=5, help="at most; 0 times the first")
    arguments.add_argument(
        "--gradients", nargs="+", default=["plain", "mirror_gradient"], help="strategies to time"
    )
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    arguments.add_argument(
        "--limit-gib", type=float, help="memory a model may allocate before it fails"
    )
    arguments.add_argument("--scratch", type=Path, help="keep generated data and graphs here")
    arguments.add_argument(
        "--share-graphs", action="store_true", help="a model finds the graphs that others built"
    )
    arguments.add_argument("--measure", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Figures of one model, by column."""
    dataset = read(options.data) if options.data else read_generated(options.scratch)
    store = "shared" if options.share_graphs else options.measure
    dataset = replace(dataset, derived=DerivedArrays(options.scratch / "derived" / store))
    began = time.perf_counter()
    build(options.measure, dataset, "plain")
    figures: dict[str, Any] = {"first": time.perf_counter() - began}
    # Another trial maps what the first one computed, and computes nothing.
    dataset = replace(dataset, derived=DerivedArrays(dataset.derived.directory))
    began = time.perf_counter()
    trainer = build(options.measure, dataset, "plain")
    figures["again"] = time.perf_counter() - began
    figures["parameters"] = sum(p.numel() for p in trainer.model.parameters())
    epoch = Epoch(trainer, options.batches) if trainer.model.trainable else None
    stages = {"product": matrix_product, "evaluation": lambda: evaluate(trainer)}
    if epoch is not None:
        stages["plain"] = epoch.seconds
    figures |= least_disturbed(stages, options.rounds)
    if epoch is not None:
        figures["optimizer"] = epoch.optimizer_share
    # A training also keeps the weights of its best epoch.
    trainer._keep_weights()
    figures["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if epoch is not None and "mirror_gradient" in options.gradients:
        del trainer, epoch, stages
        mirrored = Epoch(build(options.measure, dataset, "mirror_gradient"), options.batches)
        figures |= least_disturbed({"mirror_gradient": mirrored.seconds}, options.rounds)
    figures["product"] *= 1000
    return figures


def least_disturbed(stages: dict[str, Callable[[], float]], rounds: int) -> dict[str, float]:
    """The fewest seconds of each stage, all run in turn; the first round warms up."""
    best = dict.fromkeys(stages, math.inf)
    began = clock()
    for number in range(rounds + 1):
        for name, stage in stages.items():
            seconds = stage()
            if number > 0 or rounds == 0:
                best[name] = min(best[name], seconds)
        if number > 0 and clock() - began > LONG_S:
            break
    return best


def clock() -> float:
    """Seconds: of this process where torch has one thread, which other work on the machine disturbs
    little, else of the wall's clock."""
    return time.process_time() if torch.get_num_threads() == 1 else time.perf_counter()


def build(
    name: str, dataset: Dataset, gradient: str, settings: TrainingSettings | None = None
) -> Trainer:
    return build_trainer(dataset, model=name, gradient=gradient, settings=settings)


class Epoch:
    """A training epoch that can be run again and again.

    Args:
        trainer: Of a model that is trained.
        batches: Train at most this many, and extrapolate.
        seconds: Begin no batch later than this, and extrapolate.

    Attributes:
        whole: Batches of an epoch.
        trained: Batches of the last epoch that were trained.
        optimizer_share: The optimizer's share of the last epoch's time.
    """

    def __init__(self, trainer: Trainer, batches: int | None, seconds: float = math.inf) -> None:
        assert trainer.gradient is not None
        self.trainer, self.strategy = trainer, trainer.gradient
        self.whole = -(-len(trainer.dataset.train) // trainer.settings.batch_size)
        self.trained = self._most = min(self.whole, batches or self.whole)
        self._seconds = seconds
        self.number = 0
        self.optimizer_share = 0.0
        self._in_optimizer = self._entered = 0.0
        self.strategy.optimizer.register_step_pre_hook(self._enter)
        self.strategy.optimizer.register_step_post_hook(self._leave)

    def seconds(self) -> float:
        """Train an epoch, without validation."""
        model = self.trainer.model
        self._in_optimizer = 0.0
        began = clock()
        model.train()
        model.before_epoch(self.number)
        self.strategy.start_epoch(self.number)
        batches = self.trainer._batches()
        # With the first batch the whole epoch is sampled.
        first = next(batches)
        prepared = clock()
        ends = []
        for batch in itertools.islice(itertools.chain([first], batches), self._most):
            self.strategy.step(partial(model.loss, batch)).item()
            ends.append(clock())
            if ends[-1] - prepared > self._seconds:
                break
        self.trained = len(ends)
        self.number += 1
        self.optimizer_share = self._in_optimizer / (ends[-1] - prepared)
        # With an epoch's first batch some models build what the others use.
        if self.trained == 1:
            return (prepared - began) + (ends[0] - prepared) * self.whole
        later = (ends[-1] - ends[0]) / (self.trained - 1)
        return (ends[0] - began) + later * (self.whole - 1)

    def _enter(self, *_: Any) -> None:
        self._entered = clock()

    def _leave(self, *_: Any) -> None:
        self._in_optimizer += clock() - self._entered


def evaluate(trainer: Trainer) -> float:
    """Seconds of a validation."""
    began = clock()
    trainer._evaluate(trainer.validation)
    return clock() - began


def matrix_product() -> float:
    """Seconds of a 2048 x 2048 x 2048 product in float32, the best of three."""
    left, right = torch.randn(2, 2048, 2048)
    best = math.inf
    for _ in range(3):
        began = clock()
        left @ right
        best = min(best, clock() - began)
    return best


if __name__ == "__main__":
    main()
