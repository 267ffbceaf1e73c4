"""Compare a study to which something happened with trainings to which nothing did."""

from __future__ import annotations

from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.study.search.trials import State


def check_against_the_library(summary: StudySummary, study: Study) -> None:
    """Every trial ran once, to its end, and has the numbers of an undisturbed training."""
    for cell, found in zip(study.plan.cells, summary.cells, strict=True):
        assert [trial.number for trial in found.trials] == [0, 1, 2]
        for trial in found.trials:
            assert trial.state is State.COMPLETE
            trainer = build_cell_trainer(
                cell, study.datasets["tiny"], trial.parameters, study.config.training
            )
            scores = {r.epoch + 1: r.metrics["ndcg@5"] for r in trainer.epochs() if r.metrics}
            assert dict(trial.values) == scores
            assert trial.value == max(scores.values()) == scores[trial.outcome["best_epoch"]]
            assert trial.outcome["best_metrics"] == trainer.best_metrics
            assert trial.outcome["gradient_computations"] == trainer.gradient_computations
