"""Commands that handle studies as things: carry, list, rename and delete them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.filesize import decimal

from mgstudy.cli.app import Home, StudyName, app, typed


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
