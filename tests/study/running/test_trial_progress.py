from __future__ import annotations

from pathlib import Path

import pytest
from states import first_values

from mgstudy.config.study import Checkpoints
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.study.running.trial_progress import TrialProgress
from mgstudy.study.storage.checkpoints import CheckpointFolder

FACTORS = "model: [BPR]"
SETTINGS = "training: {epochs: 3, objective: ndcg@2, cutoffs: [2]}"


@pytest.mark.parametrize(("gpus", "held"), [(0.25, {"gpu_seconds": 2.5}), (0.0, {})])
def test_a_trial_that_goes_on_adds_the_gpus_it_then_holds(
    read, expanded, datasets, tmp_path: Path, gpus: float, held: dict[str, float]
) -> None:
    config, _ = read(FACTORS, SETTINGS)
    (cell,) = expanded(FACTORS, SETTINGS).cells
    parameters = first_values(cell)

    def begin(gpus: float) -> TrialProgress:
        trainer = build_cell_trainer(cell, datasets[cell.dataset], parameters, config.training)
        folder = CheckpointFolder(str(tmp_path))
        return TrialProgress(cell.key, trainer, folder, Checkpoints(), print, gpus)

    first = begin(gpus)
    first.spend("seconds_setup", 2.0)
    first.spend("seconds_training", 8.0)
    spent = {"seconds_setup": 2.0, "seconds_training": 8.0, "seconds_evaluation": 0.0}
    assert first.cost == {**spent, **held}
    # It goes on with twice the share, as after running out of memory.
    second = begin(2 * gpus)
    second.load_state_dict(first.state_dict(), recorded=0)
    second.spend("seconds_evaluation", 4.0)
    # 10 seconds at the first share, 4 at twice that.
    total = {"gpu_seconds": 4.5} if held else {}
    assert second.cost == {**spent, "seconds_evaluation": 4.0, **total}
