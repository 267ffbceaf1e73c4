"""What a study has come to, for others to read: its report, and MLflow brought up to it."""

from __future__ import annotations

import logging
import os
import webbrowser
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar, cast

from mgstudy.errors import MgstudyError
from mgstudy.files import Progress, no_progress
from mgstudy.report.comparison.baselines import parse_baseline
from mgstudy.report.page.report import render, report_content, save_report
from mgstudy.report.results import StudyResults
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import as_launched
from mgstudy.study.results.summary import StudySummary, summarize_as
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.lease import lease
from mgstudy.tracking import ui
from mgstudy.tracking.models import cells_without_model, register_models
from mgstudy.tracking.projection import Projection
from mgstudy.tracking.store import TRACKING_VARIABLE, TrackingStore, tracking_uri, using_mlflow
from mgstudy.urls import PASSWORD_MASK, first_line, redacted
from mgstudy.workspace import Workspace

logger = logging.getLogger(__name__)
REPORT_FILE = "report.html"

Result = TypeVar("Result")


@dataclass(frozen=True)
class Synced:
    """What MLflow was brought.

    Attributes:
        delivered: Runs begun, epochs and ends.
        models: URIs of the registered models, also of those that were there before; none of a
            study that has not finished.
        problem: Why cells have no registered model; empty if all have.
    """

    delivered: int
    models: Sequence[str]
    problem: str


def write_report(
    study: str,
    path: Path | str,
    home: Path | str | None = None,
    baselines: Sequence[str] = (),
) -> bool:
    """Write a study as one HTML page, and keep a copy in its MLflow run.

    Args:
        study: The study's name.
        path: The file to write.
        home: The workspace, a folder or URL; ``MGSTUDY_HOME`` or the current directory when not
            given.
        baselines: What cells are compared with, each ``factor=level`` pairs separated by commas;
            the study's questions when not given, ``gradient=plain`` if it asks none.

    Returns:
        Whether MLflow took the copy.

    Raises:
        InputError: If the workspace has no study of that name, the study has no such level, or
            ``path`` is a folder.
        MgstudyError: If the study cannot be read or the file cannot be written.
    """
    workspace = Workspace.resolve(home)
    summary = StudyResults.load(workspace, study).summary
    wanted = [parse_baseline(text, [summary]) for text in baselines]
    document = render(report_content(summary, workspace, wanted))
    save_report(document, Path(path))
    store = TrackingStore(workspace, summary.manifest.config.tracking, study)
    return keep_report(store, lambda: document)


def sync(
    name: str,
    home: Path | str | None = None,
    rebuild: bool = False,
    progress: Progress = no_progress,
) -> Synced:
    """Bring MLflow what it lacks of a study, and register a finished one's models.

    Args:
        name: The study's name.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        rebuild: Whether what was deleted in MLflow is restored too, and weights and report are kept
            there again.
        progress: Told how far it is.

    Raises:
        InputError: If there is no such study, or its tracking server's password is not kept.
        MgstudyError: If another process drives the study, or MLflow cannot be reached.
    """
    workspace = Workspace.resolve(home)
    folder = StudyFolder.existing(workspace, name)
    manifest = StudyManifest.read(folder)
    tracking = manifest.config.tracking
    if PASSWORD_MASK in str(tracking.uri) and TRACKING_VARIABLE in os.environ:
        tracking = tracking.model_copy(update={"uri": None})
    store = TrackingStore(workspace, tracking, name)
    with lease(folder.path, folder.database(manifest.config), name), using_mlflow():
        summary = summarize_as(manifest, folder)
        try:
            projection = Projection(
                store,
                manifest,
                EpochMetrics.of(folder),
                lambda: summary.cells,
                restore=rebuild,
            )
            projection.advance(progress)
            projection.close(summary.finished)
            models, problem = _register(workspace, store, summary, progress)
        except MgstudyError:
            raise
        except Exception as error:  # A server fails in any way.
            raise MgstudyError(
                f"MLflow at {store.shown_uri} does not take records: {first_line(error)}; "
                "nothing is lost, try again when it does"
            ) from error
    if rebuild and summary.finished:
        keep_report(store, lambda: render(report_content(summary, workspace)))
    return Synced(projection.written, models, problem)


def _register(
    workspace: Workspace, store: TrackingStore, summary: StudySummary, progress: Progress
) -> tuple[list[str], str]:
    """Register the models of a study that has finished, and say why some are missing."""
    if not summary.finished:
        return [], ""
    models, reason = [], "their weights are no longer in the study's folder"
    try:
        study = as_launched(summary.manifest, summary.folder, workspace)
    except MgstudyError as error:  # A dataset is gone, or is another one now.
        reason = str(error)
    else:
        models = register_models(store, study, summary, progress)
    missing = cells_without_model(store, summary)
    return models, f"no model is registered of {', '.join(missing)}: {reason}" if missing else ""


def serve_pages(
    study: str | None = None,
    home: Path | str | None = None,
    host: str = "127.0.0.1",
    port: int | None = None,
    optuna: bool = False,
    optuna_port: int | None = None,
    say: Callable[[str], None] = print,
    open_browser: bool = False,
) -> None:
    """Serve the pages of studies until the process is told to end, and say where they are as soon
    as they are there: MLflow's UI, unless the store is a server that has one, and Optuna's
    dashboard.

    Args:
        study: The study whose pages are named; every one when not given.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        host: Address to listen on.
        port: Port of MLflow's UI; the first free one from 5000 on when not given.
        optuna: Whether to serve Optuna's dashboard on the study's storage too.
        optuna_port: Its port; the first free one from 8080 on when not given.
        say: Told each line.
        open_browser: Whether to open the first page in a browser.

    Raises:
        InputError: If there is no such study, or the dashboard is not installed or needs to be told
            which study it is to show.
        MgstudyError: If a port is taken, or a study cannot be read.
    """
    workspace = Workspace.resolve(home)
    uri = tracking_uri(workspace)
    dashboard = None
    if optuna:
        storage = ui.dashboard_storage(workspace, study)
        dashboard = storage, _port(host, optuna_port, 8080, "--optuna-port")
    is_remote = uri.startswith(("http:", "https:"))
    if is_remote:
        address = redacted(uri).rstrip("/")
    else:
        port = _port(host, port, 5000, "--port")
        address = f"http://{host}:{port}"
    studies = StudyFolder.names(workspace) if study is None else [study]
    pages = ui.study_pages(workspace, studies, address)

    def tell() -> None:
        if is_remote:
            say(f"MLflow's UI is where its server is: {address}")
        else:
            say(f"MLflow's UI on {redacted(uri)}: {address} (Ctrl-C ends it)")
        for title, page in pages.items():
            say(f"  {title}\n    {page}")
        if dashboard is not None:
            say(f"Optuna's dashboard on {redacted(dashboard[0])}: http://{host}:{dashboard[1]}")
        if open_browser:
            webbrowser.open(next(iter(pages.values()), address))

    ui.serve(host, None if is_remote else (uri, cast(int, port)), dashboard, tell)


def _port(host: str, asked: int | None, first: int, option: str) -> int:
    if asked is None:
        return ui.free_port(host, first)
    ui.refuse_taken_port(host, asked, option)
    return asked


@using_mlflow()
def keep_report(store: TrackingStore, document: Callable[[], str]) -> bool:
    """Keep a report in the study's MLflow run; whether MLflow took it. What failed is logged.

    Args:
        store: The tracking store.
        document: Makes the page.
    """
    return bool(
        try_mlflow(store, lambda: store.attach(REPORT_FILE, document()), "no report is kept")
    )


def try_mlflow(
    store: TrackingStore, write: Callable[[], Result], lack: str, then: str = ""
) -> Result | None:
    """Write something to MLflow that the study has anyway; ``None``, and a warning, if that fails.

    Args:
        store: The tracking store.
        write: What writes it.
        lack: What is not there then.
        then: What makes it good.
    """
    try:
        return write()
    except Exception as error:  # Whatever goes wrong here, the study has its results.
        said = "; ".join(filter(None, (first_line(error), then)))
        logger.warning("%s in MLflow at %s: %s", lack, store.shown_uri, said)
        return None
