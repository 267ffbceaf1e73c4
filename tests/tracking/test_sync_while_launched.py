"""``sync`` beside a real ``launch``, on a slow MLflow server."""

from __future__ import annotations

import subprocess
from collections import Counter
from contextlib import suppress
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient
from mlflow_server import MlflowServer, Proxy
from programs import MGSTUDY, started

from mgstudy import api
from mgstudy.errors import InputError, MgstudyError

pytestmark = pytest.mark.integration

PIPELINE = "name: tiny\nsource: {kind: synthetic, users: 30, items: 40, interactions_per_user: 8}\n"
STUDY = """\
name: beside
factors: {{dataset: [tiny], model: [BPR], gradient: [plain, mirror_gradient]}}
space: {{optimizer: {{learning_rate: {{log_float: [1.0e-3, 1.0e-1]}}}}}}
trials: 2
confirmation: {{seeds: 2}}
training: {{epochs: 2, batch_size: 64, objective: ndcg@5, measures: [ndcg], cutoffs: [5]}}
resources: {{max_concurrent: 1}}
tracking: {{uri: "{uri}"}}
"""


def test_a_sync_while_a_launch_runs_and_ends_is_refused_and_doubles_nothing(
    tmp_path: Path, server: MlflowServer, proxy: Proxy
) -> None:
    (tmp_path / "tiny.yaml").write_text(PIPELINE)
    (tmp_path / "study.yaml").write_text(STUDY.format(uri=proxy.uri))
    api.prepare(tmp_path / "tiny.yaml", home=tmp_path)
    proxy.delay = 0.2
    refused: Counter[str] = Counter()
    command = (MGSTUDY, "launch", tmp_path / "study.yaml", "--home", tmp_path)
    with started(*command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as launch:
        while launch.poll() is None:
            try:
                api.sync("beside", tmp_path)
            except InputError:  # Nothing is written down yet.
                pass
            except MgstudyError as error:
                refused[str(error).partition(";")[0].partition(" by ")[0]] += 1
            with suppress(subprocess.TimeoutExpired):  # The launch needs the processor, too.
                launch.wait(0.1)
    assert launch.returncode == 0
    assert set(refused) == {"study 'beside' is already being driven"}
    proxy.delay = 0.0
    synced = api.sync("beside", tmp_path)
    assert len(synced.models) == 2
    assert api.sync("beside", tmp_path).delivered == 0

    client = MlflowClient(server.uri)
    runs = client.search_runs([client.get_experiment_by_name("beside").experiment_id])
    trials = [run.data.tags.get("mgstudy.trial", "the study") for run in runs]
    assert len(trials) == len(set(trials)) == 1 + 2 * (2 + 2)
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        if "mgstudy.trial" in run.data.tags:
            curve = client.get_metric_history(run.info.run_id, "validation/ndcg_at_5")
            assert [point.step for point in curve] == [1, 2]
    assert len(client.search_model_versions("name = 'beside'")) == 2  # One for each cell.
