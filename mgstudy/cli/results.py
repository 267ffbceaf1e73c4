"""Commands that show what studies have come to."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mgstudy.cli.app import INTERRUPTED, AsJson, Home, StudyName, app, make_console, print_json
from mgstudy.errors import InputError


@app.command()
def status(
    study: StudyName,
    home: Home = None,
    as_json: AsJson = False,
    watches: Annotated[
        bool, typer.Option("--watch", help="Show it again and again until the study ends")
    ] = False,
    every: Annotated[
        float, typer.Option(min=0.1, metavar="SECONDS", help="With --watch: time between two looks")
    ] = 2.0,
) -> None:
    """Show where a study stands, also while it runs."""
    from mgstudy.report.console.status import print_status, status_content  # noqa: PLC0415
    from mgstudy.study.results.summary import summarize  # noqa: PLC0415
    from mgstudy.workspace import Workspace  # noqa: PLC0415

    if watches and as_json:
        raise InputError("give one of --watch and --json")
    workspace = Workspace.resolve(home)
    if watches:
        from mgstudy.report.console.watch import watch  # noqa: PLC0415

        try:
            watch(lambda: summarize(workspace, study), make_console(), every)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        return
    summary = summarize(workspace, study)
    if as_json:
        print_json(status_content(summary))
    else:
        print_status(summary, make_console())


@app.command()
def compare(
    studies: Annotated[list[str], typer.Argument(help="Names of launched studies")],
    baseline: Annotated[
        str | None,
        typer.Option(metavar="FACTOR=LEVEL", help="What to compare with [default: gradient=plain]"),
    ] = None,
    metrics: Annotated[
        list[str],
        typer.Option(
            "--metric", help="What to compare, may be repeated [default: the objective and NDCG]"
        ),
    ] = [],  # noqa: B006
    against: Annotated[
        Literal["published"] | None,
        typer.Option(help="Set published figures beside these, where there are any"),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV")] = False,
    as_latex: Annotated[bool, typer.Option("--latex", help="Print a LaTeX table")] = False,
    as_markdown: Annotated[bool, typer.Option("--markdown", help="Print Markdown")] = False,
) -> None:
    """Compare cells with their baselines: test scores over seeds, tests, verdicts, costs.

    A cell's baseline is the cell that differs from it in the baseline's levels only. JSON and CSV
    hold every metric, unless --metric asks for some.
    """
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.comparison import formats  # noqa: PLC0415
    from mgstudy.report.comparison.baselines import parse_baseline  # noqa: PLC0415
    from mgstudy.report.comparison.published import against_published  # noqa: PLC0415
    from mgstudy.report.comparison.studies import compare_studies  # noqa: PLC0415

    if sum((as_json, as_csv, as_latex, as_markdown)) > 1:
        raise InputError("give one of --json, --csv, --latex and --markdown")
    summaries = [api.load_study(name, home).summary for name in dict.fromkeys(studies)]
    chosen = parse_baseline(baseline, summaries) if baseline else None
    everything = as_json or as_csv or against is not None
    shown = metrics or (None if everything else formats.default_metrics(summaries))
    comparison = compare_studies(summaries, chosen, shown)
    found = None if against is None else against_published(comparison)
    if as_json:
        typer.echo(formats.to_json(comparison, found))
    elif as_csv:
        typer.echo(formats.to_csv(comparison, found), nl=False)
    elif as_latex:
        typer.echo(formats.to_latex(comparison, metrics, found), nl=False)
    elif as_markdown:
        typer.echo(formats.to_markdown(comparison, metrics, found))
    else:
        formats.print_comparison(comparison, make_console(), metrics, found)
