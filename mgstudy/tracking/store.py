"""Which MLflow store a study is recorded in, what its runs are called there, and the few calls that
are made of it."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from mgstudy.config.study import Tracking
from mgstudy.environment import for_a_while
from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import refuse_where_no_file_can_be
from mgstudy.private.mlflow import move_artifacts
from mgstudy.study.storage.checkpoints import local_copy
from mgstudy.urls import expand_url, first_line, recorded_url, redacted
from mgstudy.workspace import Workspace

if TYPE_CHECKING:
    from mlflow.entities import Experiment
    from mlflow.tracking import MlflowClient

logger = logging.getLogger(__name__)

TRACKING_VARIABLE = "MLFLOW_TRACKING_URI"
STUDY_TAG = "mgstudy.study"
ROLE_TAG = "mgstudy.role"
TRIAL_TAG = "mgstudy.trial"

PATIENT_SECONDS = 60
"""How long a request may take where somebody waits for the result."""

_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")
_STORES = ("http", "https", *_DATABASES, "databricks", "uc")
_PARAMS_PER_REQUEST = 100
_METRICS_PER_REQUEST = 800  # Of the thousand things that a request may hold, params and tags aside.


def tracking_uri(workspace: Workspace, configured: str | None = None) -> str:
    """Where MLflow records: the study file's URI, else ``MLFLOW_TRACKING_URI``, else the
    ``mlflow.db`` in the workspace that ``mlflow ui`` typed there opens by itself.

    Raises:
        InputError: If the URI names an environment variable that is not set, or no store that
            MLflow records in; or if none is given and the workspace lies at a URL, where no
            database file can be.
    """
    given = _given_uri(workspace, configured)
    uri = expand_url(given)
    scheme = uri.partition(":")[0]
    named = f"tracking.uri: {given}" if configured else f"{TRACKING_VARIABLE}={given}"
    if given != workspace.mlflow and (fault := _fault(uri, scheme)):
        raise InputError(f"{redacted(named)}: {fault}")
    if (
        not scheme.startswith(_STORES)
        and scheme not in entry_points(group="mlflow.tracking_store").names
    ):
        is_folder = scheme in (uri, "file")
        raise InputError(
            f"{redacted(named)}: MLflow does not record "
            f"{'in folders any more' if is_folder else f'in {scheme}:'}; use "
            f"sqlite:///mlflow.db, or {'leave it out' if configured else 'unset it'}"
        )
    return uri


def _fault(uri: str, scheme: str) -> str | None:
    """Why nothing can be where a URI says, if that can be told from it alone."""
    try:
        if scheme in ("http", "https"):
            # Asking for the port is what tells whether it is one.
            parts = urlsplit(uri)
            return None if (parts.hostname, parts.port)[0] else "names no host"
        if scheme.startswith(_DATABASES):
            file = make_url(uri).database
            if scheme == "sqlite":
                return _fault_of_file(file)
    except (ValueError, ArgumentError) as error:
        said = first_line(error)
        # What is quoted may be a password whose host was forgotten.
        return "its port is no number from 0 to 65535" if "'" in said else said
    return None


def _fault_of_file(file: str | None) -> str | None:
    if not file or file == ":memory:":
        return "has no file, so nothing would be kept"
    try:
        refuse_where_no_file_can_be(Path(file))
    except (InputError, OSError) as error:
        return str(error)
    return None


def _given_uri(workspace: Workspace, configured: str | None) -> str:
    given = configured or os.environ.get(TRACKING_VARIABLE)
    if not given and workspace.shared is not None:
        raise InputError(
            f"a study in {workspace.place} needs an MLflow server: write "
            '`tracking: {uri: "http://HOST:5000"}`, or set MLFLOW_TRACKING_URI'
        )
    return given or workspace.mlflow


@contextmanager
def using_mlflow(request_seconds: int = PATIENT_SECONDS) -> Iterator[None]:
    """Have MLflow fail soon and say little in a block, or in a function that this decorates.

    Args:
        request_seconds: How long a request may take.
    """
    variables = {
        # Whoever uses it tries again; MLflow would go on for minutes with every request.
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(request_seconds),
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
        # A launch has a display of its own.
        "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    }
    # That it makes tables is no news to anyone, and what fails is said by whoever uses it.
    quiet = {
        "mlflow.store": logging.CRITICAL,
        "alembic": logging.WARNING,
        # An environment that uv made has no pip; what a model needs is given.
        "mlflow.utils.environment": logging.ERROR,
    }
    with for_a_while(variables, quiet):
        yield


class PastDeadlineError(Exception):
    """A request was to begin after the store's deadline."""


class TrackingStore:
    """One experiment in one MLflow store; used inside ``using_mlflow``.

    MLflow is imported on first use, which takes seconds: only the projection's thread needs it.

    Args:
        workspace: The workspace, for the default store.
        tracking: The study file's settings.
        study: Name of the study, for the default experiment.

    Attributes:
        place: ``uri`` (``None`` for the workspace's own database) and ``experiment``, as they may
            be written down: without a password.
        deadline: By the monotonic clock: no request begins later.

    Raises:
        InputError: See ``tracking_uri``.
    """

    def __init__(self, workspace: Workspace, tracking: Tracking, study: str) -> None:
        self.workspace = workspace
        self.study = study
        self.uri = tracking_uri(workspace, tracking.uri)
        self.experiment = tracking.experiment or study
        given = tracking.uri or os.environ.get(TRACKING_VARIABLE)
        self.place = {
            "uri": recorded_url(given) if given else None,
            "experiment": self.experiment,
        }
        self.deadline = math.inf

    @property
    def shown_uri(self) -> str:
        """The URI without a password."""
        return redacted(self.uri)

    @property
    def artifacts(self) -> Path:
        """Where the experiment's artifacts lie, unless a server keeps them; those of experiments
        whose names begin with this one's are in there, too."""
        return self.workspace.home / "mlruns" / self.experiment.strip("/")

    @property
    def client(self) -> MlflowClient:
        """The client; all calls name the run, none depends on a current one.

        Raises:
            PastDeadlineError: After the deadline.
        """
        if time.monotonic() > self.deadline:
            raise PastDeadlineError
        return self._client

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow.tracking import MlflowClient  # noqa: PLC0415

        if self.uri == self.workspace.mlflow:
            move_artifacts(self.workspace.home)
        return MlflowClient(tracking_uri=self.uri)

    def find_experiment(self, restore: bool = False) -> Experiment | None:
        """The experiment, if there is one.

        Args:
            restore: Whether one that was deleted is restored, with its runs.

        Raises:
            MgstudyError: If it was deleted, saying how to get it back.
        """
        found = self.client.get_experiment_by_name(self.experiment)
        if found is not None and found.lifecycle_stage == "deleted":
            if not restore:
                raise MgstudyError(
                    f"experiment {self.experiment!r} was deleted in MLflow: `mlflow experiments "
                    f"restore --experiment-id {found.experiment_id}` (or `mgstudy sync "
                    f"{self.study} --rebuild`) brings it back, `mlflow gc` frees its name, or give "
                    "the study another `tracking: {experiment: NAME}`"
                )
            self.client.restore_experiment(found.experiment_id)
        return found

    def open_experiment(self, tags: Mapping[str, str], restore: bool = False) -> str:
        """The id of the experiment, created if it is missing, with these tags.

        Raises:
            MgstudyError: As in ``find_experiment``.
        """
        found = self.find_experiment(restore)
        if found is None:
            # A server knows where its artifacts belong; a database file does not.
            is_local = self.uri.startswith("sqlite:")
            root = self.artifacts.as_uri() if is_local else None
            return str(self.client.create_experiment(self.experiment, root, dict(tags)))
        for name, content in tags.items():
            if found.tags.get(name) != content:
                self.client.set_experiment_tag(found.experiment_id, name, content)
        return str(found.experiment_id)

    @cached_property
    def experiment_id(self) -> str:
        """The id of the experiment, created if it is missing."""
        return self.open_experiment({})

    def runs(self, tags: Mapping[str, str], deleted: bool = False) -> list[Any]:
        """All runs that carry all these tags.

        Args:
            tags: Tags to their values.
            deleted: Whether deleted ones are among them.
        """
        from mlflow.entities import ViewType  # noqa: PLC0415

        wanted = " and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())
        view = ViewType.ALL if deleted else ViewType.ACTIVE_ONLY
        found: list[Any] = []
        token = None
        while True:
            page = self.client.search_runs(
                [self.experiment_id], wanted, view, max_results=1000, page_token=token
            )
            found.extend(page)
            token = page.token
            if not token:
                return found

    def find_run(self, tags: Mapping[str, str]) -> str | None:
        """The id of a run that carries all these tags."""
        found = self.runs(tags)
        return str(found[0].info.run_id) if found else None

    def attach(self, name: str, content: str) -> bool:
        """Keep a text as a file of the study's parent run; whether there is such a run."""
        if self.find_experiment() is None:
            return False
        run = self.find_run({STUDY_TAG: self.study, ROLE_TAG: "study"})
        if run is not None:
            self.client.log_text(run, content, name)
        return run is not None

    def log_file(self, run_id: str, location: str, folder: str) -> None:
        """Keep a file (a path, or a URL that fsspec knows) as an artifact; one that is gone is
        left out."""
        try:
            with local_copy(location) as local:
                root = self.client.get_run(run_id).info.artifact_uri
                if not linked(Path(local), f"{root}/{folder}/{Path(local).name}"):
                    self.client.log_artifact(run_id, local, folder)
        except FileNotFoundError:
            logger.warning("%s is gone; MLflow keeps no copy of it", location)

    def log(
        self,
        run_id: str,
        params: Mapping[str, str] | None = None,
        steps: Iterable[Sequence[Any]] = (),
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Log to a run in as few requests as MLflow allows, each of them one transaction.

        Args:
            run_id: The run.
            params: Params.
            steps: The metrics of each step, of ``metric``; a step's go together.
            tags: At most 100; the last that is written.
        """
        from mlflow.entities import Param, RunTag  # noqa: PLC0415

        rest, batch = [Param(*item) for item in (params or {}).items()], list[Any]()
        last = [RunTag(*item) for item in (tags or {}).items()]

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
        if batch or rest or last:
            send(batch, last)

    @staticmethod
    def metric(name: str, value: float, timestamp: int, step: int) -> Any:
        """A metric value at a step, at a time in milliseconds."""
        from mlflow.entities import Metric  # noqa: PLC0415

        return Metric(name, float(value), timestamp, step)


def linked(file: Path, artifact: str) -> bool:
    """Have an artifact on a disk of this machine be a file itself, so that it lies there once;
    whether it is. Where a server keeps artifacts, or another disk, nothing is done.

    Args:
        file: One that is replaced when it changes, and never written to.
        artifact: URI of the artifact.
    """
    parts = urlsplit(artifact)
    place = Path(url2pathname(parts.path))
    if parts.scheme != "file" or not file.is_file():
        return False
    beside = place.with_name(f".{place.name}.link")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        os.link(file, beside)
        beside.replace(place)  # An artifact that was there is a file of something else, perhaps.
    except OSError:
        return False
    finally:
        beside.unlink(missing_ok=True)
    return True
