"""Which MLflow store a study is recorded in, and the few calls the tracker makes of it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from mgstudy.config.study import Tracking
from mgstudy.errors import InputError
from mgstudy.study.storage.checkpoints import local_copy
from mgstudy.urls import expand_url, recorded_url, redacted
from mgstudy.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
_PARAMS_PER_REQUEST = 100
_METRICS_PER_REQUEST = 800  # Of the thousand things that a request may hold, params and tags aside.


def tracking_uri(workspace: Workspace, configured: str | None = None) -> str:
    """Where MLflow records: the study file's URI, else ``MLFLOW_TRACKING_URI``, else the
    ``mlflow.db`` in the workspace that ``mlflow ui`` typed there opens by itself.

    Raises:
        InputError: If the URI names an environment variable that is not set, or the workspace
            lies at a URL, where no database file can be, and none is given.
    """
    return expand_url(_given_uri(workspace, configured))


def _given_uri(workspace: Workspace, configured: str | None) -> str:
    given = configured or os.environ.get(TRACKING_VARIABLE)
    if not given and workspace.shared is not None:
        raise InputError(
            f"a study in {workspace.place} needs an MLflow server: write "
            '`tracking: {uri: "http://HOST:5000"}`, or set MLFLOW_TRACKING_URI'
        )
    return given or f"sqlite:///{workspace.home / 'mlflow.db'}"


class TrackingStore:
    """One experiment in one MLflow store.

    MLflow is imported on first use, which takes seconds: only the tracker's thread needs it.

    Args:
        workspace: The workspace, for the default store.
        tracking: The study file's settings.
        study: Name of the study, for the default experiment.

    Attributes:
        place: ``uri`` and ``experiment``, as they may be written down: without a password.
    """

    def __init__(self, workspace: Workspace, tracking: Tracking, study: str) -> None:
        self.workspace = workspace
        self.uri = tracking_uri(workspace, tracking.uri)
        self.experiment = tracking.experiment or study
        self.place = {
            "uri": recorded_url(_given_uri(workspace, tracking.uri)),
            "experiment": self.experiment,
        }

    @property
    def shown_uri(self) -> str:
        """The URI without a password."""
        return redacted(self.uri)

    @cached_property
    def client(self) -> MlflowClient:
        """The client; all calls name the run, none depends on a current one."""
        from mlflow.tracking import MlflowClient  # noqa: PLC0415

        # The tracker tries again by itself; MLflow would go on for minutes with every request.
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
        os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")
        # Creating the tables of a new database is no news to anyone.
        logging.getLogger("mlflow.store.db.utils").setLevel(logging.WARNING)
        logging.getLogger("alembic").setLevel(logging.WARNING)
        return MlflowClient(tracking_uri=self.uri)

    @cached_property
    def experiment_id(self) -> str:
        """The experiment, created when it is missing."""
        found = self.client.get_experiment_by_name(self.experiment)
        if found is not None:
            return str(found.experiment_id)
        # A server knows where its artifacts belong; a database file does not.
        local = self.uri.startswith("sqlite:")
        root = (self.workspace.home / "mlruns" / self.experiment).as_uri() if local else None
        return str(self.client.create_experiment(self.experiment, artifact_location=root))

    def find_run(self, tags: Mapping[str, str]) -> str | None:
        """The id of the run that carries all these tags."""
        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        runs = self.client.search_runs([self.experiment_id], wanted, max_results=1)
        return str(runs[0].info.run_id) if runs else None

    def child_runs(self, parent: str) -> list[Any]:
        """All runs under a parent run."""
        runs: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id],
                f"tags.`mlflow.parentRunId` = '{parent}'",
                max_results=1000,
                page_token=token,
            )
            runs.extend(page)
            token = page.token
            if not token:
                return runs

    def last_step(self, run_id: str) -> int:
        """The last step for which a run has metrics, 0 without any."""
        metrics = self.client.get_run(run_id).data.metrics
        steps = [
            point.step
            for name in list(metrics)[:1]
            for point in self.client.get_metric_history(run_id, name)
        ]
        return max(steps, default=0)

    def log_file(self, run_id: str, location: str, folder: str) -> None:
        """Keep a file (a path, or a URL that fsspec knows) as an artifact; one that is gone is
        left out."""
        try:
            with local_copy(location) as local:
                self.client.log_artifact(run_id, local, folder)
        except FileNotFoundError:
            logger.warning("%s is gone; MLflow keeps no copy of it", location)

    def log(
        self,
        run_id: str,
        params: Sequence[Any] = (),
        steps: Iterable[Sequence[Any]] = (),
        tags: Sequence[Any] = (),
    ) -> None:
        """Log to a run in as few requests as MLflow allows, each of them one transaction.

        Args:
            run_id: The run.
            params: Of ``params``.
            steps: The metrics of each step, of ``metric``; a step's go together, so that what has
                one of them is known to have all.
            tags: Of ``tags``, at most 100; the last that is written.
        """
        rest, batch = list(params), list[Any]()

        def send(metrics: Sequence[Any], tags: Sequence[Any] = ()) -> None:
            self.client.log_batch(run_id, metrics, rest[:_PARAMS_PER_REQUEST], tags)
            del rest[:_PARAMS_PER_REQUEST]

        while len(rest) > _PARAMS_PER_REQUEST:
            send([])
        for metrics in steps:
            if batch and len(batch) + len(metrics) > _METRICS_PER_REQUEST:
                send(batch)
                batch = []
            batch += metrics
            while len(batch) > _METRICS_PER_REQUEST:
                send(batch[:_METRICS_PER_REQUEST])
                batch = batch[_METRICS_PER_REQUEST:]
        if batch or rest or tags:
            send(batch, tags)

    @staticmethod
    def metric(name: str, value: float, timestamp: int, step: int) -> Any:
        """A metric value at a step, at a time in milliseconds."""
        from mlflow.entities import Metric  # noqa: PLC0415

        return Metric(name, float(value), timestamp, step)

    @staticmethod
    def params(params: Mapping[str, str]) -> list[Any]:
        """Params as MLflow's entities."""
        from mlflow.entities import Param  # noqa: PLC0415

        return [Param(name, value) for name, value in params.items()]

    @staticmethod
    def tags(tags: Mapping[str, str]) -> list[Any]:
        """Tags as MLflow's entities."""
        from mlflow.entities import RunTag  # noqa: PLC0415

        return [RunTag(name, value) for name, value in tags.items()]
