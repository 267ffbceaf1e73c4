"""The command that writes what a trained model recommends."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from mgstudy.cli import completion
from mgstudy.cli.app import RESULTS, Home, StudyName, app


@app.command(rich_help_panel=RESULTS)
def recommend(
    study: StudyName,
    cell: Annotated[
        str,
        typer.Argument(
            help="Key of a cell, or a part that no other has, such as VBPR/plain",
            autocompletion=completion.cells,
        ),
    ],
    users: Annotated[
        str,
        typer.Option(
            metavar="FILE|all", help="File with a user on each line, as the raw data calls them"
        ),
    ] = "all",
    k: Annotated[int, typer.Option("--k", min=1, help="Items for each user")] = 20,
    output: Annotated[
        Path, typer.Option(metavar="FILE", help="Parquet file to write; CSV if it ends in .csv")
    ] = Path("lists.parquet"),
    home: Home = None,
) -> None:
    """Write what a cell's trained model recommends: user, rank, item and score, in raw ids.

    It is that of the best confirmed replicate, else of the best trial. Items that a user was
    trained on are left out.
    """
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.files import locked, written_whole  # noqa: PLC0415

    asked = None if users == "all" else api.read_users(users)
    lists = api.recommend(study, cell, asked, k, home)
    with locked(output), written_whole(output) as file:
        write = lists.to_csv if output.suffix == ".csv" else lists.to_parquet
        write(file, index=False)
    typer.echo(f"wrote {output}: {len(lists):,} rows, {lists['user'].nunique():,} users")
