"""Models without features on the Amazon Baby interactions, beside their published figures.

    python benchmarks/baby.py --data data/baby --record baby.jsonl
    python benchmarks/baby.py --record baby.jsonl --table

Trains the combinations of a grid within the published ones: Adam, batches of 2048, embeddings of
64, up to 1000 epochs, stopped when validation recall@20 has not improved for 20. The published
learning rate is 1e-3. The best combination is chosen by validation, and only its test score counts.
A finished combination is a line of the record; the same command continues where it was interrupted.

In the matrices that DiffMM distributes, the split is the published one with validation and test
exchanged (every user's numbers of held-out items follow the published rule only so), and they are
exchanged back here.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from benchmark_data import read

from mgstudy.config.training import EarlyStopping, TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.run import train

PUBLISHED = {"BPR": 0.0575, "LightGCN": 0.0754}
"""Test recall@20 in the evaluation table of the MMRec toolbox."""

GRIDS: dict[str, dict[str, list[Any]]] = {
    "BPR": {"regularization": [0.1, 1e-4, 1.0, 2.0, 0.01]},
    "LightGCN": {"regularization": [1e-4, 1e-2], "layers": [2, 3, 4, 1]},
    "LayerGCN": {"regularization": [1e-3, 1e-2, 1e-4], "dropout": [0.1, 0.0, 0.2]},
    "SelfCF": {"regularization": [1e-5, 1e-3, 0.1], "layers": [1, 2], "dropout": [0.5, 0.2]},
}
SEED = 999


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--data", type=Path, help="folder with baby.inter")
    arguments.add_argument("--record", type=Path, default=Path("baby.jsonl"))
    arguments.add_argument("--models", nargs="+", default=list(GRIDS), choices=GRIDS)
    arguments.add_argument("--first", type=int, help="combinations per model; by default all")
    arguments.add_argument("--learning-rate", type=float, default=1e-3)
    arguments.add_argument("--threads", type=int, default=1)
    arguments.add_argument("--table", action="store_true", help="print the record, train nothing")
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    if not options.table:
        if options.data is None:
            arguments.error("--data is needed to train")
        data = read(options.data)
        dataset = replace(data, validation=data.test, test=data.validation, fingerprint="exchanged")
        rate = options.learning_rate
        keys = ("model", "parameters", "learning_rate")
        done = [tuple(row[key] for key in keys) for row in rows(options.record)]
        for name in options.models:
            for parameters in combinations(GRIDS[name])[: options.first]:
                if (name, parameters, rate) not in done:
                    row = trained(dataset, name, parameters, rate)
                    with options.record.open("a") as record:
                        record.write(json.dumps(row) + "\n")
    print_table(rows(options.record))


def combinations(grid: dict[str, list[Any]]) -> list[dict[str, Any]]:
    return [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]


def trained(
    dataset: Dataset, name: str, parameters: dict[str, Any], learning_rate: float
) -> dict[str, Any]:
    """One training, as a row of the record."""
    began = time.perf_counter()
    run = train(
        dataset,
        model=name,
        model_parameters=parameters,
        optimizer_parameters={"learning_rate": learning_rate},
        settings=TrainingSettings(early_stopping=EarlyStopping(patience=20)),
        seed=SEED,
    )
    assert run.best.metrics is not None
    masked = Evaluator(dataset, "test", ["recall@20"], exclude_validation=True)
    with torch.no_grad():
        masked_test = masked.evaluate(run.model.eval().scorer())
    row = {
        "model": name,
        "parameters": parameters,
        "learning_rate": learning_rate,
        "validation": run.best.metrics["recall@20"],
        "test": run.trainer.test_metrics(),
        "masked_test": masked_test["recall@20"],
        "best_epoch": run.best.epoch + 1,
        "epochs": len(run.results),
        "seconds": time.perf_counter() - began,
    }
    print(json.dumps(row), flush=True)
    return row


def rows(record: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in record.read_text().splitlines()] if record.exists() else []


def print_table(trainings: list[dict[str, Any]]) -> None:
    print(
        "| model | best parameters by validation | tried | valid recall@20 | test recall@20 "
        "| published | difference | test, validation items masked | best epoch | epochs | time |\n"
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|"
    )
    for name in GRIDS:
        tried = [row for row in trainings if row["model"] == name]
        if not tried:
            continue
        best = max(tried, key=lambda row: row["validation"])
        shown = best["parameters"] | {"learning rate": best["learning_rate"]}
        settings = ", ".join(f"{key} {value:g}" for key, value in shown.items())
        test, published = best["test"]["recall@20"], PUBLISHED.get(name)
        against = f"{published:.4f} | {test / published - 1:+.1%}" if published else "none |"
        print(
            f"| {name} | {settings} | {len(tried)} "
            f"| {best['validation']:.4f} | {test:.4f} | {against} | {best['masked_test']:.4f} "
            f"| {best['best_epoch']} | {best['epochs']} | {best['seconds']:.0f} s |"
        )


if __name__ == "__main__":
    main()
