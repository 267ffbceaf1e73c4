"""Commands for the language models that recommenders ask."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgstudy.cli.app import DATA, app


@app.command("convert-language-model", rich_help_panel=DATA)
def convert_language_model(
    source: Annotated[
        str,
        typer.Argument(help="A GGUF file, or package:NAME of an installed package that has one"),
    ],
    folder: Annotated[Path, typer.Argument(help="The folder to make")],
) -> None:
    """Make the folder of a language model from a GGUF file, for HistLLM's `language_model`."""
    from mgstudy import api  # noqa: PLC0415

    made = api.convert_language_model(source, folder)
    typer.echo(f"{made}: name it as `language_model` of HistLLM in a study file")
