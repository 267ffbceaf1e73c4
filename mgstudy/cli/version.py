"""The option that prints the version."""

from __future__ import annotations

from importlib.metadata import version
from typing import Annotated

import typer

from mgstudy.cli.app import app


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mgstudy {version('mgstudy')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit"
        ),
    ] = False,
) -> None:
    """Hyperparameter studies of Mirror Gradient and robust training for recommenders."""
