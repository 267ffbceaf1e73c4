"""Commands that make datasets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mgstudy.cli.app import AsJson, Home, Overrides, app


@app.command()
def prepare(
    file: Annotated[Path, typer.Argument(help="Pipeline file, for example pipelines/x.yaml")],
    overrides: Overrides = [],  # noqa: B006
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a dataset from raw files: interactions and features, cached as Parquet."""
    from mgstudy.data.prepare import prepare_file  # noqa: PLC0415
    from mgstudy.report.console.dataset_text import dataset_text  # noqa: PLC0415
    from mgstudy.report.console.progress import progress_bar  # noqa: PLC0415
    from mgstudy.workspace import Workspace  # noqa: PLC0415

    with progress_bar(Console(stderr=True)) as show:
        manifest = prepare_file(file, overrides, Workspace.resolve(home), show)
    typer.echo(manifest.model_dump_json(indent=2) if as_json else dataset_text(manifest))
