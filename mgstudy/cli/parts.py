"""Commands that describe what study files can name."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from mgstudy.cli.app import AsJson, app, make_console, print_json


@app.command()
def schema(
    kind: Annotated[Literal["study", "pipeline"], typer.Argument(help="Which file's schema")],
) -> None:
    """Print the JSON Schema of study or pipeline files, for editors."""
    from mgstudy import api  # noqa: PLC0415

    print_json(api.file_schema(kind))


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Explain this one")] = None,
    as_json: AsJson = False,
) -> None:
    """List the recommender models, or explain one: paper, modalities, parameters."""
    from mgstudy.report.console import catalogue as parts  # noqa: PLC0415

    if as_json:
        print_json(parts.model_content(name) if name else parts.models_content())
    elif name:
        parts.print_model(name, make_console())
    else:
        parts.print_models(make_console())
