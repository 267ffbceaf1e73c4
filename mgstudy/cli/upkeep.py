"""Commands that look after studies: carry, list, show, rename and delete them, and bring MLflow up
to them."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from mgstudy.cli.app import (
    INTERRUPTED,
    RESULTS,
    AsJson,
    Home,
    StudyName,
    app,
    make_console,
    print_json,
    typed,
)
from mgstudy.errors import InputError, MgstudyError


@app.command("export")
def export_study(
    study: StudyName,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to [default: STUDY.tar.xz in this folder]"),
    ] = None,
    with_weights: Annotated[
        bool,
        typer.Option(
            "--with-weights",
            help="With trained weights, states of interrupted trials and every measurement of "
            "robustness",
        ),
    ] = False,
    home: Home = None,
) -> None:
    """Write a study as one file: definition, trials, curves, users' scores, robustness."""
    from mgstudy import api  # noqa: PLC0415

    path = output or Path(f"{study}.tar.xz")
    api.export_study(study, path, with_weights, home)
    typer.echo(f"wrote {path} ({decimal(path.stat().st_size)})")


@app.command("import")
def import_study(
    file: Annotated[Path, typer.Argument(help="What `mgstudy export` has written")],
    name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Another name for the study")
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="URL", help="Its Optuna storage [default: a SQLite file in the workspace]"
        ),
    ] = None,
    home: Home = None,
) -> None:
    """Bring in a study that was exported: it is read at once, and goes on with its datasets."""
    from mgstudy import api  # noqa: PLC0415

    summary = api.import_study(file, name, home, storage)
    name = summary.name
    trials = sum(len(cell.every_trial()) for cell in summary.cells)
    typer.echo(
        f"study {name}: {len(summary.cells)} cells, {trials} trials; next: "
        f"{typed('compare', name, home=home)}, {typed('sync', name, home=home)} for MLflow, "
        f"{typed('resume', name, home=home)} to go on"
    )


@app.command()
def fork(
    study: StudyName,
    name: Annotated[str, typer.Argument(help="Name of the new study")],
    file: Annotated[
        Path | None, typer.Argument(help="Its study file [default: as the other was launched]")
    ] = None,
    home: Home = None,
) -> None:
    """Begin a study with the trials of another, where levels, spaces, training and data agree, and
    with its best configurations where the levels do."""
    from mgstudy import api  # noqa: PLC0415

    cells = api.fork_study(study, name, file, home)
    parent = api.read_summary(name, home).parent
    tried = len(parent.tried) if parent else 0
    anew = f", {tried} cells with its best configurations" if tried else ""
    typer.echo(
        f"study {name} begins with the trials of {len(cells)} cells of {study}{anew}; "
        f"{typed('resume', name, home=home)} goes on with it"
    )


@app.command("ls")
def list_studies(home: Home = None, as_json: AsJson = False) -> None:
    """List the launched studies of the workspace, the newest first."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.studies import print_studies, studies_content  # noqa: PLC0415

    found = api.list_studies(home)
    if as_json:
        print_json(studies_content(found))
    else:
        print_studies(found, make_console())


@app.command()
def show(study: StudyName, home: Home = None, as_json: AsJson = False) -> None:
    """Show what a study is and where it lies: factors, stores, sizes, origin, versions."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.studies import print_study, study_content  # noqa: PLC0415

    summary = api.read_summary(study, home)
    if as_json:
        print_json(study_content(summary))
    else:
        print_study(summary, make_console())


@app.command(rich_help_panel=RESULTS)
def trial(
    study: StudyName,
    number: Annotated[
        str,
        typer.Argument(
            metavar="TRIAL", help="Its number, or CELL/NUMBER where several cells have one"
        ),
    ],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show a trial whole: parameters, curve, cost, why it ended, traceback, where MLflow has it."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.studies import print_trial, trial_content  # noqa: PLC0415

    found = api.find_trial(study, number, home)
    if as_json:
        print_json(trial_content(found))
    else:
        print_trial(found, api.trial_address(study, found.key, home), make_console())


@app.command()
def delete(
    study: StudyName,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask")] = False,
    home: Home = None,
) -> None:
    """Delete a study: trials, folder, MLflow runs, registered models and their artifacts."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.studies import deletion_text  # noqa: PLC0415

    frees = api.deletion(study, home)
    typer.echo(deletion_text(frees.summary, frees.size, frees.studies, frees.runs, frees.models))
    if frees.problem:
        raise MgstudyError(f"MLflow cannot be asked what it has of it: {frees.problem}")
    if not yes:
        if not sys.stdin.isatty():
            raise InputError("nobody is here to be asked; `--yes` deletes it")
        if not typer.confirm("delete it?"):
            raise typer.Exit(INTERRUPTED)
    is_gone = api.delete_study(study, home)
    rest = "" if is_gone else "; `mlflow gc` at MLflow's server frees its artifacts"
    typer.echo(f"deleted study {study}{rest}")


@app.command()
def rename(
    study: StudyName,
    name: Annotated[str, typer.Argument(help="The new name")],
    home: Home = None,
) -> None:
    """Give a study another name; `mgstudy sync` then makes its runs in MLflow anew."""
    from mgstudy import api  # noqa: PLC0415

    api.rename_study(study, name, home)
    typer.echo(f"study {study} is {name}; {typed('sync', name, home=home)} makes its MLflow runs")


@app.command()
def sync(
    study: StudyName,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Restore what was deleted there too")
    ] = False,
    home: Home = None,
) -> None:
    """Bring MLflow what it lacks of a study, after its server was away or lost what it had.

    The models of a finished study are registered too.
    """
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.progress import progress_bar  # noqa: PLC0415

    console = make_console()
    with progress_bar(console) as progress:
        synced = api.sync(study, home, rebuild, progress)
    console.print(f"{synced.delivered} records delivered to MLflow", highlight=False)
    if synced.models:
        console.print(f"models registered there: {len(synced.models)}", highlight=False)
    for model in synced.models:
        console.print(f"  {model}", markup=False, highlight=False, soft_wrap=True)
    if synced.problem:
        console.print(synced.problem, style="yellow", markup=False, soft_wrap=True)
