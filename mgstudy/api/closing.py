"""What follows a study's last trial: models, robustness and the report."""

from __future__ import annotations

from rich.console import Console

from mgstudy.api.results import keep_report, try_mlflow
from mgstudy.api.robustness import measure, unmeasured
from mgstudy.report.page.report import render, report_content
from mgstudy.report.results import StudyResults
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.running.deadline import Deadline
from mgstudy.study.running.driver import Ending
from mgstudy.tracking.models import register_models
from mgstudy.tracking.store import TrackingStore


def register(store: TrackingStore, study: Study, summary: StudySummary) -> None:
    """Register the models of a study that has finished, as far as MLflow takes them.

    Args:
        store: The tracking store.
        study: The study.
        summary: What it has come to.
    """
    try_mlflow(
        store,
        lambda: register_models(store, study, summary),
        "no models are registered",
        "launching again tries again",
    )


def close(
    study: Study,
    summary: StudySummary,
    store: TrackingStore,
    ending: Ending,
    console: Console | None,
    deadline: Deadline,
) -> tuple[StudySummary, Ending, int]:
    """Measure the robustness that the study file asks for, and keep the report.

    Args:
        study: The study.
        summary: What it has come to.
        store: The tracking store.
        ending: How the running of its trials ended; only a study that has finished is measured.
        console: Where to show progress, if anywhere.
        deadline: When the launch is to end.

    Returns:
        What the study has come to, how it ended, and how many measurements are left for want of
        time.
    """
    results = StudyResults.of(summary, study.workspace, study.datasets)
    left = 0
    if ending is Ending.FINISHED:
        ending, left = _measure(study, summary, console, deadline)
    if ending is Ending.FINISHED:
        keep_report(store, lambda: render(report_content(results.summary, study.workspace)))
    return results.summary, ending, left


def _measure(
    study: Study, summary: StudySummary, console: Console | None, deadline: Deadline
) -> tuple[Ending, int]:
    """Measure the robustness that the study file asks for; how that ended, and how much is left
    when time is over."""
    if study.config.robustness is None or not any(cell.best for cell in summary.cells):
        return Ending.FINISHED, 0
    try:
        if deadline.allows():
            measure(study, summary, console, deadline=deadline)
    except KeyboardInterrupt:
        return Ending.INTERRUPTED, 0
    left = unmeasured(study, summary) if deadline.is_set else 0
    return (Ending.OUT_OF_TIME if left else Ending.FINISHED), left
