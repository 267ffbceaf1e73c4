"""A study that is carried from one workspace to another in a file."""

from __future__ import annotations

import io
import json
import lzma
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from disks import small_disk
from driven import Driven, content
from mlflow.tracking import MlflowClient

from mgstudy import api
from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.definition.study import Study
from mgstudy.study.results.archive import read_archive
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import Stage
from mgstudy.study.storage.epoch_metrics import EpochMetrics, EpochRecord
from mgstudy.study.storage.optuna_storage import open_storage
from mgstudy.workspace import Workspace


@pytest.fixture(scope="module")
def carried(tmp_path_factory: pytest.TempPathFactory) -> Driven:
    """A study with complete, pruned, failed and interrupted trials and replicates, in a workspace
    that is somewhere; its dataset is nowhere."""
    driven = Driven(tmp_path_factory.mktemp("there"), "s", trials=3, seeds=2)
    failed = driven.begin()
    driven.report(failed, range(1, 2), time=1 / 3)
    driven.record.fail(failed, {"reason": "a bug", "traceback": "Traceback: a bug"})
    pruned = driven.begin()
    driven.report(pruned, range(1, 3))
    driven.record.prune(pruned, {"epochs": 2, "seconds_training": 0.5})
    while driven.record.remaining() > 1:
        trial = driven.begin()
        if trial.stage is Stage.CONFIRMATION:
            users = pd.DataFrame({"user": np.arange(9), "recall@20": np.linspace(0, 1, 9)})
            place = driven.folder.trial_files.save_bytes(
                trial.key, "test_users.parquet", users.to_parquet(index=False)
            )
            tested = {"test_metrics": {"recall@20": 0.1 * trial.number}, "test_users": place}
            driven.complete(trial, **tested)
        else:
            driven.complete(trial)
    driven.report(driven.begin(), range(1, 3))
    driven.folder.popularity.write_text("{}")
    driven.folder.robustness.mkdir()
    (driven.folder.robustness / "summary.csv").write_text("cell,split\n")
    measured = '{"task": "clean", "measurements": []}\n'
    (driven.folder.robustness / "measurements.jsonl").write_text(measured)
    return driven


@pytest.fixture
def archive(carried: Driven, tmp_path: Path) -> Path:
    api.export_study("s", tmp_path / "s.tar.xz", home=carried.home)
    return tmp_path / "s.tar.xz"


def comparable(summary: StudySummary, with_weights: bool) -> list[CellState]:
    """The cells without the places of their files."""

    def placeless(trial: Any) -> Any:
        outcome = {n: v for n, v in trial.outcome.items() if n not in ("checkpoint", "test_users")}
        return replace(trial, outcome=outcome, files=Path())

    return [
        replace(
            cell,
            trials=list(map(placeless, cell.trials)),
            confirmations=list(map(placeless, cell.confirmations)),
        )
        for cell in summary.cells
    ]


def curves(summary: StudySummary) -> list[EpochRecord]:
    """Every epoch, trial by trial."""
    epochs = EpochMetrics(summary.folder.epoch_metrics).read()
    return sorted((epoch for epoch, _ in epochs), key=lambda epoch: epoch.trial)


@pytest.mark.parametrize("lost", ["metrics.jsonl", "checkpoints", "robustness"])
def test_what_cannot_be_looked_up_is_not_left_out(archive: Path, tmp_path: Path, lost: str) -> None:
    """Such as what was moved to a disk that is away."""
    home = tmp_path / "home"
    place = api.import_study(archive, home=home).folder.path / lost
    place.rename(tmp_path / lost)
    place.symlink_to("nowhere")
    with pytest.raises(MgstudyError, match=f"{lost}: cannot be read: the link leads nowhere"):
        api.export_study("s", tmp_path / "again.tar.xz", home=home)
    assert not (tmp_path / "again.tar.xz").exists()


@pytest.mark.parametrize("with_weights", [False, True])
def test_what_is_brought_in_is_what_was_sent(
    carried: Driven, tmp_path: Path, with_weights: bool
) -> None:
    file = tmp_path / "s.tar.xz"
    api.export_study("s", file, with_weights, carried.home)
    here = tmp_path / "here"
    found = api.import_study(file, "renamed", here)
    sent = summarize(carried.workspace, "s")
    assert found.name == "renamed"
    assert comparable(found, with_weights) == comparable(sent, with_weights)
    assert [t.began for c in found.cells for t in c.trials] == [
        t.began for c in sent.cells for t in c.trials
    ]
    assert found.stale == 1
    users = [t.test_users for c in found.cells for t in c.confirmations if t.test_metrics]
    assert len(users) == 3
    for path in users:
        assert path.is_relative_to(here)
        pd.testing.assert_frame_equal(
            pd.read_parquet(path),
            pd.DataFrame({"user": np.arange(9), "recall@20": np.linspace(0, 1, 9)}),
        )
    kept = [t for c in found.cells for t in c.every_trial() if t.weights.exists()]
    assert bool(kept) == with_weights
    assert all(t.outcome["checkpoint"] == str(t.weights) for t in kept)
    assert (found.folder.robustness / "summary.csv").exists()
    assert (found.folder.robustness / "measurements.jsonl").exists() == with_weights
    assert curves(found) == [
        e
        if with_weights
        else replace(e, metrics={n: float(f"{x:.5g}") for n, x in e.metrics.items()})
        for e in curves(sent)
    ]
    # Tables and MLflow come of it, without the dataset.
    assert len(api.load_study("renamed", here).trials()) == len(
        api.load_study("s", carried.home).trials()
    )
    api.compare(["renamed"], home=here)
    api.sync("renamed", here)
    runs = content(MlflowClient(f"sqlite:///{here}/mlflow.db"), "renamed", files=False)
    assert len(runs) == 1 + sum(len(c.every_trial()) for c in found.cells)


def test_the_same_study_makes_the_same_file_which_names_no_place(
    carried: Driven, archive: Path, tmp_path: Path
) -> None:
    api.export_study("s", tmp_path / "again", home=carried.home)
    assert archive.read_bytes() == (tmp_path / "again").read_bytes()
    assert str(carried.home).encode() not in lzma.decompress(archive.read_bytes())


def test_a_study_of_that_name_is_not_touched(archive: Path, tmp_path: Path) -> None:
    api.import_study(archive, home=tmp_path)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=r"there is a study 's' already in .*; `--as NAME`"):
        api.import_study(archive, home=tmp_path)
    with pytest.raises(InputError, match="a study's name: expected letters"):
        api.import_study(archive, "../s", home=tmp_path)
    assert sorted(tmp_path.rglob("*")) == before


def test_what_the_machine_is_to_blame_for_is_not_said_of_the_archive(
    archive: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"/nowhere: no such file$"):
        api.import_study(tmp_path / "nowhere", home=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(
        MgstudyError, match=r"/file/.mgstudy: cannot be written to: Not a directory"
    ):
        read_archive(archive, Workspace(tmp_path / "file"))
    away = "postgresql://me:word@127.0.0.1:9/studies"
    with pytest.raises(MgstudyError, match=r"^storage postgresql:.*cannot be opened") as caught:
        api.import_study(archive, home=tmp_path / "away", storage=away)
    assert caught.value.exit_code == 1 and ":word@" not in str(caught.value)
    with small_disk(tmp_path / "full", "16k") as full:
        with pytest.raises(
            MgstudyError, match=r"^/.*: (No space left on device|database or disk is full)$"
        ) as caught:
            api.import_study(archive, home=full)
        assert caught.value.exit_code == 1


@pytest.mark.parametrize(("owner", "name"), [(EpochMetrics, "put"), (Path, "rename")])
def test_what_cannot_be_brought_in_whole_leaves_no_trials_in_its_storage(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    storage = f"sqlite:///{tmp_path}/s.db"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(owner, name, interrupted)
        api.import_study(archive, home=tmp_path, storage=storage)
    assert api.import_study(archive, home=tmp_path, storage=storage).name == "s"


def test_a_study_is_brought_into_a_workspace_at_a_url(
    archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "cache"))
    url, storage = f"file://{tmp_path}/shared", f"sqlite:///{tmp_path}/s.db"
    with pytest.raises(InputError, match="no study 's' in workspace"):
        api.read_summary("s", url)
    found = api.import_study(archive, home=url, storage=storage)
    assert api.read_summary("s", url).cells == found.cells
    with pytest.raises(InputError, match="there is a study 's' already in workspace file:"):
        api.import_study(archive, home=url, storage=storage)


def test_a_study_at_a_url_is_sent_whole_and_nothing_of_it_is_lost_here(
    carried: Driven, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a version before wrote here was never published."""
    url, storage = f"file://{tmp_path}/shared", f"sqlite:///{tmp_path}/s.db"
    api.export_study("s", tmp_path / "whole", with_weights=True, home=carried.home)
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "first"))
    folder = api.import_study(tmp_path / "whole", home=url, storage=storage).folder
    with (folder.robustness / "measurements.jsonl").open("a") as log:
        log.write('{"task": "b"}\n')
    (folder.robustness / "flatness.csv").write_text("cell,split\n")
    api.export_study("s", tmp_path / "again", with_weights=True, home=url)
    assert (folder.robustness / "flatness.csv").exists()
    first, again = files_of(tmp_path / "whole"), files_of(tmp_path / "again")
    assert again.pop("robustness/flatness.csv") == b"cell,split\n"
    assert again.pop("robustness/measurements.jsonl").endswith(b'[]}\n{"task": "b"}\n')
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "second"))
    api.export_study("s", tmp_path / "there", with_weights=True, home=url)
    assert files_of(tmp_path / "there") == first


def files_of(archive: Path) -> dict[str, bytes]:
    with tarfile.open(archive) as packed:
        return {m.name: packed.extractfile(m).read() for m in packed}  # type: ignore[union-attr]


def pack(path: Path, files: Mapping[str, bytes], *others: tarfile.TarInfo) -> Path:
    with tarfile.open(path, "w:xz") as packed:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            packed.addfile(member, io.BytesIO(data))
        for member in others:
            packed.addfile(member, io.BytesIO(b"x" * member.size))
    return path


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    made = tarfile.TarInfo(name)
    made.type, made.linkname = kind, link
    made.size = 1 if kind == tarfile.REGTYPE else 0
    return made


@pytest.mark.parametrize(
    "hostile",
    [
        member("/tmp/x"),
        member("../x"),
        member("checkpoints/../../x"),
        member("checkpoints//x"),
        member("checkpoints/a\\..\\x"),
        member("driver.lock"),
        member("checkpoints/a", tarfile.SYMTYPE, "/etc/passwd"),
        member("popularity.json", tarfile.LNKTYPE, "study.json"),
        member("checkpoints/a", tarfile.DIRTYPE),
        member("checkpoints/a", tarfile.FIFOTYPE),
        member("study.json"),
    ],
    ids=lambda entry: f"{entry.name}-{entry.type.decode()}",
)
def test_what_no_study_holds_is_refused(
    archive: Path, tmp_path: Path, hostile: tarfile.TarInfo
) -> None:
    files = files_of(archive)
    files.pop("popularity.json", None)
    file = pack(tmp_path / "hostile", files, hostile)
    refused(file, tmp_path, "has no place in the archive|holds .* twice")


def refused(file: Path, tmp_path: Path, said: str) -> None:
    """Refused in a line, with nothing left behind."""
    home = tmp_path / "home"
    with pytest.raises(InputError, match=said) as raised:
        api.import_study(file, home=home)
    assert len(str(raised.value).splitlines()) == 1
    assert {path.name for path in home.rglob("*")} <= {".mgstudy", ".import.lock"}


def test_an_archive_of_the_first_format_is_read(archive: Path, tmp_path: Path) -> None:
    """It had one line for every epoch."""
    files = files_of(archive)
    rows = [
        [trial, step, at, {name: values[row] for name, values in columns.items()}]
        for trial, steps, times, columns in map(json.loads, files["epochs.jsonl"].splitlines())
        for row, (step, at) in enumerate(zip(steps, times, strict=True))
    ]
    files["epochs.jsonl"] = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
    files["archive.json"] = edited(
        files["archive.json"], lambda head: {**head, "mgstudy_archive": 1}
    )
    first = api.import_study(pack(tmp_path / "first", files), home=tmp_path / "here")
    second = api.import_study(archive, home=tmp_path / "there")
    assert len(rows) == len(curves(first)) > 9
    assert curves(first) == curves(second)
    assert comparable(first, False) == comparable(second, False)


def edited(text: bytes, change: Callable[[Any], Any]) -> bytes:
    return json.dumps(change(json.loads(text))).encode()


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("archive.json", lambda old: b"[]"),
        ("archive.json", lambda old: b'{"mgstudy_archive": 3}'),
        ("study.json", lambda old: old[:-9]),
        ("study.json", lambda old: edited(old, lambda study: {**study, "name": "../../x"})),
        ("study.json", lambda old: edited(old, lambda study: {**study, "name": "other"})),
        ("study.json", lambda old: old.replace(b"a/BPR/plain", b"../BPR/plain")),
        ("trials.jsonl", lambda old: old[:-30]),
        ("trials.jsonl", lambda old: b"[" * 100_000),
        ("trials.jsonl", lambda old: old.replace(b'"COMPLETE"', b'"BEST"')),
        ("trials.jsonl", lambda old: old.replace(b'"values":[0.0', b'"values":["x",0.0')),
        ("trials.jsonl", lambda old: old.replace(b'"mgstudy:outcome":{', b'"mgstudy:outcome":7,"a":{')),  # noqa: E501
        ("trials.jsonl", lambda old: b"\n".join(old.split(b"\n")[1:])),
        ("epochs.jsonl", lambda old: b'["a", 1, 1, {}]\n'),
        ("epochs.jsonl", lambda old: b'["a", ["b"], [1], {}]\n'),
        ("epochs.jsonl", lambda old: b'["a", [1, 2], [1], {}]\n'),
        ("epochs.jsonl", lambda old: b'["a", [1], [1], {"b": [1, 2]}]\n'),
        ("epochs.jsonl", None),
    ],
)  # fmt: skip
def test_damaged_content_is_refused(
    archive: Path, tmp_path: Path, name: str, change: Callable[[bytes], bytes] | None
) -> None:
    files = files_of(archive)
    if change is None:
        del files[name]
    else:
        before, files[name] = files[name], change(files[name])
        assert files[name] != before
    refused(pack(tmp_path / "damaged", files), tmp_path, "archive|name")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_file_that_is_cut_short_is_refused(archive: Path, tmp_path: Path, share: float) -> None:
    whole = archive.read_bytes()
    cut = tmp_path / "cut"
    cut.write_bytes(whole[: int(share * len(whole))])
    refused(cut, tmp_path, "no whole archive")
    (tmp_path / "text").write_text("no archive " * 100)
    refused(tmp_path / "text", tmp_path, "no whole archive")


def test_a_small_file_that_unpacks_to_very_much_is_stopped(tmp_path: Path) -> None:
    bomb = tmp_path / "bomb"
    with lzma.open(bomb, "wb") as packed, tarfile.open(fileobj=packed, mode="w|") as archive:
        endless = tarfile.TarInfo("checkpoints/a")
        endless.size = 100 << 20
        archive.addfile(endless, io.BytesIO(bytes(endless.size)))
    refused(bomb, tmp_path, "unpacks to more than")


def test_a_study_is_carried_from_postgresql_and_back(
    carried: Driven, archive: Path, tmp_path: Path, postgresql: Any
) -> None:
    url = postgresql.new_database("carried")
    there = api.import_study(archive, home=tmp_path, storage=url)
    assert there.manifest.config.storage == url
    api.export_study("s", tmp_path / "again", home=tmp_path)
    assert files_of(archive)["trials.jsonl"] == files_of(tmp_path / "again")["trials.jsonl"]
    with pytest.raises(InputError, match="storage has a study 's' already"):
        api.import_study(archive, home=tmp_path / "other", storage=url)
    assert summarize(Workspace(tmp_path), "s").cells == there.cells


PIPELINE = "name: tiny\nsource: {kind: synthetic, users: 30, items: 40, interactions_per_user: 8}\n"
STUDY = "name: s\nfactors: {dataset: [tiny], model: [BPR]}\ntrials: 3\nconfirmation: null\n"


def test_it_goes_on_at_another_path_where_its_dataset_was_prepared(tmp_path: Path) -> None:
    for place in ("there", "here"):
        (tmp_path / f"{place}.yaml").write_text(PIPELINE)
        api.prepare(tmp_path / f"{place}.yaml", home=tmp_path / place)
    (tmp_path / "s.yaml").write_text(STUDY)

    def opened(study: Study) -> StudyRecord:
        url = study.folder.storage_url(study.config)
        return StudyRecord(study.config, study.plan.cells, study.datasets, open_storage(url))

    study = api.read_study(tmp_path / "s.yaml", home=tmp_path / "there")
    study.folder.path.mkdir(parents=True)
    record = opened(study)
    StudyManifest.of(study, {"uri": None, "experiment": "s"}).write(study.folder)
    record.complete(record.next_request(), {"best_value": 0.5})
    record.next_request()
    expected = [record.next_request().parameters]
    api.export_study("s", tmp_path / "s.tar.xz", home=tmp_path / "there")
    api.import_study(tmp_path / "s.tar.xz", home=tmp_path / "here")
    again = opened(api.read_launched_study("s", tmp_path / "here"))
    requests = list(iter(again.next_request, None))
    assert [request.number for request in requests] == [1, 2]
    assert [request.parameters for request in requests[1:]] == expected
