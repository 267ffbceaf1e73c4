"""The storage that writes behind, on every kind of storage that a study file can name."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
import sqlalchemy
from optuna.trial import TrialState

from mgstudy.errors import MgstudyError
from mgstudy.study.storage import storage_writer
from mgstudy.study.storage.optuna_storage import close_storage, open_storage
from mgstudy.study.storage.storage_writer import SECONDS_AT_RISK
from mgstudy.study.storage.write_behind import WriteBehindStorage, open_driven_storage

optuna.logging.set_verbosity(optuna.logging.WARNING)


@pytest.fixture(params=["sqlite", "journal", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty storage."""
    if request.param == "postgresql":
        name = f"d{abs(hash(request.node.name))}"
        return str(request.getfixturevalue("postgresql").new_database(name))
    return f"{request.param}:///{tmp_path}/study.{request.param}"


Opened = Callable[..., tuple[optuna.Study, WriteBehindStorage]]


@pytest.fixture
def opened(url: str) -> Iterator[Opened]:
    """Open the study anew, as a launch does."""
    storages: list[WriteBehindStorage] = []

    def open_study(**settings: Any) -> tuple[optuna.Study, WriteBehindStorage]:
        storage = open_driven_storage(url)
        storages.append(storage)
        study = optuna.create_study(
            study_name="s", storage=storage, direction="maximize", load_if_exists=True, **settings
        )
        return study, storage

    yield open_study
    for storage in storages:
        storage.close()


def content(trials: list[optuna.trial.FrozenTrial]) -> list[tuple[Any, ...]]:
    """All that a storage keeps of trials, but its own ids and times, which some round."""
    return [
        (t.number, t.state, t.values, t.params, t.distributions, t.user_attrs, t.system_attrs,
         {step: repr(value) for step, value in t.intermediate_values.items()})
        for t in trials
    ]  # fmt: skip


@contextmanager
def seen_by_another(url: str) -> Iterator[optuna.Study]:
    """The study as another process opens it."""
    storage = open_storage(url, create=False)
    yield optuna.load_study(study_name="s", storage=storage)
    close_storage(storage)


def stored(url: str) -> list[tuple[Any, ...]]:
    """What another process sees."""
    with seen_by_another(url) as study:
        return content(study.get_trials())


def optimize(study: optuna.Study, count: int) -> None:
    """A few trials that end in every way, with every kind of value."""
    for _ in range(count):
        trial = study.ask()
        x = trial.suggest_float("x", 0.1, 10, log=True)
        trial.suggest_int("size", 2, 200)
        trial.suggest_categorical("choice", ["a", "b", None, 4])
        for step, value in enumerate((x, math.nan, math.inf, -math.inf, x / 3), start=1):
            trial.report(value, step)
        trial.report(x / 7, 5)
        trial.set_user_attr("outcome", {"reason": "epochs", "nested": [1, None]})
        if trial.number % 3 == 0:
            study.tell(trial, x)
        else:
            study.tell(trial, state=TrialState.PRUNED if trial.number % 3 == 1 else TrialState.FAIL)


def test_it_holds_what_it_would_hold_without_memory_in_front(opened: Opened, url: str) -> None:
    study, storage = opened(sampler=optuna.samplers.RandomSampler(seed=3))
    study.enqueue_trial({"x": 2.0})
    study.set_user_attr("cell", {"a": 1})
    optimize(study, 4)
    alone = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(seed=3))
    alone.enqueue_trial({"x": 2.0})
    optimize(alone, 4)
    assert content(study.get_trials()) == content(alone.get_trials()) == stored(url)
    storage.close()
    again, _ = opened()
    assert content(again.get_trials()) == content(alone.get_trials())
    assert again.user_attrs == {"cell": {"a": 1}}
    assert again.best_value == alone.best_value
    assert again.ask().number == 4


def test_a_trial_that_has_ended_is_there_for_others_at_once(opened: Opened, url: str) -> None:
    study, _ = opened()
    for number in range(3):
        trial = study.ask()
        trial.report(0.5, 1)
        trial.set_user_attr("outcome", {"reason": "epochs"})
        study.tell(trial, 0.25 * number)
        ended = stored(url)[number]
        assert ended[1:3] == (TrialState.COMPLETE, [0.25 * number])
        assert ended[5] == {"outcome": {"reason": "epochs"}}
        assert ended[7] == {1: "0.5"}


DIE = """
import os, sys, time
import optuna
from mgstudy.study.storage.write_behind import open_driven_storage

study = optuna.create_study(study_name="s", storage=open_driven_storage(sys.argv[1]))
trial = study.ask()
trial.suggest_float("x", 0, 1)
began = time.monotonic()
step = 0
while time.monotonic() < began + float(sys.argv[2]) + 1.5:
    step += 1
    trial.report(step / 7, step)
    print(step, time.monotonic() - began, flush=True)
    time.sleep(0.002)
os.kill(os.getpid(), 9)
"""


def test_a_driver_that_is_killed_loses_at_most_the_declared_second(url: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", DIE, url, str(SECONDS_AT_RISK)],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert ended.returncode == -9, ended.stderr
    told = [line.split() for line in ended.stdout.splitlines()]
    last = float(told[-1][1])
    old = [int(step) for step, at in told if float(at) < last - SECONDS_AT_RISK - 0.5]
    assert len(old) > 5
    ((_, state, _, params, _, _, _, values),) = stored(url)
    assert state is TrialState.RUNNING
    assert 0 <= params["x"] <= 1
    assert set(old) <= set(values)
    assert all(values[step] == repr(step / 7) for step in old)


def test_a_caller_is_held_until_a_slow_storage_has_what_is_old(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begun, may_end, taken = threading.Event(), threading.Event(), threading.Event()

    class Slow(optuna.storages.InMemoryStorage):
        def set_trial_intermediate_value(self, *report: Any) -> None:
            begun.set()
            assert may_end.wait(60)
            super().set_trial_intermediate_value(*report)

    monkeypatch.setattr(storage_writer, "SECONDS_AT_RISK", 0.0)
    storage = WriteBehindStorage(Slow(), "slow")
    trial = optuna.create_study(storage=storage).ask()
    trial.report(0.5, 1)
    assert begun.wait(60)
    faster = threading.Thread(target=lambda: (trial.report(0.6, 2), taken.set()))
    faster.start()
    assert not taken.wait(0.5)
    may_end.set()
    assert taken.wait(60)
    faster.join(timeout=60)
    storage.close()


def test_a_half_written_line_of_a_killed_writer_spoils_nothing(tmp_path: Path) -> None:
    url = f"journal:///{tmp_path}/study.log"
    storage = open_driven_storage(url)
    study = optuna.create_study(study_name="s", storage=storage)
    optimize(study, 2)
    storage.close()
    before = stored(url)
    with (tmp_path / "study.log").open("ab") as file:
        file.write(b'{"op_code":4,"study_id"')
    again = open_driven_storage(url)
    optimize(optuna.load_study(study_name="s", storage=again), 1)
    again.close()
    assert stored(url)[:2] == before
    assert len(stored(url)) == 3


def test_another_writer_is_noticed(url: str, opened: Opened) -> None:
    study, _ = opened()
    study.tell(study.ask(), 1.0)
    with seen_by_another(url) as theirs:
        theirs.ask()
    with pytest.raises(MgstudyError, match="another process writes to the study 's'"):
        study.ask()


def test_a_restarted_server_is_waited_for_and_nothing_is_lost(postgresql: Any, caplog: Any) -> None:
    url = postgresql.new_database("restarted")
    storage = open_driven_storage(url)
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    optimize(study, 3)
    open_trial = study.ask()
    postgresql.stop()
    open_trial.report(0.5, 1)
    starting = threading.Thread(target=postgresql.start)
    starting.start()
    open_trial.report(0.75, 2)
    study.tell(open_trial, 0.75)
    optimize(study, 2)
    starting.join(timeout=60)
    assert content(study.get_trials()) == stored(url)
    assert len(stored(url)) == 6
    storage.close()
    assert "study@127.0.0.1" in caplog.text
    assert "answers again" in caplog.text


def lose_the_next_answer(storage: WriteBehindStorage) -> None:
    """Have the connection break once, when the database has committed and not said so."""

    def lost(_session: Any) -> None:
        raise sqlalchemy.exc.OperationalError("COMMIT", {}, Exception("connection lost"))

    sessions = storage._behind.scoped_session.session_factory
    sqlalchemy.event.listen(sessions, "after_commit", lost, once=True)


@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_what_was_made_though_the_answer_was_lost_is_not_made_again(url: str) -> None:
    storage = open_driven_storage(url)
    lose_the_next_answer(storage)
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    study.tell(study.ask(), 0.25)
    lose_the_next_answer(storage)
    study.tell(study.ask(), 0.5)
    optimize(study, 1)
    storage.close()
    assert content(study.get_trials()) == stored(url)
    assert [row[0] for row in stored(url)] == [0, 1, 2]


def test_a_server_that_stays_away_ends_the_driver_with_what_to_do(postgresql: Any) -> None:
    url = postgresql.new_database("away")
    storage = open_driven_storage(url, patience=0.5)
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    trial = study.ask()
    postgresql.stop()
    try:
        with pytest.raises(MgstudyError, match=r"^storage postgresql://study@.*on from there"):
            study.tell(trial, 0.75)
    finally:
        postgresql.start()
    assert [row[1] for row in stored(url)] == [TrialState.RUNNING]
    with pytest.raises(MgstudyError, match="on from there"):
        storage.close()


def test_what_cannot_get_better_by_waiting_is_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    storage = open_driven_storage(f"sqlite:///{path}")
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    optimize(study, 1)
    engine = storage._behind.engine
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    @sqlalchemy.event.listens_for(engine, "connect")
    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count={pages}")

    engine.dispose()
    with pytest.raises(MgstudyError, match="database or disk is full; what is in it is whole"):
        for _ in range(1000):
            trial = study.ask()
            trial.set_user_attr("filling", "x" * 5000)
            study.tell(trial, 1.0)
    assert stored(f"sqlite:///{path}")[0][1] is TrialState.COMPLETE


def test_a_server_that_hangs_ends_the_driver_too(
    postgresql: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes what it is sent, and says nothing."""
    monkeypatch.setattr(storage_writer, "_LONGEST_PAUSE", 0.1)
    url = postgresql.new_database("hangs")
    storage = open_driven_storage(url, patience=0.5)
    study = optuna.create_study(study_name="s", storage=storage, direction="maximize")
    trial = study.ask()
    storage.writer.flush()
    with storage._behind.engine.connect() as connection:
        serving = "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
        pids = connection.exec_driver_sql(serving).scalars().all()
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        trial.set_user_attr("outcome", {"reason": "epochs"})
        with pytest.raises(MgstudyError, match=r"^storage postgresql://study@.*: does not answer;"):
            study.tell(trial, 0.75)
        with pytest.raises(MgstudyError, match="does not answer"):
            storage.close()
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    assert [row[1] for row in stored(url)] == [TrialState.RUNNING]
