"""Launched studies as things that are carried, renamed and deleted."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from optuna.storages import InMemoryStorage

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import (
    content_of,
    is_there,
    listed,
    remove_all,
    said_of_writing,
    sizes_below,
    written_whole,
)
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import as_launched, read_study
from mgstudy.study.results.archive import read_archive, write_archive
from mgstudy.study.results.fork import fork
from mgstudy.study.results.summary import StudySummary, summarize, summarize_as
from mgstudy.study.search.stored_trials import (
    delete_stored,
    store_lines,
    stored_lines,
    stored_studies,
    stored_whole,
)
from mgstudy.study.storage.layout import LOCK, StudyFolder
from mgstudy.study.storage.lease import lease
from mgstudy.study.storage.optuna_storage import check_storage_url, opened_storage, try_storage
from mgstudy.tracking.removal import found_in_mlflow, remove_from_mlflow
from mgstudy.tracking.store import TrackingStore
from mgstudy.urls import expand_url, first_line
from mgstudy.workspace import Workspace

_COPYING = "renaming"
"""In a study's folder while it is renamed: the name that trials are copied to."""


def fork_study(
    parent: str, name: str, file: Path | str | None = None, home: Path | str | None = None
) -> list[str]:
    """Begin a study with the trials of another one: of each cell that has the same levels, spaces,
    training and data. A cell that has the same levels alone tries the other's three best
    configurations first, where its space holds them. Nothing runs; ``resume`` goes on with it.

    Args:
        parent: The other study.
        name: How the new one is called.
        file: Its study file; it is like the other when not given.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.

    Returns:
        Keys of the cells that begin with trials.

    Raises:
        InputError: If there is no such study, there is one of the new name, the study file is
            wrong, or no cell agrees.
        MgstudyError: If a storage cannot be reached.
    """
    workspace = Workspace.resolve(home)
    summary = summarize(workspace, parent)
    folder = StudyFolder.unused(workspace, name, "give the new one another name")
    if file is None:
        storage = summary.manifest.config.storage
        manifest = summary.manifest.renamed(name, storage)
        study = as_launched(manifest, folder, workspace)
    else:
        study = read_study(file, [f"name={name}"], home)
    place = TrackingStore(workspace, study.config.tracking, name).place
    return fork(summary, study, StudyManifest.of(study, place))


def export_study(
    name: str, path: Path | str, with_weights: bool = False, home: Path | str | None = None
) -> None:
    """Write a study's record as one file, which ``import_study`` reads on any machine.

    Args:
        name: The study's name.
        path: The file, for example ``tiktok.tar.xz``.
        with_weights: Whether trained weights, states of interrupted trials and each measurement of
            robustness go along.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.

    Raises:
        InputError: If the workspace has no study of that name, or ``path`` is a folder.
        MgstudyError: If the study cannot be read, or the file cannot be written.
    """
    if Path(path).is_dir():
        raise InputError(f"{path}: is a folder, expected a file to write")
    write_archive(summarize(Workspace.resolve(home), name), Path(path), with_weights)


def import_study(
    path: Path | str,
    name: str | None = None,
    home: Path | str | None = None,
    storage: str | None = None,
) -> StudySummary:
    """Bring a study that ``export_study`` has written into a workspace, where it is read at once,
    and goes on once its datasets are there.

    Args:
        path: The file.
        name: How it is called here; as it was called when not given.
        home: The workspace; ``MGSTUDY_HOME`` or the current directory when not given.
        storage: URL of its Optuna storage; a SQLite file in the workspace when not given.

    Raises:
        InputError: If the file is no whole archive of a study, or there is such a study.
        MgstudyError: If the workspace or the storage cannot be written to.
    """
    if storage is not None:
        check_storage_url(storage)
        try_storage(expand_url(storage))
    return read_archive(Path(path), Workspace.resolve(home), name, storage)


@dataclass(frozen=True)
class Deletion:
    """What deleting a study frees, and how.

    Attributes:
        summary: The study.
        size: Bytes of its folder.
        studies: Optuna studies in a storage outside its folder.
        runs: Runs in MLflow.
        models: Versions of its registered model there.
        problem: Why MLflow cannot be asked, empty if it can.
    """

    summary: StudySummary
    size: int
    studies: int
    runs: int
    models: int
    problem: str = ""


def deletion(name: str, home: Path | str | None = None) -> Deletion:
    """What deleting a study would free.

    Raises:
        InputError: If there is no such study.
        MgstudyError: If it cannot be read.
    """
    workspace = Workspace.resolve(home)
    summary = _to_delete(workspace, name)
    size = sum(size for _, size in sizes_below(summary.folder.path))
    is_outside = summary.manifest.config.storage is not None
    studies = len(_stored(summary)) if is_outside else 0
    try:
        store = TrackingStore(workspace, summary.manifest.config.tracking, name)
        found = found_in_mlflow(store, summary)
    except Exception as error:  # A server fails in any way.
        return Deletion(summary, size, studies, 0, 0, first_line(error))
    return Deletion(summary, size, studies, len(found.runs), len(found.models))


def delete_study(name: str, home: Path | str | None = None) -> bool:
    """Delete a study: its trials, folder, MLflow runs, registered models and their artifacts. What
    other studies hold of it stays: a fork's trials, an archive.

    Returns:
        Whether MLflow has nothing of it; a server keeps artifacts until `mlflow gc` is given there.

    Raises:
        InputError: If there is no such study.
        MgstudyError: If a process drives it, MLflow or the storage cannot be reached, or something
            cannot be removed; then it is still there, and the same can be tried again.
    """
    workspace = Workspace.resolve(home)
    summary = _to_delete(workspace, name)
    folder, config = summary.folder, summary.manifest.config
    url = folder.database(config)
    with lease(folder.path, url, name):
        store = TrackingStore(workspace, config.tracking, name)
        is_gone = _remove_from_mlflow(store, summary)
        if config.storage is not None:
            _delete(url, _names(folder) & {name, summary.name})
        try:
            # What makes it a study goes last, and before that nothing that says who is at it.
            last = {folder.manifest, folder.path / LOCK}
            remove_all(path for path in listed(folder.path) if path not in last)
            if workspace.shared is not None:
                workspace.shared.remove(folder.path, folder.manifest)
            remove_all([folder.manifest])
        except MgstudyError as error:
            raise MgstudyError(
                f"{error}; {name!r} is still there without much of what it had: see to that, and "
                "delete it again"
            ) from error
        remove_all([folder.path])
    return is_gone


def _to_delete(workspace: Workspace, name: str) -> StudySummary:
    """A study; one whose own storage was deleted before the rest could be has no trials."""
    folder = StudyFolder.existing(workspace, name)
    manifest = StudyManifest.read(folder)
    is_gone = manifest.config.storage is None and not is_there(folder.own_storage)
    return summarize_as(manifest, folder, InMemoryStorage() if is_gone else None)


def rename_study(name: str, new: str, home: Path | str | None = None) -> StudySummary:
    """Give a study another name. Its runs and models in MLflow are deleted, for ``sync`` to make
    them anew under the new name. What was cut off can be given again, with this name or another.

    Raises:
        InputError: If there is no such study, there is one of the new name, or the workspace lies
            at a URL.
        MgstudyError: If a process drives it, or MLflow or the storage cannot be reached.
    """
    workspace = Workspace.resolve(home)
    summary = summarize(workspace, name)
    folder, config = summary.folder, summary.manifest.config
    if workspace.shared is not None:
        raise InputError(
            f"nothing is renamed in {workspace.place}; `mgstudy export` and `mgstudy import --as "
            f"{new}` make another study of it"
        )
    target = StudyFolder.unused(workspace, new, "choose another name")
    url = folder.database(config)
    with lease(folder.path, url, name):
        # First what fails where a server is away: then nothing else has changed.
        _remove_from_mlflow(TrackingStore(workspace, config.tracking, name), summary)
        _move_trials(summary, new, url, target)
    with said_of_writing(target.path):
        folder.path.rename(target.path)
        (target.path / _COPYING).unlink(missing_ok=True)
    return summarize(workspace, new)


def _move_trials(summary: StudySummary, new: str, url: str, target: StudyFolder) -> None:
    """Copy a study's trials to another name, have its manifest name the copies, and only then
    delete what has its former names, or that of a copy that was cut off."""
    folder, names = summary.folder, _names(summary.folder)
    if summary.name != new:
        _delete(url, names - {summary.name})
        with stored_whole(url, new), opened_storage(url) as storage:
            with written_whole(folder.path / _COPYING) as file:
                file.write(new.encode())
            lines = list(stored_lines(storage, summary.name))
            store_lines(storage, new, lines, target.trial_files)
        summary.manifest.renamed(new, summary.manifest.config.storage).write(folder)
    _delete(url, names - {new})


def _names(folder: StudyFolder) -> set[str]:
    """The names under which a study's trials may be stored: that of its folder, and one that it was
    being given."""
    return {folder.path.name, (content_of(folder.path / _COPYING) or b"").decode()} - {""}


def _delete(url: str, names: set[str]) -> None:
    with opened_storage(url) as storage:
        for name in names:
            delete_stored(storage, name)


def _remove_from_mlflow(store: TrackingStore, summary: StudySummary) -> bool:
    try:
        return remove_from_mlflow(store, found_in_mlflow(store, summary))
    except MgstudyError:
        raise
    except Exception as error:  # A server fails in any way.
        raise MgstudyError(f"MLflow cannot delete: {first_line(error)}") from error


def _stored(summary: StudySummary) -> dict[str, int]:
    url = summary.folder.database(summary.manifest.config)
    with opened_storage(url, create=False) as storage:
        return stored_studies(storage, summary.name)
