"""Studies as Ray jobs: submit, find, follow, stop."""

from __future__ import annotations

import asyncio
import json
import re
import shlex
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mgstudy.cluster.address import Cluster
from mgstudy.cluster.findings import MARK, Finding, problem
from mgstudy.cluster.package import Package
from mgstudy.cluster.probe import installed_versions
from mgstudy.errors import InputError, MgstudyError, suggestion
from mgstudy.urls import first_line

STOP_SECONDS = 300
"""How long a stopped study may take to write its checkpoints before Ray kills it; Ray's own 3 s
would end trials in the middle of a file."""

STUDY_KEY = "mgstudy_study"
_CHECK_KEY = "mgstudy_check"
_CHECK_SECONDS = 600
_POLL_SECONDS = 0.5
_READY_SECONDS = 90
_NOT_READY = "No available agent to submit job"
_RECONNECTIONS = 5
_REMOTE_CHECK = "mgstudy.cluster.remote_check"


@dataclass(frozen=True)
class Job:
    """One attempt at a study on a cluster.

    Attributes:
        study: Name of the study.
        attempt: Counted from 1.
        id: Ray's submission id.
        status: ``PENDING``, ``RUNNING``, ``SUCCEEDED``, ``STOPPED`` or ``FAILED``.
        message: What Ray says of it.
        started: When; ``None`` before.
        ended: When; ``None`` before.
    """

    study: str
    attempt: int
    id: str
    status: str
    message: str
    started: datetime | None
    ended: datetime | None

    @property
    def is_over(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self.status in ("SUCCEEDED", "STOPPED", "FAILED")

    @property
    def seconds(self) -> float | None:
        """How long it ran, or has run so far; ``None`` before it starts."""
        if self.started is None:
            return None
        return ((self.ended or datetime.now(UTC)) - self.started).total_seconds()

    def content(self) -> dict[str, Any]:
        """The job as JSON-like data."""
        return {
            "study": self.study,
            "attempt": self.attempt,
            "id": self.id,
            "status": self.status,
            "started": self.started and self.started.isoformat(timespec="seconds"),
            "ended": self.ended and self.ended.isoformat(timespec="seconds"),
        }


@dataclass(frozen=True)
class Submission:
    """What is to be submitted.

    Attributes:
        study: Name of the study.
        file: The study file, relative to the package's root.
        package: The files that go along.
        overrides: ``a.b=value`` changes to the file.
        home: The workspace on the cluster; its ``MGSTUDY_HOME`` when not given.
        environment: Variables of the job. The dashboard shows them.
        retry_failed: Whether trials that failed run again.
    """

    study: str
    file: str
    package: Package
    overrides: tuple[str, ...] = ()
    home: str | None = None
    environment: Mapping[str, str] | None = None
    retry_failed: bool = False

    def entrypoint(self) -> str:
        """The command that the job runs."""
        words = ["python", "-m", "mgstudy.cli", "launch", self.file]
        words += [f"--set={override}" for override in self.overrides]
        words += ["--home", self.home] if self.home else []
        words += ["--retry-failed"] if self.retry_failed else []
        # Without a shell in between, the signal that stops the job reaches mgstudy.
        return f"exec {shlex.join(words)}"


def jobs(cluster: Cluster, study: str | None = None) -> list[Job]:
    """The studies' jobs that a cluster knows, oldest first.

    Args:
        cluster: The cluster.
        study: Only the attempts at this study.
    """
    found = [
        _job(details)
        for details in _ask(cluster.client.list_jobs)
        if details.submission_id and (details.metadata or {}).get(STUDY_KEY)
    ]
    return sorted(
        (job for job in found if study in (None, job.study)),
        key=lambda job: (job.started or datetime.min.replace(tzinfo=UTC), job.attempt),
    )


def latest(cluster: Cluster, study: str) -> Job:
    """The last attempt at a study.

    Raises:
        InputError: If the cluster knows none.
    """
    attempts = jobs(cluster, study)
    if not attempts:
        known = {job.study for job in jobs(cluster)}
        raise InputError(
            f"no job of study {study!r} at {cluster.address}; {suggestion(study, known)}"
        )
    return max(attempts, key=lambda job: job.attempt)


def submit(cluster: Cluster, submission: Submission) -> tuple[Job, bool]:
    """Submit a study, unless an attempt at it is under way.

    The job's id follows from the study's name and the number of the attempt, so that two people who
    submit at once start it once.

    Returns:
        The job, and whether it is new.
    """
    attempts = jobs(cluster, submission.study)
    under_way = [job for job in attempts if not job.is_over]
    if under_way:
        return under_way[-1], False
    attempt = 1 + max((job.attempt for job in attempts), default=0)
    identifier = f"mgstudy-{submission.study}-{attempt}"
    with submission.package.staged() as folder:
        try:
            _submit_job(
                cluster,
                entrypoint=submission.entrypoint(),
                submission_id=identifier,
                runtime_env={
                    "working_dir": str(folder),
                    "env_vars": {
                        "RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS),
                        **(submission.environment or {}),
                    },
                },
                metadata={STUDY_KEY: submission.study, "mgstudy_attempt": str(attempt)},
            )
        except RuntimeError as error:
            if "already exists" not in str(error):
                raise MgstudyError(f"the cluster refused the job: {first_line(error)}") from error
            return latest(cluster, submission.study), False
    return latest(cluster, submission.study), True


def check_remotely(
    cluster: Cluster,
    submission: Submission | None = None,
    waiting: Callable[[str], None] = lambda status: None,
) -> list[Finding]:
    """Run ``remote_check`` on the cluster.

    Args:
        cluster: The cluster.
        submission: The study to check for; without one, the cluster alone is looked at.
        waiting: Told the state of the check every half second.

    Raises:
        MgstudyError: If the check does not come to an end.
    """
    request: dict[str, Any] = {"versions": installed_versions()}
    runtime_env: dict[str, Any] = {}
    if submission is not None:
        request |= {
            "study": submission.file,
            "overrides": list(submission.overrides),
            "home": submission.home,
        }
        runtime_env["env_vars"] = dict(submission.environment or {})
    command = f"exec {shlex.join(['python', '-m', _REMOTE_CHECK, json.dumps(request)])}"
    name = f"mgstudy-check-{uuid.uuid4().hex[:12]}"

    def start(folder: str | None) -> None:
        _ask(
            lambda: _submit_job(
                cluster,
                entrypoint=command,
                submission_id=name,
                runtime_env={**runtime_env, **({"working_dir": folder} if folder else {})},
                metadata={_CHECK_KEY: "1"},
            )
        )

    if submission is None:
        start(None)
    else:
        with submission.package.staged() as folder:
            start(str(folder))
    try:
        status = _wait(cluster, name, _CHECK_SECONDS, waiting)
        logs = str(_ask(lambda: cluster.client.get_job_logs(name)))
    finally:
        _forget(cluster, name)
    for line in reversed(logs.splitlines()):
        if line.startswith(MARK):
            return [Finding.from_content(item) for item in json.loads(line.removeprefix(MARK))]
    return [_explain_failed_check(status, logs)]


def follow(cluster: Cluster, job: Job, show: Callable[[str], None]) -> Job:
    """Pass on a job's output, from its beginning to its end.

    A connection that breaks is made again a few times; what was shown is not shown again.

    Returns:
        The job when it has ended.

    Raises:
        MgstudyError: If the cluster no longer answers. The job is left as it is.
    """
    shown = 0

    async def tail() -> None:
        nonlocal shown
        position = 0
        async for text in cluster.client.tail_job_logs(job.id):
            new = text[max(0, shown - position) :]
            position += len(text)
            if new:
                shown = max(shown, position)
                show(new)

    broken = 0
    while True:
        try:
            asyncio.run(tail())
        except Exception as error:  # aiohttp's errors; Ray does not say which.
            broken += 1
            if broken > _RECONNECTIONS:
                raise MgstudyError(
                    f"lost the connection to {cluster.address}: {first_line(error)}; "
                    f"`mgstudy logs {job.study} --follow` goes on"
                ) from error
        now = find(cluster, job.id)
        if now.is_over:
            return now
        time.sleep(_POLL_SECONDS)


def logs(cluster: Cluster, job: Job) -> str:
    """A job's output so far."""
    return str(_ask(lambda: cluster.client.get_job_logs(job.id)))


def stop(cluster: Cluster, job: Job, waiting: Callable[[str], None] = lambda status: None) -> Job:
    """Stop a job and wait until it has written what it had.

    Raises:
        MgstudyError: If it does not end in time.
    """
    _ask(lambda: cluster.client.stop_job(job.id))
    _wait(cluster, job.id, STOP_SECONDS + 30, waiting)
    return find(cluster, job.id)


def find(cluster: Cluster, identifier: str) -> Job:
    """A job by Ray's submission id."""
    return _job(_ask(lambda: cluster.client.get_job_info(identifier)))


def _submit_job(cluster: Cluster, **job: Any) -> None:
    """Submit a job, to a head that may have started a moment ago and not be ready yet."""
    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            cluster.client.submit_job(**job)
            return
        except RuntimeError as error:
            if _NOT_READY not in str(error):
                raise
            if time.monotonic() > deadline:
                raise MgstudyError(
                    f"{cluster.address} takes no jobs: the agent of its head does not run; another "
                    "Ray on that machine may have its port 52365, `ray start --head "
                    "--dashboard-agent-listen-port=...` gives it another"
                ) from error
            time.sleep(_POLL_SECONDS)


def _wait(
    cluster: Cluster, identifier: str, most_seconds: float, waiting: Callable[[str], None]
) -> str:
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline:
        status = _ask(lambda: cluster.client.get_job_status(identifier))
        waiting(status.value)
        if status.is_terminal():
            return str(status.value)
        time.sleep(_POLL_SECONDS)
    raise MgstudyError(
        f"job {identifier} at {cluster.address} has not ended after {most_seconds:g} s; "
        "look at it in the dashboard"
    )


def _forget(cluster: Cluster, identifier: str) -> None:
    """Do not leave checks in the list of jobs."""
    try:
        if cluster.client.get_job_status(identifier).is_terminal():
            cluster.client.delete_job(identifier)
        else:
            cluster.client.stop_job(identifier)
    except (RuntimeError, OSError):
        return


def _explain_failed_check(status: str, output: str) -> Finding:
    if re.search(r"No module named '?mgstudy", output):
        return problem(
            "mgstudy",
            "is not installed on the cluster's head node",
            "install the same version on every node, for example in its image",
        )
    lines = [line for line in output.splitlines() if line.strip()]
    last = lines[-1] if lines else "no output"
    return problem("check", f"{status.lower()} on the cluster: {last}", "see the dashboard's logs")


def _ask(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except (RuntimeError, OSError) as error:
        raise MgstudyError(f"the cluster does not answer: {first_line(error)}") from error


def _job(details: Any) -> Job:
    metadata = details.metadata or {}
    return Job(
        study=metadata.get(STUDY_KEY, ""),
        attempt=int(metadata.get("mgstudy_attempt", "0")),
        id=details.submission_id,
        status=details.status.value,
        message=details.message or "",
        started=_moment(details.start_time),
        ended=_moment(details.end_time),
    )


def _moment(milliseconds: Any) -> datetime | None:
    return datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
