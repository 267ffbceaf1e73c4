"""A training epoch and a validation of every model, against what they need and what others take.

    python benchmarks/epoch.py --data data/tiktok --threads 2
    python benchmarks/epoch.py --threads 2                 # generated, the size of Amazon Baby

Two yardsticks stand beside the measured seconds. The **limit** is what the step's matrix products
need at this machine's measured matrix rate, plus what its sparse products, gathered rows and
optimizer move at its measured copy bandwidth; elementwise operations count nothing, as if all were
fused into their neighbours. The **published** seconds are those of the published implementation
(an MMRec fork) on the same data, on another 2-core machine; both are divided by the time of a
2048 x 2048 x 2048 matrix product on their machine. Everything is timed in turn, several times, and
the least disturbed time counts; epochs are cut to ``--batches`` and extrapolated.
"""

from __future__ import annotations

import argparse
import gc
import json
import math
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from benchmark_data import read, read_generated
from models import Epoch, build, evaluate, least_disturbed, matrix_product, scratch_folder
from torch.utils._python_dispatch import TorchDispatchMode

from mgstudy.data.derived import DerivedArrays
from mgstudy.models.base import models
from mgstudy.training.trainer import Trainer

PRODUCT_FLOP = 2 * 2048**3
COPIED = 2**25
"""Floats in the copy that measures the bandwidth: 134 MB read and as many written."""

PUBLISHED_PRODUCT_MS = 51.0
PUBLISHED = {
    "tiktok": {
        "VBPR": (0.73, 0.33),
        "SelfCF": (0.74, 0.40),
        "FREEDOM": (1.74, 0.36),
        "BM3": (2.05, 0.33),
        "LayerGCN": (3.51, 0.36),
        "MGCN": (4.82, 0.38),
        "SLMRec": (7.05, 0.36),
        "DualGNN": (11.3, 0.32),
        "GRCN": (12.3, 0.32),
        "MMGCN": (12.8, 0.31),
        "LATTICE": (16.4, 4.95),
        "DRAGON": (16.6, 0.53),
        "ItemKNNCBF": (0.0, 0.37),
        "MVGAE": (420.0, 0.32),
    },
    "generated": {
        "VBPR": (3.75, 2.4),
        "LayerGCN": (11.4, 2.4),
        "FREEDOM": (15.4, 2.2),
        "BM3": (16.7, 2.2),
    },
}
"""Seconds of a training epoch and of a validation, with 2 threads."""

COLUMNS = (
    "train s",
    "limit s",
    "times limit",
    "validate s",
    "limit s",
    "product ms",
    "published s",
    "epoch / published",
    "validation / published",
)


def main() -> None:
    options = parse_arguments()
    if options.measure is not None:
        print(json.dumps(measure(options)))
        return
    copy = copy_bandwidth()
    print(
        f"{options.threads} threads: matrix products at "
        f"{PRODUCT_FLOP / matrix_product() / 1e9:.0f} GFLOP/s, copies at {copy / 1e9:.1f} GB/s"
    )
    print("| model | " + " | ".join(COLUMNS) + " |\n|---|" + "---:|" * len(COLUMNS))
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


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", type=Path, help="folder with one *.inter and *_feat.npy files")
    arguments.add_argument("--users", type=int, default=19445)
    arguments.add_argument("--items", type=int, default=7050)
    arguments.add_argument("--interactions", type=int, default=118551)
    arguments.add_argument("--held-out-users", type=int, help="generate no more; by default all")
    arguments.add_argument("--models", nargs="*", help="names; by default all")
    arguments.add_argument("--batches", type=int, default=6, help="train at most this many")
    arguments.add_argument("--rounds", type=int, default=5, help="repetitions at most")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--scratch", type=Path, help="keep generated data and graphs here")
    arguments.add_argument("--measure", help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Seconds of one model, and what they need."""
    dataset = read(options.data) if options.data else read_generated(options.scratch)
    dataset = replace(dataset, derived=DerivedArrays(options.scratch / "derived"))
    trainer = build(options.measure, dataset, "plain")
    stages = {
        "product": matrix_product,
        "copy": lambda: 8 * COPIED / copy_bandwidth(),
        "validate": lambda: evaluate(trainer),
    }
    if trainer.model.trainable:
        stages["train"] = Epoch(trainer, options.batches).seconds
    figures: dict[str, Any] = {"train": 0.0} | least_disturbed(stages, options.rounds)
    rate, bandwidth = PRODUCT_FLOP / figures["product"], 8 * COPIED / figures["copy"]
    figures["train_limit"] = epoch_needs(trainer).seconds(rate, bandwidth)
    figures["validate_limit"] = validation_needs(trainer).seconds(rate, bandwidth)
    figures["published"] = PUBLISHED.get(dataset.name, {}).get(options.measure)
    return figures


def table_row(name: str, figures: dict[str, Any]) -> str:
    train, validate = figures["train"], figures["validate"]
    cells = [
        f"{train:.2f}",
        f"{figures['train_limit']:.2f}",
        f"{train / figures['train_limit']:.1f}" if train else "–",
        f"{validate:.3f}",
        f"{figures['validate_limit']:.3f}",
        f"{1000 * figures['product']:.0f}",
    ]
    if figures["published"] is None:
        return f"| {name} | " + " | ".join([*cells, "–", "–", "–"]) + " |"
    published_train, published_validate = figures["published"]
    machine = 1000 * figures["product"] / PUBLISHED_PRODUCT_MS
    whole = (published_train + published_validate) * machine / (train + validate)
    cells += [
        f"{published_train:.2f} + {published_validate:.2f}",
        f"1/{whole:.1f}",
        f"1/{published_validate * machine / validate:.1f}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


@dataclass
class Needs:
    """Floating-point operations of matrix products, and bytes that must be moved beside them."""

    operations: float = 0.0
    bytes: float = 0.0

    def seconds(self, rate: float, bandwidth: float) -> float:
        return self.operations / rate + self.bytes / bandwidth

    def times(self, count: float) -> Needs:
        return Needs(self.operations * count, self.bytes * count)


class Counting(TorchDispatchMode):
    """Notes what the operations inside the ``with`` block need."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.needs = Needs()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        self.note(function.overloadpacket.__name__, arguments, result)
        return result

    def note(self, name: str, arguments: Any, result: Any) -> None:
        needs = self.needs
        if name in ("mm", "bmm"):
            needs.operations += 2 * result.numel() * arguments[0].shape[-1]
        elif name in ("addmm", "addmm_", "baddbmm"):
            needs.operations += 2 * result.numel() * arguments[1].shape[-1]
        elif name in ("_embedding_bag", "_embedding_bag_forward_only"):
            # A row of the table per entry, with its index and value, and the result.
            width = arguments[0].shape[1]
            needs.bytes += 4 * (len(arguments[1]) * (width + 2) + result[0].numel())
        elif name == "_embedding_bag_per_sample_weights_backward":
            needs.bytes += 4 * len(arguments[2]) * (2 * arguments[1].shape[1] + 2)
        elif name in ("embedding", "index_select", "gather", "index"):
            needs.bytes += 2 * 4 * result.numel()
        elif name == "embedding_dense_backward":
            needs.bytes += 2 * 4 * arguments[0].numel()
        elif name == "_fused_adam_":
            # Weight and both moments are read and written, the gradient is read.
            needs.bytes += 7 * sum(weight.nbytes for weight in arguments[0])


def epoch_needs(trainer: Trainer) -> Needs:
    """What an epoch needs, by one of its batches."""
    if trainer.gradient is None:
        return Needs()
    trainer.model.train()
    batch = next(trainer._batches())
    counting = Counting()
    with counting:
        trainer.gradient.step(lambda: trainer.model.loss(batch))
    return counting.needs.times(len(trainer.dataset.train) / len(batch))


@torch.no_grad()
def validation_needs(trainer: Trainer) -> Needs:
    """What a validation needs: the scorer, and scores that are written once, and read once."""
    trainer.model.eval()
    users = torch.from_numpy(trainer.validation.users)
    block = users[: trainer.validation.ranking.block_size]
    with Counting() as counting:
        scorer = trainer.model.scorer()
    needs = counting.needs
    with Counting() as counting:
        scorer(block)
    per_block = counting.needs.times(len(users) / len(block))
    scores = 2 * 4 * len(users) * trainer.dataset.item_count
    return Needs(needs.operations + per_block.operations, needs.bytes + per_block.bytes + scores)


def copy_bandwidth() -> float:
    """Bytes read plus bytes written per second, the best of three copies."""
    source, target = torch.ones(COPIED), torch.empty(COPIED)
    best = math.inf
    for _ in range(3):
        began = time.perf_counter()
        target.copy_(source)
        best = min(best, time.perf_counter() - began)
    del source, target
    gc.collect()
    return 2 * 4 * COPIED / best


if __name__ == "__main__":
    main()
