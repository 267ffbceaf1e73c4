"""Datasets: prepared, loaded, described, and what a workspace keeps of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mgstudy.data import cache, loading
from mgstudy.data import description as descriptions
from mgstudy.data.cache import CacheEntry
from mgstudy.data.dataset import Dataset
from mgstudy.data.description import DatasetDescription
from mgstudy.data.manifest import Manifest
from mgstudy.data.prepare import prepare_file
from mgstudy.errors import MgstudyError
from mgstudy.files import Progress, found_in_each, no_progress
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.layout import MANIFEST, StudyFolder
from mgstudy.workspace import Workspace


def prepare(
    path: Path | str,
    overrides: Iterable[str] = (),
    home: Path | str | None = None,
    progress: Progress = no_progress,
) -> Manifest:
    """Make the dataset that a pipeline file describes.

    Args:
        path: The pipeline file.
        overrides: ``a.b=value`` changes to it.
        home: The workspace, a folder or URL; ``MGSTUDY_HOME`` or the
            current directory when not given.
        progress: Told what is being done.

    Raises:
        InputError: For a wrong setting, with file and line, or wrong raw data, with file and row.
    """
    return prepare_file(Path(path), overrides, Workspace.resolve(home), progress)


def load_dataset(name: str, home: Path | str | None = None) -> Dataset:
    """Load a prepared dataset.

    Args:
        name: The name it was prepared under.
        home: The workspace, a folder or URL; ``MGSTUDY_HOME`` or the
            current directory when not given.

    Raises:
        InputError: If there is no such dataset, naming the nearest.
    """
    return loading.load_dataset(Workspace.resolve(home), name)


def list_datasets(home: Path | str | None = None) -> list[str]:
    """Names of the datasets that are prepared in a workspace.

    Raises:
        MgstudyError: If it cannot be listed.
    """
    return loading.prepared_names(Workspace.resolve(home))


def describe_dataset(name: str, home: Path | str | None = None) -> DatasetDescription:
    """Size, degrees, cold items, modalities, steps and leakage checks of a prepared dataset.

    Raises:
        InputError: If there is no such dataset, naming the nearest.
    """
    return descriptions.describe_dataset(Workspace.resolve(home), name)


def list_cache(home: Path | str | None = None) -> list[CacheEntry]:
    """Tables, derived arrays and fetched files of a workspace, with what refers to them.

    Raises:
        MgstudyError: If a study's manifest cannot be read, or says nothing of tables.
    """
    workspace = Workspace.resolve(home)
    return cache.list_cache(workspace, _tables_of_studies(workspace))


def describe_cached(key: str, home: Path | str | None = None) -> dict[str, Any]:
    """What an entry of the cache is and everything that it was made from.

    Args:
        key: Its key, or the start of it.
        home: The workspace.

    Raises:
        InputError: If there is none, or more than one begins so.
        MgstudyError: As ``list_cache``.
    """
    return cache.describe_entry(cache.find_entry(list_cache(home), key))


def verify_cache(
    home: Path | str | None = None, progress: Progress = no_progress
) -> tuple[int, Sequence[str]]:
    """Compare every table with its checksum: how many are whole, and what is wrong with others."""
    return cache.verify_cache(Workspace.resolve(home), progress)


def clean_cache(
    home: Path | str | None = None, all_derived: bool = False, dry_run: bool = False
) -> list[CacheEntry]:
    """Remove what no dataset and no study refers to; what that is.

    Args:
        home: The workspace.
        all_derived: Whether all derived arrays go too; trials make them again.
        dry_run: Whether nothing is removed, only said.

    Raises:
        MgstudyError: As ``list_cache``: what cannot be read is a reason to remove nothing.
    """
    workspace = Workspace.resolve(home)
    used = _tables_of_studies(workspace)
    return cache.collect_garbage(workspace, used, all_derived=all_derived, dry_run=dry_run)


def _tables_of_studies(workspace: Workspace) -> dict[str, list[str]]:
    """Each study of a workspace to the keys of the tables that it began with."""
    keys: dict[str, list[str]] = {}
    for path in found_in_each(workspace.studies, MANIFEST):
        used = StudyManifest.read(StudyFolder(path.parent)).table_keys()
        if not used:
            raise MgstudyError(
                f"{path}: does not say which tables the study uses; nobody knows what is in use"
            )
        keys[f"study {path.parent.name}"] = used
    return keys
