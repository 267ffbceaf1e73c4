from __future__ import annotations

import pytest

from mgstudy.config.study import Resources
from mgstudy.errors import InputError
from mgstudy.study.checkpoints import CheckpointFolder
from mgstudy.study.driver import KeepBestCheckpoint, TrialResources, trial_resources
from mgstudy.study.events import Assignment, State

LAPTOP = {"CPU": 8.0}
WORKSTATION = {"CPU": 16.0, "GPU": 2.0}


@pytest.mark.parametrize(
    ("asked", "cluster", "settled"),
    [
        ({}, LAPTOP, (1, 0, 8)),
        ({"cpu": 3}, LAPTOP, (3, 0, 2)),
        ({"cpu": 0.5}, LAPTOP, (0.5, 0, 16)),
        ({"max_concurrent": 3}, LAPTOP, (1, 0, 3)),
        ({"max_concurrent": 30}, LAPTOP, (1, 0, 8)),
        # auto: as many trials on each GPU as the CPUs allow, at most 8.
        ({}, WORKSTATION, (1, 1 / 8, 16)),
        ({"cpu": 4}, WORKSTATION, (4, 1 / 2, 4)),
        ({"cpu": 16}, WORKSTATION, (16, 1, 1)),
        ({}, {"CPU": 64.0, "GPU": 1.0}, (1, 1 / 8, 8)),
        ({}, {"CPU": 3.0, "GPU": 1.0}, (1, 1 / 3, 3)),
        # A fraction does not span GPUs.
        ({"gpu": 0.3}, WORKSTATION, (1, 0.3, 6)),
        ({"gpu": 0.6}, WORKSTATION, (1, 0.6, 2)),
        ({"gpu": 2.0}, {"CPU": 16.0, "GPU": 5.0}, (1, 2, 2)),
        ({"gpu": 0.0}, WORKSTATION, (1, 0, 16)),
        ({"gpu": 0.1, "cpu": 8}, WORKSTATION, (8, 0.1, 2)),
    ],
)
def test_what_a_trial_gets(
    asked: dict[str, float], cluster: dict[str, float], settled: tuple[float, float, int]
) -> None:
    resources = Resources.model_validate(asked)
    assert trial_resources(resources, cluster) == TrialResources(*settled)


@pytest.mark.parametrize(
    ("asked", "cluster"),
    [
        ({"cpu": 9}, LAPTOP),
        ({"gpu": 0.5}, LAPTOP),
        ({"gpu": 3.0}, WORKSTATION),
        ({"cpu": 17}, WORKSTATION),
    ],
)
def test_nothing_that_fits_nowhere_is_started(
    asked: dict[str, float], cluster: dict[str, float]
) -> None:
    with pytest.raises(InputError, match=r"no trial fits: one takes .* lower `resources`"):
        trial_resources(Resources.model_validate(asked), cluster)


def test_only_the_best_weights_of_a_cell_are_kept(expanded, tmp_path) -> None:
    cells = expanded("model: [BPR, VBPR]").cells

    def finish(cell, number: int, state: State, value: float | None) -> None:
        weights = tmp_path / cell.key / str(number) / "best.pt"
        weights.parent.mkdir(parents=True)
        weights.touch()
        keep.trial_finished(Assignment(cell, number, 0, {}), state, value, {})

    def kept(cell) -> list[int]:
        return sorted(int(path.name) for path in (tmp_path / cell.key).iterdir())

    keep = KeepBestCheckpoint(CheckpointFolder(str(tmp_path)), {})
    first, second = cells
    finish(first, 0, State.COMPLETE, 0.3)
    finish(first, 1, State.COMPLETE, 0.2)
    finish(second, 0, State.COMPLETE, 0.1)
    assert (kept(first), kept(second)) == ([0], [0])
    finish(first, 2, State.COMPLETE, 0.4)
    finish(first, 3, State.COMPLETE, 0.4)
    assert kept(first) == [2]
    # The best of an earlier launch is known from the record.
    keep = KeepBestCheckpoint(CheckpointFolder(str(tmp_path)), {first.key: (2, 0.4)})
    finish(first, 4, State.COMPLETE, 0.35)
    assert kept(first) == [2]
    finish(first, 5, State.COMPLETE, 0.5)
    assert kept(first) == [5]
