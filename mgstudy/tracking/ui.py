"""MLflow's UI on a study: the views it opens with, their addresses, and the servers that show them.

MLflow keeps a saved view as a tag of the experiment. Its runs page lists them under "Saved views",
and opens one straight away when the address ends in ``?viewStateShareKey=KEY``. What a view holds
is the page's own state: filter, order, columns, grouping and charts.
"""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any
from urllib.parse import quote, urlencode

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.epoch_metrics import recorded_name
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.tracking.store import TrackingStore, using_mlflow
from mgstudy.urls import expand_url, first_line
from mgstudy.workspace import Workspace

NOTE_TAG = "mlflow.note.content"
_MILLISECONDS_NEVER_CHANGING = 1_700_000_000_000
_RUNS_IN_A_CHART = 20
_COMPARED_RUNS = 100


@dataclass(frozen=True)
class View:
    """One saved view.

    Attributes:
        key: What its address ends in.
        title: How MLflow's list of saved views calls it.
        state: The page's state.
        charts: Whether it shows charts beside the runs rather than a table of them.
    """

    key: str
    title: str
    state: Mapping[str, Any]
    charts: bool = False

    def address(self, server: str, experiment_id: str) -> str:
        """Where a browser finds it.

        Args:
            server: The server's address, without a slash at its end.
            experiment_id: The experiment.
        """
        query = {"viewStateShareKey": self.key, "workflowType": "machine_learning"}
        if self.charts:
            query["compareRunsMode"] = "CHART"
        return f"{server}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def study_views(manifest: StudyManifest) -> list[View]:
    """The views of a study: its trials, its cells, the best run of each cell compared, and the
    confirmed winners on the test split.

    The table of trials has a column for every parameter that any cell searches. Parallel
    coordinates have an axis only for those that every cell does: MLflow leaves out of that chart
    each run that lacks one of its parameters, which is the baseline when the axis is a strength.

    Args:
        manifest: What the study's last launch wrote down.
    """
    study, objective = manifest.name, manifest.config.training.objective
    factors = manifest.varying_factors or ["model"]
    by_cell = [{"mode": "param", "groupByData": factor} for factor in factors]
    of_cells = [[name for name in c.spaces if name in c.searched] for c in manifest.cells]
    searched = list(dict.fromkeys(name for names in of_cells for name in names))
    shared = [name for name in searched if all(name in names for names in of_cells)]
    shown = dict.fromkeys((objective, f"ndcg@{objective.partition('@')[2]}"))
    best, validation, test = (
        recorded_name(group, objective) for group in ("best", "validation", "test")
    )
    scores, test_scores = (
        [_column("metrics", recorded_name(group, metric)) for metric in shown]
        for group in ("best", "test")
    )
    levels = [_column("params", name) for name in factors]
    parameters = [_column("params", name) for name in searched]
    cost = [_column("metrics", f"cost/{name}") for name in ("epochs", "gradient_computations")]
    outcome = [_column("tags", "mgstudy.state"), _column("tags", "mgstudy.reason")]
    of_study = f"tags.`mgstudy.study` = '{study}'"
    trials = f"{of_study} and tags.`mgstudy.role` = 'trial'"
    views = [
        View(
            f"{study}-trials",
            f"{study}: trials, best first",
            _state(trials, best, [*levels, *scores, *outcome, *parameters, *cost]),
        ),
        View(
            f"{study}-cells",
            f"{study}: grouped by cell",
            _state(trials, best, [*scores, *cost])
            | {"groupBy": {"aggregateFunction": "max", "groupByKeys": by_cell}},
        ),
        View(
            f"{study}-best",
            f"{study}: best run of each cell",
            _state(
                f"{trials} and tags.`mgstudy.best_of_cell` = 'true'",
                best,
                [*levels, *scores, *parameters, *cost],
            )
            | _charts(
                study,
                _LINE | {"metricKey": validation, "selectedMetricKeys": [validation]},
                {"type": "BAR", "metricKey": best},
                {
                    "type": "PARALLEL",
                    "selectedParams": [*factors, *shared],
                    "selectedMetrics": [best],
                    "showAllRuns": True,
                },
            ),
            charts=True,
        ),
    ]
    if manifest.config.confirmation.seeds > 0:
        confirmations = _state(
            f"{of_study} and tags.`mgstudy.role` = 'confirmation'",
            test,
            [*test_scores, _column("tags", "mgstudy.seed"), *outcome, *cost],
        ) | {"groupBy": {"aggregateFunction": "average", "groupByKeys": by_cell}}
        title = f"{study}: confirmed winners on the test split, mean over seeds"
        views.append(View(f"{study}-confirmations", title, confirmations))
    return views


def experiment_tags(manifest: StudyManifest) -> dict[str, str]:
    """Tags that make MLflow's UI open on training runs, know the objective and offer the views.

    Args:
        manifest: As for ``study_views``.
    """
    config = manifest.config
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": recorded_name(
            "validation", config.training.objective
        ),
        "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
        **({NOTE_TAG: config.question} if config.question else {}),
    }
    for view in study_views(manifest):
        content = {
            "name": view.title,
            "createdAt": _MILLISECONDS_NEVER_CHANGING,
            "updatedAt": _MILLISECONDS_NEVER_CHANGING,
            "state": json.dumps(view.state, separators=(",", ":")),
        }
        tags[f"mlflow.sharedViewState.{view.key}"] = json.dumps(content, separators=(",", ":"))
    return tags


@using_mlflow()
def study_pages(workspace: Workspace, studies: Sequence[str], server: str) -> dict[str, str]:
    """Titles and addresses of the pages of studies, after their experiments have been told of the
    views they show.

    A study that MLflow has no record of has none. A tracking server that does not answer costs the
    addresses and nothing else.

    Args:
        workspace: The workspace.
        studies: Names of studies.
        server: Address of MLflow's UI, without a slash at its end.

    Raises:
        InputError: If the workspace has no study of that name.
        MgstudyError: If its manifest cannot be read.
    """
    pages: dict[str, str] = {}
    for study in studies:
        manifest = StudyManifest.read(StudyFolder.existing(workspace, study))
        try:
            pages |= _pages(
                TrackingStore(workspace, manifest.config.tracking, study), manifest, server
            )
        except Exception as error:  # Whatever the tracking server does.
            print(f"no addresses for study {study}: {first_line(error)}", file=sys.stderr)
    return pages


def _pages(store: TrackingStore, manifest: StudyManifest, server: str) -> dict[str, str]:
    if store.find_experiment() is None:
        return {}
    experiment = store.open_experiment(experiment_tags(manifest))
    pages = {view.title: view.address(server, experiment) for view in study_views(manifest)}
    best = store.runs({"mgstudy.study": store.study, "mgstudy.best_of_cell": "true"})
    if len(best) > 1:
        in_order = sorted(best, key=lambda run: run.info.start_time)[:_COMPARED_RUNS]
        runs = quote(json.dumps([run.info.run_id for run in in_order]))
        experiments = quote(json.dumps([experiment]))
        title = f"{store.study}: best runs of the cells, compared"
        pages[title] = f"{server}/#/compare-runs?runs={runs}&experiments={experiments}"
    return pages


def refuse_taken_port(host: str, port: int, option: str) -> None:
    """Refuse to serve where another server listens, or where none can.

    Args:
        host: Address to listen on.
        port: Port to listen on.
        option: The option that chooses another port.

    Raises:
        MgstudyError: If the port cannot be had.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            probe.listen(1)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise MgstudyError(
                f"port {port} on {host} is taken; {option} chooses another"
            ) from error
        raise MgstudyError(f"nothing can listen on {host}:{port}: {error.strerror}") from error


def serve(host: str, mlflow: tuple[str, int] | None, dashboard: tuple[str, int] | None) -> None:
    """Serve pages until the process is told to end; of MLflow's UI alone, by becoming it.

    Args:
        host: Address to listen on.
        mlflow: The store that MLflow's UI shows, and its port.
        dashboard: URL of the Optuna storage that the dashboard shows, and its port.

    Raises:
        MgstudyError: If the storage cannot be opened or the port is taken.
    """
    beside = None
    if mlflow is not None:
        # It imports nothing from the current folder. One worker is enough for one reader; several
        # would each load everything at the start.
        command = [sys.executable, "-P", "-m", "mlflow", "ui", "--workers", "1"]
        command += ["--host", host, "--port", str(mlflow[1])]
        # Everyone on the machine can read a command's arguments; the URI may hold a password.
        environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": mlflow[0]}
        if dashboard is None:
            os.execve(sys.executable, command, environment)
    if dashboard is None:
        return
    from optuna_dashboard import run_server  # noqa: PLC0415

    storage, port = dashboard
    opened = open_storage(storage, create=False)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        if mlflow is not None:
            beside = subprocess.Popen(command, env=environment)
        run_server(opened, host=host, port=port)
    except OSError as error:
        raise MgstudyError(f"Optuna's dashboard on {host}:{port}: {error.strerror}") from error
    finally:
        signal.signal(signal.SIGTERM, previous)
        if beside is not None:
            beside.terminate()
            beside.wait()


def dashboard_storage(workspace: Workspace, study: str | None) -> str:
    """URL of the Optuna storage to show: the study's, or the only study's.

    Raises:
        InputError: If the dashboard is not installed, or no single study is meant.
    """
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise InputError("--optuna needs optuna-dashboard; type `pip install 'mgstudy[dashboard]'`")
    if study is None:
        names = workspace.names(workspace.studies)
        if len(names) != 1:
            known = ", ".join(names) if names else "none"
            raise InputError(f"--optuna shows one study; name it (known: {known})")
        (study,) = names
    folder = StudyFolder.existing(workspace, study)
    return expand_url(folder.storage_url(StudyManifest.read(folder).config))


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _state(run_filter: str, ordered_by: str, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "searchFilter": run_filter,
        "orderByKey": _column("metrics", ordered_by),
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(columns),
        "columnOrder": [],
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _charts(study: str, *charts: Mapping[str, Any]) -> dict[str, Any]:
    section = f"{study}-charts"
    common = {"isGenerated": False, "deleted": False}
    return {
        # Else the page sorts this section among those it makes of every other metric.
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": section, "name": study, "display": True, "isReordered": False, **common}
        ],
        "compareRunCharts": [
            {
                "uuid": f"{section}-{number}",
                "metricSectionId": section,
                "runsCountToCompare": _RUNS_IN_A_CHART,
                **common,
                **chart,
            }
            for number, chart in enumerate(charts)
        ],
    }


_LINE: dict[str, Any] = {
    "type": "LINE",
    "lineSmoothness": 0,
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"
