"""Studies in pieces of YAML, on datasets in memory, without Ray."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import fsspec
import numpy as np
import optuna
import pytest

from mgstudy.config.document import Document, parse_document
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.study.definition.expansion import CellPlan, expand
from mgstudy.study.search.events import StudyListener
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.urls import sqlite_url
from mgstudy.workspace import Workspace


def tiny_dataset(name: str, modalities: tuple[str, ...], seed: int = 0) -> Dataset:
    random = np.random.default_rng(seed)
    users = np.repeat(np.arange(6), 4)
    items = random.permuted(np.tile(np.arange(9), (6, 1)), axis=1)[:, :4].ravel()
    splits = [
        Interactions(users[keep], items[keep])
        for keep in (np.isin(np.arange(24) % 4, part) for part in ([0, 1], [2], [3]))
    ]
    features = {
        modality: random.standard_normal((9, 3), dtype=np.float32) for modality in modalities
    }
    return Dataset.from_arrays(name, 6, 9, *splits, features)


@pytest.fixture(scope="session")
def datasets() -> dict[str, Dataset]:
    """One dataset with two modalities, one with one and one with none."""
    modalities = {"both": ("image", "text"), "image": ("image",), "bare": ()}
    return {name: tiny_dataset(name, present) for name, present in modalities.items()}


@pytest.fixture
def on_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], StudyFolder]]:
    """The folder of a study in a workspace at a URL, as one of several machines has it, each with
    copies of its own."""

    def folder(machine: str) -> StudyFolder:
        monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / machine))
        found = StudyFolder.of(Workspace.resolve("memory://machines"), "s")
        found.path.mkdir(parents=True, exist_ok=True)
        return found

    yield folder
    fsspec.filesystem("memory").store.clear()


Read = Callable[..., tuple[StudyConfig, Document]]
Expand = Callable[..., CellPlan]
Open = Callable[..., StudyRecord]


@pytest.fixture
def read() -> Read:
    """Read a study from the inside of ``factors`` and everything else as YAML."""

    def read_study(factors: str, rest: str = "") -> tuple[StudyConfig, Document]:
        inside = {"dataset": "dataset: [both]", "model": "model: [BPR]"}
        lines = [line for key, line in inside.items() if f"{key}:" not in factors]
        text = "\n  ".join(["factors:", *lines, *factors.strip().splitlines()])
        trials = "" if re.search("^trials:", rest, re.MULTILINE) else "trials: 3\n"
        confirmation = "" if "confirmation:" in rest else "confirmation: null\n"
        document = parse_document(f"name: s\n{text}\n{trials}{rest}\n{confirmation}", "s.yaml")
        return document.validate(StudyConfig), document

    return read_study


@pytest.fixture
def expanded(read: Read, datasets: dict[str, Dataset]) -> Expand:
    """Expand a study as ``read`` reads it."""

    def expand_study(factors: str, rest: str = "") -> CellPlan:
        return expand(*read(factors, rest), datasets)

    return expand_study


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database without studies, to be copied: making its tables takes longer than most tests."""
    path = tmp_path_factory.mktemp("empty") / "optuna.db"
    open_storage(sqlite_url(path))
    return path


@pytest.fixture
def storage_path(empty_database: Path, tmp_path: Path) -> Path:
    path = tmp_path / "optuna.db"
    with closing(sqlite3.connect(empty_database)) as empty, closing(sqlite3.connect(path)) as copy:
        empty.backup(copy)
    return path


@pytest.fixture
def opened(read: Read, datasets: dict[str, Dataset], storage_path: Path) -> Open:
    """Open the record of a study, each time from the database anew, as after a restart."""

    def open_record(
        factors: str, rest: str = "", *listeners: StudyListener, at: Path = storage_path
    ) -> StudyRecord:
        config, document = read(factors, rest)
        plan = expand(config, document, datasets)
        storage = open_storage(sqlite_url(at))
        return StudyRecord(config, plan.cells, datasets, storage, listeners)

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return open_record
