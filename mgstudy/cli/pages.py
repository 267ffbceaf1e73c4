"""Commands that open pages in a browser."""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from mgstudy.cli.app import Home, app


@app.command()
def ui(
    home: Home = None,
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port")] = 5000,
    host: Annotated[str, typer.Option(help="Address to listen on")] = "127.0.0.1",
) -> None:
    """Open MLflow's UI on the workspace's store."""
    from mgstudy.data.workspace import Workspace  # noqa: PLC0415
    from mgstudy.study.storage import shown_url  # noqa: PLC0415
    from mgstudy.tracking.store import tracking_uri  # noqa: PLC0415

    uri = tracking_uri(Workspace.resolve(home))
    if uri.startswith(("http:", "https:")):
        typer.echo(f"MLflow's UI is where its server is: {shown_url(uri)}")
        return
    typer.echo(f"MLflow's UI on {shown_url(uri)}: http://{host}:{port} (Ctrl-C ends it)")
    arguments = ["mlflow", "ui", "--host", host, "--port", str(port)]
    # Everyone on the machine can read a command's arguments; the URI may hold a password.
    environment = {**os.environ, "MLFLOW_BACKEND_STORE_URI": uri}
    os.execve(sys.executable, [sys.executable, "-m", *arguments], environment)
