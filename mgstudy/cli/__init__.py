"""The command line: parse, call one function, print. One file per group of commands."""

from __future__ import annotations

import importlib
import pkgutil
import sys

import typer

from mgstudy.cli.app import app
from mgstudy.errors import MgstudyError
from mgstudy.urls import redacted

__all__ = ["app", "main"]


def main() -> None:
    """Run the command line; the exit code is 0, 2 for wrong input, 1 for a failure of the
    environment, 130 after an interruption."""
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)
    try:
        app()
    except MgstudyError as error:
        for line in redacted(str(error)).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(error.exit_code)
