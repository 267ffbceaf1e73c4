"""Commands that say what prepared datasets are like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgstudy.cli.app import AsJson, Home, app

data = typer.Typer(help="Describe prepared datasets.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command()
def describe(
    name: Annotated[str, typer.Argument(help="Name of a prepared dataset")],
    home: Home = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with histograms to this file")
    ] = None,
) -> None:
    """Describe a dataset: size, degrees, cold items, modalities, steps, and leakage checks."""
    from mgstudy.data.description import describe_dataset  # noqa: PLC0415
    from mgstudy.files import locked, written_whole  # noqa: PLC0415
    from mgstudy.report.console.dataset_description import (  # noqa: PLC0415
        description_page,
        description_text,
    )
    from mgstudy.workspace import Workspace  # noqa: PLC0415

    described = describe_dataset(Workspace.resolve(home), name)
    if html is not None:
        with locked(html), written_whole(html) as file:
            file.write(description_page(described).encode())
        typer.echo(f"{html}: written", err=True)
    if as_json:
        typer.echo(described.model_dump_json(indent=2))
    elif html is None:
        typer.echo(description_text(described))
