"""Commands that bring back what an interruption or an absent server left undone."""

from __future__ import annotations

from typing import Annotated

import typer

from mgstudy.cli.app import Home, StudyName, app, make_console


@app.command()
def sync(
    study: StudyName,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Restore what was deleted there too")
    ] = False,
    home: Home = None,
) -> None:
    """Bring MLflow what it lacks of a study, after its server was away or lost what it had.

    The models of a finished study are registered too.
    """
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.progress import progress_bar  # noqa: PLC0415

    console = make_console()
    with progress_bar(console) as progress:
        synced = api.sync(study, home, rebuild, progress)
    console.print(f"{synced.delivered} records delivered to MLflow", highlight=False)
    if synced.models:
        console.print(f"models registered there: {len(synced.models)}", highlight=False)
    if synced.problem:
        console.print(synced.problem, style="yellow", markup=False, soft_wrap=True)
