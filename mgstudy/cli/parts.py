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


@app.command()
def parts(
    kind: Annotated[str | None, typer.Argument(help="Only parts of this kind")] = None,
    name: Annotated[str | None, typer.Argument(help="Explain this one")] = None,
    as_json: AsJson = False,
) -> None:
    """List everything that study and pipeline files can name, or explain one: what it computes, its
    paper and its parameters."""
    from mgstudy.report.console import parts as catalogue  # noqa: PLC0415

    if kind is None or name is None:
        if as_json:
            print_json(catalogue.parts_content(kind))
        else:
            catalogue.print_parts(kind, make_console())
    elif as_json:
        print_json(catalogue.part_content(kind, name))
    else:
        catalogue.print_part(kind, name, make_console())
