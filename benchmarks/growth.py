"""How time and memory grow with users, items, interactions and the features' width.

    python benchmarks/growth.py --models VBPR LightGCN FREEDOM --threads 2

Generated data of TikTok's size, and one dimension multiplied at a time. Beside each figure stands
its growth as the exponent of the dimension: 1 is linear, 0 does not depend on it. For the
driver's time against trials see ``driver_overhead.py --trials``.
"""

from __future__ import annotations

import argparse
import json
import math
import resource
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmark_data import generate, read_generated
from models import Epoch, build, evaluate, least_disturbed, matrix_product

from mgstudy.data.derived import DerivedArrays

BASE = {"users": 10_000, "items": 6_000, "interactions": 60_000, "width": 128}
FIGURES = {
    "train": "train products/epoch",
    "validate": "validation products",
    "memory": "peak RSS MB",
}


def main() -> None:
    options = parse_arguments()
    if options.measure is not None:
        print(json.dumps(measure(options)))
        return
    print(
        f"{options.threads} threads, seconds divided by those of a 2048^3 matrix product\n"
        "| model | dimension | size | "
        + " | ".join(f"{title} | exponent" for title in FIGURES.values())
        + " |\n|---|---|---:|"
        + "---:|---:|" * len(FIGURES)
    )
    for model in options.models:
        base = figures_of(model, BASE)
        print_row(model, "base", None, base, None, options.factor)
        for dimension, size in BASE.items():
            before = base
            for step in range(1, options.steps + 1):
                grown = size * options.factor**step
                figures = figures_of(model, BASE | {dimension: grown})
                print_row(model, dimension, grown, figures, before, options.factor)
                before = figures


def parse_arguments() -> argparse.Namespace:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--models", nargs="+", default=["VBPR", "LightGCN", "FREEDOM"])
    arguments.add_argument("--factor", type=int, default=4, help="from one size to the next")
    arguments.add_argument("--steps", type=int, default=1, help="sizes beyond the base")
    arguments.add_argument("--batches", type=int, default=6, help="train at most this many")
    arguments.add_argument("--rounds", type=int, default=4, help="repetitions at most")
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--measure", help=argparse.SUPPRESS)
    arguments.add_argument("--sizes", type=json.loads, help=argparse.SUPPRESS)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    return options


def figures_of(model: str, sizes: dict[str, int]) -> dict[str, float]:
    """Measured in a process of its own, whose memory is the model's alone."""
    hidden = ["--measure", model, "--sizes", json.dumps(sizes)]
    result = subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], *hidden], stdout=subprocess.PIPE, check=True
    )
    figures: dict[str, float] = json.loads(result.stdout.splitlines()[-1])
    return figures


def print_row(
    model: str,
    dimension: str,
    size: int | None,
    figures: dict[str, float],
    before: dict[str, float] | None,
    factor: int,
) -> None:
    cells = []
    for name in FIGURES:
        exponent = "" if before is None else f"{math.log(figures[name] / before[name], factor):.2f}"
        cells += [f"{figures[name]:.4g}", exponent]
    shown = "" if size is None else f"{size:,}"
    print(f"| {model} | {dimension} | {shown} | " + " | ".join(cells) + " |", flush=True)


def measure(options: argparse.Namespace) -> dict[str, Any]:
    sizes = options.sizes
    with tempfile.TemporaryDirectory() as folder:
        generate(
            Path(folder),
            sizes["users"],
            sizes["items"],
            sizes["interactions"],
            widths={"image": sizes["width"], "text": sizes["width"]},
        )
        dataset = replace(read_generated(Path(folder)), derived=DerivedArrays(Path(folder)))
        trainer = build(options.measure, dataset, "plain")
        stages = {
            "product": matrix_product,
            "validate": lambda: evaluate(trainer),
            "train": Epoch(trainer, options.batches).seconds,
        }
        seconds = least_disturbed(stages, options.rounds)
    return {
        "train": seconds["train"] / seconds["product"],
        "validate": seconds["validate"] / seconds["product"],
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


if __name__ == "__main__":
    main()
