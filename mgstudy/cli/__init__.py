"""The command line: parse, call one function, print. One file per group of commands."""

from __future__ import annotations

import atexit
import gc
import importlib
import io
import logging
import os
import pkgutil
import sys
from pathlib import Path

import typer

from mgstudy.cli.app import app, said_interrupted
from mgstudy.errors import MgstudyError
from mgstudy.files import failure_of_the_machine
from mgstudy.lazy import ON_WINDOWS
from mgstudy.urls import redacted

__all__ = ["app", "main"]

_LONGEST = 2000


def import_commands() -> None:
    """Import every file of commands, so that the application has them."""
    for module in pkgutil.iter_modules(__path__, prefix=f"{__name__}."):
        importlib.import_module(module.name)


def main() -> None:
    """Run the command line; the exit code is 0, 2 for wrong input, 1 for a failure of the
    environment, 130 after an interruption."""
    if sys.platform == "win32":
        typer.echo(f"error: {ON_WINDOWS}", err=True)
        sys.exit(MgstudyError.exit_code)
    try:
        Path.cwd()
    except OSError as error:
        typer.echo(f"error: the current folder: {error.strerror}; change to another", err=True)
        sys.exit(MgstudyError.exit_code)
    try:
        import_commands()
    except KeyboardInterrupt:
        sys.exit(said_interrupted().exit_code)
    # Else the interpreter looks for garbage among all that torch and others have made, several
    # times, for a second and a half, before it ends.
    atexit.register(gc.freeze)
    # Where it keeps its fonts is nothing to tell of a study.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    for stream in (sys.stdout, sys.stderr):
        # What a terminal's encoding lacks, or a file's name has that is no text, ends no command.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")
    try:
        app(prog_name="mgstudy")
    except MemoryError as error:
        typer.echo(f"error: there is not enough memory: {error or 'none is left'}", err=True)
        sys.exit(MgstudyError.exit_code)
    except MgstudyError as error:
        for line in redacted(str(error)).split("\n"):
            typer.echo(f"error: {_printable(line)}", err=True)
        sys.exit(error.exit_code)
    except Exception as error:
        failure = failure_of_the_machine(error)
        if failure is None:
            raise
        typer.echo(f"error: {_printable(redacted(str(failure)))}", err=True)
        _give_up_output()
        sys.exit(failure.exit_code)


def _give_up_output() -> None:
    """Have what cannot be written out, where the output's disk is full, not tried again at the
    end."""
    try:
        if isinstance(sys.stdout, io.TextIOWrapper):  # Else it was closed.
            sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _printable(line: str) -> str:
    """A line in which what came from outside is shown, whatever it holds, and not all of it where
    that is endless."""
    shown = "".join(mark if mark.isprintable() else repr(mark)[1:-1] for mark in line)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST // 2]} ... {shown[-300:]}"
