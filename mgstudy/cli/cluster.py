"""Commands that run studies on a Ray cluster."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mgstudy.cli.app import (
    INTERRUPTED,
    AsJson,
    Home,
    Overrides,
    RetryFailed,
    StudyFile,
    StudyName,
    app,
    make_console,
    print_json,
)
from mgstudy.errors import InputError, MgstudyError

if TYPE_CHECKING:
    from mgstudy.cluster.address import Cluster
    from mgstudy.cluster.jobs import Job

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


@app.command()
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
) -> None:
    """Run a study on a cluster, or what is left of it. Ctrl-C leaves it running there."""
    from mgstudy.cluster import jobs as studies  # noqa: PLC0415
    from mgstudy.cluster.findings import Level, problems  # noqa: PLC0415
    from mgstudy.cluster.package import collect, megabytes  # noqa: PLC0415
    from mgstudy.config.document import load_document  # noqa: PLC0415
    from mgstudy.config.study import StudyConfig  # noqa: PLC0415

    config = load_document(file, overrides).validate(StudyConfig)
    package = collect(working_directory, file)
    submission = studies.Submission(
        study=config.name,
        file=file.resolve().relative_to(package.root).as_posix(),
        package=package,
        overrides=tuple(overrides),
        home=home,
        environment=_parse_variables(variables),
        retry_failed=retry_failed,
    )
    console = make_console()
    cluster = _connect(address)
    under_way = [job for job in studies.jobs(cluster, config.name) if not job.is_over]
    if check and not under_way:
        with _waiting(f"{cluster.address}: does it fit?") as show:
            findings = studies.check_remotely(cluster, submission, show)
        for finding in findings:
            if finding.level is not Level.FINE or finding.subject == "resources":
                console.print(finding.line, style=_STYLES[finding.level], soft_wrap=True)
        if problems(findings):
            raise InputError(f"{cluster.address} does not fit the study; nothing was submitted")
    job, is_new = studies.submit(cluster, submission)
    if retry_failed and not is_new:
        raise MgstudyError(
            f"{job.id} is already {job.status.lower()}, and runs no failed trial again; when it "
            f"has ended, or after `mgstudy stop {job.study}`, give the same command again"
        )
    console.print(
        f"submitted {job.id} with {len(package.files)} files ({megabytes(package.size)})"
        if is_new
        else f"{job.id} is already {job.status.lower()}",
        soft_wrap=True,
    )
    if follow:
        _follow(cluster, job)
    else:
        console.print(_left(job, address), soft_wrap=True)


@app.command()
def jobs(address: Address = None, as_json: AsJson = False) -> None:
    """List the studies' jobs on a cluster."""
    from rich.table import Table  # noqa: PLC0415

    from mgstudy.cluster import jobs as studies  # noqa: PLC0415
    from mgstudy.report.numbers import duration  # noqa: PLC0415

    cluster = _connect(address)
    found = studies.jobs(cluster)
    if as_json:
        print_json([job.content() for job in found])
        return
    if not found:
        typer.echo(f"no studies at {cluster.address}")
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for title in ("study", "attempt", "status", "started", "time", "job"):
        table.add_column(title)
    for job in found:
        seconds = job.seconds
        table.add_row(
            job.study,
            str(job.attempt),
            job.status.lower(),
            f"{job.started.astimezone():%Y-%m-%d %H:%M:%S}" if job.started else "",
            duration(seconds) if seconds is not None else "",
            job.id,
        )
    make_console().print(table)


@app.command()
def logs(
    study: StudyName,
    address: Address = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on until the job ends; Ctrl-C leaves it")
    ] = False,
) -> None:
    """Show what a study's last job printed."""
    from mgstudy.cluster import jobs as studies  # noqa: PLC0415

    cluster = _connect(address)
    job = studies.latest(cluster, study)
    if follow:
        _follow(cluster, job)
    else:
        typer.echo(studies.logs(cluster, job), nl=False)


@app.command()
def stop(study: StudyName, address: Address = None) -> None:
    """Stop a study's job; what has run stays, and `mgstudy submit` goes on."""
    from mgstudy.cluster import jobs as studies  # noqa: PLC0415

    cluster = _connect(address)
    job = studies.latest(cluster, study)
    if job.is_over:
        typer.echo(f"{job.id} has already {_PAST[job.status]}")
        return
    with _waiting(f"{job.id}: stopping") as show:
        job = studies.stop(cluster, job, show)
    typer.echo(f"{job.id} has {_PAST[job.status]}; `mgstudy submit` goes on where it stopped")


@app.command()
def doctor(address: Address = None, home: Home = None, as_json: AsJson = False) -> None:
    """Check this machine, or with --address a cluster, and say what to do about each finding."""
    from mgstudy.cluster import jobs as studies  # noqa: PLC0415
    from mgstudy.cluster.doctor import examine  # noqa: PLC0415
    from mgstudy.cluster.findings import problems  # noqa: PLC0415
    from mgstudy.workspace import Workspace  # noqa: PLC0415

    if address is None:
        findings = examine(Workspace.resolve(home))
    else:
        cluster = _connect(address)
        with _waiting(f"{cluster.address}: looking at every node") as show:
            findings = studies.check_remotely(cluster, waiting=show)
    if as_json:
        print_json([finding.content() for finding in findings])
    else:
        console = make_console()
        for finding in findings:
            mark = {"fine": "ok", "warning": "look", "problem": "bad"}[finding.level]
            console.print(
                f"{mark:5}{finding.line}",
                style=_STYLES[finding.level],
                soft_wrap=True,
                highlight=False,
            )
    if problems(findings):
        raise typer.Exit(1)


_STYLES = {"fine": "", "warning": "yellow", "problem": "red"}
_PAST = {"SUCCEEDED": "succeeded", "STOPPED": "been stopped", "FAILED": "failed"}


def _connect(address: str | None) -> Cluster:
    from mgstudy.cluster.address import connect  # noqa: PLC0415

    cluster = connect(address)
    for line in cluster.warnings:
        Console(stderr=True, markup=False).print(
            f"warning: {line}", style="yellow", soft_wrap=True, highlight=False
        )
    return cluster


def _follow(cluster: Cluster, job: Job) -> None:
    from mgstudy.cluster import jobs as studies  # noqa: PLC0415

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
    at = f" --address {address}" if address else ""
    return (
        f"{job.id} goes on without this terminal; `mgstudy logs {job.study} --follow{at}` shows "
        f"it, `mgstudy stop {job.study}{at}` stops it"
    )


def _waiting(activity: str) -> Any:
    """A display of how long something takes, where there is a terminal."""
    console = Console(stderr=True, markup=False)
    if not console.is_terminal:
        return nullcontext(lambda status: None)
    return _Spinner(console, activity)


class _Spinner:
    def __init__(self, console: Console, activity: str) -> None:
        self.activity = activity
        self.status = console.status(activity)

    def __enter__(self) -> Any:
        self.status.start()
        return lambda status: self.status.update(f"{self.activity} ({status.lower()})")

    def __exit__(self, *_: object) -> None:
        self.status.stop()


def _parse_variables(variables: list[str]) -> dict[str, str]:
    parsed = {}
    for text in variables:
        name, equals, value = text.partition("=")
        if not equals or not name.isidentifier():
            raise InputError(f"--env {text}: expected NAME=VALUE")
        parsed[name] = value
    return parsed
