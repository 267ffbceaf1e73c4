"""The robustness of what a study has trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from mgstudy.api.results import try_mlflow
from mgstudy.config.robustness import Robustness
from mgstudy.report.console.progress import RobustnessProgress, notebook_console
from mgstudy.report.robustness.comparison import (
    RobustnessTables,
    measurements,
    robustness_tables,
)
from mgstudy.report.robustness.formats import write_tables
from mgstudy.report.robustness.plots import write_plots
from mgstudy.study.definition.study import Study, as_launched
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.robustness.driver import remaining_tasks, run_robustness
from mgstudy.study.robustness.plan import plan_robustness
from mgstudy.study.robustness.results import RobustnessResults
from mgstudy.study.running.deadline import NO_DEADLINE, Deadline
from mgstudy.study.running.placement import trial_resources
from mgstudy.study.running.ray_session import usable_nodes, with_ray
from mgstudy.tracking.robustness import record_robustness
from mgstudy.tracking.store import TrackingStore
from mgstudy.workspace import Workspace


def measure_robustness(
    name: str,
    home: Path | str | None = None,
    console: Console | None = None,
    settings: Robustness | None = None,
    cells: Sequence[str] = (),
    risks: Sequence[str] = (),
) -> RobustnessTables:
    """Measure what is not yet measured of a study's trained models, and write tables and plots.

    Confirmed models are measured on the test split; of a cell without, the best trial is, on the
    validation split.

    Args:
        name: The study's name.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        console: Where to show progress; when not given, in the output of a notebook's cell, and
            nowhere else.
        settings: What to measure; what the study file says, or the defaults, when not given.
        cells: Parts of cell keys, to measure only some.
        risks: Labels of risks, ``flatness`` among them, to measure only some.

    Returns:
        The tables of everything measured so far, also in the study's folder under ``robustness``.

    Raises:
        InputError: If there is no such study, cell or risk, or nothing is trained yet.
        MgstudyError: If another process measures the study, or a measurement fails.
        KeyboardInterrupt: After Ctrl-C; what was measured is kept.
    """
    workspace = Workspace.resolve(home)
    summary = summarize(workspace, name)
    study = as_launched(summary.manifest, summary.folder, workspace)
    return measure(study, summary, console or notebook_console(), settings, cells, risks)


def unmeasured(study: Study, summary: StudySummary) -> int:
    """How much of what the study file asks for is not measured yet."""
    plan = plan_robustness(study, summary)
    results = RobustnessResults(study.folder)
    return sum(len(tasks) for _, tasks in remaining_tasks(plan, results))


def measure(
    study: Study,
    summary: StudySummary,
    console: Console | None = None,
    settings: Robustness | None = None,
    cells: Sequence[str] = (),
    risks: Sequence[str] = (),
    deadline: Deadline = NO_DEADLINE,
) -> RobustnessTables:
    """As ``measure_robustness``, of a study that has been read, and until a deadline."""
    plan = plan_robustness(study, summary, settings, cells, risks)
    results = RobustnessResults(plan.study.folder)
    progress = RobustnessProgress(
        remaining_tasks(plan, results),
        plan.summary.varying_factors(),
        plan.summary.clean_objective,
        console or Console(quiet=True),
    )
    with results.writing():
        if progress.total:

            def run() -> None:
                resources = trial_resources(plan.study.config.resources, usable_nodes())
                with progress.shown() as on_result:
                    run_robustness(plan, results, resources, on_result, deadline)

            with_ray(run, plan.study.config.retries.ray)
        # What was measured before belongs into the tables too.
        everything = plan_robustness(study, summary, settings) if cells or risks else plan
        tables = robustness_tables(everything, results)
        files = write_tables(tables, everything, results)
        for file in files:
            study.folder.publish(file)
        risk_names = {risk.label: risk.name for risk in everything.settings.risks}
        files += write_plots(tables, everything.summary, results.path / "plots", risk_names)
        config = everything.study.config
        store = TrackingStore(everything.study.workspace, config.tracking, config.name)
        try_mlflow(
            store,
            lambda: record_robustness(store, measurements(everything, results), files),
            "no measurements of robustness are kept",
        )
    return tables
