"""The command that writes a study's report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgstudy.cli.app import Home, StudyName, app


@app.command()
def report(
    study: StudyName,
    output: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Where to write it [default: STUDY.html in this folder]"),
    ] = None,
    home: Home = None,
) -> None:
    """Write a study as one HTML page that can be read offline, and keep it in MLflow."""
    from mgstudy import api  # noqa: PLC0415

    path = output or Path(f"{study}.html")
    is_kept = api.write_report(study, path, home)
    megabytes = path.stat().st_size / 1e6
    kept = ", and kept in the study's MLflow run" if is_kept else ""
    typer.echo(f"wrote {path} ({megabytes:.1f} MB){kept}")
