"""Test scores of models at their default settings, trained plainly and with Mirror Gradient.

    python benchmarks/tiktok_defaults.py --home WORKSPACE

One training each: Adam, learning rate 1e-3, batch 2048, embedding size 64, seed 999, early stopping
on validation recall@20, and the test at the best validation epoch. One seed proves nothing about
Mirror Gradient; the table is there to compare implementations.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from mgstudy.config.training import EarlyStopping, TrainingSettings
from mgstudy.data.loading import load_dataset
from mgstudy.training.run import train
from mgstudy.workspace import Workspace

MODELS = ("VBPR", "BM3", "FREEDOM", "LightGCN")
STRATEGIES = {
    "plain": ("plain", {}),
    "MG, loss scaled": ("mirror_gradient", {"variant": "loss_scaled"}),
    "MG, update scaled": ("mirror_gradient", {"variant": "update_scaled"}),
}
SEED = 999


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--home", type=Path)
    arguments.add_argument("--dataset", default="tiktok")
    arguments.add_argument("--models", nargs="+", default=MODELS)
    arguments.add_argument("--strategies", nargs="+", default=list(STRATEGIES), choices=STRATEGIES)
    arguments.add_argument("--epochs", type=int, default=1000)
    arguments.add_argument("--threads", type=int, default=2)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    dataset = load_dataset(Workspace.resolve(options.home), options.dataset)
    settings = TrainingSettings(
        epochs=options.epochs, early_stopping=EarlyStopping(patience=20, minimum_epochs=40)
    )
    print(
        f"| model | strategy | valid recall@20 | test recall@20 | test ndcg@20 | best epoch "
        f"| epochs | training s | s per epoch ({options.threads} threads) |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for model in options.models:
        for label in options.strategies:
            gradient, parameters = STRATEGIES[label]
            run = train(
                dataset,
                model=model,
                gradient=gradient,
                gradient_parameters=parameters,
                optimizer_parameters={"learning_rate": 1e-3},
                settings=settings,
                seed=SEED,
            )
            best, test = run.best, run.trainer.test_metrics()
            seconds = sum(result.seconds_training for result in run.results)
            assert best.metrics is not None
            print(
                f"| {model} | {label} | {best.metrics['recall@20']:.4f} | {test['recall@20']:.4f} "
                f"| {test['ndcg@20']:.4f} | {best.epoch + 1} | {len(run.results)} | {seconds:.0f} "
                f"| {seconds / len(run.results):.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
