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
    from mgstudy.tracking import servers  # noqa: PLC0415
    from mgstudy.tracking.store import tracking_uri  # noqa: PLC0415
    from mgstudy.urls import redacted  # noqa: PLC0415
    from mgstudy.workspace import Workspace  # noqa: PLC0415

    workspace = Workspace.resolve(home)
    uri = tracking_uri(workspace)
    storage = servers.dashboard_storage(workspace, study) if optuna else None
    is_remote = uri.startswith(("http:", "https:"))
    address = redacted(uri).rstrip("/") if is_remote else f"http://{host}:{port}"
    if is_remote:
        typer.echo(f"MLflow's UI is where its server is: {address}")
    else:
        typer.echo(f"MLflow's UI on {redacted(uri)}: {address} (Ctrl-C ends it)")
    for page in servers.known_pages(workspace, study, address):
        typer.echo(f"  {page.title}\n    {page.address}")
    if storage is not None:
        typer.echo(f"Optuna's dashboard on {redacted(storage)}: http://{host}:{optuna_port}")
    try:
        if storage is None and not is_remote:
            servers.become_mlflow(uri, host, port)
        elif storage is not None:
            servers.serve_dashboard(
                storage, host, optuna_port, beside=None if is_remote else (uri, port)
            )
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
