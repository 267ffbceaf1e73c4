from __future__ import annotations

import json
import math
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mgstudy.study.running.driver import _StopEarly
from mgstudy.study.running.failures import Cause
from mgstudy.study.running.trial_progress import EARLIER, METRICS, OUTCOME, PROBLEM, STEP, VALUE
from mgstudy.study.running.tune_bridge import Heartbeat, OptunaPruner, OptunaSearcher
from mgstudy.study.storage.lease import lease


def test_a_round_of_the_loop_says_that_the_driver_moves(tmp_path: Path) -> None:
    sign = tmp_path / "driver.json"
    with lease(tmp_path, f"sqlite:///{tmp_path}/optuna.db", "s") as held:
        heartbeat = Heartbeat(held)
        # Ray pickles what it is given, for a restore that we never make.
        pickle.dumps(heartbeat)
        first = json.loads(sign.read_text())["moved"]
        heartbeat.on_step_begin(1, [])
        assert json.loads(sign.read_text())["moved"] == first
        held._moved = -math.inf
        heartbeat.on_step_begin(2, [])
        assert json.loads(sign.read_text())["moved"] > first


# Several validations in one result.

PRUNED_BELOW = "pruner: {name: ThresholdPruner, arguments: {lower: 0.5, n_warmup_steps: 2}}\n"


def validation(step: int, value: float, **outcome: Any) -> dict[str, Any]:
    spent = {"epochs": step, "gradient_computations": 10 * step, "seconds_training": float(step)}
    return {
        STEP: step,
        VALUE: value,
        METRICS: json.dumps({"validation/x": value}),
        OUTCOME: json.dumps({**spent, "best_value": value, **outcome}),
        **({"done": True} if outcome else {}),
    }


class Driven:
    """A trial of a study as Ray Tune drives it: the scheduler first, then the searcher."""

    def __init__(self, opened: Any) -> None:
        self.record = opened("", PRUNED_BELOW)
        self.searcher = OptunaSearcher(self.record, most_begun=4)
        self.pruner = OptunaPruner(self.searcher)
        self.searcher.suggest("ray-1")
        self.trial: Any = SimpleNamespace(trial_id="ray-1")

    def result(self, *validations: dict[str, Any]) -> Any:
        """Hand over one result, and what became of the trial if it has ended, as it is stored."""
        *earlier, last = validations
        result = {**last, **({EARLIER: json.dumps(earlier)} if earlier else {})}
        decision = "STOP"
        if not result.get("done"):
            decision = self.pruner.on_trial_result(None, self.trial, result)
        if decision == "CONTINUE":
            return None
        self.pruner.on_trial_complete(None, self.trial, result)
        self.searcher.on_trial_complete("ray-1", result)
        (cell,) = self.record.states
        (trial,) = cell.trials
        return trial


def test_the_pruner_is_asked_after_each_validation_and_what_follows_does_not_count(
    opened: Any,
) -> None:
    driven = Driven(opened)
    trial = driven.result(
        validation(1, 0.1), validation(2, 0.4), validation(3, 0.9), validation(4, 0.9)
    )
    assert trial.state.value == "pruned"
    assert dict(trial.values) == {1: 0.1, 2: 0.4}
    assert trial.outcome["epochs"] == 2 and trial.outcome["gradient_computations"] == 20
    assert trial.outcome["best_value"] == 0.4
    assert trial.outcome["seconds_training"] == 4.0, "the time was taken"


@pytest.mark.parametrize(
    "end", [{"done": True, "best_value": 0.95}, {"failed": True, "reason": "a bug"}]
)
def test_a_trial_that_ended_after_it_was_to_be_stopped_was_stopped(
    opened: Any, end: dict[str, Any]
) -> None:
    driven = Driven(opened)
    assert driven.result(validation(1, 0.7)) is None
    trial = driven.result(validation(2, 0.2), validation(3, 0.95), validation(4, 0.95, **end))
    assert trial.state.value == "pruned"
    assert dict(trial.values) == {1: 0.7, 2: 0.2}
    assert "failed" not in trial.outcome


def test_validations_together_come_to_the_same_as_each_alone(opened: Any) -> None:
    validations = [validation(step, 0.5 + step / 10) for step in (1, 2, 3)]
    validations.append(validation(4, 0.8, done=True, best_value=0.8))
    together = Driven(opened)
    ended = together.result(*validations)
    assert ended.state.value == "complete" and ended.value == 0.8
    assert dict(ended.values) == {1: 0.6, 2: 0.7, 3: 0.8, 4: 0.8}


def test_validations_before_a_failure_are_kept(opened: Any) -> None:
    driven = Driven(opened)
    failed = {"done": True, OUTCOME: json.dumps({"failed": True, "reason": "a bug", "epochs": 2})}
    trial = driven.result(validation(1, 0.6), validation(2, 0.7), failed)
    assert trial.state.value == "failed" and dict(trial.values) == {1: 0.6, 2: 0.7}


def test_what_went_wrong_is_said_of_every_validation(
    opened: Any, caplog: pytest.LogCaptureFixture
) -> None:
    driven = Driven(opened)
    first, second = validation(1, 0.6), validation(2, 0.7)
    driven.result({**first, PROBLEM: "no checkpoint"}, {**second, PROBLEM: "no disk"})
    assert [record.message.partition(": ")[2] for record in caplog.records] == [
        "no checkpoint",
        "no disk",
    ]


def test_a_study_whose_files_stay_out_of_reach_stops_and_no_trial_has_failed(opened: Any) -> None:
    record = opened("", "retries: {max_retries: 2}")
    searcher = OptunaSearcher(record, most_begun=1)
    lost = {"failed": True, "reason": "its files are away", "cause": Cause.FILES.value}
    for _ in range(3):
        assert not _StopEarly(searcher).stop_all()
        searcher.suggest("ray-1")
        searcher.on_trial_complete("ray-1", {"done": True, OUTCOME: json.dumps(lost)})
    assert _StopEarly(searcher).stop_all()
    assert str(searcher.failure).startswith("stopped: ")
    assert str(searcher.failure).endswith("/0: its files are away; the same command goes on")
    record.release()
    (cell,) = record.states
    (trial,) = cell.trials
    assert not trial.state.is_ended
    assert record.next_request().number == 0
