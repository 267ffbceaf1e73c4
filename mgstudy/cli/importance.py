"""The command that says which parameters mattered."""

from __future__ import annotations

from mgstudy.cli.app import RESULTS, AsJson, Home, StudyName, app, make_console, print_json


@app.command(rich_help_panel=RESULTS)
def importance(study: StudyName, home: Home = None, as_json: AsJson = False) -> None:
    """Show which searched parameters the scores of a study's cells depended on (fANOVA)."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.importance import FEWEST_TRIALS_FOR_IMPORTANCE  # noqa: PLC0415
    from mgstudy.report.page.tables import importances  # noqa: PLC0415

    results = api.load_study(study, home)
    if as_json:
        print_json(results.importance().to_dict("records"))
        return
    table = importances(results.summary)
    make_console().print(
        f"no cell has {FEWEST_TRIALS_FOR_IMPORTANCE} completed trials with different scores"
        if table is None
        else table
    )
