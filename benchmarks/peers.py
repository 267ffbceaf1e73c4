"""BPR, LightGCN and VBPR beside those of RecBole, implicit and Cornac: seconds to their quality.

    python benchmarks/peers.py --data data/tiktok --python peers/bin/python
    python benchmarks/peers.py --home WORKSPACE --dataset ml_1m --python peers/bin/python

The same interactions, batches of 2048 and embeddings of 64, Adam with learning rate 1e-3 (implicit
has neither batches nor Adam, and its own defaults). Each side trains until mgstudy's early stopping
would end it, after 30 epochs or more, or longest for ``--epochs`` or for ``--seconds`` of training;
everyone's scores are measured by the same evaluator after every epoch. The curve says when 95 % of
its own best validation recall@20 was reached, and 95 % of the best of all sides.

``--python`` is that of an environment with ``benchmarks/requirements.txt``. Each training is a
process of its own with one thread. Seconds are the processor's, of training alone; with a
validation by each side's own means after every epoch; and as multiples of a matrix product timed in
the same process, since others may use the machine.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_data import read
from peer_trainings import FACTORS, PEERS, Account, EnoughError, Factors

from mgstudy.config.training import EarlyStopping, TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset
from mgstudy.models.base import EmbeddingRecommender
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.results import EarlyStopper
from mgstudy.training.run import build_trainer
from mgstudy.workspace import Workspace

OURS = {"BPR": {}, "LightGCN": {"layers": 2}, "VBPR": {}}
METRIC = "recall@20"
SHARE = 0.95
COLUMNS = (
    "training",
    "epoch",
    "validation",
    f"best {METRIC}",
    "in epoch",
    "ended by",
    "95 % of its best: epoch",
    "processor s",
    "wall s",
    "products",
    "with validations",
    "95 % of the best: products",
    "with validations",
)


@dataclass
class Curve:
    """What a training took and reached, epoch by epoch; seconds are the processor's unless they are
    said to be of the wall."""

    training: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)
    validation: list[float] = field(default_factory=list)
    product: list[float] = field(default_factory=list)
    ended_by: str = ""

    @property
    def best(self) -> float:
        return max(self.recall)

    def reached(self, value: float) -> Reached | None:
        """What it took to reach a recall, ``None`` if it never did."""
        epochs = next((n for n, recall in enumerate(self.recall, 1) if recall >= value), None)
        if epochs is None:
            return None
        seconds = sum(self.training[:epochs])
        product = statistics.mean(self.product)
        validations = epochs * statistics.mean(self.validation)
        return Reached(
            epochs=epochs,
            seconds=seconds,
            wall=sum(self.wall[:epochs]),
            products=seconds / product,
            with_validations=(seconds + validations) / product,
        )


@dataclass
class Reached:
    """How long something took: training alone, but for ``with_validations``."""

    epochs: int
    seconds: float
    wall: float
    products: float
    with_validations: float


def main() -> None:
    options = parse_arguments()
    dataset = (
        load_dataset(Workspace.resolve(options.home), options.dataset)
        if options.data is None
        else read(options.data)
    )
    if options.ours is not None:
        ours(dataset, options.ours, options.folder, options.seed)
        return
    evaluator = Evaluator(dataset, "validation", [METRIC])
    print(
        f"{dataset.name}, seed {options.seed}, one thread, at most {options.epochs} epochs or "
        f"{options.seconds:g} s of training, patience {options.patience}; epoch and validation in "
        "matrix products\n"
        f"| {' | '.join(COLUMNS)} |\n|---{'|---:' * (len(COLUMNS) - 1)}|"
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write(dataset, folder)
        for model in options.models:
            commands = {
                f"mgstudy {model}": [sys.executable, __file__, *sys.argv[1:], "--ours", model]
            }
            for peer in PEERS:
                if peer.endswith(f" {model}"):
                    script = str(Path(__file__).parent / "peer_trainings.py")
                    commands[peer] = [options.python, script, peer, "--seed", str(options.seed)]
            curves = {
                side: follow(side, [*command, "--folder", name], evaluator, folder, options)
                for side, command in commands.items()
            }
            best = max((curve.best for curve in curves.values() if curve.recall), default=math.nan)
            for side, curve in curves.items():
                print(row(side, curve, SHARE * best), flush=True)


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    data = arguments.add_mutually_exclusive_group(required=True)
    data.add_argument("--data", type=Path, help="folder with one *.inter and *_feat.npy files")
    data.add_argument("--dataset", help="a prepared one, in the workspace")
    arguments.add_argument("--home", help="workspace of --dataset")
    arguments.add_argument("--python", default=sys.executable, help="with the other libraries")
    arguments.add_argument("--models", nargs="+", default=list(OURS), choices=OURS)
    arguments.add_argument("--epochs", type=int, default=1000)
    arguments.add_argument("--seconds", type=float, default=math.inf)
    arguments.add_argument("--patience", type=int, default=EarlyStopping().patience)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--ours", help=argparse.SUPPRESS)
    arguments.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    return options


def follow(
    side: str,
    command: Sequence[str],
    evaluator: Evaluator,
    folder: Path,
    options: argparse.Namespace,
) -> Curve:
    """Follow a training epoch by epoch, and end it when it no longer improves."""
    curve = Curve()
    rule = EarlyStopping(patience=options.patience)
    stopper = EarlyStopper(rule)
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    with (
        (folder / "errors").open("w+") as errors,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        for line in process.stdout:
            told: dict[str, float] = json.loads(line)
            with np.load(folder / FACTORS) as factors:
                recall = measured(evaluator, factors)
            curve.recall.append(recall)
            for name, seconds in told.items():
                getattr(curve, name).append(seconds)
            epochs = len(curve.recall)
            trained = sum(curve.training)
            print(f"{side}\t{epochs}\t{trained:.2f}\t{recall:.4f}", file=sys.stderr, flush=True)
            stopper.update(epochs, recall)
            if stopper.should_stop(epochs):
                curve.ended_by = "patience"
            elif epochs >= options.epochs:
                curve.ended_by = "epochs"
            elif trained >= options.seconds:
                curve.ended_by = "seconds"
            process.stdin.write("enough\n" if curve.ended_by else "on\n")
            process.stdin.flush()
        if process.wait() != 0 or not curve.recall:
            errors.seek(0)
            curve.ended_by = (errors.read().splitlines() or ["killed"])[-1]
    return curve


def row(side: str, curve: Curve, target: float) -> str:
    if not curve.recall:
        return f"| {side} | {curve.ended_by} |"
    product = statistics.mean(curve.product)
    own, of_all = curve.reached(SHARE * curve.best), curve.reached(target)
    assert own is not None
    cells = [
        side,
        f"{statistics.median(curve.training) / product:.2f}",
        f"{statistics.median(curve.validation) / product:.2f}",
        f"{curve.best:.4f}",
        str(curve.recall.index(curve.best) + 1),
        curve.ended_by,
        str(own.epochs),
        f"{own.seconds:.1f}",
        f"{own.wall:.1f}",
        f"{own.products:.0f}",
        f"{own.with_validations:.0f}",
        *(
            ["never", "never"]
            if of_all is None
            else [f"{of_all.products:.0f}", f"{of_all.with_validations:.0f}"]
        ),
    ]
    return f"| {' | '.join(cells)} |"


def ours(dataset: Dataset, model: str, folder: Path, seed: int) -> None:
    """What ``peer_trainings.py`` does, of mgstudy."""
    trainer = build_trainer(
        dataset,
        model=model,
        model_parameters=OURS[model],
        optimizer_parameters={"learning_rate": 1e-3},
        settings=TrainingSettings(),
        seed=seed,
    )
    gradient, trained = trainer.gradient, trainer.model
    assert gradient is not None
    assert isinstance(trained, EmbeddingRecommender)

    @torch.no_grad()
    def factors() -> Factors:
        users, items = trained.eval().representations()
        return {"users": users.numpy(), "items": items.numpy()}

    account = Account(folder)
    with suppress(EnoughError):
        for number in itertools.count():
            account.start()
            trainer._train(gradient, number)
            account.end(factors, lambda: trainer._evaluate(trainer.validation))


def measured(evaluator: Evaluator, factors: Any) -> float:
    users, items = torch.from_numpy(factors["users"]), torch.from_numpy(factors["items"])
    return evaluator.evaluate(lambda ids: users[ids] @ items.t())[METRIC]


def write(dataset: Dataset, folder: Path) -> None:
    """What the other libraries read."""
    splits = {"train": dataset.train, "valid": dataset.validation, "test": dataset.test}
    arrays: dict[str, Any] = {
        name: np.stack([split.users, split.items], axis=1) for name, split in splits.items()
    }
    counts = np.array([dataset.user_count, dataset.item_count])
    np.savez(folder / "data.npz", counts=counts, **arrays)
    np.save(folder / "features.npy", np.concatenate(list(dataset.features.values()), axis=1))


if __name__ == "__main__":
    main()
