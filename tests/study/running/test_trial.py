from __future__ import annotations

import gc
import json
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from pretended_gpu import PretendedGpu
from ray.tune import PlacementGroupFactory
from states import first_values

from mgstudy.config.study import Checkpoints
from mgstudy.study.running.failures import Cause
from mgstudy.study.running.trial import StudyTrial
from mgstudy.study.running.trial_progress import TrialProgress
from mgstudy.study.storage.checkpoints import BEFORE_LAST, BEST_WEIGHTS, LAST, CheckpointFolder
from mgstudy.training.results import EpochResult

FACTORS = """
model: [VBPR, FREEDOM]
gradient: [mirror_gradient, swa]
robust: [[feature_noise, modality_dropout]]
"""
SETTINGS = """
training:
  {epochs: 8, batch_size: 4, validate_every: 2, objective: ndcg@2, cutoffs: [2],
   early_stopping: {patience: 1, minimum_epochs: 2}}
"""
Start = Callable[..., StudyTrial]


@pytest.fixture
def checkpoints(tmp_path: Path) -> CheckpointFolder:
    return CheckpointFolder(str(tmp_path / "checkpoints"))


@pytest.fixture
def start(read, expanded, datasets, checkpoints) -> Start:
    """Start a trial of one of the cells, as a worker does, from its checkpoint if there is one."""
    config, _ = read(FACTORS, SETTINGS)
    cells = {cell.key: cell for cell in expanded(FACTORS, SETTINGS).cells}

    def begin(
        cell: int = 0,
        recorded: int = 0,
        folder=checkpoints,
        gpu: float = 0.0,
        stage: str = "search",
        **policy: Any,
    ) -> StudyTrial:
        class Worker(StudyTrial):
            seconds_per_result = 0.0
            trial_resources = PlacementGroupFactory([{"CPU": 1.0, "GPU": gpu}])

            def setup(self, config_: dict[str, Any]) -> None:
                super().setup(
                    config_,
                    cells,
                    datasets,
                    config.training,
                    folder,
                    Checkpoints(**{"every_seconds": None, **policy}),
                )

        key = list(cells)[cell]
        typical = first_values(cells[key])
        return Worker(
            {
                "cell": key,
                "key": f"{key}/0",
                "stage": stage,
                "seed": cells[key].seed,
                "recorded": recorded,
                "gpu": gpu,
                "parameters": typical,
            }
        )

    return begin


def steps(trial: StudyTrial, count: int | None = None) -> list[dict[str, Any]]:
    """What a trial reports, without what time it took."""
    reports: list[dict[str, Any]] = []
    while len(reports) != count:
        result = trial.step()
        metrics = json.loads(result["metrics"])
        outcome = json.loads(result["outcome"])
        reports.append(
            {
                "step": result["step"],
                "value": result["value"],
                "metrics": {k: v for k, v in metrics.items() if not k.startswith("time/")},
                "outcome": {k: v for k, v in outcome.items() if not k.startswith("seconds_")},
            }
        )
        if result.get("done"):
            break
    return reports


def undisturbed(start: Start, tmp_path: Path, cell: int = 0) -> list[dict[str, Any]]:
    """The reports of the same trial, never interrupted."""
    other = CheckpointFolder(str(tmp_path / "other"))
    reports = steps(start(cell, folder=other))
    for report in reports:
        if "checkpoint" in report["outcome"]:
            report["outcome"]["checkpoint"] = report["outcome"]["checkpoint"].replace(
                "/other/", "/checkpoints/"
            )
    return reports


@pytest.mark.parametrize("cell", range(4))
def test_a_trial_goes_on_to_the_bit_wherever_it_is_killed(
    start: Start, tmp_path: Path, cell: int
) -> None:
    whole = undisturbed(start, tmp_path, cell)
    assert len(whole) >= 3
    reports = steps(start(cell, every_epochs=1), 1)
    for _ in whole[1:]:
        again = steps(start(cell, recorded=len(reports) * 2, every_epochs=1), 2)
        # The last report comes again, in case the driver died while it wrote it down.
        assert again[0] == reports[-1]
        reports += again[1:]
    assert reports == whole


def test_a_result_has_as_many_validations_as_its_time_allows(start: Start, tmp_path: Path) -> None:
    whole = undisturbed(start, tmp_path)
    trial = start()
    trial.seconds_per_result = 3600.0
    result = trial.step()
    assert result["done"]
    reports = [*json.loads(result.pop("earlier")), result]
    assert [report["step"] for report in reports] == [report["step"] for report in whole]
    assert [report["value"] for report in reports] == [report["value"] for report in whole]
    assert all("done" not in report for report in reports[:-1])

    begun = start(every_epochs=1)
    steps(begun, 2)
    again = start(recorded=4, every_epochs=1)
    again.seconds_per_result = 3600.0
    result = again.step()
    earlier = json.loads(result["earlier"])
    assert [*(report["step"] for report in earlier), result["step"]] == [
        report["step"] for report in whole[1:]
    ]


class Gate:
    """A trial hangs after an epoch until it is opened."""

    def __init__(self, trial: StudyTrial, epoch: int) -> None:
        self.open, self.was_waited_for = threading.Event(), True
        build = trial._build

        def built() -> TrialProgress:
            progress = build()
            next_epoch = progress.next_epoch

            def waiting() -> EpochResult | None:
                if progress.trainer.next_epoch == epoch:
                    self.was_waited_for = self.open.wait(60.0)
                return next_epoch()

            progress.next_epoch = waiting
            return progress

        trial._build = built


def reports_up_to(trial: StudyTrial, step: int) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    while not reports or reports[-1]["step"] < step:
        result = trial.step()
        reports += [*json.loads(result.pop("earlier", "[]")), result]
    return reports


def test_what_is_complete_does_not_wait_for_an_epoch_that_hangs(
    start: Start, tmp_path: Path
) -> None:
    whole = undisturbed(start, tmp_path)
    trial = start()
    trial.seconds_per_result = 0.25
    gate = Gate(trial, 4)
    first = reports_up_to(trial, 4)
    gate.open.set()
    rest = reports_up_to(trial, whole[-1]["step"])
    assert gate.was_waited_for
    assert [r["value"] for r in (*first, *rest)] == [r["value"] for r in whole]


def test_a_trial_that_is_stopped_in_an_epoch_is_written_down_after_it(
    start: Start, tmp_path: Path, checkpoints: CheckpointFolder
) -> None:
    whole = undisturbed(start, tmp_path)
    trial = start(every_seconds=3600.0)
    trial.seconds_per_result = 0.25
    gate = Gate(trial, 2)
    reports_up_to(trial, 2)
    stopping = threading.Thread(target=trial.cleanup)
    stopping.start()
    gate.open.set()
    stopping.join(timeout=60)
    assert checkpoints.load(trial._key, LAST)["trainer"]["next_epoch"] in (2, 4)
    assert steps(start(recorded=2)) == whole


def test_reports_that_the_driver_has_lost_come_again(start: Start, tmp_path: Path) -> None:
    whole = undisturbed(start, tmp_path)
    steps(start(every_epochs=1), 2)
    assert steps(start(recorded=0, every_epochs=1)) == whole


def test_a_trial_between_two_checkpoints_repeats_what_is_recorded(
    start: Start, tmp_path: Path
) -> None:
    whole = undisturbed(start, tmp_path)
    steps(start(every_epochs=4), 3)
    assert steps(start(recorded=6, every_epochs=4)) == whole[2:]


def test_a_trial_that_is_stopped_politely_loses_nothing(
    start: Start, tmp_path: Path, checkpoints: CheckpointFolder
) -> None:
    whole = undisturbed(start, tmp_path)
    trial = start(every_seconds=3600.0)
    steps(trial, 2)
    assert not checkpoints.exists(trial._key, LAST)
    trial.cleanup()
    assert checkpoints.load(trial._key, LAST)["trainer"]["next_epoch"] == 4
    assert steps(start(recorded=4)) == whole[1:]


def test_a_damaged_checkpoint_is_said_and_changes_nothing(
    start: Start, tmp_path: Path, checkpoints: CheckpointFolder
) -> None:
    whole = undisturbed(start, tmp_path)
    trial = start(every_epochs=1)
    steps(trial, 2)
    last = Path(checkpoints.location(trial._key, LAST))
    last.write_bytes(last.read_bytes()[:-100])
    again = start(recorded=4, every_epochs=1)
    first = again.step()
    assert first["problem"].startswith(f"cannot read checkpoint {last}: ")
    assert "problem" not in again.step()
    # From the one before it; without that, from the start.
    assert steps(start(recorded=4, every_epochs=100))[-1] == whole[-1]
    for name in (LAST, BEFORE_LAST):
        Path(checkpoints.location(trial._key, name)).write_text("nothing")
    assert steps(start()) == whole


def test_a_checkpoint_of_something_else_is_said_and_not_used(
    start: Start, tmp_path: Path, checkpoints: CheckpointFolder
) -> None:
    whole = undisturbed(start, tmp_path, cell=2)
    other, wanted = start(0, every_epochs=1), start(2)
    steps(other, 2)
    state = checkpoints.load(other._key, LAST)
    checkpoints.save(wanted._key, LAST, state)
    assert (
        "begun anew: its checkpoint does not fit: the checkpoint was made"
        in (start(2).step()["problem"])
    )
    assert steps(wanted) == whole


def test_weights_that_cannot_be_written_do_not_cost_the_trial_its_result(
    start: Start, tmp_path: Path
) -> None:
    whole = undisturbed(start, tmp_path)
    blocked = tmp_path / "a-file"
    blocked.touch()
    reports = steps(start(folder=CheckpointFolder(str(blocked)), every_epochs=1))
    del whole[-1]["outcome"]["checkpoint"]
    assert reports == whole


def test_a_trial_is_not_to_blame_for_files_out_of_reach(
    start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Of a confirmation, the scores of users are no less than its result.
    blocked = tmp_path / "a-file"
    blocked.touch()
    trial = start(folder=CheckpointFolder(str(blocked)), stage="confirmation")
    while not (result := trial.step()).get("done"):
        pass
    outcome = json.loads(result["outcome"])
    assert outcome["cause"] == Cause.FILES.value
    assert outcome["reason"] == f"its files cannot be read or written: {blocked}: Not a directory"

    def away(files: MemoryFileSystem, path: str, **settings: object) -> None:
        raise RuntimeError("the store is away")  # Of no kind that Python knows, as some raise.

    # Nobody knows whether it has a state to go on from.
    monkeypatch.setattr(MemoryFileSystem, "info", away)
    result = start(folder=CheckpointFolder("memory://away")).step()
    outcome = json.loads(result["outcome"])
    assert result["done"] and outcome["cause"] == Cause.FILES.value
    assert outcome["reason"].endswith("memory://away: the store is away")


def test_states_are_kept_as_the_policy_says(start: Start, checkpoints: CheckpointFolder) -> None:
    trial = start(keep_every=4, keep_last=True)
    reports = steps(trial)
    folder = Path(checkpoints.root, trial._key)
    kept = {f"epoch-{epoch}.pt" for epoch in range(4, reports[-1]["step"], 4)}
    assert {path.name for path in folder.iterdir()} == {BEST_WEIGHTS, "final.pt", *kept}
    final = checkpoints.load(trial._key, "final.pt")
    assert final["trainer"]["next_epoch"] == reports[-1]["step"]


# On a GPU.


@pytest.fixture
def gpu() -> Iterator[PretendedGpu]:
    with PretendedGpu() as pretended:
        yield pretended


def breaks(trial: StudyTrial, gpu: PretendedGpu, error: Exception, context: bool = False) -> None:
    """Let the trial's next epoch raise, and break the process's context too, if so."""

    def raise_it() -> None:
        gpu.broken = str(error) if context else None
        raise error

    trial._progress.next_epoch = raise_it


def test_a_trial_keeps_to_its_share_with_what_is_outside_of_torch(
    start: Start, gpu: PretendedGpu
) -> None:
    gpu.reserved = 2**30
    trial = start(gpu=0.25)
    # 600 MiB of 16 GiB are the process's own.
    assert gpu.limit == pytest.approx(0.25 - 0.0366, abs=1e-4)
    report = trial.step()
    assert report["gpu_peak"] == pytest.approx(1 / 16 + 0.0366, abs=1e-4)
    assert "seconds_training" in report["outcome"] and "gpu_seconds" in report["outcome"]
    start(gpu=1 / 100)
    assert gpu.limit == 0


def test_the_memory_of_a_trial_is_given_back_before_the_next_one_begins(
    start: Start, gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    trial = start(gpu=0.25)
    trial.step()
    model = trial._progress.trainer.model
    # As an autograd function holds a model whose closure it keeps, and the closure it.
    model.circle = [model]
    gone = weakref.ref(model)
    del model
    held = []
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: held.append(gone() is not None))
    gc.disable()
    try:
        trial.cleanup()
        trial.reset_config(trial.config)
    finally:
        gc.enable()
    assert held == [False]


def test_how_much_is_outside_of_torch_can_be_said(
    start: Start, gpu: PretendedGpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGSTUDY_CUDA_CONTEXT_BYTES", str(2**30))
    start(gpu=0.25)
    assert gpu.limit == 0.25 - 1 / 16


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be ..."),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    ],
)
def test_a_full_gpu_is_no_fault_of_the_trial(
    start: Start, gpu: PretendedGpu, error: Exception
) -> None:
    trial = start(gpu=0.5)
    trial.step()
    breaks(trial, gpu, error)
    outcome = json.loads(trial.step()["outcome"])
    assert (outcome["cause"], outcome["failed"]) == (Cause.MEMORY.value, True)
    assert outcome["reason"].startswith("out of GPU memory: CUDA ")
    assert outcome["epochs"] == 2


def test_a_broken_gpu_ends_the_process_and_a_bug_only_the_trial(
    start: Start, gpu: PretendedGpu
) -> None:
    trial = start(gpu=0.5)
    trial.step()
    breaks(trial, gpu, RuntimeError("a bug"))
    outcome = json.loads(trial.step()["outcome"])
    assert outcome["reason"] == "RuntimeError: a bug" and "cause" not in outcome

    trial = start(gpu=0.5)
    trial.step()
    breaks(trial, gpu, RuntimeError("CUDA error: an illegal memory access"), context=True)
    with pytest.raises(SystemExit, match="the GPU no longer answers: CUDA error: an illegal"):
        trial.step()
    with pytest.raises(SystemExit, match="the GPU cannot be used: CUDA error: an illegal"):
        start(gpu=0.5)
