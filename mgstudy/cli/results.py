"""Commands that show what studies have come to."""

from __future__ import annotations

from typing import Annotated

import typer

from mgstudy.cli.app import AsJson, Home, StudyName, app, make_console, print_json
from mgstudy.errors import InputError


@app.command()
def status(study: StudyName, home: Home = None, as_json: AsJson = False) -> None:
    """Show where a study stands, also while it runs."""
    from mgstudy.data.workspace import Workspace  # noqa: PLC0415
    from mgstudy.report.status import print_status, status_content  # noqa: PLC0415
    from mgstudy.study.summary import summarize  # noqa: PLC0415

    summary = summarize(Workspace.resolve(home), study)
    if as_json:
        print_json(status_content(summary))
    else:
        print_status(summary, make_console())


@app.command()
def compare(
    study: StudyName,
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FACTOR=LEVEL", help="What to compare with [default: gradient=plain]"),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown")] = False,
) -> None:
    """Compare a study's cells: each one's best trial beside its baseline's."""
    from mgstudy.data.workspace import Workspace  # noqa: PLC0415
    from mgstudy.report import compare as comparing  # noqa: PLC0415
    from mgstudy.report.comparison import comparison_table, parse_baseline  # noqa: PLC0415
    from mgstudy.study.summary import summarize  # noqa: PLC0415

    if sum((as_json, as_csv, as_latex, as_markdown)) > 1:
        raise InputError("give one of --json, --csv, --latex and --markdown")
    summary = summarize(Workspace.resolve(home), study)
    chosen = parse_baseline(baseline, summary) if baseline else None
    if as_markdown:
        typer.echo(comparing.to_markdown(summary, chosen))
        return
    if not (as_json or as_csv or as_latex):
        comparing.print_comparison(summary, chosen, make_console())
        return
    table = comparison_table(summary, chosen)
    if as_json:
        typer.echo(comparing.to_json(summary, table))
    elif as_csv:
        typer.echo(table.to_csv(index=False), nl=False)
    else:
        typer.echo(comparing.to_latex(summary, table), nl=False)
