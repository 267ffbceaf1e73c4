"""The command that leads from nothing to a first table."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import typer

from mgstudy.cli.app import STUDIES, Home, app
from mgstudy.cli.datasets import prepare
from mgstudy.cli.studies import launch

PIPELINE, STUDY = Path("pipelines/synthetic.yaml"), Path("search_spaces/quickstart.yaml")
WHAT_NEXT = f"""
What next:
  mgstudy ui                                    look inside every trial, in MLflow
  mgstudy status quickstart                     where the study stands
  mgstudy plan {STUDY}    what it is made of; edit the file to ask your own question"""


@app.command(rich_help_panel=STUDIES)
def quickstart(home: Home = None) -> None:
    """Run a small study on synthetic data, from nothing to its table; a few minutes on two cores.

    Its two files are written to pipelines/ and search_spaces/ in the current folder, unless they
    are there already.
    """
    from mgstudy.files import said_of_writing, written_whole  # noqa: PLC0415

    for file in (PIPELINE, STUDY):
        if not file.exists():
            with said_of_writing(file):
                file.parent.mkdir(exist_ok=True)
            with written_whole(file) as written:
                written.write(shipped(file))
    prepare(PIPELINE, [], home)
    launch(STUDY, [], home)
    typer.echo(WHAT_NEXT)


def shipped(file: Path) -> bytes:
    """A file as it comes with the package: beside its modules where it was installed from a wheel,
    else in the repository."""
    package = resources.files("mgstudy")
    installed = package / "quickstart" / file.name
    return (installed if installed.is_file() else package / ".." / str(file)).read_bytes()
