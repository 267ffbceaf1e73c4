"""BPR, LightGCN and VBPR beside those of RecBole, implicit and Cornac: seconds and quality.

    python benchmarks/peers.py --data data/tiktok --python peers/bin/python --threads 2

The same interactions, batches of 2048 and embeddings of 64, Adam with learning rate 1e-3 (implicit
has neither batches nor Adam, and its own defaults); everyone's scores after the same number of
epochs are measured by the same evaluator. ``--python`` is that of an environment with
``benchmarks/requirements.txt``. Each training is a process of its own, with a matrix product timed
in it, by which seconds are divided: others may use the machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_data import read
from models import evaluate, least_disturbed, matrix_product
from peer_trainings import PEERS

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.run import build_trainer

OURS = {"BPR": {}, "LightGCN": {"layers": 2}, "VBPR": {}}


def main() -> None:
    options = parse_arguments()
    dataset = read(options.data)
    if options.ours is not None:
        print(json.dumps(ours(dataset, options.ours, options.epochs)))
        return
    evaluator = Evaluator(dataset, "validation", ["recall@20"])
    print(
        f"{dataset.name}, {options.epochs} epochs, {options.threads} threads\n"
        "| training | s per epoch | products per epoch | validate s | products per validation "
        "| valid recall@20 |\n|---|---:|---:|---:|---:|---:|"
    )
    with tempfile.TemporaryDirectory() as folder:
        write(dataset, Path(folder))
        for model in OURS:
            command = [sys.executable, __file__, *sys.argv[1:], "--ours", model]
            print_row(f"mgstudy {model}", figures_of(command))
            for peer in PEERS:
                if peer.split()[-1] == model:
                    script = str(Path(__file__).parent / "peer_trainings.py")
                    common = ["--folder", folder, "--epochs", str(options.epochs)]
                    threads = ["--threads", str(options.threads)]
                    figures = figures_of([options.python, script, peer, *common, *threads])
                    if "error" not in figures:
                        with np.load(Path(folder) / f"{peer}.npz") as factors:
                            figures["recall"] = recall(evaluator, factors)
                    print_row(peer, figures)


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", type=Path, required=True)
    arguments.add_argument("--python", default=sys.executable, help="with the other libraries")
    arguments.add_argument("--epochs", type=int, default=20)
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--ours", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    return options


def figures_of(command: list[str]) -> dict[str, Any]:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        return {"error": (result.stderr.splitlines() or ["killed"])[-1]}
    figures: dict[str, Any] = json.loads(result.stdout.splitlines()[-1])
    return figures


def print_row(name: str, figures: dict[str, Any]) -> None:
    if "error" in figures:
        print(f"| {name} | {figures['error']} |", flush=True)
        return
    cells = []
    for key in ("epoch", "validate"):
        seconds = figures[key]
        cells += (
            ["–", "–"]
            if seconds is None
            else [f"{seconds:.3f}", f"{seconds / figures['product']:.2f}"]
        )
    print(f"| {name} | " + " | ".join(cells) + f" | {figures['recall']:.4f} |", flush=True)


def ours(dataset: Dataset, model: str, epochs: int) -> dict[str, Any]:
    settings = TrainingSettings(epochs=epochs, early_stopping=None)
    trainer = build_trainer(
        dataset,
        model=model,
        model_parameters=OURS[model],
        optimizer_parameters={"learning_rate": 1e-3},
        settings=settings,
    )
    results = list(trainer.epochs())
    metrics = results[-1].metrics
    assert metrics is not None
    measured = least_disturbed(
        {"product": matrix_product, "validate": lambda: evaluate(trainer)}, rounds=5
    )
    epoch = min(result.seconds_training for result in results)
    return {"epoch": epoch, "recall": metrics["recall@20"], **measured}


def recall(evaluator: Evaluator, factors: Any) -> float:
    users, items = torch.from_numpy(factors["users"]), torch.from_numpy(factors["items"])
    return evaluator.evaluate(lambda ids: users[ids] @ items.t())["recall@20"]


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
