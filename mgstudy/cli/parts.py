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
    from mgstudy.data.pipeline import pipeline_schema  # noqa: PLC0415
    from mgstudy.study.definition.schema import study_schema  # noqa: PLC0415

    print_json(study_schema() if kind == "study" else pipeline_schema())


@app.command()
def models(
    name: Annotated[str | None, typer.Argument(help="Explain this one")] = None,
    as_json: AsJson = False,
) -> None:
    """List the recommender models, or explain one: paper, modalities, parameters."""
    from mgstudy.models.base import models as installed  # noqa: PLC0415
    from mgstudy.report.console import catalogue as parts  # noqa: PLC0415

    if as_json:
        print_json(parts.model_content(installed.get(name)) if name else parts.models_content())
    elif name:
        parts.print_model(name, make_console())
    else:
        parts.print_models(make_console())
