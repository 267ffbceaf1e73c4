"""What a trial of a cell trains, without the Ray that runs it."""

from __future__ import annotations

import functools
from collections.abc import Mapping

from mgstudy.config.parameters import Value
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.robustness.objectives import change_after, risk_of
from mgstudy.study.definition.cell import Cell
from mgstudy.training.run import build_trainer
from mgstudy.training.trainer import Trainer


def build_cell_trainer(
    cell: Cell,
    dataset: Dataset,
    parameters: Mapping[str, Value],
    settings: TrainingSettings,
    device: str = "cpu",
    seed: int | None = None,
) -> Trainer:
    """Build what a trial of ``cell`` trains.

    Args:
        cell: The cell.
        dataset: The cell's dataset.
        parameters: A value for every parameter of the cell.
        settings: How it trains.
        device: Where it trains.
        seed: The training seed; the cell's when not given.
    """
    own = cell.own
    trainer = build_trainer(
        dataset,
        model=cell.model,
        model_parameters=own("model", cell.model, parameters),
        gradient=cell.gradient,
        gradient_parameters=own("gradient", cell.gradient, parameters),
        robust=[(method, own("robust", method, parameters)) for method in cell.robust],
        optimizer=cell.optimizer,
        optimizer_parameters=own("optimizer", None, parameters),
        settings=settings,
        seed=cell.seed if seed is None else seed,
        device=device,
    )
    trainer.after_risks = {
        name: functools.cache(functools.partial(change_after, risk, trainer, dataset))
        for name in settings.objectives
        if (risk := risk_of(name)) is not None
    }
    return trainer
