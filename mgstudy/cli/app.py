"""The application that commands register with, and what they share: options and output."""

from __future__ import annotations

import json
import os
import shlex
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

app = typer.Typer(
    name="mgstudy",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
INTERRUPTED = 130
_WIDTH_WITHOUT_TERMINAL = 10_000

Home = Annotated[
    str | None,
    typer.Option(
        help="Folder or URL (s3://...) of the workspace's state "
        "[default: $MGSTUDY_HOME, else this folder]",
        show_default=False,
    ),
]
Overrides = Annotated[
    list[str],
    typer.Option(
        "--set", metavar="A.B=VALUE", help="Override a field of the file; may be repeated"
    ),
]
StudyFile = Annotated[Path, typer.Argument(help="Study file, for example search_spaces/x.yaml")]
StudyName = Annotated[str, typer.Argument(help="Name of a launched study")]
RetryFailed = Annotated[
    bool,
    typer.Option("--retry-failed", help="Run failed trials again, once their cause is repaired"),
]
Within = Annotated[
    str | None,
    typer.Option(
        "--for",
        metavar="TIME",
        help="Begin no trial that would not end within this time, such as 90m or 1h30m; what runs "
        "then leaves its state",
        show_default=False,
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON")]


def make_console() -> Console:
    """Where tables are printed."""
    # Square brackets in questions and spaces are meant, and no markup.
    console = Console(markup=False)
    if console.is_terminal or os.environ.get("COLUMNS"):
        return console
    # In a file or a pipe a row is a line, unless someone says how long one may be.
    return Console(markup=False, width=_WIDTH_WITHOUT_TERMINAL)


def print_json(content: Any) -> None:
    """Print as JSON."""
    typer.echo(json.dumps(content, indent=2))


def typed(*words: str, **options: str | None) -> str:
    """A command as it can be typed, in backquotes; an option without a value is left out."""
    given = [word for name, value in options.items() if value for word in (f"--{name}", value)]
    return f"`{shlex.join(['mgstudy', *words, *given])}`"


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"mgstudy {version('mgstudy')}")
        raise typer.Exit


@app.callback()
def options(
    _version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and exit"
        ),
    ] = False,
) -> None:
    """Hyperparameter studies of Mirror Gradient and robust training for recommenders."""
