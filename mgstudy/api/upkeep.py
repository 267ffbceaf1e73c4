"""Launched studies as things that are carried, listed, renamed and deleted."""

from __future__ import annotations

from pathlib import Path

from mgstudy.errors import InputError
from mgstudy.study.results.archive import read_archive, write_archive
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.storage.optuna_storage import check_storage_url
from mgstudy.workspace import Workspace


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
    return read_archive(Path(path), Workspace.resolve(home), name, storage)
