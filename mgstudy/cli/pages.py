"""Commands that open pages in a browser."""

from __future__ import annotations

from typing import Annotated

import typer

from mgstudy.cli.app import INTERRUPTED, Home, app


@app.command()
def ui(
    study: Annotated[
        str | None, typer.Argument(help="Study to give addresses for [default: every one]")
    ] = None,
    home: Home = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
    optuna: Annotated[
        bool,
        typer.Option("--optuna", help="Open Optuna's dashboard on its storage too"),
    ] = False,
    optuna_port: Annotated[
        int, typer.Option(min=1, max=65535, help="Port of Optuna's dashboard")
    ] = 8080,
) -> None:
    """Open MLflow's UI on the workspace's store, and say where each study's pages are."""
    from mgstudy import api  # noqa: PLC0415

    try:
        api.serve_pages(study, home, host, port, optuna_port if optuna else None, typer.echo)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
