"""The command that measures how robust a study's models are."""

from __future__ import annotations

from typing import Annotated

import typer

from mgstudy.cli.app import INTERRUPTED, AsJson, Home, StudyName, app, make_console, print_json
from mgstudy.errors import InputError


@app.command()
def robustness(
    study: StudyName,
    cells: Annotated[
        list[str] | None,
        typer.Option(help="Only cells whose key has this in it; may be repeated"),
    ] = None,
    risks: Annotated[
        list[str] | None,
        typer.Option(help="Only this risk, or `flatness`; may be repeated"),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown")] = False,
) -> None:
    """Measure a study's trained models: under risks to their features, and how flat they lie.

    What is measured already is not measured again. Tables and plots are written into the study's
    folder and to MLflow.
    """
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.robustness import text as formats  # noqa: PLC0415

    if as_json and as_markdown:
        raise InputError("give one of --json and --markdown")
    console = make_console()
    try:
        measured = api.measure_robustness(
            study,
            home,
            None if as_json or as_markdown else console,
            cells=cells or (),
            risks=risks or (),
        )
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where it stopped", style="yellow")
        raise typer.Exit(INTERRUPTED) from None
    if as_json:
        print_json(formats.robustness_content(measured))
    elif as_markdown:
        typer.echo(formats.robustness_markdown(measured))
    else:
        formats.print_robustness(measured, console)
