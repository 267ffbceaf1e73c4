"""What a table of features costs: from Parquet to tensors, and in every further trial process.

    python benchmarks/features.py --items 7050 --width 4096 --processes 8

As in a study, the driver decodes the table once and puts it into Ray's object store, and processes
of the same node take it from there. Each process's memory is its unique set size (what no other
process shares) and its proportional set size (its part of what is shared), before and after it has
the table as a tensor and has read all of it; the difference is what the table costs there.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import ray
import torch

from mgstudy.data.dataset import as_tensor
from mgstudy.data.layouts import features_content, read_features
from mgstudy.data.tables import TableStore


class Trial:
    """A process that holds the table as a trial does."""

    def __init__(self) -> None:
        self.table: Any = None

    def memory(self) -> tuple[int, int]:
        """Unique and proportional set size, bytes."""
        found = psutil.Process().memory_full_info()
        return found.uss, found.pss

    def take(self, tables: list[Any]) -> float:
        """Take the table, read all of it, and say how many seconds it took to have it."""
        began = time.perf_counter()
        self.table = as_tensor(ray.get(tables[0]))
        seconds = time.perf_counter() - began
        float(self.table.sum())
        return seconds


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--items", type=int, default=7050)
    arguments.add_argument("--width", type=int, default=4096)
    arguments.add_argument("--processes", type=int, default=8)
    options = arguments.parse_args()
    table = np.random.default_rng(0).standard_normal((options.items, options.width), np.float32)
    size = table.nbytes
    print(f"{options.items:,} × {options.width:,} float32: {size / 2**20:.1f} MiB")
    with tempfile.TemporaryDirectory() as folder:
        store = TableStore(Path(folder))
        content = features_content(table, {}, lambda row, column: f"{row}, {column}")
        stored = store.ensure("image-0", lambda: content)
        best = min(seconds_to_tensor(store.path("image-0")) for _ in range(3))
        print(f"Parquet ({stored.size / 2**20:.1f} MiB) to tensor: {best:.2f} s", flush=True)
        table = read_features(store.path("image-0"))

    ray.init(
        address="local",
        num_cpus=1,
        include_dashboard=False,
        object_store_memory=int(size * 1.3) + (100 << 20),
        log_to_driver=False,
    )
    try:
        reference = ray.put(table)
        actor, trials = ray.remote(num_cpus=0)(Trial), []
        print("process   unique MiB   proportional MiB   seconds to have it")
        for number in range(1, options.processes + 1):
            trial: Any = actor.remote()
            trials.append(trial)
            uss, pss = ray.get(trial.memory.remote())
            seconds = ray.get(trial.take.remote([reference]))
            uss_after, pss_after = ray.get(trial.memory.remote())
            print(
                f"{number:7} {(uss_after - uss) / 2**20:12.1f} {(pss_after - pss) / 2**20:18.1f} "
                f"{seconds:20.4f}",
                flush=True,
            )
    finally:
        ray.shutdown()


def seconds_to_tensor(path: Path) -> float:
    """Seconds from a Parquet file to a tensor."""
    began = time.perf_counter()
    tensor = as_tensor(read_features(path))
    assert tensor.dtype == torch.float32
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
