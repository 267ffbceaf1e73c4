"""What follows a study's last trial: models, robustness, the report, and what has come of it."""

from __future__ import annotations

from dataclasses import dataclass

from rich.console import Console

from mgstudy.api.results import keep_report, try_mlflow
from mgstudy.api.robustness import measure, unmeasured
from mgstudy.report.comparison.formats import default_metrics
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.page.report import render, report_content
from mgstudy.report.results import StudyResults
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.running.deadline import Deadline
from mgstudy.study.running.driver import Ending
from mgstudy.tracking.models import register_models
from mgstudy.tracking.store import TrackingStore


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
        return compare_studies([self.summary], metrics=default_metrics([self.summary]))


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
    undelivered: int,
    console: Console | None,
    deadline: Deadline,
) -> Launched:
    """Measure the robustness that the study file asks for, keep the report, and say how the launch
    ended.

    Args:
        study: The study.
        summary: What it has come to.
        store: The tracking store.
        ending: How the running of its trials ended; only a study that has finished is measured.
        undelivered: Records that MLflow did not take.
        console: Where to show progress, if anywhere.
        deadline: When the launch is to end.
    """
    results = StudyResults.of(summary, study.workspace, study.datasets)
    left = 0
    if ending is Ending.FINISHED:
        ending, left = _measure(study, summary, console, deadline)
    finished = ending is Ending.FINISHED
    if finished:
        keep_report(store, lambda: render(report_content(results.summary, study.workspace)))
    return Launched(results.summary, finished, undelivered, ending is Ending.OUT_OF_TIME, left)


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
