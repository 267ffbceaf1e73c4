"""Commands that look after what a workspace keeps."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.filesize import decimal

from mgstudy.cli.app import AsJson, Home, app, make_console, print_json

cache = typer.Typer(
    help="List, show, verify and clean what the workspace keeps.", no_args_is_help=True
)
app.add_typer(cache, name="cache")


@cache.command("ls")
def list_entries(home: Home = None, as_json: AsJson = False) -> None:
    """List tables, derived arrays and fetched files, with what refers to them."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.table import Table  # noqa: PLC0415

    entries = api.list_cache(home)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in entries])
        return
    titles = ["key", "kind", "size", "written", "used by"]
    rows = [
        [e.key, e.kind, decimal(e.size), e.modified, ", ".join(e.used_by) or "nothing"]
        for e in entries
    ]
    make_console().print(Table(titles, rows, titles[:2], notes=("used by",)))
    total = sum(entry.size for entry in entries)
    unused = sum(entry.size for entry in entries if not entry.used_by)
    typer.echo(f"{len(entries)} entries, {decimal(total)}, of which {decimal(unused)} are unused")


@cache.command()
def show(
    key: Annotated[str, typer.Argument(help="A key that `mgstudy cache ls` lists, or its start")],
    home: Home = None,
    as_json: AsJson = False,
) -> None:
    """Show what an entry is and everything that it was made from."""
    from mgstudy import api  # noqa: PLC0415

    content = api.describe_cached(key, home)
    if as_json:
        print_json(content)
        return
    facts = content.pop("facts", {})
    for name, value in {**content, **facts}.items():
        typer.echo(f"{name}: {value if isinstance(value, str) else json.dumps(value)}")


@cache.command()
def verify(home: Home = None, as_json: AsJson = False) -> None:
    """Compare every table with its checksum; the exit code is 1 if one is damaged."""
    from mgstudy import api  # noqa: PLC0415
    from mgstudy.report.console.progress import progress_bar  # noqa: PLC0415

    with progress_bar(Console(stderr=True)) as progress:
        whole, faults = api.verify_cache(home, progress)
    if as_json:
        print_json({"whole": whole, "damaged": faults})
    else:
        typer.echo(f"{whole} tables are whole, {len(faults)} are not")
        for fault in faults:
            typer.echo(f"{fault}; it is made again when its dataset is prepared or loaded")
    if faults:
        raise typer.Exit(1)


@cache.command()
def gc(
    home: Home = None,
    dry_run: Annotated[bool, typer.Option(help="Only say what would go")] = False,
    derived: Annotated[
        bool, typer.Option(help="Remove all derived arrays too; trials make them again")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Remove what no dataset and no study refers to."""
    from mgstudy import api  # noqa: PLC0415

    removed = api.clean_cache(home, all_derived=derived, dry_run=dry_run)
    if as_json:
        print_json([entry.model_dump(mode="json") for entry in removed])
        return
    for entry in removed:
        typer.echo(f"{entry.kind} {entry.key} ({decimal(entry.size)})")
    done = "would be removed" if dry_run else "removed"
    typer.echo(f"{len(removed)} entries {done}, {decimal(sum(e.size for e in removed))}")
