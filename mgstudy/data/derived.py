"""Arrays that follow from the data alone: computed once, kept, and shared by every trial.

Normalised adjacency, item neighbour graphs and user co-occurrence depend on the dataset and on a
few numbers, never on a trial. Each is keyed by the fingerprint of what it was made from, so a
noised feature table can never meet a clean table's graph.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgstudy.data.sources.binary import map_array
from mgstudy.errors import MgstudyError
from mgstudy.files import content_of, listed, locked, said_of_writing
from mgstudy.fingerprint import fingerprint

logger = logging.getLogger(__name__)

Arrays = dict[str, NDArray[Any]]
INPUTS_FILE = "inputs.json"
"""Says in an entry's folder what it was made from, and what its arrays are called."""


class DerivedArrays:
    """A keyed store of named arrays: in this process, and on disk when given a directory.

    On disk each entry is a folder of ``.npy`` files that every process on the node maps, so the
    pages are shared. Entries appear by one rename: a killed process leaves no half-written one.

    Args:
        directory: Where entries are kept; ``None`` keeps them in this process only.
    """

    def __init__(self, directory: Path | None = None) -> None:
        self.directory = directory
        self._loaded: dict[str, Arrays] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"directory": self.directory, "_loaded": {}}

    def get(
        self,
        name: str,
        inputs: Mapping[str, Any],
        compute: Callable[[], Mapping[str, NDArray[Any]]],
    ) -> Arrays:
        """Return the arrays called ``name`` for these ``inputs``, computing them at most once.

        Args:
            name: What the arrays are, for example ``"item_neighbours"``.
            inputs: JSON-like description of everything the result depends on: fingerprints,
                numbers, and a version to raise when ``compute`` changes.
            compute: Makes the arrays.

        Raises:
            MgstudyError: If they cannot be kept.
        """
        key = f"{name}-{fingerprint({'name': name, 'inputs': dict(inputs)})}"
        if key not in self._loaded:
            self._loaded[key] = self._load_or_compute(key, inputs, compute)
        return self._loaded[key]

    def _load_or_compute(
        self,
        key: str,
        inputs: Mapping[str, Any],
        compute: Callable[[], Mapping[str, NDArray[Any]]],
    ) -> Arrays:
        if self.directory is None:
            return dict(compute())
        folder = self.directory / key
        found = _read(folder)
        if found is None:
            with locked(folder):
                found = _read(folder)
                if found is None:
                    arrays = compute()
                    with said_of_writing(folder):
                        _write(folder, inputs, arrays)
                    found = _read(folder)
        if found is None:
            raise MgstudyError(f"{folder}: cannot be read, though it was just written")
        return found


def remove_whole(folder: Path) -> None:
    """Remove an entry; a kill on the way leaves none of which some arrays are gone.

    Raises:
        OSError: If it cannot be removed.
    """
    going = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    folder.replace(going / folder.name)
    shutil.rmtree(going)


def _read(folder: Path) -> Arrays | None:
    """The arrays of an entry; ``None`` where there is none, or a damaged one."""
    try:
        if folder.is_dir():
            paths = [path for path in listed(folder) if path.suffix == ".npy"]
            found = {path.stem: map_array(path) for path in paths}
            if missing := _written(folder) - set(found):
                raise MgstudyError(f"{folder}: has lost {', '.join(sorted(missing))}")
            return found
    except MgstudyError as damage:
        logger.warning("%s; computing it again", damage)
    return None


def _written(folder: Path) -> set[str]:
    """Names of the arrays that were written; none where that was not noted yet.

    Raises:
        MgstudyError: If what is noted cannot be read.
    """
    path = folder / INPUTS_FILE
    content = content_of(path)
    try:
        return set() if content is None else set(json.loads(content).get("arrays", ()))
    except (AttributeError, RecursionError, TypeError, ValueError) as error:
        raise MgstudyError(f"{path}: damaged: {error}") from error


def _write(folder: Path, inputs: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> None:
    temporary = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    try:
        noted = {**inputs, "arrays": sorted(arrays)}
        (temporary / INPUTS_FILE).write_text(json.dumps(noted, indent=2), "utf-8")
        for name, array in arrays.items():
            with (temporary / f"{name}.npy").open("wb") as file:
                np.save(file, np.ascontiguousarray(array), allow_pickle=False)
                file.flush()
                os.fsync(file.fileno())
        if folder.exists():
            remove_whole(folder)
        temporary.replace(folder)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
