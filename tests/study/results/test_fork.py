from __future__ import annotations

import errno
import logging
import re
from pathlib import Path

import optuna
import pytest

from mgstudy import api
from mgstudy.errors import InputError, MgstudyError
from mgstudy.report.comparison.formats import caption
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.optuna_storage import open_storage

PIPELINE = "name: tiny\nsource: {kind: synthetic, users: 30, items: 40, interactions_per_user: 8}\n"
STUDY = """\
name: s
factors: {dataset: [tiny], model: [BPR, LightGCN], gradient: [plain, mirror_gradient]}
space: {model: {LightGCN: {layers: 2}}}
trials: 2
confirmation: {seeds: 2}
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a finished study ``s``."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "tiny.yaml").write_text(PIPELINE)
    (folder / "s.yaml").write_text(STUDY)
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        api.prepare(folder / "tiny.yaml", home=folder)
        study = api.read_study(folder / "s.yaml", home=folder)
        study.folder.path.mkdir(parents=True)
        metrics = EpochMetrics(study.folder.epoch_metrics)
        record = opened("s", folder, metrics)
        StudyManifest.of(study, {"uri": None, "experiment": "s"}).write(study.folder)
        while (trial := record.next_request()) is not None:
            place = study.folder.trial_files.save_bytes(trial.key, "best.pt", b"weights")
            record.report(trial, 1, 0.1, {"validation/recall_at_20": 0.1})
            record.complete(trial, {"best_value": 0.1, "checkpoint": place})
        return folder


def opened(name: str, home: Path, metrics: EpochMetrics | None = None) -> StudyRecord:
    study = (
        api.read_study(home / "s.yaml", home=home)
        if metrics is not None
        else api.read_launched_study(name, home)
    )
    storage = open_storage(study.folder.storage_url(study.config))
    return StudyRecord(study.config, study.plan.cells, study.datasets, storage, (), metrics)


def test_curves_of_a_study_at_a_url_go_into_a_fork_on_another_machine(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/shared"
    api.export_study("s", tmp_path / "s.tar.xz", with_weights=True, home=home)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "first"))
    api.prepare(home / "tiny.yaml", home=url)
    api.import_study(tmp_path / "s.tar.xz", home=url, storage=f"sqlite:///{tmp_path}/s.db")
    (tmp_path / "fork.yaml").write_text(f"{STUDY}storage: sqlite:///{tmp_path}/fork.db\n")
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "second"))
    assert len(api.fork_study("s", "fork", tmp_path / "fork.yaml", url)) == 4
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "third"))
    fork = api.read_summary("fork", url)
    epochs = [epoch.trial for epoch, _ in EpochMetrics.of(fork.folder).read()]
    assert sorted(epochs) == sorted(t.key for cell in fork.cells for t in cell.every_trial())


def test_a_fork_begins_with_the_trials_of_cells_that_agree_and_names_the_others(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = STUDY.replace("layers: 2", "layers: 3").replace("plain, mirror_gradient", "plain")
    (home / "fork.yaml").write_text(text.replace("trials: 2", "trials: 3"))
    told: list[logging.LogRecord] = []
    handler = logging.Handler()
    monkeypatch.setattr(handler, "emit", told.append)
    optuna.logging.set_verbosity(optuna.logging.INFO)
    logging.getLogger("optuna").addHandler(handler)
    (begun,) = api.fork_study("s", "fork", home / "fork.yaml", home)
    logging.getLogger("optuna").removeHandler(handler)
    assert told == []
    assert begun.startswith("tiny/BPR/plain/")
    parent, fork = api.read_summary("s", home), api.read_summary("fork", home)
    states = {cell.key: cell for cell in fork.cells}
    assert [len(cell.trials) for cell in fork.cells] == [2, 0]
    assert [t.value for t in states[begun].confirmations] == [0.1, 0.1]
    assert states[begun].left == 1, "more trials run the difference"
    for trial in states[begun].every_trial():
        assert trial.outcome["checkpoint"] == str(trial.weights)
        # It lies on the disk once.
        assert trial.weights.stat().st_nlink == 2
    epochs = [epoch.trial for epoch, _ in EpochMetrics(fork.folder.epoch_metrics).read()]
    assert sorted(epochs) == sorted(trial.key for trial in states[begun].every_trial())
    gone = [cell.key for cell in parent.cells if "mirror" in cell.key]
    said = (
        f"forked from s, which had begun 4 cells; not here: {', '.join(gone)}; begun with its best "
        "configurations, trained anew: tiny/LightGCN/plain/none/adam/999"
    )
    assert fork.forked == said
    assert f"fork: {said}." in caption(api.compare(["fork"], home=home))
    # It goes on, and says so for ever.
    record = opened("fork", home)
    assert record.next_request().number in (0, 2)
    assert record.parent == fork.parent
    api.export_study("fork", home / "fork.tar.xz", home=home)
    assert api.import_study(home / "fork.tar.xz", "carried", home).forked == said


def test_a_fork_that_trains_otherwise_tries_the_best_configurations_first(home: Path) -> None:
    (home / "warm.yaml").write_text(
        f"{STUDY}training: {{epochs: 7}}\n".replace("trials: 2", "trials: 5")
    )
    assert api.fork_study("s", "warm", home / "warm.yaml", home) == []
    parent, warm = api.read_summary("s", home), api.read_summary("warm", home)
    assert warm.parent is not None and set(warm.parent.tried) == {c.key for c in parent.cells}
    assert all(not cell.trials and cell.left == 5 for cell in warm.cells)
    record = opened("warm", home)
    begun = [record.next_request() for _ in range(12)]
    for cell in parent.cells:
        tried = [t.parameters for t in begun if t.cell.key == cell.key]
        # The published defaults come first in both.
        assert len(tried) == 3 and tried[0] == cell.trials[0].parameters
        assert cell.trials[1].parameters in tried


def test_a_fork_of_a_fork_names_both(home: Path) -> None:
    api.fork_study("s", "child", home=home)
    api.fork_study("child", "grandchild", home=home)
    assert api.read_summary("grandchild", home).forked == (
        "forked from child, s, which had begun 4 cells, all of them here"
    )


def test_what_cannot_be_forked_is_refused_and_leaves_nothing(home: Path) -> None:
    (home / "other.yaml").write_text(
        STUDY.replace("[BPR, LightGCN]", "[VBPR]").replace("{model: {LightGCN: {layers: 2}}}", "{}")
    )
    (home / ".mgstudy" / "studies" / "begun").mkdir()
    for name, file, said in (
        ("s", None, "there is a study 's' already"),
        ("../s", None, "a study's name"),
        (
            "begun",
            None,
            "a study 'begun' is being begun, or was when that was cut off",
        ),
        ("other", home / "other.yaml", "nothing to begin with"),
    ):
        with pytest.raises(InputError, match=re.escape(said)):
            api.fork_study("s", name, file, home)
    assert not (home / ".mgstudy" / "studies" / "other").exists()
    with pytest.raises(InputError, match="no study 'none'"):
        api.fork_study("none", "new", home=home)


@pytest.mark.parametrize("storage", ["", "storage: sqlite:///{home}/elsewhere.db\n"])
def test_a_full_disk_is_said_and_leaves_no_fork(
    home: Path, monkeypatch: pytest.MonkeyPatch, storage: str
) -> None:
    (home / "full.yaml").write_text(STUDY + storage.format(home=home))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(EpochMetrics, "put", full)
        with pytest.raises(MgstudyError, match=r"'full' cannot be made of 's': .*No space left"):
            api.fork_study("s", "full", home / "full.yaml", home)
    assert not (home / ".mgstudy" / "studies" / "full").exists()
    assert api.fork_study("s", "full", home / "full.yaml", home), "it can be given again"
    api.delete_study("full", home)
