"""The application that commands register with, and what they share: options and output."""

from __future__ import annotations

import json
import os
import shlex
from importlib.metadata import metadata, version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from mgstudy.cli import completion
from mgstudy.urls import redacted

DATA, STUDIES, RESULTS, CLUSTER, UPKEEP = PURPOSES = (
    "Make and describe data",
    "Plan and run studies",
    "Read results",
    "Run on a cluster",
    "Look after studies and files",
)
"""What one does with a command, named by its ``rich_help_panel``; the last if it names none."""


class _Commands(TyperGroup):
    """Lists commands by what one does with them, each with its first sentence, whole; and says it
    where Ctrl-C ends one that has nothing else to say."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise said_interrupted() from None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for purpose in PURPOSES:
            listed = [
                (name, _first_sentence(command.help))
                for name, command in self.commands.items()
                if (getattr(command, "rich_help_panel", None) or UPKEEP) == purpose
            ]
            with formatter.section(purpose):
                formatter.write_dl(listed)


def _first_sentence(text: str | None) -> str:
    sentence, _, _ = " ".join((text or "").partition("\n\n")[0].split()).partition(". ")
    return f"{sentence.removesuffix('.')}."


def _epilog() -> str:
    """How to read on: in the documentation too, on the net where the package names an address."""
    urls = (entry.partition(", ") for entry in metadata("mgstudy").get_all("Project-URL") or ())
    found = [url for label, _, url in urls if label == "Documentation"]
    rest = found[0] if found else "docs/ in the source distribution"
    return f"`mgstudy COMMAND --help` explains one; {rest} explains the rest."


app = typer.Typer(
    name="mgstudy",
    cls=_Commands,
    epilog=_epilog(),
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
StudyName = Annotated[
    str, typer.Argument(help="Name of a launched study", autocompletion=completion.studies)
]
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


def said_interrupted() -> typer.Exit:
    """Say that Ctrl-C has ended a command; what to raise then."""
    typer.echo("interrupted", err=True)
    return typer.Exit(INTERRUPTED)


def print_json(content: Any) -> None:
    """Print as JSON."""
    typer.echo(json.dumps(content, indent=2))


def typed(*words: str, **options: str | None) -> str:
    """A command as it can be typed, but for secrets, in backquotes; an option without a value is
    left out."""
    given = [word for name, value in options.items() if value for word in (f"--{name}", value)]
    return f"`{shlex.join(['mgstudy', *map(redacted, (*words, *given))])}`"


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
