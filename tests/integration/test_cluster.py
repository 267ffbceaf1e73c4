"""A study on a cluster that loses a worker and then its head.

Every node has a network of its own (a namespace with an address), its own temporary files and its
own copies of the workspace. PostgreSQL, MLflow and an S3 server run beside them.
"""

from __future__ import annotations

import logging
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import s3fs
from mlflow.tracking import MlflowClient
from moto.server import ThreadedMotoServer
from ray._raylet import AuthenticationTokenLoader
from undisturbed import check_against_the_library
from waiting import WITHOUT_JOBS, answers, free_port, wait_until

from mgstudy import api
from mgstudy.cluster import jobs
from mgstudy.cluster.address import Cluster, connect
from mgstudy.cluster.machines import problems
from mgstudy.cluster.submission import Submission
from mgstudy.errors import MgstudyError
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.workspace import Workspace

pytestmark = pytest.mark.integration

SUBNET = "10.213.97"
OUTSIDE = f"{SUBNET}.1"
HEAD, FIRST, SECOND = (f"{SUBNET}.{number}" for number in (2, 3, 4))
GCS_PORT, DASHBOARD_PORT = 6379, 8265
TOKEN = "fedcba9876543210" * 4
URL = "s3://studies/team"
BIN = Path(sys.executable).parent

PIPELINE = """\
name: tiny
source: {kind: synthetic, users: 80, items: 60, interactions_per_user: 8}
"""
STUDY = """\
name: across
factors:
  dataset: [tiny]
  model: ['their_parts:Gated', BPR]
space:
  model: {embedding_size: 4, regularization: 0.01}
  optimizer: {learning_rate: {choice: [0.002, 0.01, 0.05]}}
trials: 3
sampler: GridSampler
start_with_defaults: false
pruner: NopPruner
confirmation: null
training: {epochs: 5, batch_size: 128, objective: ndcg@5, cutoffs: [5]}
checkpoints: {every_seconds: null, every_epochs: 1}
resources: {cpu: 1, gpu: 0.0}
"""
THEIR_PARTS = '''
import os
import time
from pathlib import Path

import ray

from mgstudy.models.bpr import BPR


class Gated(BPR):
    """Before its third epoch, says on which node it is, and waits for the gate to open."""

    name = "gated"

    def before_epoch(self, epoch):
        super().before_epoch(epoch)
        gate = Path(os.environ["GATE"])
        if epoch == 2 and not gate.exists():
            (gate.parent / f"waiting-{ray.util.get_node_ip_address()}").touch()
            while not gate.exists():
                time.sleep(0.02)
'''


def run(*command: str | Path) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=600).stdout


class Node:
    """A machine of the cluster, in a network namespace.

    Args:
        address: Its address.
        folder: For its own files; short, as sockets lie in it.
        environment: What its processes see.
    """

    def __init__(self, address: str, folder: Path, environment: dict[str, str]) -> None:
        self.address = address
        self.name = f"mgstudy-{address.rpartition('.')[2]}"
        self.link = f"mgs{address.rpartition('.')[2]}"
        self.folder = folder
        own = folder / self.name
        own.mkdir()
        self.environment = {
            **environment,
            "HOME": str(own),
            "MGSTUDY_CACHE": str(own / "cache"),
        }
        self.process: subprocess.Popen[bytes] | None = None

    def connect(self, bridge: str) -> None:
        inside = ("ip", "-n", self.name)
        run("ip", "netns", "add", self.name)
        run("ip", "link", "add", self.link, "type", "veth", "peer", "eth0", "netns", self.name)
        run("ip", "link", "set", self.link, "master", bridge, "up")
        run(*inside, "address", "add", f"{self.address}/24", "dev", "eth0")
        run(*inside, "link", "set", "eth0", "up")
        run(*inside, "link", "set", "lo", "up")

    def start(self, *arguments: str) -> None:
        """Start Ray there, with temporary files that no other node sees."""
        temporary = self.folder / "ray"
        temporary.mkdir(exist_ok=True)
        command = [
            BIN / "ray", "start", "--block", "--disable-usage-stats",
            f"--node-ip-address={self.address}", "--num-gpus=0",
            "--object-store-memory=100000000", *arguments,
        ]  # fmt: skip
        with (self.folder / f"{self.name}.log").open("ab") as log:
            self.process = subprocess.Popen(
                [
                    *("ip", "netns", "exec", self.name, "unshare", "--mount", "sh", "-c"),
                    'mount -t tmpfs tmpfs "$0" && exec "$@"',
                    *(temporary, *command),
                ],
                env=self.environment,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def cut_off(self) -> None:
        run("ip", "link", "set", self.link, "down")

    def lose(self) -> None:
        """End all that runs there at once, as a power cut does."""
        for process in run("ip", "netns", "pids", self.name).split():
            with suppress(ProcessLookupError):
                os.kill(int(process), signal.SIGKILL)
        if self.process is not None:
            self.process.wait(timeout=60)

    def remove(self) -> None:
        self.lose()
        run("ip", "netns", "delete", self.name)


@contextmanager
def network(folder: Path, environment: dict[str, str]) -> Iterator[dict[str, Node]]:
    """Three nodes on one bridge; this process is outside of them, at ``OUTSIDE``."""
    if os.geteuid() != 0 or shutil.which("ip") is None or shutil.which("unshare") is None:
        pytest.skip("network namespaces need root, iproute2 and util-linux")
    bridge = "mgstudy-bridge"[:15]
    nodes = {address: Node(address, folder, environment) for address in (HEAD, FIRST, SECOND)}
    with ExitStack() as stack:
        try:
            run("ip", "link", "add", bridge, "type", "bridge")
        except subprocess.CalledProcessError as error:
            pytest.skip(f"network namespaces are not allowed here: {error.stderr.strip()}")
        stack.callback(run, "ip", "link", "delete", bridge)
        run("ip", "address", "add", f"{OUTSIDE}/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        for node in nodes.values():
            node.connect(bridge)
            stack.callback(node.remove)
        yield nodes


@contextmanager
def mlflow_server(folder: Path) -> Iterator[str]:
    port = free_port(OUTSIDE)
    with subprocess.Popen(
        [
            sys.executable, "-m", "mlflow", "server", f"--host={OUTSIDE}", f"--port={port}",
            "--workers=1", f"--allowed-hosts={OUTSIDE}:{port}",
            f"--backend-store-uri=sqlite:///{folder}/mlflow.db",
            f"--artifacts-destination={folder}/artifacts",
        ],
        env={**os.environ, **WITHOUT_JOBS},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:  # fmt: skip
        url = f"http://{OUTSIDE}:{port}"
        try:
            wait_until(lambda: answers(f"{url}/health"))
            yield url
        finally:
            os.killpg(process.pid, signal.SIGKILL)


@contextmanager
def s3_server(patch: pytest.MonkeyPatch) -> Iterator[str]:
    logging.getLogger("werkzeug").setLevel(logging.WARNING)
    server = ThreadedMotoServer(ip_address=OUTSIDE, port=0, verbose=False)
    server.start()
    url = f"http://{OUTSIDE}:{server.get_host_and_port()[1]}"
    patch.setenv("AWS_ENDPOINT_URL", url)
    patch.setenv("AWS_ACCESS_KEY_ID", "testing")
    patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir("studies")
    try:
        yield url
    finally:
        s3fs.S3FileSystem.clear_instance_cache()
        server.stop()


def start_cluster(nodes: dict[str, Node], folder: Path) -> Cluster:
    nodes[HEAD].start(
        "--head", f"--port={GCS_PORT}", f"--dashboard-host={HEAD}",
        f"--dashboard-port={DASHBOARD_PORT}", "--num-cpus=0", f"--temp-dir={folder}/ray",
    )  # fmt: skip
    url = f"http://{HEAD}:{DASHBOARD_PORT}"
    wait_until(lambda: answers(f"{url}/api/version"))
    for address in (FIRST, SECOND):
        nodes[address].start(f"--address={HEAD}:{GCS_PORT}", "--num-cpus=1")
    cluster = connect(url)

    def all_are_there() -> bool:
        with suppress(MgstudyError):  # The dashboard answers before it knows its own cluster.
            return sorted(node.get("CPU", 0) for node in cluster.nodes()) == [0, 1, 1]
        return False

    wait_until(all_are_there)
    return cluster


@pytest.fixture
def own_token(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A token for the cluster; none of earlier tests, nor one left in this process for later."""
    monkeypatch.setenv("RAY_AUTH_TOKEN", TOKEN)
    AuthenticationTokenLoader.instance().reset_cache()
    yield
    AuthenticationTokenLoader.instance().reset_cache()


def test_a_study_survives_the_loss_of_a_worker_and_of_the_head(
    postgresql: Any, own_token: None, empty_store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = Path(tempfile.mkdtemp(prefix="mgs-", dir="/tmp"))
    code = folder / "code"
    code.mkdir()
    (code / "their_parts.py").write_text(THEIR_PARTS)
    (code / "study.yaml").write_text(STUDY)
    gate = folder / "gate"
    monkeypatch.syspath_prepend(code)
    monkeypatch.setenv("PYTHONPATH", str(code), prepend=os.pathsep)
    monkeypatch.setenv("GATE", str(gate))
    monkeypatch.setenv("MGSTUDY_CACHE", str(folder / "outside"))
    for name in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "MGSTUDY_HOME"):
        monkeypatch.delenv(name, raising=False)
    environment = {
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_health_check_period_ms": "2000",
        "RAY_health_check_timeout_ms": "5000",
        "RAY_health_check_failure_threshold": "3",
    }
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(sys.modules.pop, "their_parts", None)  # Others have one, too.
        nodes = stack.enter_context(network(folder, environment))
        database = stack.enter_context(database_outside(postgresql))
        shutil.copy(empty_store, folder / "mlflow.db")
        tracking = stack.enter_context(mlflow_server(folder))
        endpoint = stack.enter_context(s3_server(monkeypatch))
        for node in nodes.values():
            node.environment |= {
                "AWS_ENDPOINT_URL": endpoint,
                "AWS_ACCESS_KEY_ID": "testing",
                "AWS_SECRET_ACCESS_KEY": "testing",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
        (folder / "tiny.yaml").write_text(PIPELINE)
        api.prepare(folder / "tiny.yaml", home=URL)
        submission = Submission(
            code / "study.yaml",
            code,
            overrides=(f"storage={database}", f"tracking.uri={tracking}"),
            home=URL,
            environment={"GATE": str(gate)},
        )

        cluster = start_cluster(nodes, folder)
        assert cluster.asks_for_token
        assert problems(jobs.check_remotely(cluster, submission)) == []
        first, is_new = jobs.submit(cluster, submission)
        assert is_new
        for address in (FIRST, SECOND):
            wait_until((folder / f"waiting-{address}").exists)
        study = api.read_study(code / "study.yaml", submission.overrides, home=URL)
        with pytest.raises(MgstudyError, match="already being driven, perhaps on another machine"):
            api.launch(study)

        # A worker's cable is pulled: what it trained goes on at the other one.
        nodes[SECOND].cut_off()

        def is_retried() -> bool:
            assert not jobs.find(cluster, first.id).is_over
            return " runs again: " in jobs.logs(cluster, first)

        wait_until(is_retried)

        # The head's power fails, and with it the cluster.
        for node in nodes.values():
            node.lose()
        assert not any(cell.counts["failed"] for cell in look().cells)
        run("ip", "link", "set", nodes[SECOND].link, "up")
        cluster = start_cluster(nodes, folder)
        assert jobs.jobs(cluster) == []
        gate.touch()
        again, is_new = jobs.submit(cluster, submission)
        assert is_new
        shown: list[str] = []
        ended = jobs.follow(cluster, again, shown.append)
        assert ended.status == "SUCCEEDED", "".join(shown)
        assert "MLflow did not take" not in "".join(shown)

        summary = look()
        assert summary.finished
        # Every trial once, and its weights where every machine reaches them.
        assert [cell.counts["complete"] for cell in summary.cells] == [3, 3]
        check_against_the_library(summary, study)
        for cell in summary.cells:
            rates = {trial.parameters["optimizer.learning_rate"] for trial in cell.trials}
            assert rates == {0.002, 0.01, 0.05}
            assert cell.best is not None
            assert s3fs.S3FileSystem().exists(cell.best.outcome["checkpoint"])
        client = MlflowClient(tracking)
        experiment = client.get_experiment_by_name("across")
        runs = client.search_runs([experiment.experiment_id])
        trials = [run for run in runs if "mlflow.parentRunId" in run.data.tags]
        assert len(trials) == 6
        assert {run.info.status for run in trials} == {"FINISHED"}


def look() -> StudySummary:
    return summarize(Workspace.resolve(URL), "across")


@contextmanager
def database_outside(postgresql: Any) -> Iterator[str]:
    """A database at ``OUTSIDE``, where the nodes reach it."""
    server = type(postgresql)(postgresql.programs, host=OUTSIDE)
    try:
        yield server.new_database("studies")
    finally:
        server.remove()
