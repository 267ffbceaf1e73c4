"""The confirmation of a cell: its winner trained again under fresh seeds, one trial for each."""

from __future__ import annotations

import optuna
from optuna.storages import BaseStorage
from optuna.trial import FrozenTrial, TrialState

from mgstudy.config.study import StudyConfig
from mgstudy.fingerprint import fingerprint
from mgstudy.study.definition.cell import Cell
from mgstudy.study.search.events import Assignment, Replicate
from mgstudy.study.search.retried import replaced
from mgstudy.study.search.samplers import suggest

WINNER_ATTRIBUTE = "mgstudy:winner"
SEED_ATTRIBUTE = "mgstudy:seed"


class CellConfirmation:
    """The replicates of one cell's winner: an Optuna study of their own, begun when the search of
    the cell is over.

    Args:
        config: The study.
        cell: The cell.
        search_name: Name of the cell's Optuna study.
        storage: The Optuna storage of the study.

    Attributes:
        study: The Optuna study of the winner's replicates; ``None`` before the search is over, or
            when it left no winner.
        interrupted: Storage ids of replicates begun by an earlier driver and not finished.
        finished: Replicates that have ended.
    """

    def __init__(
        self, config: StudyConfig, cell: Cell, search_name: str, storage: BaseStorage
    ) -> None:
        self.config = config
        self.cell = cell
        self.search_name = search_name
        self.storage = storage
        self.study: optuna.Study | None = None
        self.interrupted: list[int] = []
        self.finished = 0
        self._winner: FrozenTrial | None = None
        self._begun = 0
        self._search_is_over = False

    @property
    def seeds(self) -> int:
        """Replicates the cell gets in all: none when its search left no winner."""
        if self._search_is_over and self._winner is None:
            return 0
        return max(self.config.confirmation.seeds, self._begun)

    @property
    def left(self) -> int:
        """Replicates still to hand out; before the search is over, at most that many."""
        return self.seeds - self._begun + len(self.interrupted)

    @property
    def ready(self) -> bool:
        """Whether a replicate can be handed out now."""
        return self._search_is_over and self.left > 0

    def open(self, winner: FrozenTrial | None) -> None:
        """The search is over, and this trial has won; ``None`` if none was completed."""
        self._search_is_over, self._winner = True, winner
        if winner is None or self.config.confirmation.seeds == 0:
            return
        self.study = optuna.create_study(
            study_name=confirmation_study_name(self.search_name, winner.number),
            storage=self.storage,
            pruner=optuna.pruners.NopPruner(),
            direction="maximize",
            load_if_exists=True,
        )
        if WINNER_ATTRIBUTE not in self.study.user_attrs:
            self.study.set_user_attr(WINNER_ATTRIBUTE, winner.number)
        trials = self.study.get_trials(deepcopy=False)
        gone = replaced(trials)
        begun = [
            trial
            for trial in trials
            if trial.state is not TrialState.WAITING and trial.number not in gone
        ]
        self._begun = len(begun)
        self.finished = sum(trial.state.is_finished() for trial in begun)
        self.interrupted = [t._trial_id for t in begun if t.state is TrialState.RUNNING]

    def next_assignment(self) -> Assignment:
        """Begin the next replicate, or one that was interrupted, under the seed it had."""
        assert self.study is not None and self._winner is not None
        if self.interrupted:
            trial = optuna.Trial(self.study, self.interrupted.pop(0))
        else:
            self._queue(self._begun)
            trial = self.study.ask()
            self._begun += 1
        sampled = {name: suggest(trial, name, space) for name, space in self.cell.searched.items()}
        return Assignment(
            self.cell,
            trial.number,
            trial._trial_id,
            {**self.cell.fixed, **sampled},
            Replicate(self._winner.number, int(trial.user_attrs[SEED_ATTRIBUTE])),
        )

    def _queue(self, replicate: int) -> None:
        """Queue a replicate with the winner's parameters, unless a driver died just after that."""
        assert self.study is not None and self._winner is not None
        if self.study.get_trials(deepcopy=False, states=(TrialState.WAITING,)):
            return
        seed = replicate_seed(self.config, self.cell, replicate)
        self.study.enqueue_trial(self._winner.params, user_attrs={SEED_ATTRIBUTE: seed})


def confirmation_study_name(search_name: str, winner: int) -> str:
    """The name of the Optuna study that holds the replicates of one winner of a cell."""
    return f"{search_name}/confirmation/{winner}"


def replicate_seed(config: StudyConfig, cell: Cell, replicate: int) -> int:
    """The 32-bit training seed of a replicate.

    It depends on the study's seed, the cell and the replicate alone, so that adding a cell changes
    no other cell's seeds; with ``shared`` seeds, not on the cell either.
    """
    purpose = f"confirmation {replicate}"
    if config.confirmation.shared:
        return int(fingerprint({"study_seed": config.seed, "purpose": purpose})[:8], 16)
    return cell.derived_seed(config.seed, purpose)
