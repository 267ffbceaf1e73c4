"""What a workspace keeps: list it, check it, and remove what nothing refers to."""

from __future__ import annotations

import json
import shutil
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict

from mgstudy.data.derived import INPUTS_FILE, remove_whole
from mgstudy.data.manifest import Manifest
from mgstudy.data.remote import Downloads, version_record
from mgstudy.data.tables import DamagedTableError, TableStore, read_facts
from mgstudy.errors import InputError, MgstudyError, suggestion
from mgstudy.files import Progress, content_of, found_in_each, listed, no_progress, sizes_below
from mgstudy.workspace import MANIFEST, Workspace

Kind = Literal["table", "derived", "download", "unfinished"]


class CacheEntry(BaseModel):
    """Something that is kept.

    Attributes:
        key: Its name.
        kind: A Parquet table; arrays derived from a dataset; a raw file that was fetched; or what a
            killed process left.
        size: Bytes, of all its files.
        modified: When it was written, ISO 8601 in UTC.
        used_by: The datasets and studies that refer to it.
        path: Where it lies.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    key: str
    kind: Kind
    size: int
    modified: str
    used_by: tuple[str, ...]
    path: Path


def list_cache(
    workspace: Workspace, others: Mapping[str, Collection[str]] | None = None
) -> list[CacheEntry]:
    """Everything that is kept, largest first.

    Args:
        workspace: Where.
        others: What else refers to tables, such as a study, to their keys.

    Raises:
        MgstudyError: If a folder or a manifest cannot be read: nobody knows then what is in use.
    """
    users = _users(workspace, others or {})
    entries = [*_tables(workspace, users), *_derived(workspace, users)]
    entries += [*_downloads(workspace, users), *_unfinished(workspace)]
    return sorted(entries, key=lambda entry: (-entry.size, entry.key))


def find_entry(entries: list[CacheEntry], key: str) -> CacheEntry:
    """The entry of a key, or of the beginning of only one.

    Raises:
        InputError: If there is none, or several begin so.
    """
    found = [entry for entry in entries if entry.key == key]
    found = found or [entry for entry in entries if entry.key.startswith(key)]
    if not found:
        raise InputError(f"nothing is kept as {key!r}; {suggestion(key, [e.key for e in entries])}")
    if len(found) > 1:
        keys = ", ".join(sorted(entry.key for entry in found)[:6])
        raise InputError(f"{key!r} is the beginning of {len(found)} keys: {keys}; give more of it")
    return found[0]


def describe_entry(entry: CacheEntry) -> dict[str, Any]:
    """Everything an entry says of itself: what it is and what it was made from.

    Raises:
        DamagedTableError: If a table cannot be read.
        InputError: If derived arrays do not say what they were made from.
    """
    content = entry.model_dump(mode="json")
    if entry.kind == "table":
        return {**content, "facts": read_facts(entry.path)}
    inputs = entry.path / INPUTS_FILE
    if entry.kind == "derived" and (written := content_of(inputs)) is not None:
        try:
            return {**content, "facts": json.loads(written)}
        except (ValueError, RecursionError) as error:
            raise InputError(
                f"{inputs}: damaged: {error}; delete {entry.path}, which is computed again"
            ) from error
    return content


def verify_cache(workspace: Workspace, progress: Progress = no_progress) -> tuple[int, list[str]]:
    """Compare every table with its checksum.

    Returns:
        How many are whole, and what is wrong with the others.
    """
    store = TableStore(workspace.tables)
    keys = [path.stem for path in listed(workspace.tables) if _is_table(path)]
    faults = []
    for done, key in enumerate(keys, start=1):
        try:
            store.check(key)
        except DamagedTableError as error:
            faults.append(str(error))
        progress("verify", done, len(keys))
    return len(keys) - len(faults), faults


def collect_garbage(
    workspace: Workspace,
    others: Mapping[str, Collection[str]] | None = None,
    all_derived: bool = False,
    dry_run: bool = False,
) -> list[CacheEntry]:
    """Remove what no dataset and no study refers to; all of it can be made again.

    Derived arrays go with their table. Those of before it was noted what they were made from stay,
    unless all derived arrays are to go. A file that a process is just writing stays.

    Args:
        workspace: Where.
        others: What else refers to tables, such as a study, to their keys.
        all_derived: Whether to remove derived arrays that are in use too.
        dry_run: Whether only to say what would go.

    Returns:
        What was removed.

    Raises:
        MgstudyError: If something cannot be removed, or a folder or manifest cannot be read; then
            nothing is.
    """
    removed = []
    for entry in list_cache(workspace, others):
        unused = not entry.used_by or (all_derived and entry.kind == "derived")
        if unused and (dry_run or _remove(entry)):
            removed.append(entry)
    return removed


def _users(workspace: Workspace, others: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    """Key of a table, or folder of what was fetched from a URL, to what refers to it."""
    used: dict[str, Collection[str]] = {}
    for path in found_in_each(workspace.datasets, MANIFEST):
        manifest = Manifest.read(path)
        if manifest is not None:
            tables = [table.key for table in manifest.tables()]
            fetched = map(str, Downloads(workspace.downloads).folders(manifest.pipeline))
            used[f"dataset {manifest.name}"] = [*tables, *fetched]
    users: dict[str, list[str]] = {}
    for name, keys in {**used, **others}.items():
        for key in keys:
            users.setdefault(key, []).append(name)
    return users


def _tables(workspace: Workspace, users: Mapping[str, list[str]]) -> Iterator[CacheEntry]:
    for path in listed(workspace.tables):
        if _is_table(path):
            beside = [path.with_suffix(".json")]
            yield _entry(path.stem, "table", path, users.get(path.stem, ()), beside)


def _is_table(path: Path) -> bool:
    return path.suffix == ".parquet" and not path.name.startswith(".")


def _derived(workspace: Workspace, users: Mapping[str, list[str]]) -> Iterator[CacheEntry]:
    for path in listed(workspace.derived):
        if path.is_dir() and not path.name.startswith("."):
            try:
                content = json.dumps(json.loads(content_of(path / INPUTS_FILE) or b""))
            except (MgstudyError, ValueError, RecursionError):
                # What does not say what it was made from may be in use.
                yield _entry(path.name, "derived", path, ("unknown",))
                continue
            used_by = {user for key, names in users.items() if key in content for user in names}
            yield _entry(path.name, "derived", path, sorted(used_by))


def _downloads(workspace: Workspace, users: Mapping[str, list[str]]) -> Iterator[CacheEntry]:
    for path in workspace.downloads.glob("*/**/*"):
        if path.is_file() and not path.name.startswith("."):
            below = path.relative_to(workspace.downloads)
            # Whatever was fetched from a URL with what is read would be fetched again.
            used_by = users.get(str(workspace.downloads / below.parts[0]), ())
            yield _entry(str(below), "download", path, used_by, [version_record(path)])


def _unfinished(workspace: Workspace) -> Iterator[CacheEntry]:
    unpacked = workspace.unpacked
    found = [*workspace.state.rglob(".*.partial"), *workspace.derived.glob(".*/")]
    for path in [*found, *unpacked.parent.glob(f".{unpacked.name}.*/")]:
        yield _entry(path.name, "unfinished", path, ())


def _entry(
    key: str, kind: Kind, path: Path, used_by: Collection[str], beside: Collection[Path] = ()
) -> CacheEntry:
    files = [file for file in (path, *beside) if file.is_file()]
    sizes = [file.lstat().st_size for file in files] or [size for _, size in sizes_below(path)]
    return CacheEntry(
        key=key,
        kind=kind,
        size=sum(sizes),
        modified=datetime.fromtimestamp(path.lstat().st_mtime, UTC).isoformat(timespec="seconds"),
        used_by=tuple(dict.fromkeys(used_by)),
        path=path,
    )


def _remove(entry: CacheEntry) -> bool:
    """Remove an entry; false if a process is working on it."""
    path, beside = entry.path, None
    name = path.name
    if entry.kind == "unfinished":
        # The name of a temporary folder ends in random letters.
        name = name.removeprefix(".").rpartition(".")[0]
    elif entry.kind == "table":
        beside = path.with_suffix(".json")
    elif entry.kind == "download":
        beside = version_record(path)
    lock = path.with_name(f".{name}.lock")
    try:
        with FileLock(lock, blocking=False):
            if path.is_dir():
                remove_whole(path) if entry.kind == "derived" else shutil.rmtree(path)
                return True
            # The record first: a table without one is unfinished, and made again.
            if beside is not None:
                beside.unlink(missing_ok=True)
            path.unlink(missing_ok=True)
    except Timeout:
        return False
    except OSError as error:
        raise MgstudyError(f"{path}: cannot be removed: {error.strerror}") from error
    return True
