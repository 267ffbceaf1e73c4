"""The command line: parse, call one function, print. One file per group of commands."""

from __future__ import annotations

import importlib
import io
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
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding lacks, or a file's name has that is no text, ends no command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app()
    except MemoryError as error:
        typer.echo(f"error: there is not enough memory: {error or 'none is left'}", err=True)
        sys.exit(MgstudyError.exit_code)
    except MgstudyError as error:
        for line in redacted(str(error)).splitlines():
            typer.echo(f"error: {line}", err=True)
        sys.exit(error.exit_code)
