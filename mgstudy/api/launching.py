"""Studies: launched, and gone on with."""

from __future__ import annotations

import importlib
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from mgstudy.api.planning import changed_settings, open_stores
from mgstudy.environment import installed_packages, left_as_found
from mgstudy.features.completions.base import held_out_errors
from mgstudy.report.console.progress import notebook_console, progress_bar
from mgstudy.report.console.study_progress import LiveDisplay
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import Study, read_launched_study
from mgstudy.study.results.carried import with_carried_parameters
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.running.deadline import Deadline
from mgstudy.study.running.driver import Ending, KeepBestCheckpoint, run_trials
from mgstudy.study.running.interrupts import interrupt_noted, terminated_like_interrupt
from mgstudy.study.running.placement import trial_resources
from mgstudy.study.running.ray_session import alive_nodes, usable_nodes, with_ray
from mgstudy.study.search.events import StudyListener
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.lease import Lease, lease
from mgstudy.study.storage.optuna_storage import quiet_optuna, refuse_local_file
from mgstudy.study.storage.write_behind import open_driven_storage
from mgstudy.tracking.tracker import Tracker

if TYPE_CHECKING:
    from mgstudy.report.comparison.studies import Comparison


@dataclass(frozen=True)
class Launched:
    """How a launch ended.

    Attributes:
        summary: What the study has come to.
        finished: Whether all trials have run; false after an interruption.
        undelivered: Records that MLflow did not take.
        out_of_time: Whether it ended because the time that it was given was over.
        unmeasured: Measurements of robustness that were left then.
    """

    summary: StudySummary
    finished: bool
    undelivered: int
    out_of_time: bool = False
    unmeasured: int = 0

    def compared(self) -> Comparison:
        """Every cell beside its baseline, by the objective and NDCG."""
        # No launch waits for it.
        from mgstudy.report.comparison.formats import default_metrics  # noqa: PLC0415
        from mgstudy.report.comparison.studies import compare_studies  # noqa: PLC0415

        return compare_studies([self.summary], metrics=default_metrics([self.summary]))


def launch(
    study: Study,
    console: Console | None = None,
    listeners: Iterable[StudyListener] = (),
    retry_failed: bool = False,
    within: str | float | None = None,
) -> Launched:
    """Run what is left of a study, here or on the cluster of ``RAY_ADDRESS``.

    A study that was launched before goes on: finished trials stay, missing ones run. When all have
    run, the robustness of the trained models is measured, if the study file asks for it.

    With a limit of time, no trial is begun that would not end in it, by what the cell's trials have
    taken so far. What runs at the end leaves its state, from which the next launch goes on.

    Args:
        study: The study.
        console: Where to show progress; when not given, in the output of a notebook's cell, and
            nowhere else.
        listeners: Told of every event besides the display and MLflow.
        retry_failed: Whether trials that failed run again, under new numbers, with the same
            parameters and seeds; the record of the failures stays.
        within: The time it may take: seconds, or such as ``90m`` and ``1h30m``.

    Raises:
        InputError: If the study was begun with another space or protocol, or ``within`` is no time.
        MgstudyError: If another process drives the study, or storage or Ray cannot be reached.
    """
    config, folder = study.config, study.folder
    console = console or notebook_console()
    deadline = Deadline.after(within)
    study, waits_for = with_carried_parameters(study)
    if waits_for:
        raise study.document.error(("parameters_from",), f"{waits_for}; launch it first")
    store = open_stores(study)
    if console is not None:
        for note in changed_settings(study):
            console.print(note, style="yellow", markup=False, soft_wrap=True)
    database = folder.database(config)
    with (
        left_as_found(),
        terminated_like_interrupt(),
        folder.kept_if_launched(is_new=not folder.path.exists()),
        lease(folder.path, database, config.name) as held,
        quiet_optuna(),
        ExitStack() as closing,
    ):
        storage = open_driven_storage(database)
        closing.callback(storage.close)
        held.tell(storage.writer.give_up)
        _complete_datasets(study, console)
        told: list[StudyListener] = list(listeners)
        metrics = EpochMetrics.of(folder)
        metrics.begin()
        record = StudyRecord(
            config, study.plan.cells, study.datasets, storage, told, metrics, folder.checkpoints
        )
        closing.callback(lambda: None if folder.manifest.exists() else record.withdraw())
        if retry_failed:
            record.retry_failed()
        manifest = StudyManifest.of(study, store.place)
        checkpoints = KeepBestCheckpoint(record, folder.trial_files)
        checkpoints.sweep()
        tracker = Tracker(
            store, manifest, metrics, lambda: record.every_state, installed_packages()
        )
        held.tell(tracker.give_up)
        told += [checkpoints, tracker]
        ending = Ending.INTERRUPTED

        def begin() -> None:
            """Write down what is launched: from here on, there is a study."""
            manifest.write(folder)
            tracker.start()

        try:
            ending = _run(study, record, told, console, held, begin, deadline)
        finally:
            tracker.finish(ending is Ending.FINISHED)
            metrics.publish()
            checkpoints.sweep()
        summary = StudySummary(manifest, record.every_state, folder, parent=record.parent)
        # Imported while Ray started, if it did.
        from mgstudy.api.closing import close, register  # noqa: PLC0415

        if ending is Ending.FINISHED and tracker.undelivered == 0:
            register(store, study, summary)
    summary, ending, left = close(study, summary, store, ending, console, deadline)
    return Launched(
        summary,
        ending is Ending.FINISHED,
        tracker.undelivered,
        ending is Ending.OUT_OF_TIME,
        left,
    )


def resume(
    name: str,
    console: Console | None = None,
    home: Path | str | None = None,
    listeners: Iterable[StudyListener] = (),
    retry_failed: bool = False,
    within: str | float | None = None,
) -> Launched:
    """Go on with a study that was launched before, as its study file was then.

    Args:
        name: The study's name.
        console: As in ``launch``.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        listeners: As in ``launch``.
        retry_failed: As in ``launch``.
        within: As in ``launch``.

    Raises:
        InputError: If there is no such study, or its datasets are no longer there.
        MgstudyError: As in ``launch``.
    """
    return launch(read_launched_study(name, home), console, listeners, retry_failed, within)


def _run(
    study: Study,
    record: StudyRecord,
    told: list[StudyListener],
    console: Console | None,
    held: Lease,
    begin: Callable[[], None],
    deadline: Deadline,
) -> Ending:
    """Run what is left, if anything is, once there are machines for it."""
    config = study.config
    meanwhile = threading.Thread(target=_import_the_end, name="imports")

    def run() -> Ending:
        refuse_local_file(study.folder.database(config), len(alive_nodes()))
        meanwhile.join()  # From here on, MLflow is imported in a thread of its own.
        resources = trial_resources(config.resources, usable_nodes())
        display = None if console is None else LiveDisplay(record, resources.slots, console)
        with interrupt_noted() as interrupt:  # Ray Tune imports much, and so does MLflow's thread.
            begin()
            if display is not None:
                told.append(display)
                display.start()
            try:
                return run_trials(
                    record, resources, study.folder, held, interrupt, deadline=deadline
                )
            finally:
                if display is not None:
                    display.stop()
                    told.remove(display)

    if record.remaining() == 0:
        begin()
        return Ending.FINISHED
    meanwhile.start()
    return with_ray(run, config.retries.ray)


def _import_the_end() -> None:
    """Import what the end of a study needs, while Ray starts in processes of its own."""
    with suppress(Exception):  # It is told where the end needs it.
        importlib.import_module("mgstudy.api.closing")


def _complete_datasets(study: Study, console: Console | None) -> None:
    """Make the completions that the cells share, once and where their progress is seen."""
    cells = {
        (cell.dataset, cell.levels.get("completion")): cell
        for cell in study.plan.cells
        if cell.completion is not None
    }
    console = console or Console(quiet=True)
    with progress_bar(console) as progress:
        for cell in cells.values():
            dataset, filling = study.datasets[cell.dataset], cell.filling
            cell.completed(dataset, progress)
            assert filling is not None
            for modality, error in held_out_errors(dataset, filling).items():
                console.print(
                    f"{cell.dataset}: {cell.levels['completion']} is off by {error:.2f} deviations "
                    f"on {modality} rows that were there and were held out",
                    highlight=False,
                )
