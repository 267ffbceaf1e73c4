"""Commands that run studies on a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mgstudy.cli.app import (
    CLUSTER,
    INTERRUPTED,
    AsJson,
    Home,
    Overrides,
    RetryFailed,
    StudyFile,
    StudyName,
    Within,
    app,
    make_console,
    print_json,
    typed,
)
from mgstudy.cluster import jobs as studies
from mgstudy.cluster.address import Cluster, connect
from mgstudy.cluster.jobs import Job
from mgstudy.cluster.machines import Finding, problems
from mgstudy.errors import InputError, MgstudyError

Address = Annotated[
    str | None,
    typer.Option(
        help="The cluster, for example http://HEAD:8265 "
        "[default: $RAY_API_SERVER_ADDRESS, $RAY_ADDRESS, this machine]",
        show_default=False,
    ),
]
ClusterHome = Annotated[
    str | None,
    typer.Option(
        "--home",
        help="The workspace on the cluster: a folder that every node sees, or a URL (s3://...) "
        "[default: MGSTUDY_HOME there]",
        show_default=False,
    ),
]
_STYLES = {"fine": "", "warning": "yellow", "problem": "red"}
_MARKS = {"fine": "ok", "warning": "look", "problem": "bad"}
_PAST = {"SUCCEEDED": "succeeded", "STOPPED": "been stopped", "FAILED": "failed"}


@app.command(rich_help_panel=CLUSTER)
def submit(
    file: StudyFile,
    address: Address = None,
    overrides: Overrides = [],  # noqa: B006
    home: ClusterHome = None,
    variables: Annotated[
        list[str],
        typer.Option(
            "--env",
            metavar="NAME=VALUE",
            help="Environment variable of the job; no passwords, the dashboard shows it",
        ),
    ] = [],  # noqa: B006
    working_directory: Annotated[
        Path, typer.Option("--working-directory", help="Folder whose code and files go along")
    ] = Path(),
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="First see whether the cluster fits")
    ] = True,
    follow: Annotated[
        bool, typer.Option("--follow/--no-follow", help="Show the job's output until it ends")
    ] = True,
    retry_failed: RetryFailed = False,
    within: Within = None,
) -> None:
    """Run a study on a cluster, or what is left of it. Ctrl-C leaves it running there."""
    from mgstudy.cluster.submission import Submission, megabytes  # noqa: PLC0415

    environment = dict(map(_parse_variable, variables))
    submission = Submission(
        file, working_directory, tuple(overrides), home, environment, retry_failed, within
    )
    study, sizes = submission.study, submission.files.values()  # Wrong ones are refused here.
    cluster = _connect(address)
    under_way = [job for job in studies.jobs(cluster, study) if not job.is_over]
    if check and not under_way:
        with _waiting(f"{cluster.address}: does it fit?") as show:
            findings = studies.check_remotely(cluster, submission, show)
        for finding in findings:
            if finding.level != "fine" or finding.subject == "resources":
                _print_finding(finding, finding.line)
        if problems(findings):
            raise InputError(f"{cluster.address} does not fit the study; nothing was submitted")
    job, is_new = studies.submit(cluster, submission)
    if retry_failed and not is_new:
        raise MgstudyError(
            f"{job.id} is already {job.status.lower()}, and runs no failed trial again; when it "
            f"has ended, or after `mgstudy stop {job.study}`, give the same command again"
        )
    typer.echo(
        f"submitted {job.id} with {len(sizes)} files ({megabytes(sum(sizes))})"
        if is_new
        else f"{job.id} is already {job.status.lower()}"
    )
    if follow:
        _follow(cluster, job)
    else:
        typer.echo(_left(job, address))


@app.command(rich_help_panel=CLUSTER)
def jobs(address: Address = None, as_json: AsJson = False) -> None:
    """List the studies' jobs on a cluster."""
    from mgstudy.report.table import Table  # noqa: PLC0415
    from mgstudy.report.texts import duration  # noqa: PLC0415

    cluster = _connect(address)
    found = studies.jobs(cluster)
    if as_json:
        print_json([job.content() for job in found])
    elif not found:
        typer.echo(f"no studies at {cluster.address}")
    else:
        rows = [
            [
                job.study,
                str(job.attempt),
                job.status.lower(),
                f"{job.started.astimezone():%Y-%m-%d %H:%M:%S}" if job.started else "",
                duration(job.seconds) if job.seconds is not None else "",
                job.id,
            ]
            for job in found
        ]
        titles = ["study", "attempt", "status", "started", "time", "job"]
        make_console().print(Table(titles, rows, ["study", "status", "started", "job"]))


@app.command(rich_help_panel=CLUSTER)
def logs(
    study: StudyName,
    address: Address = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends; Ctrl-C leaves it")
    ] = False,
) -> None:
    """Show what a study's last job printed."""
    cluster = _connect(address)
    job = studies.latest(cluster, study)
    if follow:
        _follow(cluster, job)
    else:
        typer.echo(studies.logs(cluster, job), nl=False)


@app.command(rich_help_panel=CLUSTER)
def stop(study: StudyName, address: Address = None) -> None:
    """Stop a study's job; what has run stays, and `mgstudy submit` goes on."""
    cluster = _connect(address)
    job = studies.latest(cluster, study)
    if job.is_over:
        typer.echo(f"{job.id} has already {_PAST[job.status]}")
        return
    with _waiting(f"{job.id}: stopping") as show:
        job = studies.stop(cluster, job, show)
    typer.echo(f"{job.id} has {_PAST[job.status]}; `mgstudy submit` goes on where it stopped")


@app.command(rich_help_panel=CLUSTER)
def doctor(address: Address = None, home: Home = None, as_json: AsJson = False) -> None:
    """Check this machine, or with --address a cluster, and say what to do about each finding."""
    if address is None:
        from mgstudy.cluster.doctor import examine  # noqa: PLC0415

        findings = examine(home)
    else:
        cluster = _connect(address)
        with _waiting(f"{cluster.address}: looking at every node") as show:
            findings = studies.check_remotely(cluster, waiting=show)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    else:
        for finding in findings:
            _print_finding(finding, f"{_MARKS[finding.level]:5}{finding.line}")
    if problems(findings):
        raise typer.Exit(1)


def _connect(address: str | None) -> Cluster:
    cluster = connect(address)
    if cluster.warning:
        console = Console(stderr=True, markup=False, highlight=False)
        console.print(f"warning: {cluster.warning}", style="yellow", soft_wrap=True)
    return cluster


def _follow(cluster: Cluster, job: Job) -> None:
    try:
        ended = studies.follow(cluster, job, lambda text: typer.echo(text, nl=False))
    except KeyboardInterrupt:
        typer.echo(f"\n{_left(job, cluster.address)}")
        raise typer.Exit(INTERRUPTED) from None
    if ended.status == "STOPPED":
        typer.echo(f"{job.id} has been stopped; `mgstudy submit` goes on where it stopped")
        raise typer.Exit(INTERRUPTED)
    if ended.status == "FAILED":
        raise MgstudyError(f"{job.id} failed: {ended.message.partition(chr(10))[0]}")


def _left(job: Job, address: str | None) -> str:
    return (
        f"{job.id} goes on without this terminal; "
        f"{typed('logs', job.study, '--follow', address=address)} shows it, "
        f"{typed('stop', job.study, address=address)} stops it"
    )


@contextmanager
def _waiting(activity: str) -> Iterator[Callable[[str], None]]:
    """A display of how long something takes and how it stands, where there is a terminal."""
    with Console(stderr=True, markup=False).status(activity) as display:
        yield lambda status: display.update(f"{activity} ({status.lower()})")


def _print_finding(finding: Finding, line: str) -> None:
    make_console().print(line, style=_STYLES[finding.level], soft_wrap=True, highlight=False)


def _parse_variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise InputError(f"--env {text}: expected NAME=VALUE")
    return name, value
