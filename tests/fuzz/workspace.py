"""A workspace with a dataset and a study that has run, and what may become of its files."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
import sys
import tarfile
import tempfile
from collections.abc import Callable
from contextlib import closing
from hashlib import sha256
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from values import something_else, value

COMMANDS = [
    ["status", "s"], ["status", "s", "--json"], ["compare", "s"], ["compare", "s", "--json"],
    ["report", "s"], ["plan", "s.yaml"], ["data", "describe", "tiny"], ["cache", "ls"],
    ["cache", "show", "image"], ["cache", "verify"], ["cache", "gc"], ["cache", "gc", "--dry-run"],
    ["sync", "s"], ["resume", "s"], ["robustness", "s"], ["prepare", "p.yaml"], ["ui", "s"],
    ["ls"], ["show", "s"], ["trial", "s", "a/BPR/plain/none/adam/999/0"], ["fork", "s", "t"],
    ["export", "s"], ["delete", "s", "--yes"], ["rename", "s", "t"],
    ["import", "home/s.tar.xz", "--as", "t"],
]  # fmt: skip
READ_BY: dict[str, list[str]] = {
    "manifest.json": ["plan", "data", "cache", "prepare"],
    "study.json": ["status", "compare", "report", "resume", "sync", "robustness", "cache", "ls",
                   "show", "trial", "fork", "export", "delete", "rename"],
    "popularity.json": ["status", "compare", "report", "resume", "export"],
    "optuna.db": ["status", "compare", "report", "resume", "sync", "robustness", "ls", "show",
                  "trial", "fork", "export", "delete", "rename"],
    "metrics.jsonl": ["report", "resume", "sync", "status", "fork", "export", "trial"],
    "mlflow.db": ["sync", "delete", "rename", "show"],
    ".tar.xz": ["import"],
    ".parquet": ["plan", "data", "cache", "prepare"],
    ".json": ["plan", "data", "cache", "prepare"],
}  # fmt: skip
"""Which commands look into a file, by the end of its name."""
_SYNTHETIC = {"kind": "synthetic", "users": 60, "items": 40, "interactions_per_user": 6,
              "modalities": {"image": {"width": 3}}}  # fmt: skip
PIPELINE = json.dumps({"name": "tiny", "source": _SYNTHETIC})


def make_workspace(home: Path) -> None:
    """Prepare a dataset, drive a study on it to its end, and record it in MLflow."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
    from driven import Driven

    from mgstudy import api
    from mgstudy.data.loading import load_dataset
    from mgstudy.environment import describe_environment
    from mgstudy.study.definition.manifest import Environment
    from mgstudy.study.results.popularity import ensure_popularity
    from mgstudy.workspace import Workspace

    home.mkdir(parents=True)
    (home / "p.yaml").write_text(PIPELINE)
    api.prepare(home / "p.yaml", (), home)
    api.prepare(home / "p.yaml", ("name=a",), home)  # The study's, which has the same tables.
    dataset = load_dataset(Workspace(home), "a")
    driven = Driven(home, "s", trials=2, seeds=2, dataset=dataset)
    while (trial := driven.record.next_request()) is not None:
        driven.record.start(trial)
        driven.complete(trial, epochs=2)
    driven.project()
    ensure_popularity(driven.folder, {"a": dataset}, driven.config.training)
    facts = {"environment": Environment(**describe_environment())}
    driven.manifest.model_copy(update=facts).write(driven.folder)
    api.export_study("s", home / "s.tar.xz", home=home)


def copied(template: Path, home: Path, command: str) -> None:
    """Copy the workspace for a command; what it says of where it lies is true of the copy."""
    if command in ("plan", "prepare"):  # MLflow's part, which takes longer than these commands.
        shutil.copytree(
            template, home, ignore=shutil.ignore_patterns("mlflow.db", "mlruns", "*.xz")
        )
        return
    shutil.copytree(template, home)
    with closing(sqlite3.connect(home / "mlflow.db")) as database:
        for table, column in (("experiments", "artifact_location"), ("runs", "artifact_uri")):
            change = f"update {table} set {column} = replace({column}, ?, ?)"
            database.execute(change, (str(template), str(home)))
        database.commit()


def damaged_workspace(
    number: int, draw: random.Random, damage: Callable[[Path, random.Random], None]
) -> tuple[list[str], Callable[[Path], None], str]:
    """A command, what lays out the workspace that it finds, and which file is damaged."""
    ending = list(READ_BY)[number % len(READ_BY)]
    words = draw.choice([words for words in COMMANDS if words[0] in READ_BY[ending]])

    def lay_out(folder: Path) -> None:
        home = folder / "home"
        files = sorted(
            path for path in home.rglob("*") if path.name.endswith(ending) and path.is_file()
        )
        path = draw.choice(files)
        if path.suffix == ".db" and draw.random() < 0.7:
            _damage_database(path, draw)
        elif path.suffix == ".xz" and draw.random() < 0.7:
            _damage_member(path, draw, damage)
        elif path.suffix == ".parquet" and path.stat().st_size and draw.random() < 0.7:
            _forge_table(path, draw)
        elif draw.random() < 0.1:
            something_else(draw.choice([path.parent, path.parent.parent]), draw)
        else:
            damage(path, draw)

    return words, lay_out, f"*{ending}"


def _damage_member(
    path: Path, draw: random.Random, damage: Callable[[Path, random.Random], None]
) -> None:
    with tempfile.TemporaryDirectory() as unpacked:
        with tarfile.open(path) as archive:
            # As the filter's argument it is not known to Python before 3.11.4.
            archive.extraction_filter = getattr(tarfile, "data_filter", None)
            archive.extractall(unpacked)
        members = sorted(member for member in Path(unpacked).rglob("*") if member.is_file())
        damage(draw.choice(members), draw)
        with tarfile.open(path, "w:xz", preset=0) as archive:
            for member in sorted(Path(unpacked).iterdir()):
                if not member.is_fifo() and not member.is_symlink():
                    archive.add(member, member.name)


def _forge_table(path: Path, draw: random.Random) -> None:
    """Another table in the place of one, with a record that says that this is what was written."""
    table = pq.read_table(path)
    position = draw.randrange(table.num_columns)
    name, column = table.column_names[position], table.column(position)
    change = draw.randrange(6)
    if change == 0:
        table = table.remove_column(position)
    elif change == 1:
        table = table.append_column(name, column)
    elif change == 2:
        table = table.slice(draw.randrange(len(table) + 1), draw.choice([0, 1, len(table)]))
    elif change == 3:
        facts = dict(table.schema.metadata)
        facts[draw.choice(sorted(facts))] = json.dumps(value(draw)).encode()
        table = table.replace_schema_metadata(draw.choice([facts, None]))
    else:
        others = [0, 1, -1, 99, 2**62, 0.5, float("nan"), 1e300, "x", "", b"x", None, True, [], [0]]
        new = pa.array([draw.choice(others)] * len(table))
        if change == 5 and pa.types.is_integer(column.type):
            new = pa.array([draw.choice(others[:5])] * len(table))
        table = table.set_column(position, name, new)
    pq.write_table(table, path)
    record = path.with_suffix(".json")
    content = {"size": path.stat().st_size, "sha256": sha256(path.read_bytes()).hexdigest()}
    record.write_text(json.dumps({**json.loads(record.read_text()), **content}))


def _damage_database(path: Path, draw: random.Random) -> None:
    with closing(sqlite3.connect(path)) as database:
        tables = [name for (name,) in database.execute(
            "select name from sqlite_master where type = 'table'")]  # fmt: skip
        table = draw.choice([name for name in tables if not name.startswith("sqlite_")])
        columns = [row[1] for row in database.execute(f"pragma table_info({table})")]
        new: Any = value(draw)
        if not isinstance(new, int | float | str | None) or (
            isinstance(new, int) and abs(new) > 2**62
        ):
            new = json.dumps(new)
        new = new.encode(errors="replace").decode() if isinstance(new, str) else new
        database.execute("pragma foreign_keys = off")
        change = draw.randrange(4)
        if change == 0:
            database.execute(f"delete from {table}")
        elif change == 1:
            database.execute(f"drop table {table}")
        else:
            column = draw.choice(columns)
            try:
                database.execute(f"update {table} set {column} = ?", (new,))
            except sqlite3.IntegrityError:
                database.execute(f"delete from {table}")
        database.commit()
