"""Commands that show what studies have come to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mgstudy.cli import completion
from mgstudy.cli.app import (
    INTERRUPTED,
    RESULTS,
    AsJson,
    Home,
    StudyName,
    app,
    make_console,
    print_json,
)
from mgstudy.cli.upkeep import list_studies
from mgstudy.errors import InputError

if TYPE_CHECKING:
    from mgstudy.report.comparison.paper import PaperStyle


@app.command(rich_help_panel=RESULTS)
def status(
    study: Annotated[
        str | None,
        typer.Argument(
            help="Name of a launched study [default: list them]", autocompletion=completion.studies
        ),
    ] = None,
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
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.status import print_status, status_content  # noqa: PLC0415

    if watches and as_json:
        raise InputError("give one of --watch and --json")
    if study is None:
        if watches:
            raise InputError("--watch needs the name of a study; `mgstudy ls` lists them")
        list_studies(home, as_json)
        return
    if watches:
        from mgstudy.report.console.study_progress import watch  # noqa: PLC0415

        try:
            watch(lambda: api.read_summary(study, home), make_console(), every)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        return
    summary = api.read_summary(study, home)
    if as_json:
        print_json(status_content(summary))
    else:
        print_status(summary, make_console())


@app.command(rich_help_panel=RESULTS)
def compare(
    studies: Annotated[
        list[str],
        typer.Argument(help="Names of launched studies", autocompletion=completion.studies),
    ],
    baseline: Annotated[
        list[str],
        typer.Option(
            metavar="FACTOR=LEVEL",
            help="What to compare with [default: the study's questions, or gradient=plain]",
            autocompletion=completion.levels,
        ),
    ] = [],  # noqa: B006
    metrics: Annotated[
        list[str],
        typer.Option(
            "--metric",
            help="What to compare, may be repeated [default: the objective and NDCG]",
            autocompletion=completion.metrics,
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
    ablation: Annotated[
        bool,
        typer.Option(
            "--ablation",
            help="Compare the method that all others are parts of with these, named by what they "
            "lack (w/o ...); --baseline names it where there is none",
        ),
    ] = False,
    digits: Annotated[
        int | None,
        typer.Option(min=0, max=10, help="With --latex or --ablation: decimals of scores"),
    ] = None,
    in_percent: Annotated[
        bool, typer.Option("--percent", help="With --latex or --ablation: scores in per cent")
    ] = False,
    by_dataset: Annotated[
        bool,
        typer.Option("--by-dataset", help="With --latex: each dataset has columns of its own"),
    ] = False,
) -> None:
    """Compare cells with their baselines: test scores over seeds, tests, verdicts, costs.

    A cell's baseline is the cell that differs from it in the baseline's levels only. A study that
    asks several questions has a table for each, but in JSON and CSV, which answer the first. These
    hold every metric, unless --metric asks for some.
    """
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.comparison import formats, paper  # noqa: PLC0415
    from mgstudy.report.comparison.published import against_published  # noqa: PLC0415

    if sum((as_json, as_csv, as_latex, as_markdown)) > 1:
        raise InputError("give one of --json, --csv, --latex and --markdown")
    if len(baseline) > 1:
        raise InputError(
            "give --baseline once: a table has one, whose levels are separated by commas "
            "(--baseline gradient=plain,robust=none); another table has another"
        )
    style = paper.PaperStyle(digits, in_percent, by_dataset, ablation)
    _refuse_style(style, as_latex, as_json or as_csv)
    everything = as_json or as_csv or against is not None
    comparison = api.compare(
        studies, "".join(baseline) or None, metrics, everything, home, ablation=ablation
    )
    found = None if against is None else against_published(comparison)
    if as_json:
        typer.echo(formats.to_json(comparison, found))
        return
    if as_csv:
        typer.echo(formats.to_csv(comparison, found), nl=False)
        return
    others = [] if baseline or ablation else comparison.further_questions()
    if as_latex:
        further = (paper.to_latex(of, metrics, style=style) for of in others)
        written = "\n".join([paper.to_latex(comparison, metrics, found, style), *further])
        typer.echo(written, nl=False)
    elif ablation:
        table = paper.paper_table(comparison, metrics, style)
        if as_markdown:
            typer.echo(f"{table.markdown()}\n\n{table.caption}")
        else:
            make_console().print(table)
    elif as_markdown:
        further = (formats.to_markdown(of, metrics) for of in others)
        typer.echo("\n\n".join([formats.to_markdown(comparison, metrics, found), *further]))
    else:
        console = make_console()
        formats.print_comparison(comparison, console, metrics, found)
        for of in others:
            console.print()
            formats.print_comparison(of, console, metrics)


def _refuse_style(style: PaperStyle, as_latex: bool, as_data: bool) -> None:
    """Refuse what looks are asked of a format that has none."""
    if style.ablation and as_data:
        raise InputError("--ablation is a table; JSON and CSV name cells by their levels")
    if style.by_dataset and not as_latex:
        raise InputError("--by-dataset is for --latex")
    if (style.percent or style.digits is not None) and not (as_latex or style.ablation):
        raise InputError("--digits and --percent are for --latex and --ablation")


@app.command(rich_help_panel=RESULTS)
def report(
    study: StudyName,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it [default: STUDY.html in this folder]"),
    ] = None,
    baselines: Annotated[
        list[str],
        typer.Option(
            "--baseline",
            metavar="FACTOR=LEVEL",
            help="What to compare with; each one that is given has a section "
            "[default: the study's questions, or gradient=plain]",
            autocompletion=completion.levels,
        ),
    ] = [],  # noqa: B006
    home: Home = None,
) -> None:
    """Write a study as one HTML page that can be read offline, and keep it in MLflow."""
    from mgstudy import api  # noqa: PLC0415

    path = output or Path(f"{study}.html")
    is_kept = api.write_report(study, path, home, baselines)
    megabytes = path.stat().st_size / 1e6
    kept = ", and kept in the study's MLflow run" if is_kept else ""
    typer.echo(f"wrote {path} ({megabytes:.1f} MB){kept}")


@app.command(rich_help_panel=RESULTS)
def robustness(
    study: StudyName,
    cells: Annotated[
        list[str] | None,
        typer.Option(
            help="Only cells whose key has this in it; may be repeated",
            autocompletion=completion.cells,
        ),
    ] = None,
    risks: Annotated[
        list[str] | None,
        typer.Option(
            help="Only this risk, or `flatness`; may be repeated", autocompletion=completion.risks
        ),
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
    from mgstudy.report.robustness import formats  # noqa: PLC0415

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


@app.command(rich_help_panel=RESULTS)
def ui(
    study: Annotated[
        str | None,
        typer.Argument(
            help="Study to give addresses for [default: every one]",
            autocompletion=completion.studies,
        ),
    ] = None,
    home: Home = None,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="Port [default: the first free one from 5000 on]"),
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    optuna: Annotated[
        bool,
        typer.Option("--optuna", help="Open Optuna's dashboard on its storage too"),
    ] = False,
    optuna_port: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=65535,
            help="Port of Optuna's dashboard [default: the first free one from 8080 on]",
        ),
    ] = None,
    opens: Annotated[
        bool, typer.Option("--open", help="Open the first page in a browser once it is there")
    ] = False,
) -> None:
    """Serve MLflow's UI on the workspace's store, and say where each study's pages are, the newest
    study's first."""
    from mgstudy import api  # noqa: PLC0415

    try:
        api.serve_pages(study, home, host, port, optuna, optuna_port, typer.echo, opens)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
