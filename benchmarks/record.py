"""What the record of a report costs the driver, beside Optuna's storages as they come.

    python benchmarks/record.py --postgresql postgresql://me@127.0.0.1/scratch

A study holds 1,000 finished trials of 100 epochs, which are written in bulk where Optuna itself
would take minutes. Then a trial reports epoch after epoch, and after each the MedianPruner is
asked. Rounds of all storages alternate, so that what else the machine does falls on all of them;
the ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import create_trial

from mgstudy.private.optuna import write_reports
from mgstudy.study.storage.optuna_storage import close_storage
from mgstudy.study.storage.write_behind import WriteBehindStorage, open_driven_storage

REFERENCE = "mgstudy, SQLite"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--trials", type=int, default=1000)
    arguments.add_argument("--epochs", type=int, default=100)
    arguments.add_argument("--rounds", type=int, default=5)
    arguments.add_argument("--postgresql", help="URL of an empty scratch database")
    options = arguments.parse_args()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        openers = storages(Path(folder), options.postgresql)
        studies = {}
        for name, open_one in openers.items():
            fill(name, open_one(), options.trials, options.epochs)
            studies[name] = open_study(name, open_one())
            print(f"filled {name}", flush=True)
        taken: dict[str, list[list[float]]] = {name: [] for name in studies}
        for _ in range(options.rounds):
            for name, study in studies.items():
                taken[name].append(reports(study, options.epochs))
        print(f"\n{options.trials} trials of {options.epochs} epochs, {options.rounds} rounds\n")
        print("| storage | median ms | 99th percentile ms | slowest ms | times mgstudy, SQLite |")
        print("|---|---:|---:|---:|---:|")
        for name, rounds in taken.items():
            seconds = sorted(value for found in rounds for value in found)
            ratio = statistics.median(
                statistics.median(found) / statistics.median(reference)
                for found, reference in zip(rounds, taken[REFERENCE], strict=True)
            )
            at = [seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.99)], seconds[-1]]
            shown = " | ".join(f"{value * 1000:.2f}" for value in at)
            print(f"| {name} | {shown} | {ratio:.1f} |")
        for study in studies.values():
            if isinstance(study._storage, WriteBehindStorage):
                study._storage.close()


def storages(folder: Path, postgresql: str | None) -> dict[str, Callable[[], BaseStorage]]:
    """What is compared: mgstudy's storage in front of each, and each as Optuna opens it."""
    found: dict[str, Callable[[], BaseStorage]] = {
        REFERENCE: lambda: open_driven_storage(f"sqlite:///{folder}/ours.db"),
        "mgstudy, journal": lambda: open_driven_storage(f"journal:///{folder}/ours.log"),
        "Optuna, SQLite": lambda: RDBStorage(f"sqlite:///{folder}/alone.db"),
        "Optuna, journal": lambda: JournalStorage(JournalFileBackend(f"{folder}/alone.log")),
    }
    if postgresql:
        url = postgresql.replace("postgresql://", "postgresql+psycopg://")
        found["mgstudy, PostgreSQL"] = lambda: open_driven_storage(postgresql)
        found["Optuna, PostgreSQL"] = lambda: RDBStorage(url)
    return found


def open_study(name: str, storage: BaseStorage) -> optuna.Study:
    """A study that is there, or a new one."""
    return optuna.create_study(
        study_name=name,
        storage=storage,
        direction="maximize",
        pruner=optuna.pruners.MedianPruner(n_startup_trials=4, n_warmup_steps=20),
        load_if_exists=True,
    )


def fill(name: str, storage: BaseStorage, trials: int, epochs: int) -> None:
    """Write that many finished trials, each of which learned: its values grow with the epoch."""
    study = open_study(name, storage)
    behind = storage._behind if isinstance(storage, WriteBehindStorage) else storage
    in_bulk = isinstance(behind, RDBStorage)
    values = [
        {epoch: (epoch + number / 1e4) / epochs for epoch in range(1, epochs + 1)}
        for number in range(trials)
    ]
    for of_trial in values:
        own = {} if in_bulk else of_trial
        study.add_trial(create_trial(value=1.0, intermediate_values=own))
    if in_bulk:
        study_id = behind.get_study_id_from_name(name)
        ids = [trial._trial_id for trial in behind.get_all_trials(study_id, deepcopy=False)]
        for trial_id, of_trial in zip(ids, values, strict=True):
            write_reports(behind, {(trial_id, step): value for step, value in of_trial.items()})
    if isinstance(storage, WriteBehindStorage):
        storage.close()
    else:
        close_storage(storage)


def reports(study: optuna.Study, epochs: int) -> list[float]:
    """Seconds that each report of one trial took, the pruner's decision included."""
    trial = study.ask()
    seconds = []
    for epoch in range(1, epochs + 1):
        began = time.perf_counter()
        trial.report(2 * epoch / epochs, epoch)
        trial.should_prune()
        seconds.append(time.perf_counter() - began)
    study.tell(trial, 2.0)
    return seconds


if __name__ == "__main__":
    main()
