"""What a study has come to: tables, the report, and MLflow brought up to it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from mgstudy.files import Progress, no_progress
from mgstudy.report.comparison.baselines import parse_baseline
from mgstudy.report.comparison.formats import default_metrics
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.page.content import report_content
from mgstudy.report.page.render import render, save_report
from mgstudy.report.results import StudyResults
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.tracking import sync as tracking_sync
from mgstudy.tracking.attachments import attach
from mgstudy.tracking.store import TrackingStore
from mgstudy.tracking.sync import Synced
from mgstudy.urls import first_line
from mgstudy.workspace import Workspace

logger = logging.getLogger(__name__)
REPORT_FILE = "report.html"


def load_study(name: str, home: Path | str | None = None) -> StudyResults:
    """What a launched study has come to, as pandas tables, also while it runs.

    >>> mgstudy.load_study("tiktok").comparison()  # doctest: +SKIP

    Args:
        name: The study's name.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.

    Raises:
        InputError: If the workspace has no study of that name.
    """
    return StudyResults.load(Workspace.resolve(home), name)


def read_summary(name: str, home: Path | str | None = None) -> StudySummary:
    """Where a launched study stands, also while it runs.

    Raises:
        InputError: If the workspace has no study of that name.
        MgstudyError: If its manifest or storage cannot be read.
    """
    return summarize(Workspace.resolve(home), name)


def compare(
    names: Sequence[str],
    baseline: str | None = None,
    metrics: Sequence[str] = (),
    everything: bool = False,
    home: Path | str | None = None,
) -> Comparison:
    """Set every cell of launched studies beside its baseline, see ``Comparison``.

    Args:
        names: The studies.
        baseline: ``factor=level`` pairs, separated by commas, that make a cell a baseline;
            ``gradient=plain`` when not given.
        metrics: What to compare; the objective and NDCG when not given.
        everything: Whether, with no metrics given, all that was measured is compared.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.

    Raises:
        InputError: If there is no such study, factor, level or metric, or the studies have
            different objectives.
        MgstudyError: If a study cannot be read.
    """
    summaries = [load_study(name, home).summary for name in dict.fromkeys(names)]
    chosen = parse_baseline(baseline, summaries) if baseline else None
    shown = metrics or (None if everything else default_metrics(summaries))
    return compare_studies(summaries, chosen, shown)


def write_report(study: str, path: Path | str, home: Path | str | None = None) -> bool:
    """Write a study as one HTML page, and keep a copy in its MLflow run.

    Args:
        study: The study's name.
        path: The file to write.
        home: The workspace, a folder or URL; ``MGSTUDY_HOME`` or the current directory when not
            given.

    Returns:
        Whether MLflow took the copy.

    Raises:
        InputError: If the workspace has no study of that name, or ``path`` is a folder.
        MgstudyError: If the study cannot be read or the file cannot be written.
    """
    workspace = Workspace.resolve(home)
    summary = StudyResults.load(workspace, study).summary
    document = render(report_content(summary))
    save_report(document, Path(path))
    store = TrackingStore(workspace, summary.manifest.config.tracking, study)
    return keep_report(store, study, lambda: document)


def sync(
    name: str,
    home: Path | str | None = None,
    rebuild: bool = False,
    progress: Progress = no_progress,
) -> Synced:
    """Deliver to MLflow what it has not taken of a study, and register a finished one's models.

    Args:
        name: The study's name.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        rebuild: Whether everything is delivered again, the report among it, for a store that was
            lost. What is still there is left as it is.
        progress: Told how far it is.

    Raises:
        InputError: If there is no such study, or its tracking server's password is not kept.
        MgstudyError: If another process drives the study, or MLflow cannot be reached.
    """
    workspace = Workspace.resolve(home)
    synced = tracking_sync.sync(workspace, name, rebuild, progress)
    summary = StudyResults.load(workspace, name).summary
    if rebuild and summary.finished:
        keep_report(synced.store, name, lambda: render(report_content(summary)))
    return synced


def keep_report(store: TrackingStore, study: str, document: Callable[[], str]) -> bool:
    """Keep a report in the study's MLflow run; whether MLflow took it. What failed is logged.

    Args:
        store: The tracking store.
        study: The study's name.
        document: Makes the page.
    """
    try:
        return attach(store, study, REPORT_FILE, document())
    except Exception as error:  # Whatever goes wrong here, the study has its results.
        logger.warning("no report is kept in MLflow at %s: %s", store.shown_uri, first_line(error))
        return False
