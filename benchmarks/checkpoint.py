"""What a checkpoint costs: to write, to go on from, and on disk, against an epoch of training.

    python benchmarks/checkpoint.py --data data/tiktok
    python benchmarks/checkpoint.py                        # generated, the size of TikTok

A state is written as a trial writes it (``CheckpointFolder.save_last``: whole, through to the disk,
the one before it kept) and gone on from as a resumed trial does (read, checksums verified, put into
model, optimizer and generators). Epochs (with their validation), writes and reads are done in turn,
several times, and the least of each counts. Counted is the processor's time with one thread, which
other work on the machine changes little; waiting for the disk is not in it.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path

import torch
from benchmark_data import read, read_generated
from models import build, least_disturbed, scratch_folder

from mgstudy.config.study import Checkpoints
from mgstudy.data.dataset import Dataset
from mgstudy.data.derived import DerivedArrays
from mgstudy.study.running.trial_progress import TrialProgress
from mgstudy.study.storage.checkpoints import CheckpointFolder

MODELS = ("BPR", "VBPR", "LightGCN", "BM3", "FREEDOM")
COLUMNS = (
    "epoch s",
    "write ms",
    "of an epoch",
    "go on ms",
    "of an epoch",
    "state MB",
    "best weights MB",
    "every 30 s",
)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", type=Path, help="folder with one *.inter and *_feat.npy files")
    arguments.add_argument("--models", nargs="*", default=MODELS)
    arguments.add_argument("--rounds", type=int, default=5, help="repetitions at most")
    arguments.add_argument("--scratch", type=Path, help="keep generated data and graphs here")
    arguments.set_defaults(users=9308, items=6710, interactions=59541, held_out_users=None)
    options = arguments.parse_args()
    torch.set_num_threads(1)
    print("| model | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
    with scratch_folder(options) as scratch:
        dataset = read(options.data) if options.data else read_generated(scratch)
        dataset = replace(dataset, derived=DerivedArrays(scratch / "derived"))
        for name in options.models:
            print(table_row(name, dataset, scratch, options.rounds), flush=True)


def table_row(name: str, dataset: Dataset, scratch: Path, rounds: int) -> str:
    """Measure one model."""
    checkpoints = CheckpointFolder(str(scratch / "checkpoints"))
    progress = TrialProgress(
        name, build(name, dataset, "plain"), checkpoints, Checkpoints(), _stop_at_problem
    )

    def epoch() -> float:
        began = time.process_time()
        progress.next_epoch()
        return time.process_time() - began

    def write() -> float:
        began = time.process_time()
        progress.save()
        return time.process_time() - began

    def go_on() -> float:
        began = time.process_time()
        state = checkpoints.load_last(name).content
        assert state is not None
        progress.load_state_dict(state, recorded=0)
        return time.process_time() - began

    took = least_disturbed({"epoch": epoch, "write": write, "go on": go_on}, rounds)
    state = Path(checkpoints.location(name, "last.pt")).stat().st_size
    best = progress.save_best()
    assert best is not None
    cells = [
        f"{took['epoch']:.2f}",
        f"{1000 * took['write']:.0f}",
        f"{took['write'] / took['epoch']:.1%}",
        f"{1000 * took['go on']:.0f}",
        f"{took['go on'] / took['epoch']:.1%}",
        f"{state / 1e6:.1f}",
        f"{Path(best).stat().st_size / 1e6:.1f}",
        f"{took['write'] / 30:.2%}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


def _stop_at_problem(problem: str) -> None:
    raise SystemExit(problem)


if __name__ == "__main__":
    main()
