"""The end of a launch: models registered, robustness measured, the report kept.

Apart from what begins one, for figures and tests take as long to import as Ray takes to start.
"""

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
    """Register the trained models in MLflow, if it takes them."""
    try_mlflow(
        store,
        lambda: register_models(store, study, summary),
        "no models are registered",
        "launching again tries again",
    )


def with_popularity(study: Study, summary: StudySummary) -> StudySummary:
    """What a study has come to, beside how popularity alone scores on its datasets."""
    return StudyResults.of(summary, study.workspace, study.datasets).summary


def measured(
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


def report(store: TrackingStore, summary: StudySummary) -> None:
    """Keep the study's report in MLflow, if it takes it."""
    keep_report(store, lambda: render(report_content(summary)))
