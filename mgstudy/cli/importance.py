"""The command that says which parameters mattered."""

from __future__ import annotations

import json

import typer

from mgstudy.cli.app import RESULTS, AsJson, Home, StudyName, app, make_console


@app.command(rich_help_panel=RESULTS)
def importance(study: StudyName, home: Home = None, as_json: AsJson = False) -> None:
    """Show which searched parameters the scores of a study's cells depended on (fANOVA)."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.importance import FEWEST_TRIALS_FOR_IMPORTANCE  # noqa: PLC0415
    from mgstudy.report.page.tables import importances  # noqa: PLC0415

    results = api.load_study(study, home)
    if as_json:
        typer.echo(json.dumps(results.importance().to_dict("records"), indent=2))
        return
    table = importances(results.summary)
    make_console().print(
        f"no cell has {FEWEST_TRIALS_FOR_IMPORTANCE} completed trials with different scores"
        if table is None
        else table
    )
