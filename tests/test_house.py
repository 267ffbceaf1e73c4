"""How much of the package one launch walks through, and how often it does what is expensive.

A figure is lowered when the house gets simpler, and raised only with what a capability needs named
beside it.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest
from optuna.storages import get_storage
from programs import finished

from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.results.summary import summarize_as

pytestmark = pytest.mark.integration

LAUNCH_FILES = 109
"""Among them ``ray_session``, for Ray that dies; ``rehearsal``, for what only its use shows;
``verdict``, parted from the comparison; ``limits``, and the settings' metrics; ``deadline``, for
`--for`; ``hidden``, for cells that an earlier launch began; ``carried``, for `parameters_from`;
``answer``, ``costs``, ``power`` and ``rounds``, for what a verdict says and rests on; the
study's settings, for those that go together; the evaluation and its metrics, which score popularity
here instead of in a worker that imports everything for it; ``trials``, parted from a cell's
``state``, ``database_lock`` from the lease, ``texts`` from tables; ``planning``,
parted from launching, ``significance`` from statistics, and what is private of Ray Tune and of its
accelerators from the rest of Ray, so that nobody waits for what he does not use; what
reads datasets' manifests and draws the winners' parameters and importances for the report."""
MOST_CALLS = {
    function.__qualname__: most
    for function, most in ((StudyManifest.read, 1), (summarize_as, 1), (get_storage, 2))
}
"""How often at most one launch reads a manifest, reads a summary from the storage, and opens a
storage."""

STUDY = """\
name: house
factors: {dataset: [synthetic], model: [VBPR], gradient: [plain, mirror_gradient]}
trials: 1
training: {epochs: 2, early_stopping: null}
confirmation: {seeds: 2}
resources: {max_concurrent: 1}
"""
TRACED = '''
"""Launch a study; print the package's files whose functions ran, and how often some were called."""

import collections
import inspect
import json
import shutil
import sys
import threading
from pathlib import Path

import mgstudy

folder, counted = Path(mgstudy.__file__).parent, set(sys.argv[2:])
files, calls = set(), collections.Counter()


def watch(frame, _event, _argument):
    """A function is called; its lines are not asked for, as nothing is returned."""
    code = frame.f_code
    if code.co_qualname in counted:
        calls[code.co_qualname] += 1
    # The bodies of modules and classes run when they are imported, which calls nothing.
    if code.co_filename.startswith(str(folder)) and code.co_flags & inspect.CO_OPTIMIZED:
        files.add(str(Path(code.co_filename).relative_to(folder)))


mgstudy.prepare(Path(sys.argv[1]))
study = mgstudy.read_study(Path("house.yaml"))
threading.settrace(watch)
sys.settrace(watch)
mgstudy.launch(study)
sys.settrace(None)
print(json.dumps({"files": sorted(files), "calls": calls}))
'''


def test_a_launch_walks_through_few_files_and_does_what_is_expensive_once(
    pytestconfig: pytest.Config, tmp_path: Path, empty_store: Path
) -> None:
    shutil.copy(empty_store, tmp_path / "mlflow.db")
    (tmp_path / "house.yaml").write_text(STUDY)
    pipeline = pytestconfig.rootpath / "pipelines" / "synthetic.yaml"
    traced = finished(
        sys.executable, "-c", TRACED, pipeline, *MOST_CALLS,
        cwd=tmp_path, environment={"MGSTUDY_HOME": tmp_path, "MLFLOW_TRACKING_URI": ""},
    )  # fmt: skip
    found = json.loads(traced.stdout.splitlines()[-1])
    files = [file for file in found["files"] if not file.startswith("testing/")]
    assert len(files) <= LAUNCH_FILES, " ".join(files)
    assert all(found["calls"].get(name, 0) <= most for name, most in MOST_CALLS.items()), found
    # The functions are called as they are named here.
    assert found["calls"].get(get_storage.__qualname__, 0) > 0
