"""How long a study will take: from its own finished trials, or by timing an epoch of each cell."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from mgstudy.config.parameters import Fixed, Space, Value
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset
from mgstudy.study.definition.cell import Cell
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.study.search.state import CellState

_TIMED_EPOCHS = 2


def seconds_from_trials(
    cells: Sequence[Cell], states: Mapping[str, CellState]
) -> dict[str, float | None]:
    """Mean seconds of a trial of each cell, by key.

    A cell without finished trials takes the mean over cells of the same dataset and model; ``None``
    where there are none either.
    """
    known: dict[str, tuple[float, int]] = {}
    for key, state in states.items():
        if state.ended:
            known[key] = (state.seconds(), state.ended)
    return {cell.key: _mean(cell, cells, known) for cell in cells}


def seconds_per_epoch(config: StudyConfig, cell: Cell, dataset: Dataset, device: str) -> float:
    """Train a cell for two epochs at typical parameters on a device, and time the second."""
    threads = torch.get_num_threads()
    torch.set_num_threads(max(1, int(config.resources.cpu)))
    try:
        trainer = build_cell_trainer(
            cell, dataset, _typical_parameters(cell.spaces), config.training, device
        )
        seconds = 0.0
        for count, result in enumerate(trainer.epochs(), start=1):
            seconds = result.seconds_training + result.seconds_evaluation
            if count == _TIMED_EPOCHS:
                break
        return seconds
    finally:
        torch.set_num_threads(threads)


def _mean(
    cell: Cell, cells: Sequence[Cell], known: Mapping[str, tuple[float, int]]
) -> float | None:
    alike = (
        [cell.key]
        if cell.key in known
        else [
            other.key
            for other in cells
            if other.key in known and (other.dataset, other.model) == (cell.dataset, cell.model)
        ]
    )
    trials = sum(known[key][1] for key in alike)
    return sum(known[key][0] for key in alike) / trials if trials else None


def _typical_parameters(spaces: Mapping[str, Space]) -> dict[str, Value]:
    return {
        name: space.value if isinstance(space, Fixed) else space.ends()[0]
        for name, space in spaces.items()
    }
