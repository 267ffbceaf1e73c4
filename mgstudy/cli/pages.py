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
    from mgstudy.tracking import ui as pages  # noqa: PLC0415
    from mgstudy.tracking.store import tracking_uri  # noqa: PLC0415
    from mgstudy.urls import redacted  # noqa: PLC0415
    from mgstudy.workspace import Workspace  # noqa: PLC0415

    workspace = Workspace.resolve(home)
    uri = tracking_uri(workspace)
    storage = pages.dashboard_storage(workspace, study) if optuna else None
    is_remote = uri.startswith(("http:", "https:"))
    if not is_remote:
        pages.refuse_taken_port(host, port, "--port")
    if storage is not None:
        pages.refuse_taken_port(host, optuna_port, "--optuna-port")
    address = redacted(uri).rstrip("/") if is_remote else f"http://{host}:{port}"
    if is_remote:
        typer.echo(f"MLflow's UI is where its server is: {address}")
    else:
        typer.echo(f"MLflow's UI on {redacted(uri)}: {address} (Ctrl-C ends it)")
    studies = workspace.names(workspace.studies) if study is None else [study]
    for title, page in pages.study_pages(workspace, studies, address).items():
        typer.echo(f"  {title}\n    {page}")
    if storage is not None:
        typer.echo(f"Optuna's dashboard on {redacted(storage)}: http://{host}:{optuna_port}")
    try:
        pages.serve(
            host,
            None if is_remote else (uri, port),
            None if storage is None else (storage, optuna_port),
        )
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
