"""Commands that run studies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from mgstudy.cli.app import (
    INTERRUPTED,
    STUDIES,
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
from mgstudy.errors import InputError, MgstudyError

if TYPE_CHECKING:
    from mgstudy.api import Launched


@app.command(rich_help_panel=STUDIES)
def plan(
    file: StudyFile,
    overrides: Overrides = [],  # noqa: B006
    home: Home = None,
    measure: Annotated[
        bool, typer.Option("--measure", help="Train two epochs of every cell to time them")
    ] = False,
    address: Annotated[
        str | None,
        typer.Option(
            help="Plan for this cluster, for example http://HEAD:8265", show_default=False
        ),
    ] = None,
    detect: Annotated[
        str | None,
        typer.Option(metavar="PERCENT", help="Say how many seeds see this difference: 3%"),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Show what a study would run, and which differences it would see. Runs nothing."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.cluster.address import connect  # noqa: PLC0415
    from mgstudy.report.console.plan import print_plan  # noqa: PLC0415

    nodes = connect(address).nodes() if address else None
    wanted = None if detect is None else _share(detect)
    content = api.plan(api.read_study(file, overrides, home), measure, nodes, wanted)
    if as_json:
        print_json(content)
    else:
        print_plan(content, make_console())


def _share(text: str) -> float:
    """The share that a percentage says."""
    try:
        share = float(text.strip().removesuffix("%")) / 100
    except ValueError:
        share = 0.0
    if not 0 < share <= 100:
        raise InputError(f"--detect {text}: expected a percentage, for example 3%")
    return share


@app.command(rich_help_panel=STUDIES)
def launch(
    file: StudyFile,
    overrides: Overrides = [],  # noqa: B006
    home: Home = None,
    retry_failed: RetryFailed = False,
    within: Within = None,
) -> None:
    """Run a study, or what is left of it: Ray Tune, Optuna and MLflow, here or on RAY_ADDRESS."""
    from mgstudy import api  # noqa: PLC0415

    console = make_console()
    study = api.read_study(file, overrides, home)
    launched = api.launch(study, console, retry_failed=retry_failed, within=within)
    show_launched(launched, console, home, within)


@app.command(rich_help_panel=STUDIES)
def resume(
    study: StudyName,
    home: Home = None,
    retry_failed: RetryFailed = False,
    within: Within = None,
) -> None:
    """Go on with a study that was launched before; the same as launching its file again."""
    from mgstudy import api  # noqa: PLC0415

    console = make_console()
    launched = api.resume(study, console, home, retry_failed=retry_failed, within=within)
    show_launched(launched, console, home, within)


def show_launched(
    launched: Launched, console: Console, home: str | None, within: str | None = None
) -> None:
    """Show what a study has come to, and what to do next.

    Raises:
        MgstudyError: If a cell has nothing but failed trials.
        typer.Exit: With 130, if it was interrupted.
    """
    from mgstudy.report.comparison.formats import print_comparison  # noqa: PLC0415
    from mgstudy.report.console.status import failed_trials  # noqa: PLC0415

    summary = launched.summary
    if launched.undelivered:
        console.print(
            f"{launched.undelivered} records wait for MLflow; "
            f"{typed('sync', summary.name, home=home)} delivers them once it takes records",
            style="yellow",
            soft_wrap=True,
        )
    if launched.out_of_time:
        goes_on = typed("resume", summary.name, home=home, **{"for": within})
        said = f"the time is over: {_left(launched)} left; {goes_on} goes on"
        console.print(said, style="yellow", markup=False, soft_wrap=True)
        return
    if not launched.finished:
        console.print("interrupted; the same command goes on where it stopped", style="yellow")
        raise typer.Exit(INTERRUPTED)
    print_comparison(launched.compared(), console)
    for line in failed_trials(summary):
        console.print(line, style="red", markup=False, soft_wrap=True)
    console.print(
        f"next: {typed('compare', summary.name, home=home)} for this table in other formats, "
        f"{typed('report', summary.name, home=home)} for a page of all, "
        f"{typed('recommend', summary.name, 'CELL', home=home)} for what a model recommends, "
        f"{typed('ui', home=home)} to look inside",
        markup=False,
        soft_wrap=True,
    )
    if any(cell.trials and cell.counts["failed"] == len(cell.trials) for cell in summary.cells):
        raise MgstudyError("a cell has no trial that did not fail; the reasons are above")


def _left(launched: Launched) -> str:
    """What of a study is still to run."""
    cells = launched.summary.cells
    counts = {
        "trials": sum(cell.left for cell in cells),
        "confirmations": sum(cell.replicates_left for cell in cells),
        "measurements of robustness": launched.unmeasured,
    }
    said = " and ".join(f"{count} {what}" for what, count in counts.items() if count)
    return f"{said} are"
