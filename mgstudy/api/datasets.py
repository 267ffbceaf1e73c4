"""Datasets: prepared and loaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mgstudy.data import loading
from mgstudy.data.dataset import Dataset
from mgstudy.data.manifest import Manifest
from mgstudy.data.prepare import prepare_file
from mgstudy.files import Progress, no_progress
from mgstudy.workspace import Workspace


def prepare(
    path: Path,
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
    return prepare_file(path, overrides, Workspace.resolve(home), progress)


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
