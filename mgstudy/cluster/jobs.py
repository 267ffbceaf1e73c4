"""Studies as Ray jobs: submit, find, follow, stop."""

from __future__ import annotations

import json
import re
import shlex
import time
import uuid
from collections.abc import Callable
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from mgstudy.cluster.address import Cluster
from mgstudy.cluster.machines import Finding, installed_versions, problem, read_findings
from mgstudy.errors import InputError, MgstudyError, suggestion
from mgstudy.urls import first_line

if TYPE_CHECKING:
    from mgstudy.cluster.submission import Submission

STOP_SECONDS = 300
"""How long a stopped study may take to write its checkpoints before Ray kills it; Ray's own 3 s
would end trials in the middle of a file."""

_STUDY, _ATTEMPT = "mgstudy_study", "mgstudy_attempt"
_CHECK_SECONDS = 600
_POLL_SECONDS = 0.5
_READY_SECONDS = 90
_AWAY_SECONDS = 60
_NOT_READY = "No available agent to submit job"

Waiting = Callable[[str], None]
"""Is told a job's state every half second."""


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
            name: value.isoformat(timespec="seconds") if isinstance(value, datetime) else value
            for name, value in asdict(self).items()
            if name != "message"
        }


def jobs(cluster: Cluster, study: str | None = None) -> list[Job]:
    """The studies' jobs that a cluster knows, oldest first.

    Args:
        cluster: The cluster.
        study: Only the attempts at this study.
    """
    known = map(_job, cluster.ask("list_jobs"))
    return sorted(
        (job for job in known if job.study and study in (None, job.study)),
        key=lambda job: (job.started or datetime.min.replace(tzinfo=UTC), job.attempt),
    )


def latest(cluster: Cluster, study: str) -> Job:
    """The last attempt at a study.

    Raises:
        InputError: If the cluster knows none.
    """
    known = jobs(cluster)
    attempts = [job for job in known if job.study == study]
    if not attempts:
        nearest = suggestion(study, {job.study for job in known})
        raise InputError(f"no job of study {study!r} at {cluster.address}; {nearest}")
    return max(attempts, key=lambda job: job.attempt)


def submit(cluster: Cluster, submission: Submission) -> tuple[Job, bool]:
    """Submit a study, unless an attempt at it is under way.

    The job's id follows from the study's name and the number of the attempt, so that two people who
    submit at once start it once.

    Returns:
        The job, and whether it is new.
    """
    attempts = jobs(cluster, submission.study)
    if under_way := [job for job in attempts if not job.is_over]:
        return under_way[-1], False
    attempt = str(1 + max((job.attempt for job in attempts), default=0))
    variables = {"RAY_JOB_STOP_WAIT_TIME_S": str(STOP_SECONDS), **submission.environment}
    with submission.packed() as archive:
        python = _start(
            cluster,
            submission.words(),
            submission_id=f"mgstudy-{submission.study}-{attempt}",
            runtime_env={"working_dir": archive, "env_vars": variables},
            metadata={_STUDY: submission.study, _ATTEMPT: attempt},
        )
    return latest(cluster, submission.study), python is not None


def check_remotely(
    cluster: Cluster, submission: Submission | None = None, waiting: Waiting = lambda status: None
) -> list[Finding]:
    """Run ``mgstudy.cluster.doctor`` on the cluster.

    Args:
        cluster: The cluster.
        submission: The study to check for; without one, the cluster alone is looked at.
        waiting: Told the state of the check.

    Raises:
        MgstudyError: If the check does not come to an end.
    """
    name = f"mgstudy-check-{uuid.uuid4().hex[:12]}"
    request: dict[str, Any] = {"versions": installed_versions()}
    if submission is not None:
        asked = ("file", "overrides", "home")
        request["study"] = {item: getattr(submission, item) for item in asked}
    with submission.packed() if submission else nullcontext() as archive:
        given = submission and {"working_dir": archive, "env_vars": dict(submission.environment)}
        words = ["-m", "mgstudy.cluster.doctor", json.dumps(request)]
        python = _start(cluster, words, submission_id=name, runtime_env=given)
    try:
        status = _wait(cluster, name, _CHECK_SECONDS, waiting).status
        output = str(cluster.ask("get_job_logs", name))
    finally:
        # Checks do not stay in the list of jobs.
        with suppress(RuntimeError, OSError):
            cluster.client.stop_job(name)
            cluster.client.delete_job(name)
    findings = read_findings(output)
    if findings is not None:
        return findings
    if re.search(r"No module named '?mgstudy", output):
        return [
            problem(
                "mgstudy",
                f"is not installed on the cluster's head node, for {python}",
                "install the same version on every node, for example in its image",
            )
        ]
    last = ([line for line in output.splitlines() if line.strip()] or ["no output"])[-1]
    text = f"{status.lower()} on the cluster, run by {python}: {last}"
    return [problem("check", text, "see the dashboard's logs")]


def follow(cluster: Cluster, job: Job, show: Callable[[str], None]) -> Job:
    """Pass on a job's output, from its beginning to its end.

    A dashboard that is away for less than a minute is waited for; what was shown is not shown
    again.

    Returns:
        The job when it has ended.

    Raises:
        MgstudyError: If the cluster no longer answers. The job is left as it is.
    """
    import asyncio  # noqa: PLC0415  # Takes longer to import than most commands run.

    shown = 0
    lost: float | None = None

    async def tail() -> None:
        nonlocal shown, lost
        position = 0
        async for text in cluster.client.tail_job_logs(job.id):
            lost = None
            if new := text[max(0, shown - position) :]:
                show(new)
            position += len(text)
            shown = max(shown, position)

    while True:
        try:
            asyncio.run(tail())
            now = find(cluster, job.id)
            if now.is_over:
                return now
            lost = None
        except Exception as error:  # aiohttp's and Ray's; Ray does not say which.
            if re.search(r"(^|code )404\b", str(error)):
                raise MgstudyError(
                    f"{cluster.address} no longer knows {job.id}: its head was started anew; "
                    "`mgstudy submit` goes on where the study stopped"
                ) from error
            lost = lost or time.monotonic()
            if time.monotonic() - lost > _AWAY_SECONDS:
                raise MgstudyError(
                    f"lost the connection to {cluster.address}: {first_line(error)}; "
                    f"`mgstudy logs {job.study} --follow` goes on"
                ) from error
        time.sleep(_POLL_SECONDS)


def logs(cluster: Cluster, job: Job) -> str:
    """A job's output so far."""
    return str(cluster.ask("get_job_logs", job.id))


def stop(cluster: Cluster, job: Job, waiting: Waiting = lambda status: None) -> Job:
    """Stop a job and wait until it has written what it had.

    Raises:
        MgstudyError: If it does not end in time.
    """
    cluster.ask("stop_job", job.id)
    return _wait(cluster, job.id, STOP_SECONDS + 30, waiting)


def find(cluster: Cluster, identifier: str) -> Job:
    """A job by Ray's submission id."""
    return _job(cluster.ask("get_job_info", identifier))


def _start(cluster: Cluster, words: list[str], **job: Any) -> str | None:
    """Submit a job to a head that may have started a moment ago and not be ready yet.

    Args:
        cluster: The cluster.
        words: Arguments of the Python that Ray's own workers run.
        job: What else ``submit_job`` takes.

    Returns:
        That Python; ``None`` if there is a job of that id.

    Raises:
        MgstudyError: If the cluster does not take it.
    """
    from mgstudy.private.ray import worker_interpreter  # noqa: PLC0415

    deadline = time.monotonic() + _READY_SECONDS
    while True:
        try:
            python = worker_interpreter(cluster.address, cluster.headers) or "python"
            # Without a shell in between, the signal that stops the job reaches mgstudy.
            cluster.client.submit_job(entrypoint=f"exec {shlex.join([python, *words])}", **job)
            return python
        except (LookupError, RuntimeError, OSError) as error:
            if "already exists" in str(error):
                return None
            if not isinstance(error, LookupError) and _NOT_READY not in str(error):
                raise MgstudyError(f"the cluster refused the job: {first_line(error)}") from error
            if time.monotonic() > deadline:
                raise MgstudyError(
                    f"{cluster.address} takes no jobs: the agent of its head does not run; another "
                    "Ray on that machine may have its port 52365, `ray start --head "
                    "--dashboard-agent-listen-port=...` gives it another"
                ) from error
        time.sleep(_POLL_SECONDS)


def _wait(cluster: Cluster, identifier: str, most_seconds: float, waiting: Waiting) -> Job:
    deadline = time.monotonic() + most_seconds
    while time.monotonic() < deadline:
        job = find(cluster, identifier)
        waiting(job.status)
        if job.is_over:
            return job
        time.sleep(_POLL_SECONDS)
    raise MgstudyError(
        f"job {identifier} at {cluster.address} has not ended after {most_seconds:g} s; "
        "look at it in the dashboard"
    )


def _job(details: Any) -> Job:
    started, ended = (
        datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
        for milliseconds in (details.start_time, details.end_time)
    )
    metadata = details.metadata or {}
    return Job(
        metadata.get(_STUDY, ""),
        int(metadata.get(_ATTEMPT, "0")),
        details.submission_id,
        details.status.value,
        details.message or "",
        started,
        ended,
    )
