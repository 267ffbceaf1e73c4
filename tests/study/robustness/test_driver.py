"""A worker that measures on a GPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pretended_gpu import PretendedGpu
from states import first_values

from mgstudy.config.robustness import Robustness
from mgstudy.study.robustness import driver
from mgstudy.study.robustness.plan import Task, TrainedCell
from mgstudy.study.running.cell_trainer import build_cell_trainer

FACTORS = "model: [VBPR]"
SETTINGS = "training: {epochs: 1, objective: ndcg@2, cutoffs: [2]}"


def test_a_worker_keeps_to_its_share_and_says_that_it_was_too_small(
    read, expanded, datasets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, _ = read(FACTORS, SETTINGS)
    (cell,) = expanded(FACTORS, SETTINGS).cells
    parameters = first_values(cell)
    dataset = datasets[cell.dataset]
    weights = build_cell_trainer(cell, dataset, parameters, config.training).model.state_dict()
    (tmp_path / "best.pt").write_bytes(b"weights")
    trained = TrainedCell(cell, f"{cell.key}/0", 0, 1, parameters, tmp_path / "best.pt", "test")
    job = driver.ModelJob(
        trained, weights, [Task("clean", "key")], config.training, Robustness(), gpu=0.25
    )
    with PretendedGpu() as gpu:
        (measured,) = driver._measure(job, dataset, 1.0)
        # 600 MiB of 16 GiB are the process's own.
        assert gpu.limit == pytest.approx(0.25 - 0.0366, abs=1e-4)
        assert measured[0]["kind"] == "clean"
        for error, raised in (
            (torch.OutOfMemoryError("CUDA out of memory. Tried"), MemoryError),
            (RuntimeError("a bug"), RuntimeError),
        ):

            def breaks(model: object, task: Task, error: Exception = error) -> None:
                raise error

            monkeypatch.setattr(driver._Subject, "measure", breaks)
            with pytest.raises(raised, match=r"^out of GPU memory: CUDA out|^a bug"):
                list(driver._measure(job, dataset, 1.0))
