"""How long a trial takes from data in hand to its first batch: a process's first, and the next.

    python benchmarks/trial_start.py --home WORKSPACE --dataset tiktok

Graphs that depend on the data alone are built once per workspace, mapped by every process and kept
in it, so only the first trial of all builds them.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.derived import DerivedArrays
from mgstudy.data.loading import load_dataset
from mgstudy.data.sampling import epoch_batches
from mgstudy.training.run import build_trainer
from mgstudy.workspace import Workspace

MODELS = ("BPR", "VBPR", "LightGCN", "FREEDOM", "BM3")
REPEATS = 3


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--home", type=Path)
    arguments.add_argument("--dataset", default="tiktok")
    arguments.add_argument("--models", nargs="+", default=MODELS)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    dataset = load_dataset(Workspace.resolve(options.home), options.dataset)
    print(f"{options.dataset}: seconds from data in hand to the first batch, 1 thread")
    print(f"{'model':10} {'graphs built':>13} {'new process':>12} {'next trial':>11}")
    for model in options.models:
        folder = Path(tempfile.mkdtemp())
        try:
            fresh = replace(dataset, derived=DerivedArrays(folder))
            built = seconds_to_first_batch(model, fresh)
            mapped = seconds_to_first_batch(model, replace(dataset, derived=DerivedArrays(folder)))
            following = min(seconds_to_first_batch(model, fresh) for _ in range(REPEATS))
        finally:
            shutil.rmtree(folder)
        print(f"{model:10} {built:13.3f} {mapped:12.3f} {following:11.3f}")


def seconds_to_first_batch(model: str, dataset: Dataset) -> float:
    """Build a trainer and what an epoch begins with; stop at the first batch's loss."""
    began = time.perf_counter()
    trainer = build_trainer(dataset, model=model, settings=TrainingSettings(epochs=1))
    trainer.model.train()
    trainer.model.before_epoch(0)
    next(epoch_batches(dataset, trainer.settings.batch_size, np.random.default_rng(0), None))
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
