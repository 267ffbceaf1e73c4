"""What a million users, 200,000 items and 20 million interactions take, and how that has grown.

    python benchmarks/scale.py --ml-1m data/ml-1m --limit-gib 20

Raw data of a tenth of that size and of the whole are generated, in all of which users have 20
interactions; ``mgstudy prepare`` makes them datasets; and on each, and on MovieLens-1M where it is
given, BPR, VBPR and LightGCN are trained and validated as a study's trials are, with default
parameters and a table of 128 columns. Each stage is a process of its own that may allocate no more
than the limit. Beside seconds stands the same in times of a 2048 x 2048 x 2048 product in the same
process, with which machines can be compared. The growth of a row is the exponent since the same row
of the smaller data: 1 is linear in the interactions.

Pairs are those that are prepared or trained, or the users of a validation. An epoch that takes
longer than ``--seconds``, and LightGCN's in small batches after 50, is cut and extrapolated; the
last column says so. A peak is that of the whole process, from reading to keeping the best weights.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from benchmark_data import generate_raw
from models import Epoch, build, clock, evaluate, matrix_product

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset
from mgstudy.workspace import Workspace

WHOLE = {"users": 1_000_000, "items": 200_000, "interactions": 20_000_000}
WIDTH = 128
SPLITS = ("train", "validation", "test")
VALIDATED = 10_000
"""Users of a validation, if there are that many."""
STEPS = """
  - deduplicate
  - k_core: {users: 5, items: 5}
  - reindex
  - split_per_user_random
"""
GENERATED = """
name: generated
source: {{kind: table, interactions: {folder}/log.csv, timestamp: timestamp}}
steps:{steps}
features:
  image: {{encoder: precomputed, file: {folder}/image.npy, row_keys: {folder}/items.txt}}
"""
ML_1M = """
name: ml_1m
source: {{kind: recbole, path: {folder}, dataset: ml-1m}}
steps:
  - rating_threshold: {{minimum: 4}}{steps}
features:
  text: {{encoder: tfidf_svd, template: "{{movie_title}} {{plot}}", dimensions: {width}}}
"""


@dataclass(frozen=True)
class Stage:
    """What a process trains.

    Attributes:
        model: A model's name.
        batch_size: Pairs in a batch.
        batches: How many of an epoch are trained; ``None`` for all.
    """

    model: str
    batch_size: int = 2048
    batches: int | None = None

    def __str__(self) -> str:
        return f"{self.model}, batches of {self.batch_size:,}"


STAGES = (
    Stage("BPR"),
    Stage("VBPR"),
    Stage("LightGCN", batches=50),
    Stage("LightGCN", batch_size=262_144),
)


def main() -> None:
    options = parse_arguments()
    if options.measure is not None:
        limit = int(options.limit_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        measure(options)
        return
    print(
        f"{options.threads} threads, within {options.limit_gib:g} GiB\n"
        "| interactions | what | processor s | products | µs a pair | growth | peak GiB | batches |"
        "\n|---:|---|---:|---:|---:|---:|---:|---:|"
    )
    with scratch_folder(options.folder) as folder:
        before: Mapping[str, float] = {}
        for share in sorted(options.shares):
            sizes = {name: max(1, round(share * size)) for name, size in WHOLE.items()}
            home = folder / f"{sizes['interactions']}"
            if not (home / "items.txt").exists():
                generate_raw(home, **sizes, width=WIDTH)
            pipeline = home / "generated.yaml"
            pipeline.write_text(GENERATED.format(folder=home, steps=STEPS))
            before = measure_all(f"{sizes['interactions']:,}", pipeline, home, before)
        if options.ml_1m is not None:
            home = folder / "ml_1m"
            home.mkdir(exist_ok=True)
            pipeline = home / "ml_1m.yaml"
            pipeline.write_text(
                ML_1M.format(folder=options.ml_1m.absolute(), steps=STEPS, width=WIDTH)
            )
            measure_all("ML-1M", pipeline, home, {})


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--shares", nargs="*", type=float, default=[0.1, 1.0], help="of it")
    arguments.add_argument("--ml-1m", type=Path, help="folder with ml-1m.inter and ml-1m.item")
    arguments.add_argument("--limit-gib", type=float, default=20, help="that a stage may allocate")
    arguments.add_argument("--seconds", type=float, default=600, help="of an epoch, before a cut")
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--folder", type=Path, help="keep all data here, and find it again")
    arguments.add_argument("--measure", help=argparse.SUPPRESS)
    arguments.add_argument("--pipeline", type=Path, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    return options


@contextmanager
def scratch_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given.absolute()
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def measure_all(
    data: str, pipeline: Path, home: Path, before: Mapping[str, float]
) -> dict[str, float]:
    """Print a row for everything that is measured on one dataset.

    Args:
        data: What the rows call it.
        pipeline: The file that it is prepared by.
        home: The workspace that it is prepared into.
        before: What was returned of the smaller data.

    Returns:
        Its interactions under ``""``, and the products of each row by the row's name.
    """
    prepared = stage_of(pipeline, "prepare")
    manifest = json.loads(Workspace(home).manifest(pipeline.stem).read_text())
    counts: dict[str, int] = manifest["counts"]
    interactions = sum(counts[split] for split in SPLITS)
    found: dict[str, float] = {"": interactions}

    def row(what: str, seconds: float, product: float, pairs: int, peak: float, cut: str) -> None:
        found[what] = products = seconds / product
        growth = ""
        if what in before:
            factor = math.log(interactions / before[""])
            growth = f"{math.log(products / before[what]) / factor:.2f}"
        print(
            f"| {data} | {what} | {seconds:,.1f} | {products:,.1f} | {1e6 * seconds / pairs:,.1f} "
            f"| {growth} | {peak:.1f} | {cut} |",
            flush=True,
        )

    for number, stage in enumerate(STAGES):
        figures = stage_of(pipeline, str(number))
        product, peak = figures["product"], figures["peak"]
        if number == 0:
            shown = ", ".join(f"{counts[name]:,} {name}" for name in ("users", "items", *SPLITS))
            print(f"| {data} | {shown} | | | | | | |")
            row("prepare", prepared["processor"], product, interactions, prepared["peak"], "")
        cut = figures["trained"] < figures["batches"]
        trained = f"{figures['trained']:,} of {figures['batches']:,}" if cut else ""
        row(f"{stage}: read and build", figures["ready"], product, counts["train"], peak, "")
        row(f"{stage}: epoch", figures["epoch"], product, counts["train"], peak, trained)
        validated = figures["validated"]
        row(f"{stage}: validation", figures["validation"], product, validated, peak, "")
    return found


def stage_of(pipeline: Path, stage: str) -> dict[str, Any]:
    """What a stage says of itself in a process of its own, the seconds of a processor that it
    spends, and the most memory that it has at once, in GiB."""
    hidden = ["--measure", stage, "--pipeline", str(pipeline)]
    with subprocess.Popen(
        [sys.executable, __file__, *sys.argv[1:], *hidden],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"THP_MEM_ALLOC_ENABLE": "1"},  # As a study has its trials' processes.
    ) as process:
        assert process.stdout is not None
        said = process.stdout.read().splitlines()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"{pipeline.stem}: stage {stage} ended with {process.returncode}")
    return {
        "processor": used.ru_utime + used.ru_stime,
        "peak": used.ru_maxrss / 2**20,
        **(json.loads(said[-1]) if said and stage != "prepare" else {}),
    }


def measure(options: argparse.Namespace) -> None:
    """One stage."""
    pipeline, home = options.pipeline, options.pipeline.parent
    if options.measure == "prepare":
        words = ["-m", "mgstudy.cli", "prepare", str(pipeline), "--home", str(home)]
        os.execv(sys.executable, [sys.executable, *words])
    stage = STAGES[int(options.measure)]
    began = clock()
    dataset = of_some_users(load_dataset(Workspace(home), pipeline.stem).pairs_only())
    settings = TrainingSettings(batch_size=stage.batch_size)
    trainer = build(stage.model, dataset, "plain", settings)
    ready = clock()
    product = matrix_product()
    epoch = Epoch(trainer, stage.batches, options.seconds)
    figures = {
        "ready": ready - began,
        "epoch": epoch.seconds(),
        "trained": epoch.trained,
        "batches": epoch.whole,
        "validation": evaluate(trainer),
        "validated": len(trainer.validation.users),
    }
    # A training keeps the weights of its best epoch, too.
    trainer._keep_weights()
    print(json.dumps(figures | {"product": min(product, matrix_product())}))


def of_some_users(dataset: Dataset) -> Dataset:
    """The same, of which no more than ``VALIDATED`` users are validated."""
    users = np.unique(dataset.validation.users)[:VALIDATED]
    return replace(
        dataset,
        validation=dataset.validation.where(np.isin(dataset.validation.users, users)),
        fingerprint=f"{dataset.fingerprint}-{len(users)}",
    )


if __name__ == "__main__":
    main()
