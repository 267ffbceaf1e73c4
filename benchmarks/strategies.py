"""What gradient strategies and robust methods cost: epoch time over that of plain training.

    python benchmarks/strategies.py --data data/tiktok --threads 2
    python benchmarks/strategies.py --models VBPR --only sam feature_noise --rounds 20

Every configuration trains one epoch per round, in turn with plain training, and its ratio is the
median over the rounds of the ratios within a round, so that what else the machine does weighs on
both sides alike. Adam, batches of 2048, default parameters, no warm-up of adversaries. Without
``--data`` a dataset of TikTok's size is generated.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from mgstudy.config.pipeline import PipelineConfig
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset
from mgstudy.data.prepare import prepare
from mgstudy.models.base import models
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.results import EpochResult
from mgstudy.training.robust.base import robust_methods
from mgstudy.training.run import build_trainer
from mgstudy.workspace import Workspace

ENDLESS = 10**6
GOALS = {"mirror_gradient": 1.40, "sam": 2.10, "feature_noise": 1.15}
TIKTOK_SIZED = {
    "kind": "synthetic",
    "users": 9308,
    "items": 6710,
    "interactions_per_user": 7.4,
    "modalities": {"image": {"width": 128}, "audio": {"width": 128}},
}


@dataclass(frozen=True)
class Configuration:
    """A gradient strategy and robust methods by name."""

    name: str
    gradient: str = "plain"
    robust: tuple[tuple[str, dict[str, Any]], ...] = ()


def main() -> None:
    options = parse_arguments()
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as scratch:
        dataset = load(options.data, Workspace(Path(scratch)))
        print("model\tconfiguration\tseconds per epoch\tover plain\tlosses per batch\tgoal")
        for model in options.models:
            for row in compare(dataset, model, options.only, options.rounds):
                print("\t".join([model, *row]), flush=True)


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", type=Path, help="folder with one *.inter and *_feat.npy files")
    arguments.add_argument("--models", nargs="*", default=["VBPR", "FREEDOM"])
    arguments.add_argument("--only", nargs="*", help="strategies and methods; by default all")
    arguments.add_argument("--rounds", type=int, default=5, help="epochs of each configuration")
    arguments.add_argument("--threads", type=int, default=torch.get_num_threads())
    return arguments.parse_args()


def load(data: Path | None, workspace: Workspace) -> Dataset:
    source = TIKTOK_SIZED if data is None else {"kind": "mmrec", "path": str(data)}
    config = PipelineConfig.model_validate({"name": "measured", "source": source})
    prepare(config, workspace)
    return load_dataset(workspace, "measured")


def configurations(model: str, dataset: Dataset) -> Iterator[Configuration]:
    for strategy in gradient_strategies:
        if strategy.name != "plain":
            yield Configuration(strategy.name, gradient=strategy.name)
    for method in robust_methods:
        if method.refusal(models.get(model), dataset) is None:
            at_once = {"warmup_epochs": 0} if hasattr(method.Parameters(), "warmup_epochs") else {}
            yield Configuration(method.name, robust=((method.name, at_once),))


def compare(
    dataset: Dataset, model: str, only: list[str] | None, rounds: int
) -> Iterator[tuple[str, ...]]:
    for configuration in configurations(model, dataset):
        if only and configuration.name not in only:
            continue
        plain = epochs(dataset, model, Configuration("plain"))
        other = epochs(dataset, model, configuration)
        next(plain), next(other)  # Buffers are allocated, graphs are computed.
        pairs = [(next(plain), next(other)) for _ in range(rounds)]
        ratio = statistics.median(
            result.seconds_training / baseline.seconds_training for baseline, result in pairs
        )
        baseline, result = pairs[-1]
        yield (
            configuration.name,
            f"{statistics.median(result.seconds_training for _, result in pairs):.3f}",
            f"{ratio:.2f}",
            f"{result.gradient_computations / baseline.gradient_computations:.2f}",
            f"{GOALS[configuration.name]:.2f}" if configuration.name in GOALS else "",
        )


def epochs(dataset: Dataset, model: str, configuration: Configuration) -> Iterator[EpochResult]:
    settings = TrainingSettings(epochs=ENDLESS, validate_every=ENDLESS, early_stopping=None)
    trainer = build_trainer(
        dataset,
        model=model,
        gradient=configuration.gradient,
        robust=configuration.robust,
        settings=settings,
    )
    return trainer.epochs()


if __name__ == "__main__":
    main()
