"""Commands that make datasets and say what they are like."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mgstudy.cli import completion
from mgstudy.cli.app import DATA, AsJson, Home, Overrides, app, print_json

data = typer.Typer(help="Describe prepared datasets.", no_args_is_help=True)
app.add_typer(data, name="data", rich_help_panel=DATA)


@app.command(rich_help_panel=DATA)
def prepare(
    file: Annotated[Path, typer.Argument(help="Pipeline file, for example pipelines/x.yaml")],
    overrides: Overrides = [],  # noqa: B006
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Make a dataset from raw files: interactions and features, cached as Parquet."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.dataset_description import prepared_text  # noqa: PLC0415
    from mgstudy.report.console.progress import progress_bar  # noqa: PLC0415

    with progress_bar(Console(stderr=True)) as show:
        manifest = api.prepare(file, overrides, home, show)
    typer.echo(manifest.model_dump_json(indent=2) if as_json else prepared_text(manifest))


@data.command()
def describe(
    name: Annotated[
        str | None,
        typer.Argument(
            help="Name of a prepared dataset [default: list them]",
            autocompletion=completion.datasets,
        ),
    ] = None,
    home: Home = None,
    as_json: AsJson = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with histograms to this file")
    ] = None,
) -> None:
    """Describe a dataset: size, degrees, cold items, modalities, steps, and leakage checks."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.files import locked, written_whole  # noqa: PLC0415
    from mgstudy.report.console.dataset_description import (  # noqa: PLC0415
        description_page,
        description_text,
    )

    if name is None:
        names = api.list_datasets(home)
        if as_json:
            print_json(names)
        else:
            typer.echo("\n".join(names) or "no datasets; `mgstudy prepare FILE` makes one")
        return
    described = api.describe_dataset(name, home)
    if html is not None:
        with locked(html), written_whole(html) as file:
            file.write(description_page(described).encode())
        typer.echo(f"{html}: written", err=True)
    if as_json:
        typer.echo(described.model_dump_json(indent=2))
    elif html is None:
        typer.echo(description_text(described))
