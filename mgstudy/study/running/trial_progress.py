"""How far a trial has come in its worker, and its way to disk and back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from mgstudy.config.study import Checkpoints
from mgstudy.study.search.trials import GPU_SECONDS
from mgstudy.study.storage.checkpoints import BEST_WEIGHTS, FINAL, CheckpointFolder
from mgstudy.training.results import EpochResult
from mgstudy.training.trainer import Trainer

# What a report of a worker is made of.
VALUE = "value"
STEP = "step"
METRICS = "metrics"
OUTCOME = "outcome"
PROBLEM = "problem"
GPU_PEAK = "gpu_peak"
EARLIER = "earlier"
"""The validations before the last, where a report has several."""
_COSTS = ("seconds_setup", "seconds_training", "seconds_evaluation")


class TrialProgress:
    """A trainer, what it has cost and reported so far, and when its state is written down.

    The reports belong to the state: a driver that dies may have lost the last of them, and a trial
    that goes on from a later epoch gives them again instead of leaving a gap.

    Args:
        trial: The trial's key.
        trainer: At its start.
        checkpoints: Where states are written.
        policy: When.
        on_problem: Told what could not be written; the training goes on.
        gpus: GPUs that the trial holds, or its share of one.

    Attributes:
        cost: Seconds spent, without those that an interruption wasted; with ``gpu_seconds``, which
            are seconds times GPUs held, where there are GPUs.
        reports: What was reported to the driver.
    """

    def __init__(
        self,
        trial: str,
        trainer: Trainer,
        checkpoints: CheckpointFolder,
        policy: Checkpoints,
        on_problem: Callable[[str], None],
        gpus: float = 0.0,
    ) -> None:
        self.trial = trial
        self.trainer = trainer
        self._epochs: Iterator[EpochResult] = trainer.epochs()
        self.cost = dict.fromkeys(_COSTS, 0.0)
        self.reports: list[dict[str, Any]] = []
        self._gpus = gpus
        self._checkpoints, self._policy, self._on_problem = checkpoints, policy, on_problem
        self._repeated: Iterator[dict[str, Any]] = iter(())
        self._saved_epoch = trainer.next_epoch
        self._saved_at = time.monotonic()

    def next_epoch(self) -> EpochResult | None:
        """Train another epoch, and count what it took, also of one that breaks; ``None`` after the
        last."""
        began = time.perf_counter()
        try:
            result = next(self._epochs, None)
        except BaseException:
            self.spend("seconds_training", time.perf_counter() - began)
            raise
        if result is not None:
            self.spend("seconds_training", result.seconds_training)
            self.spend("seconds_evaluation", result.seconds_evaluation)
        return result

    def spent(self) -> dict[str, Any]:
        """What the trial has cost so far, however it ends."""
        trainer = self.trainer
        return {
            **self.cost,
            "epochs": trainer.next_epoch,
            "gradient_computations": trainer.gradient_computations,
        }

    def spend(self, name: str, seconds: float) -> None:
        """Count seconds of set-up, training or evaluation, and those of the GPUs meanwhile held."""
        self.cost[name] += seconds
        if self._gpus:
            self.cost[GPU_SECONDS] = self.cost.get(GPU_SECONDS, 0.0) + self._gpus * seconds

    def next_repeated(self) -> dict[str, Any] | None:
        """The next report that the driver may not have recorded, if there is one."""
        report = next(self._repeated, None)
        return None if report is None else dict(report)

    def save_if_due(self) -> None:
        """Write the state down when the policy says so."""
        policy, epoch = self._policy, self.trainer.next_epoch
        waited = time.monotonic() - self._saved_at
        if policy.keep_every is not None and epoch % policy.keep_every == 0:
            self._write(
                lambda: self._checkpoints.save(self.trial, f"epoch-{epoch}.pt", self.state_dict())
            )
        if (policy.every_seconds is not None and waited >= policy.every_seconds) or (
            policy.every_epochs is not None and epoch - self._saved_epoch >= policy.every_epochs
        ):
            self.save()

    def save(self) -> None:
        """Write the state down, unless it is there already."""
        if self.trainer.next_epoch > self._saved_epoch:
            self._write(lambda: self._checkpoints.save_last(self.trial, self.state_dict()))
            self._saved_epoch = self.trainer.next_epoch
            self._saved_at = time.monotonic()

    def save_best(self) -> str | None:
        """Put the best weights into the model and write them; their place, ``None`` if that
        failed: what was measured counts all the same."""
        if self._policy.keep_last:
            self._write(lambda: self._checkpoints.save(self.trial, FINAL, self.state_dict()))
        self.trainer.restore_best()
        return self._write(
            lambda: self._checkpoints.save(
                self.trial, BEST_WEIGHTS, {"model": self.trainer.model.state_dict()}
            )
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue to the bit."""
        return {
            "trainer": self.trainer.state_dict(),
            "cost": dict(self.cost),
            "reports": list(self.reports),
        }

    def load_state_dict(self, state: Mapping[str, Any], recorded: int) -> None:
        """Continue from ``state_dict()``.

        Args:
            state: The state.
            recorded: The last step that the driver has recorded. It is reported again, since a
                driver may have died between its records.

        Raises:
            InputError: If the state is of another model or of other interactions.
        """
        self.trainer.load_state_dict(state["trainer"])
        self.cost = dict(state["cost"])
        self.reports = [dict(report) for report in state["reports"]]
        self._repeated = iter([r for r in self.reports if r["step"] >= recorded])
        self._epochs = self.trainer.epochs()
        self._saved_epoch = self.trainer.next_epoch

    def _write(self, write: Callable[[], str]) -> str | None:
        try:
            return write()
        except OSError as error:
            self._on_problem(f"its checkpoint cannot be written: {error.strerror or error}")
            return None
