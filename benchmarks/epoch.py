"""A training epoch and a validation of every model, against what they need and what others take.

    python benchmarks/epoch.py --data data/tiktok --threads 2
    python benchmarks/epoch.py --data data/tiktok --threads 1      # in processor time
    python benchmarks/epoch.py --threads 2                 # generated, the size of Amazon Baby

Two yardsticks stand beside the measured seconds. The **limit** is what the step's matrix products
need at this machine's measured matrix rate, plus what all its other operations move at its measured
copy bandwidth: sparse products, gathered rows, the optimizer, and passes over tensors (elementwise
operations, sums, norms, softmaxes, selections, copies). A pass writes what it makes, and reads what
it is given unless a pass has read that before: as if all that read a tensor did so at once. Where
all of it is small enough for a cache, it moves at the bandwidth of a copy there. Operations cost
nothing beside, and are those that the step consists of now: one with fewer of them has a lower
limit. The **published** seconds are those of the published implementation (an MMRec fork) on the
same data, on another 2-core machine, with two threads: they are left out with another number of
them. Both are divided by the time of a 2048 x 2048 x 2048 matrix product on their machine.

With ``--threads 1`` seconds are the processor's, which a busy machine disturbs less. Everything is
timed in turn, several times, and the least disturbed time counts; epochs are cut to ``--batches``
and extrapolated, all but the first batch, with which some models build what the others use.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import math
import subprocess
import sys
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from benchmark_data import read, read_generated
from models import Epoch, build, clock, evaluate, least_disturbed, matrix_product, scratch_folder
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mgstudy.data.derived import DerivedArrays
from mgstudy.models.base import models
from mgstudy.training.trainer import Trainer

PRODUCT_FLOP = 2 * 2048**3
COPIED = 2**25
"""Floats in the copy that measures the memory's bandwidth: 134 MB read and as many written."""
COPIED_IN_CACHE = 2**17
"""Floats in the copy that measures the cache's bandwidth: 0.5 MB read and as many written."""
CACHE = 2**21
"""Bytes that a pass may read and write to count as one in the cache."""

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
    "undivided",
    "validation / published",
)


def main() -> None:
    options = parse_arguments()
    if options.measure is not None:
        print(json.dumps(measure(options)))
        return
    copies = [copy_bandwidth(count) / 1e9 for count in (COPIED, COPIED_IN_CACHE)]
    print(
        f"{options.threads} threads: matrix products at "
        f"{PRODUCT_FLOP / matrix_product() / 1e9:.0f} GFLOP/s, copies at {copies[0]:.1f} GB/s, "
        f"in the cache at {copies[1]:.1f} GB/s"
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
        "copy": lambda: 1 / copy_bandwidth(COPIED),
        "copy in cache": lambda: 1 / copy_bandwidth(COPIED_IN_CACHE),
        "validate": lambda: evaluate(trainer),
    }
    if trainer.model.trainable:
        stages["train"] = Epoch(trainer, options.batches).seconds
    figures: dict[str, Any] = {"train": 0.0} | least_disturbed(stages, options.rounds)
    costs = (figures["product"] / PRODUCT_FLOP, figures["copy"], figures["copy in cache"])
    figures["train_limit"] = epoch_needs(trainer).seconds(*costs)
    figures["validate_limit"] = validation_needs(trainer).seconds(*costs)
    published = PUBLISHED.get(dataset.name, {}) if options.threads == 2 else {}
    figures["published"] = published.get(options.measure)
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
        return f"| {name} | " + " | ".join([*cells, "–", "–", "–", "–"]) + " |"
    published_train, published_validate = figures["published"]
    machine = 1000 * figures["product"] / PUBLISHED_PRODUCT_MS
    whole = (published_train + published_validate) * machine / (train + validate)
    cells += [
        f"{published_train:.2f} + {published_validate:.2f}",
        f"1/{whole:.1f}",
        f"1/{(published_train + published_validate) / (train + validate):.1f}",
        f"1/{published_validate * machine / validate:.1f}",
    ]
    return f"| {name} | " + " | ".join(cells) + " |"


@dataclass
class Needs:
    """Floating-point operations of matrix products, and bytes that must be moved beside them, by
    memory or in the cache."""

    operations: float = 0.0
    bytes: float = 0.0
    cached: float = 0.0

    def seconds(self, operation: float, byte: float, cached: float) -> float:
        """From the seconds of one of each."""
        return self.operations * operation + self.bytes * byte + self.cached * cached

    def __add__(self, other: Needs) -> Needs:
        return Needs(
            self.operations + other.operations, self.bytes + other.bytes, self.cached + other.cached
        )

    def times(self, count: float) -> Needs:
        return Needs(count * self.operations, count * self.bytes, count * self.cached)


class Counting(TorchDispatchMode):
    """Notes what the operations inside the ``with`` block need."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.needs = Needs()
        self._passed: set[int] = set()

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), keywords: Any = None
    ) -> Any:
        result = function(*arguments, **(keywords or {}))
        name = function.overloadpacket.__name__
        if function.is_view:
            return result
        if not self._is_counted_by_kind(name, arguments, result):
            self._count_pass(name, tensors_in((arguments, keywords)), tensors_in(result))
        # Written anew, it must be read anew.
        self._passed.difference_update(place(tensor) for tensor in tensors_in(result))
        return result

    def _is_counted_by_kind(self, name: str, arguments: Any, result: Any) -> bool:
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
            # The rows, and the table that they are added to.
            needs.bytes += 4 * (2 * arguments[0].numel() + result.numel())
        elif name == "_fused_adam_":
            # Weight and both moments are read and written, the gradient is read.
            needs.bytes += 7 * sum(weight.nbytes for weight in arguments[0])
        else:
            return False
        return True

    def _count_pass(self, name: str, operands: list[Tensor], results: list[Tensor]) -> None:
        if name.startswith(("empty", "new_empty")):
            return
        # What is only made like another reads nothing of it.
        given = {} if name.endswith("_like") else {place(tensor): tensor for tensor in operands}
        read = sum(size(tensor) for key, tensor in given.items() if key not in self._passed)
        moved = read + sum(size(tensor) for tensor in results)
        touched = sum(size(tensor) for tensor in (*given.values(), *results))
        if touched <= CACHE:
            self.needs.cached += moved
        else:
            self.needs.bytes += moved
        self._passed.update(given)


def tensors_in(values: Any) -> list[Tensor]:
    return [value for value in tree_leaves(values) if isinstance(value, Tensor)]


def place(tensor: Tensor) -> int:
    """Where a tensor's values are, whatever view of them it is."""
    return tensor.untyped_storage().data_ptr()


def size(tensor: Tensor) -> int:
    """Bytes of a tensor's values, those that are repeated once."""
    return min(tensor.nbytes, tensor.untyped_storage().nbytes())


def epoch_needs(trainer: Trainer) -> Needs:
    """What an epoch needs, by its first batch and one of the others."""
    if trainer.gradient is None:
        return Needs()
    trainer.model.train()
    trainer.model.before_epoch(0)
    batches = trainer._batches()
    counted: list[Needs] = []
    for batch in itertools.islice(batches, 2):
        with Counting() as counting:
            trainer.gradient.step(partial(trainer.model.loss, batch))
        counted.append(counting.needs)
    # The last batch of an epoch may be short.
    others = max(0.0, len(trainer.dataset.train) / len(batch) - 1)
    return counted[0] + counted[-1].times(others)


@torch.no_grad()
def validation_needs(trainer: Trainer) -> Needs:
    """What a validation needs: the scorer, and scores that are written once, and read once."""
    trainer.model.eval()
    users = torch.from_numpy(trainer.validation.users)
    block = users[: trainer.validation.ranking.block_size]
    with Counting() as counting:
        scorer = trainer.model.scorer()
    needs: Needs = counting.needs
    with Counting() as counting:
        scorer(block)
    scores = Needs(bytes=2 * 4 * len(users) * trainer.dataset.item_count)
    per_block: Needs = counting.needs
    return needs + per_block.times(len(users) / len(block)) + scores


def copy_bandwidth(count: int) -> float:
    """Bytes read plus bytes written per second, the best of three copies of so many floats."""
    source, target = torch.ones(count), torch.empty(count)
    repeats = COPIED // count
    best = math.inf
    for _ in range(3):
        began = clock()
        for _ in range(repeats):
            target.copy_(source)
        best = min(best, clock() - began)
    del source, target
    gc.collect()
    return 2 * 4 * count * repeats / best


if __name__ == "__main__":
    main()
