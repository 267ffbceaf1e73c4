"""What a study has come to, read from its Optuna storage alone, also while it runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import Budget
from mgstudy.study.results.popularity import read_popularity
from mgstudy.study.search.confirmation import SEED_ATTRIBUTE, confirmation_study_name
from mgstudy.study.search.events import State, confirmation_key
from mgstudy.study.search.record import OUTCOME_ATTRIBUTE
from mgstudy.study.search.retried import replaced
from mgstudy.study.search.spending import total_spent
from mgstudy.study.storage.checkpoints import BEST_WEIGHTS, TEST_USERS
from mgstudy.study.storage.heartbeat import Driver
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.lease import is_driven_anywhere
from mgstudy.study.storage.optuna_storage import close_storage, open_storage
from mgstudy.urls import expand_url, redacted
from mgstudy.workspace import Workspace

_STATES = {
    TrialState.COMPLETE: State.COMPLETE,
    TrialState.PRUNED: State.PRUNED,
    TrialState.FAIL: State.FAILED,
    TrialState.RUNNING: State.RUNNING,
}
_ENDINGS_FIRST = (State.COMPLETE, State.PRUNED, State.FAILED, State.RUNNING, State.WAITING)


@dataclass(frozen=True)
class TrialSummary:
    """One trial.

    Attributes:
        number: Its number in the cell.
        state: Where it stands.
        value: Best validation score; ``None`` unless complete.
        parameters: Every parameter, sampled and fixed.
        outcome: Why it ended and what it cost (empty while it runs).
        values: Objective on the validation split, by epoch counted from 1.
        ended: When it ended, in the local time of the storage's writer; ``None`` while it runs.
        stale: Whether it waits because the driver that had begun it is gone.
    """

    number: int
    state: State
    value: float | None
    parameters: Mapping[str, Any]
    outcome: Mapping[str, Any]
    values: Mapping[int, float]
    ended: datetime | None = field(default=None, kw_only=True)
    stale: bool = field(default=False, kw_only=True)


@dataclass(frozen=True)
class ConfirmationSummary(TrialSummary):
    """One replicate of a cell's winner; its number is the replicate's.

    Attributes:
        seed: The training seed.
        weights: Where the weights of its best epoch are, once it is complete.
        test_users: A Parquet table of the test scores of every user: ``user``, and a column for
            each metric; there once it is complete.
    """

    seed: int
    weights: Path
    test_users: Path

    @property
    def test_metrics(self) -> Mapping[str, float]:
        """The mean of each metric over the users of the test split; empty unless complete."""
        return self.outcome.get("test_metrics", {}) if self.state is State.COMPLETE else {}


@dataclass(frozen=True)
class CellSummary:
    """One cell.

    Attributes:
        key: The cell's name.
        levels: Factor to the label of its level.
        budget: Trials its search gets in all.
        searched: The parameters that are sampled.
        trials: Those of the search that were begun, by number.
        seeds: Replicates its winner gets.
        confirmations: The replicates begun of the best trial, by number.
        superseded: Trials that were confirmed before a longer search found a better one.
        exhausted: Whether the trials have cost what they may, so that no more begin.
        retried: Failed trials that others stand for, of search and confirmation; they are counted
            nowhere else.
    """

    key: str
    levels: Mapping[str, str]
    budget: int
    searched: frozenset[str]
    trials: Sequence[TrialSummary] = field(default_factory=tuple)
    seeds: int = 0
    confirmations: Sequence[ConfirmationSummary] = field(default_factory=tuple)
    superseded: Sequence[int] = field(default_factory=tuple)
    exhausted: bool = False
    retried: Sequence[TrialSummary] = field(default_factory=tuple)

    @property
    def counts(self) -> dict[str, int]:
        """Trials of the search in every state; what was interrupted and what is left of the budget
        waits."""
        return _counts(self.trials, 0 if self.exhausted else self.budget)

    @property
    def confirmation_counts(self) -> dict[str, int]:
        """Replicates in every state; those not begun wait, unless there is nothing to confirm."""
        nothing = self.search_finished and self.best is None
        return _counts(self.confirmations, 0 if nothing else self.seeds)

    @property
    def stale(self) -> int:
        """Trials of search and confirmation whose driver is gone; they wait for the next launch."""
        return sum(trial.stale for trial in (*self.trials, *self.confirmations))

    @property
    def search_finished(self) -> bool:
        """Whether nothing of the search's budget is left to run."""
        return _none_left(self.counts)

    @property
    def finished(self) -> bool:
        """Whether search and confirmation have nothing left to run."""
        return self.search_finished and _none_left(self.confirmation_counts)

    @property
    def best(self) -> TrialSummary | None:
        """The completed trial with the best validation score; the earliest of equal ones."""
        completed = [trial for trial in self.trials if trial.value is not None]
        return max(completed, key=lambda t: (t.value or 0.0, -t.number), default=None)

    def seconds(self) -> float:
        """Seconds that the search's finished trials took in training, evaluation and set-up."""
        return sum(
            float(seconds)
            for trial in self.trials
            for name, seconds in trial.outcome.items()
            if name.startswith("seconds_")
        )

    def spent(self, cost: str) -> float:
        """What the search's finished trials cost in all: ``gradient_computations`` or
        ``seconds_training``, for example."""
        return sum(float(trial.outcome.get(cost, 0)) for trial in self.trials)


@dataclass(frozen=True)
class StudySummary:
    """A whole study.

    Attributes:
        name: The study's name.
        question: What it asks.
        objective: The metric that selects, for example ``recall@20``.
        storage: Optuna storage URL, without a password.
        tracking_uri: MLflow tracking URI.
        experiment: MLflow experiment.
        driven: Whether a process drives the study now.
        cells: Its cells, in the order of the study file.
        left_out: Combinations that cannot be trained, with their reason.
        manifest: What the study's last launch wrote down, see ``StudyFolder.read_manifest``.
        driver: The process that drives the study, or did last.
        popularity: Scores of ranking by popularity alone, by dataset, split and metric; empty
            before they are computed.
    """

    name: str
    question: str
    objective: str
    storage: str
    tracking_uri: str
    experiment: str
    driven: bool
    cells: Sequence[CellSummary]
    left_out: Sequence[Mapping[str, Any]]
    manifest: Mapping[str, Any] = field(default_factory=dict)
    popularity: Mapping[str, Mapping[str, Mapping[str, float]]] = field(default_factory=dict)
    driver: Driver = field(default_factory=Driver)

    @property
    def finished(self) -> bool:
        """Whether every cell has finished, with its confirmation."""
        return all(cell.finished for cell in self.cells)

    @property
    def stale(self) -> int:
        """Trials whose driver is gone."""
        return sum(cell.stale for cell in self.cells)

    @property
    def changed_datasets(self) -> dict[str, str]:
        """Labels of the dataset levels whose features were changed before training, to the
        prepared dataset's name."""
        levels = self.manifest.get("config", {}).get("factors", {}).get("dataset", [])
        return {level["label"]: level["name"] for level in levels if isinstance(level, Mapping)}

    def comparable(self, other: StudySummary) -> bool:
        """Whether cells of the two studies were trained and measured alike, on the same data."""
        mine, theirs = (_measured_by(study.manifest) for study in (self, other))
        return mine["training"] == theirs["training"] and all(
            theirs["datasets"].get(name, content) == content
            for name, content in mine["datasets"].items()
        )

    def varying_factors(self) -> list[str]:
        """The factors with more than one level among the cells."""
        return [
            factor
            for factor in (self.cells[0].levels if self.cells else ())
            if len({cell.levels[factor] for cell in self.cells}) > 1
        ]


def summarize(workspace: Workspace, name: str) -> StudySummary:
    """Read a study.

    Raises:
        InputError: If the workspace has no study of that name.
        MgstudyError: If its manifest or storage cannot be read.
    """
    folder = StudyFolder.existing(workspace, name)
    manifest = folder.read_manifest()
    url = expand_url(manifest["storage"])
    driver = folder.driver(is_held=is_driven_anywhere(url, name))
    storage = open_storage(url, create=False)
    # Studies that were launched before there were confirmations have none.
    seeds = manifest["config"].get("confirmation", {"seeds": 0})["seeds"]
    allowance = Budget.model_validate(manifest["config"].get("budget", {}))
    try:
        reader = _Reader(storage, folder, driver.is_alive)
        cells = [reader.cell(entry, seeds, allowance) for entry in manifest["cells"]]
    finally:
        close_storage(storage)
    return StudySummary(
        name=name,
        question=manifest["config"]["question"],
        objective=manifest["config"]["training"]["objective"],
        storage=redacted(url),
        tracking_uri=manifest["tracking"]["uri"],
        experiment=manifest["tracking"]["experiment"],
        driven=driver.is_alive,
        driver=driver,
        cells=cells,
        left_out=manifest["left_out"],
        manifest=manifest,
        popularity=read_popularity(folder),
    )


class _Reader:
    """Reads cells from the Optuna storage of a study."""

    def __init__(self, storage: BaseStorage, folder: StudyFolder, driven: bool) -> None:
        self.storage = storage
        self.folder = folder
        self.driven = driven
        self.ids = {study.study_name: study._study_id for study in storage.get_all_studies()}

    def cell(self, entry: Mapping[str, Any], seeds: int, allowance: Budget) -> CellSummary:
        """Read the cell that the manifest describes as ``entry``."""
        begun, again = self._trials(entry["study"])
        trials = [TrialSummary(**self._content(trial, entry)) for trial in begun]
        cell = CellSummary(
            key=entry["key"],
            levels=entry["levels"],
            budget=entry["budget"],
            searched=frozenset(entry["spaces"]) - frozenset(entry["fixed"]),
            trials=trials,
            seeds=seeds,
            exhausted=total_spent(trial.outcome for trial in trials).reaches(allowance),
        )
        confirmed = {
            trial.number: name
            for trial in trials
            if (name := confirmation_study_name(entry["study"], trial.number)) in self.ids
        }
        winner = cell.best.number if cell.best else -1
        current = confirmed.pop(winner, None)
        replicates, replicates_again = self._trials(current) if current else ([], [])
        return replace(
            cell,
            confirmations=[self._confirmation(trial, entry, winner) for trial in replicates],
            superseded=tuple(confirmed),
            retried=(
                *(TrialSummary(**self._content(trial, entry)) for trial in again),
                *(self._confirmation(trial, entry, winner) for trial in replicates_again),
            ),
        )

    def _trials(self, study_name: str) -> tuple[list[FrozenTrial], list[FrozenTrial]]:
        """The trials begun, and those of them that failed and others stand for."""
        if study_name not in self.ids:
            return [], []
        trials = self.storage.get_all_trials(self.ids[study_name], deepcopy=False)
        gone = replaced(trials)
        begun = [trial for trial in trials if trial.state is not TrialState.WAITING]
        return (
            [trial for trial in begun if trial.number not in gone],
            [trial for trial in begun if trial.number in gone],
        )

    def _confirmation(
        self, trial: FrozenTrial, entry: Mapping[str, Any], winner: int
    ) -> ConfirmationSummary:
        files = self.folder.checkpoints / confirmation_key(entry["key"], winner, trial.number)
        return ConfirmationSummary(
            **self._content(trial, entry),
            seed=trial.user_attrs[SEED_ATTRIBUTE],
            weights=files / BEST_WEIGHTS,
            test_users=files / TEST_USERS,
        )

    def _content(self, trial: FrozenTrial, entry: Mapping[str, Any]) -> dict[str, Any]:
        state = _STATES[trial.state]
        stale = state is State.RUNNING and not self.driven
        if stale:
            state = State.WAITING
        return {
            "number": trial.number,
            "state": state,
            "value": trial.value if state is State.COMPLETE else None,
            "parameters": {**entry["fixed"], **trial.params},
            "outcome": trial.user_attrs.get(OUTCOME_ATTRIBUTE, {}),
            "values": dict(trial.intermediate_values),
            "ended": trial.datetime_complete,
            "stale": stale,
        }


def _measured_by(manifest: Mapping[str, Any]) -> dict[str, Any]:
    training = dict(manifest.get("config", {}).get("training", {}))
    training.pop("evaluation_block_size", None)
    return {"training": training, "datasets": manifest.get("datasets", {})}


def _counts(trials: Sequence[TrialSummary], budget: int) -> dict[str, int]:
    counted = Counter(trial.state for trial in trials)
    counted[State.WAITING] += max(0, budget - len(trials))
    return {state.value: counted[state] for state in _ENDINGS_FIRST}


def _none_left(counts: Mapping[str, int]) -> bool:
    return counts[State.WAITING] == 0 and counts[State.RUNNING] == 0
