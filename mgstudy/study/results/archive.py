"""A study's record in one file, to be kept, published, or gone on with elsewhere.

An archive (``.tar.xz``) of JSON, Parquet and, if asked for, weights. What is read from one is
parsed, never run: only files that are known here come out of it, into a folder of its own, no more
of them than ``mgstudy.limits`` allows, and the study appears when all of it has been read.
"""

from __future__ import annotations

import io
import json
import lzma
import shutil
import tarfile
import tempfile
from collections.abc import Iterator
from itertools import groupby
from operator import attrgetter
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from optuna.storages import BaseStorage
from sqlalchemy.exc import SQLAlchemyError

from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import (
    failure_of_the_machine,
    is_there,
    locked,
    said_of_writing,
    written_whole,
)
from mgstudy.study.definition.manifest import Place, StudyManifest
from mgstudy.study.results.summary import StudySummary, summarize_as
from mgstudy.study.results.unpacking import unpack
from mgstudy.study.search.stored_trials import Line, store_lines, stored_lines, stored_whole
from mgstudy.study.search.trials import OUTCOME_ATTRIBUTE
from mgstudy.study.storage.checkpoints import TEST_USERS
from mgstudy.study.storage.epoch_metrics import EpochMetrics, EpochRecord
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import opened_storage
from mgstudy.urls import expand_url, first_line, sqlite_url
from mgstudy.workspace import Workspace

FORMAT = 2
_READ = (1, 2)
"""Formats that are read. The first had a line for every epoch."""
_HEAD, _TRIALS, _EPOCHS = "archive.json", "trials.jsonl", "epochs.jsonl"
_MEASUREMENTS = "robustness/measurements.jsonl"
_KEPT = ("popularity.json", *(f"robustness/{n}.csv" for n in ("summary", "flatness", "curves")),
         "robustness/robustness.json")  # fmt: skip
"""What goes along as it is, where it is there."""
_KNOWN = frozenset({_HEAD, "study.json", _TRIALS, _EPOCHS, *_KEPT, _MEASUREMENTS})
_CHECKPOINTS = "checkpoints/"
_DIGITS = 5
"""Of what an epoch measured, where weights stay behind: what selects lies exact in its trial."""
_WRONG = (MgstudyError, OSError, ValueError, LookupError, TypeError, AttributeError,
          RecursionError, SQLAlchemyError)  # fmt: skip
"""What comes of reading as a study what is none."""


def write_archive(summary: StudySummary, path: Path, with_weights: bool = False) -> None:
    """Write a study's record as one file: what it is, its trials, curves, users' scores, and what
    was measured of its models.

    Args:
        summary: The study.
        path: The file.
        with_weights: Whether weights, the states of interrupted trials and each measurement of
            robustness go along, and curves to the last digit. Without, the file is as small as can
            be: the study is read and goes on elsewhere, but from its trained models nothing does.

    Raises:
        MgstudyError: If the study cannot be read, or the file cannot be written.
    """
    folder, manifest = summary.folder, summary.manifest
    url = folder.database(manifest.config)
    # Weights hardly get smaller.
    effort = 0 if with_weights else 9
    with opened_storage(url, create=False) as storage:
        try:
            with (
                locked(path),
                written_whole(path) as file,
                lzma.open(file, "wb", preset=effort) as packed,
                tarfile.open(fileobj=packed, mode="w|", format=tarfile.GNU_FORMAT) as archive,
            ):
                for name, content in _content(storage, summary, with_weights):
                    # Without a date, the same study makes the same file.
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    archive.addfile(member, io.BytesIO(content))
        except OSError as error:
            raise MgstudyError(f"study {manifest.name!r} cannot be read: {error}") from error


def _content(
    storage: BaseStorage, summary: StudySummary, with_weights: bool
) -> Iterator[tuple[str, bytes]]:
    """The files of an archive by their names, in the order in which they are read."""
    folder, manifest = summary.folder, summary.manifest
    yield _HEAD, _text({"mgstudy_archive": FORMAT, "study": manifest.name, "weights": with_weights})
    yield "study.json", _placeless(manifest).model_dump_json(indent=1).encode()
    lines = stored_lines(storage, manifest.name)
    yield _TRIALS, b"".join(_text(_trimmed(line, with_weights)) for line in lines)
    yield _EPOCHS, b"".join(_epochs(folder, with_weights))
    for name in _KEPT:
        content = folder.content(folder.path / name)
        if content is not None:
            yield name, content
    if with_weights and (measured := folder.lines(folder.path / _MEASUREMENTS)):
        yield _MEASUREMENTS, measured
    checkpoints = folder.trial_files
    for name, place in sorted(checkpoints.files().items()):
        if with_weights:
            yield _CHECKPOINTS + name, checkpoints.read(place)
        elif PurePosixPath(name).name == TEST_USERS:
            yield _CHECKPOINTS + name, _plain(checkpoints.read(place))


def _placeless(manifest: StudyManifest) -> StudyManifest:
    """The manifest of a study that has a storage and an MLflow store of its own, wherever it is."""
    tracking = manifest.config.tracking.model_copy(update={"uri": None})
    config = manifest.config.model_copy(update={"storage": None, "tracking": tracking})
    place = Place(uri=None, experiment=manifest.tracking.experiment)
    update = {"config": config, "tracking": place, "modules_in": ()}
    return manifest.model_copy(update=update)


def _text(line: Any) -> bytes:
    return json.dumps(line, separators=(",", ":")).encode() + b"\n"


def _trimmed(line: Line, with_weights: bool) -> Line:
    outcome = line["user"].get(OUTCOME_ATTRIBUTE)
    if with_weights or outcome is None:
        return line
    kept = {name: value for name, value in outcome.items() if name != "checkpoint"}
    return {**line, "user": {**line["user"], OUTCOME_ATTRIBUTE: kept}}


def _epochs(folder: StudyFolder, exactly: bool) -> Iterator[bytes]:
    """What the epochs of each trial measured, in columns: rows pack half as well."""
    epochs = sorted((e for e, _ in EpochMetrics.of(folder).read()), key=attrgetter("trial"))
    for (trial, names), alike in groupby(epochs, key=lambda e: (e.trial, tuple(e.metrics))):
        rows = list(alike)
        columns = {name: [_rounded(e.metrics[name], exactly) for e in rows] for name in names}
        yield _text([trial, [e.step for e in rows], [e.at for e in rows], columns])


def _rounded(measured: float, exactly: bool) -> float:
    return measured if exactly else float(f"{measured:.{_DIGITS}g}")


def _rows(path: Path, is_of_rows: bool) -> Iterator[EpochRecord]:
    """The epochs of a file that ``_epochs`` wrote, or of one of the first format."""
    for trial, step, at, measured in _lines(path):
        if is_of_rows:
            yield EpochRecord(str(trial), int(step), int(at), dict(measured))
            continue
        for one_step, one_at, *values in zip(step, at, *measured.values(), strict=True):
            metrics = dict(zip(measured, values, strict=True))
            yield EpochRecord(str(trial), int(one_step), int(one_at), metrics)


def _plain(table: bytes) -> bytes:
    """The same Parquet table as the archive makes least of; what is none stays as it is."""
    try:
        content = pq.read_table(io.BytesIO(table))
        target = io.BytesIO()
        pq.write_table(
            content,
            target,
            compression="none",
            use_dictionary=[name for name in content.column_names if name != "user"],
            column_encoding={"user": "DELTA_BINARY_PACKED"},
            write_statistics=False,
            store_schema=False,
        )
    except (pa.ArrowException, OSError, ValueError, KeyError):
        return table
    return target.getvalue()


def read_archive(
    path: Path, workspace: Workspace, name: str | None = None, storage: str | None = None
) -> StudySummary:
    """Bring a study into a workspace, with a storage and an MLflow store of its own there.

    Args:
        path: What ``write_archive`` has written.
        workspace: Where to.
        name: How it is called there; as it was called when not given.
        storage: URL of its Optuna storage; a SQLite file in its folder when not given.

    Raises:
        InputError: If the file is none, is damaged or unpacks to too much, or there is such a
            study.
        MgstudyError: If the workspace or storage cannot be written to.
    """
    if not is_there(path):
        raise InputError(f"{path}: no such file")
    place = workspace.unpacked
    with (
        locked(place),
        tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent) as temporary,
    ):
        unpacked = Path(temporary, "study")
        try:
            unpack(path, unpacked, _is_known)
            manifest = _manifest(unpacked, name, storage)
        except InputError:
            raise
        except (EOFError, lzma.LZMAError, tarfile.TarError) as error:
            raise InputError(f"{path}: is no whole archive of a study: {error}") from error
        except _WRONG as error:
            raise _wrong(path, unpacked, error) from error
        advice = "`--as NAME` gives this one another name"
        folder = StudyFolder.unused(workspace, manifest.name, advice)
        url = expand_url(folder.storage_url(manifest.config))
        if manifest.config.storage is None:
            url = sqlite_url(unpacked / folder.own_storage.name)
        with stored_whole(url, manifest.name):
            try:
                _settle(unpacked, manifest, folder, url)
            except InputError:
                raise
            except _WRONG as error:
                raise _wrong(path, unpacked, error) from error
            if workspace.shared is not None:  # Whoever looked for it before has made a folder here.
                shutil.rmtree(folder.path, ignore_errors=True)
            with said_of_writing(folder.path):
                folder.path.parent.mkdir(parents=True, exist_ok=True)
                unpacked.rename(folder.path)
            if folder.workspace is not None:
                for file in sorted(folder.path.rglob("*")):
                    if file.is_file():
                        folder.workspace.publish(file, anew=True)
    return summarize_as(manifest, folder)


def _wrong(path: Path, unpacked: Path, error: Exception) -> MgstudyError:
    """What is wrong with an archive, unless the machine is to blame."""
    if failure := failure_of_the_machine(error, unpacked):
        return failure
    said = first_line(error).replace(f"{unpacked}/", "")
    return InputError(f"{path}: is no archive of a study: {said}")


def _is_known(name: str) -> bool:
    """Whether an archive may hold a file of this name; none leads out of its folder."""
    if name in _KNOWN:
        return True
    parts = name.split("/")
    return name.startswith(_CHECKPOINTS) and not any(
        part in ("", ".", "..") or "\\" in part or not part.isprintable() for part in parts
    )


def _format(unpacked: Path) -> Any:
    return json.loads((unpacked / _HEAD).read_bytes())["mgstudy_archive"]


def _manifest(unpacked: Path, name: str | None, storage: str | None) -> StudyManifest:
    """The study as it is called here, once its archive is unpacked."""
    if (format := _format(unpacked)) not in _READ:
        raise InputError(
            f"the archive has format {format!r}, and this version of mgstudy reads "
            f"{' and '.join(map(str, _READ))}; use the version that wrote it"
        )
    manifest = _placeless(StudyManifest.read(StudyFolder(unpacked), is_from_here=False))
    for cell in manifest.cells:
        # Files of its trials are looked for, and deleted, by its key.
        if not _is_known(_CHECKPOINTS + cell.key) or cell.study != f"{manifest.name}/{cell.key}":
            raise ValueError(f"cell {cell.key!r} is none of study {manifest.name!r}")
    return manifest.renamed(name or manifest.name, storage)


def _settle(unpacked: Path, manifest: StudyManifest, folder: StudyFolder, url: str) -> None:
    """Make of unpacked files what a launch would have left, and see that it can be read.

    Args:
        unpacked: Their folder.
        manifest: The study.
        folder: Where the folder will be.
        url: Its storage.
    """
    with opened_storage(url) as storage:
        store_lines(storage, manifest.name, _lines(unpacked / _TRIALS), folder.trial_files)
    epochs = _rows(unpacked / _EPOCHS, is_of_rows=_format(unpacked) == 1)
    EpochMetrics(unpacked / "metrics.jsonl").put(epochs)
    manifest.write(StudyFolder(unpacked))
    summarize_as(manifest, StudyFolder(unpacked))
    for name in (_HEAD, _TRIALS, _EPOCHS):
        (unpacked / name).unlink()


def _lines(path: Path) -> Iterator[Any]:
    with path.open("rb") as file:
        yield from map(json.loads, file)
