"""Commands that describe what study files can name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from mgstudy.cli import completion
from mgstudy.cli.app import STUDIES, AsJson, app, make_console, print_json
from mgstudy.registry import look_in


@app.command(rich_help_panel=STUDIES)
def schema(
    kind: Annotated[Literal["study", "pipeline"], typer.Argument(help="Which file's schema")],
) -> None:
    """Print the JSON Schema of study or pipeline files, for editors."""
    from mgstudy import api  # noqa: PLC0415

    print_json(api.file_schema(kind))


@app.command(rich_help_panel=STUDIES)
def models(
    name: Annotated[
        str | None, typer.Argument(help="Explain this one", autocompletion=completion.parts)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List the recommender models, or explain one; the same as `mgstudy parts model`."""
    parts("model", name, as_json)


@app.command(rich_help_panel=STUDIES)
def parts(
    kind: Annotated[
        str | None,
        typer.Argument(help="Only parts of this kind", autocompletion=completion.kinds),
    ] = None,
    name: Annotated[
        str | None, typer.Argument(help="Explain this one", autocompletion=completion.parts)
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List everything that study and pipeline files can name, or explain one: what it computes, its
    paper, its parameters and what it acts on."""
    from mgstudy.report.console import parts as catalogue  # noqa: PLC0415

    look_in([Path.cwd()])
    if kind is None or name is None:
        if as_json:
            print_json(catalogue.parts_content(kind))
        else:
            catalogue.print_parts(kind, make_console())
    elif as_json:
        print_json(catalogue.part_content(kind, name))
    else:
        catalogue.print_part(kind, name, make_console())
