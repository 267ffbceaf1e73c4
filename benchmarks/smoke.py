"""Whether anything has become slower: ratios beside those of ``figures.json``, in two minutes.

    python benchmarks/smoke.py           # ends with 1 when a ratio is a third worse
    python benchmarks/smoke.py --keep    # keeps what it finds

Of commands, processor seconds over those of importing numpy (``commands.py``); of models, processor
seconds of an epoch and of a validation, on one thread and generated data, over those of a matrix
product (``models.py``). Ratios differ between machines, too: on another one, keep those of a
version that is known to be well, then measure.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from benchmark_data import generate, read_generated
from commands import GOALS, ROOT, ratios, workspace
from models import Epoch, build, evaluate, least_disturbed, matrix_product

from mgstudy.data.derived import DerivedArrays

FIGURES = Path(__file__).with_name("figures.json")
WORSE = 4 / 3
"""Times the kept ratio that fail."""
MODELS = ("BPR", "VBPR", "LightGCN", "FREEDOM")
SIZE = (9308, 6710, 59541)
WIDTHS = {"image": 256, "text": 64}
BATCHES = 8


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--keep", action="store_true", help="keep what is measured")
    arguments.add_argument("--home", type=Path, help="a workspace with the quickstart study")
    options = arguments.parse_args()
    found = {**of_models(), **of_commands(options.home)}
    if options.keep:
        FIGURES.write_text(json.dumps(found, indent=2) + "\n")
    kept = json.loads(FIGURES.read_text())
    worse = [name for name, ratio in found.items() if ratio > WORSE * kept.get(name, ratio)]
    print(f"{'':40} {'now':>8} {'kept':>8}")
    for name, ratio in found.items():
        before = f"{kept[name]:8.2f}" if name in kept else f"{'none':>8}"
        print(f"{name:40} {ratio:8.2f} {before} {'slower' if name in worse else ''}")
    if worse:
        raise SystemExit(f"a third slower than in {FIGURES.name}: {', '.join(worse)}")


def of_commands(home: Path | None) -> dict[str, float]:
    """Commands, in times of importing numpy."""
    with workspace(home) as folder:
        return {
            command.replace(f"{ROOT}/", ""): round(ratio, 2)
            for command, ratio in ratios(folder, list(GOALS), repeats=2)
        }


def of_models() -> dict[str, float]:
    """Epochs and validations, in times of a matrix product."""
    torch.set_num_threads(1)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        generate(Path(folder), *SIZE, widths=WIDTHS)
        dataset = replace(read_generated(Path(folder)), derived=DerivedArrays(Path(folder)))
        for model in MODELS:
            trainer = build(model, dataset, "plain")
            least = least_disturbed(
                {
                    "product": _processor_seconds(matrix_product),
                    "epoch": _processor_seconds(Epoch(trainer, BATCHES).seconds),
                    "validation": _processor_seconds(partial(evaluate, trainer)),
                },
                rounds=3,
            )
            for stage in ("epoch", "validation"):
                found[f"{stage} of {model}"] = round(least[stage] / least["product"], 3)
    return found


def _processor_seconds(act: Callable[[], float]) -> Callable[[], float]:
    def timed() -> float:
        began = time.process_time()
        act()
        return time.process_time() - began

    return timed


if __name__ == "__main__":
    main()
