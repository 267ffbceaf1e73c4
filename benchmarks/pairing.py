"""What pairing does to the spread of a difference: models trained plainly and with Mirror Gradient
under the same seeds.

    python benchmarks/pairing.py --home WORKSPACE --dataset tiktok --models BPR VBPR
    python benchmarks/pairing.py --home WORKSPACE --study STUDY

Every seed trains both, from the same initial weights, on the same batches and negatives. The spread
of the difference is then measured twice on the same trainings: between those of one seed (paired),
and between those of different seeds, whose variances add up (unpaired). What counts is which
difference in the test score is found 4 times of 5, since pairs have half the degrees of freedom.

``--study`` trains nothing: it asks the same of the confirmations of a study with shared seeds,
whose cells have the parameters that their searches chose.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from mgstudy.config.training import EarlyStopping, TrainingSettings
from mgstudy.data.loading import load_dataset
from mgstudy.report.comparison.baselines import compared_cells
from mgstudy.report.comparison.power import power_over_seeds, smallest
from mgstudy.study.results.summary import summarize
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
    arguments.add_argument("--study", help="a study whose confirmations share their seeds")
    options = arguments.parse_args()
    print(
        "| dataset | model | gradient | plain | other | correlation over seeds | spread of the "
        "difference, unpaired | paired | seen with 5 seeds, unpaired | paired |\n"
        + "|---" * 10
        + "|"
    )
    if options.study:
        of_study(options.home, options.study)
        return
    torch.set_num_threads(options.threads)
    dataset = load_dataset(Workspace.resolve(options.home), options.dataset)
    stopping = EarlyStopping(patience=10, minimum_epochs=20)
    settings = TrainingSettings(epochs=options.epochs, early_stopping=stopping)
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
        row(options.dataset, model, "mirror_gradient", *scores)


def of_study(home: Path | None, name: str) -> None:
    """The same of a study's cells and those that were trained plainly."""
    study = summarize(Workspace.resolve(home), name)
    for entry in compared_cells([study], {"gradient": "plain"}):
        scores, plain, is_paired = entry.compared(study.objective, "test")
        if is_paired:
            levels = entry.cell.levels
            row(levels["dataset"], levels["model"], levels["gradient"], plain, scores)


def row(
    dataset: str, model: str, gradient: str, plain: Sequence[float], other: Sequence[float]
) -> None:
    """Print what pairing does to one comparison, whose scores are in the same order of seeds."""
    first, second = np.array(plain), np.array(other)
    both = float(np.sqrt(first.var(ddof=1) + second.var(ddof=1)) / first.mean())
    pairs = float((second - first).std(ddof=1) / first.mean())
    seen = [_seen(both, paired=False), _seen(pairs, paired=True)]
    print(
        f"| {dataset} | {model} | {gradient} | {first.mean():.4f} ± {first.std(ddof=1):.4f} "
        f"| {second.mean():.4f} ± {second.std(ddof=1):.4f} "
        f"| {np.corrcoef(first, second)[0, 1]:+.2f} | {both:.1%} | {pairs:.1%} "
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
