"""What pairing does to the spread of a difference: models trained plainly and with Mirror Gradient
under the same seeds.

    python benchmarks/pairing.py --home WORKSPACE --dataset tiktok --models BPR VBPR

Every seed trains both, from the same initial weights, on the same batches and negatives. The spread
of the difference is then measured twice on the same trainings: between those of one seed (paired),
and between those of different seeds, whose variances add up (unpaired). What counts is which
difference in the test score is found 4 times of 5, since pairs have half the degrees of freedom.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch

from mgstudy.config.training import EarlyStopping, TrainingSettings
from mgstudy.data.loading import load_dataset
from mgstudy.report.comparison.power import power_over_seeds, smallest
from mgstudy.training.run import train
from mgstudy.workspace import Workspace

METRIC = "recall@20"
SEEDS_OF_A_STUDY = 5


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--home", type=Path)
    arguments.add_argument("--dataset", default="tiktok")
    arguments.add_argument("--models", nargs="+", default=["BPR", "VBPR"])
    arguments.add_argument("--variant", default="loss_scaled")
    arguments.add_argument("--learning-rate", type=float, default=5e-3)
    arguments.add_argument("--seeds", type=int, default=8)
    arguments.add_argument("--epochs", type=int, default=60)
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    torch.set_num_threads(options.threads)
    dataset = load_dataset(Workspace.resolve(options.home), options.dataset)
    stopping = EarlyStopping(patience=10, minimum_epochs=20)
    settings = TrainingSettings(epochs=options.epochs, early_stopping=stopping)
    print(
        "| dataset | model | plain | mirror_gradient | correlation over seeds | spread of the "
        "difference, unpaired | paired | seen with 5 seeds, unpaired | paired |\n"
        "|---|---|---|---|---|---|---|---|---|"
    )
    for model in options.models:
        scores: list[list[float]] = []
        for gradient in ("plain", "mirror_gradient"):
            of_it = {} if gradient == "plain" else {"variant": options.variant}
            scores.append([])
            for seed in range(options.seeds):
                run = train(
                    dataset,
                    model=model,
                    gradient=gradient,
                    gradient_parameters=of_it,
                    optimizer_parameters={"learning_rate": options.learning_rate},
                    settings=settings,
                    seed=seed,
                )
                scores[-1].append(run.trainer.test_metrics()[METRIC])
        plain, mirror = (np.array(of_one) for of_one in scores)
        both = float(np.sqrt(plain.var(ddof=1) + mirror.var(ddof=1)) / plain.mean())
        pairs = float((mirror - plain).std(ddof=1) / plain.mean())
        seen = [_seen(both, paired=False), _seen(pairs, paired=True)]
        print(
            f"| {options.dataset} | {model} | {plain.mean():.4f} ± {plain.std(ddof=1):.4f} "
            f"| {mirror.mean():.4f} ± {mirror.std(ddof=1):.4f} "
            f"| {np.corrcoef(plain, mirror)[0, 1]:+.2f} | {both:.1%} | {pairs:.1%} "
            f"| {seen[0]:.1%} | {seen[1]:.1%} |",
            flush=True,
        )


def _seen(spread: float, paired: bool) -> float:
    """The difference that one comparison of a study's seeds finds 4 times of 5.

    Args:
        spread: Of the difference of two trainings, over the score.
        paired: Whether they are pairs.
    """
    of_one = spread / np.sqrt(2)
    return smallest(
        lambda difference: power_over_seeds(difference, of_one, SEEDS_OF_A_STUDY, 1, paired)
    )


if __name__ == "__main__":
    main()
