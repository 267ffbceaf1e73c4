"""The shipped deployment files are what the tools that read them expect."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
from programs import finished
from ray.autoscaler._private.util import prepare_config, validate_config

from mgstudy.config.document import load_document, parse_document

ROOT = Path(__file__).parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
CLUSTERS = ("cluster.yaml", "deploy/cluster-local.yaml")
KUBERNETES = kubernetes_validate.latest_version()
RAYJOB_SCHEMA = json.loads((Path(__file__).parent / "rayjob.schema.json").read_text("utf-8"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
EXTRAS = PYPROJECT["project"]["optional-dependencies"]
PINS = dict(
    line.split("==")
    for line in (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    if "==" in line and not line.startswith("#")
)


def read_yaml(name: str) -> Any:
    return load_document(ROOT / name).data


# Ray's cluster launcher.


@pytest.mark.parametrize("name", CLUSTERS)
def test_ray_accepts_the_cluster_file(name: str) -> None:
    # What `ray up` does before it asks the provider for anything.
    validate_config(prepare_config(read_yaml(name)))


def test_ray_refuses_a_cluster_file_with_a_typing_error() -> None:
    config = {**read_yaml("cluster.yaml"), "idle_timeout_minuts": 5}
    with pytest.raises(jsonschema.ValidationError, match="idle_timeout_minuts"):
        validate_config(prepare_config(config))


def test_the_head_runs_no_trials_and_workers_cost_nothing_while_idle() -> None:
    config = read_yaml("cluster.yaml")
    types = config["available_node_types"]
    assert types[config["head_node_type"]]["resources"] == {"CPU": 0, "GPU": 0}
    for name, node_type in types.items():
        if name != config["head_node_type"]:
            assert node_type["min_workers"] == 0
            assert node_type["node_config"]["InstanceMarketOptions"] == {"MarketType": "spot"}
    assert config["provider"]["cache_stopped_nodes"] is False


@pytest.mark.parametrize("name", CLUSTERS)
def test_the_cluster_has_this_mgstudy_and_asks_for_a_token(name: str) -> None:
    config = read_yaml(name)
    assert "." in config["file_mounts"].values()
    [install] = [command for command in config["setup_commands"] if "pip install" in command]
    assert "/mgstudy/constraints.txt" in install
    extras = re.search(r"mgstudy\[([\w,]+)\]", install)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(EXTRAS)
    for commands in (config["head_start_ray_commands"], config["worker_start_ray_commands"]):
        assert "RAY_AUTH_MODE=token" in commands[-1]
    assert "~/.ray/auth_token" in config["file_mounts"].values()


@pytest.mark.parametrize("name", ["cluster.yaml", "Dockerfile"])
def test_images_carry_the_pinned_ray_and_a_python_that_mgstudy_supports(name: str) -> None:
    images = re.findall(r"rayproject/ray:(\S+)", (ROOT / name).read_text("utf-8"))
    assert images
    for tag in images:
        version, python, _device = tag.split("-")
        assert version == PINS["ray"]
        assert python in ("py311", "py312")


# Kubernetes.


def manifests() -> list[dict[str, Any]]:
    text = (ROOT / "deploy/kuberay.yaml").read_text("utf-8")
    return [parse_document(part, "deploy/kuberay.yaml").data for part in text.split("\n---\n")]


def pod_templates(manifest: dict[str, Any]) -> Iterator[dict[str, Any]]:
    spec = manifest["spec"]["rayClusterSpec"]
    for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
        yield group["template"]


def identify(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


@pytest.mark.parametrize("manifest", manifests(), ids=identify)
def test_kubernetes_accepts_the_manifest(manifest: dict[str, Any]) -> None:
    if manifest["kind"] != "RayJob":
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    jsonschema.validate(manifest, RAYJOB_SCHEMA)
    for template in pod_templates(manifest):
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}, **template}
        kubernetes_validate.validate(pod, KUBERNETES, strict=True)


def test_the_schema_refuses_a_typing_error_in_a_rayjob() -> None:
    [job] = [manifest for manifest in manifests() if manifest["kind"] == "RayJob"]
    wrong = copy.deepcopy(job)
    wrong["spec"]["backofflimit"] = wrong["spec"].pop("backoffLimit")
    with pytest.raises(jsonschema.ValidationError, match="backofflimit"):
        jsonschema.validate(wrong, RAYJOB_SCHEMA)


def test_the_rayjob_is_retried_and_keeps_its_state_outside_the_cluster() -> None:
    [job] = [manifest for manifest in manifests() if manifest["kind"] == "RayJob"]
    spec = job["spec"]
    assert spec["backoffLimit"] > 0
    assert spec["rayClusterSpec"]["rayVersion"] == PINS["ray"]
    assert spec["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    assert spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0"
    home = spec["entrypoint"].split("--home ")[1]
    for template in pod_templates(job):
        [container] = template["spec"]["containers"]
        mounts = {mount["mountPath"]: mount["name"] for mount in container["volumeMounts"]}
        volumes = {volume["name"]: volume for volume in template["spec"]["volumes"]}
        assert "persistentVolumeClaim" in volumes[mounts[home]]
        assert volumes[mounts["/dev/shm"]]["emptyDir"]["medium"] == "Memory"


def references(content: Any, key: str) -> Iterator[Any]:
    """Every value under ``key``, at any depth."""
    if isinstance(content, dict):
        for name, value in content.items():
            if name == key:
                yield value
            yield from references(value, key)
    elif isinstance(content, list):
        for value in content:
            yield from references(value, key)


def test_what_manifests_refer_to_exists_and_no_password_stands_in_them() -> None:
    everything = manifests()
    claims = {m["metadata"]["name"] for m in everything if m["kind"] == "PersistentVolumeClaim"}
    assert set(references(everything, "claimName")) <= claims
    selected = [m["spec"]["selector"] for m in everything if m["kind"] == "Service"]
    labels = [
        m["spec"]["template"]["metadata"]["labels"]
        for m in everything
        if m["kind"] in ("Deployment", "StatefulSet")
    ]
    for selector in selected:
        assert any(selector.items() <= label.items() for label in labels)
    assert {m["metadata"]["namespace"] for m in everything} == {"mgstudy"}
    for variables in references(everything, "env"):
        for variable in variables:
            if "PASSWORD" in variable["name"]:
                assert set(variable) == {"name", "valueFrom"}
    images = list(references(everything, "image"))
    assert all(re.search(r":\d+\.\d+", image) for image in images), "every image is pinned"


# Scripts and the image.


def test_scripts_can_be_called() -> None:
    for script in (ROOT / "deploy").glob("*.sh"):
        assert os.access(script, os.X_OK), script.name


def test_the_slurm_script_explains_itself_outside_an_allocation() -> None:
    script = str(ROOT / "deploy/slurm.sh")
    without_study = subprocess.run(
        [script], capture_output=True, text=True, check=False, timeout=60
    )
    assert without_study.returncode == 2
    assert without_study.stderr.startswith("usage: sbatch")
    environment = {"PATH": os.environ["PATH"]}
    outside = subprocess.run(
        [script, "x.yaml"], env=environment, capture_output=True, text=True, check=False, timeout=60
    )
    assert outside.returncode != 0
    assert "runs inside an allocation: use sbatch" in outside.stderr


STANDS_IN = """\
#!/bin/sh
name="$(basename "$0")"
echo "$name $*" >> "$SAID"
case "$name $1" in
    "scontrol show") printf 'node1\\nnode2\\n' ;;
    srun*) while [ "${1#--}" != "$1" ]; do shift; done; exec "$@" ;;
    "ray start") exec tail -f /dev/null ;;
    "ray health-check") grep -q "^ray start --head" "$SAID" ;;
    hostname*) echo 127.0.0.1 ;;
    mgstudy*) until grep -q "^ray start --address" "$SAID"; do sleep 0.01; done ;;
esac
"""
"""What the script calls, which an allocation has: each says that it was called."""


@pytest.mark.parametrize("gpus", [0, 2])
def test_the_slurm_script_starts_mps_on_every_node_before_ray(gpus: int, tmp_path: Path) -> None:
    names = ("scontrol", "srun", "ray", "mgstudy", "hostname", "nvidia-cuda-mps-control")
    for name in names:
        (tmp_path / name).write_text(STANDS_IN)
        (tmp_path / name).chmod(0o755)
    said = tmp_path / "said"
    environment = {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "SAID": said,
        "SLURM_JOB_ID": 7,
        "SLURM_SUBMIT_DIR": tmp_path,
        "SLURM_JOB_NODELIST": "node[1-2]",
        "SLURM_GPUS_ON_NODE": gpus,
        "TMPDIR": tmp_path,
    }
    finished(ROOT / "deploy/slurm.sh", "x.yaml", environment=environment, seconds=60.0)
    lines = said.read_text().splitlines()
    starts = [line for line in lines if re.match("ray start|nvidia", line)]
    mps = "nvidia-cuda-mps-control -d"
    assert starts.count(mps) == (2 if gpus else 0)
    heads = [line for line in starts if line.startswith("ray start --head")]
    assert len(heads) == 1 and len(starts) == (4 if gpus else 2)
    assert starts[0] == (mps if gpus else heads[0])
    assert "mgstudy launch x.yaml" in lines


def test_workers_with_gpus_start_mps_before_ray() -> None:
    for name in CLUSTERS:
        commands = read_yaml(name)["worker_start_ray_commands"]
        (mps,) = [at for at, line in enumerate(commands) if "nvidia-cuda-mps-control -d" in line]
        assert "ray start" in commands[-1] and mps < len(commands) - 1
        assert commands[mps].endswith("|| true"), "a machine without it is one, too"
    (job,) = [m for m in manifests() if m["kind"] == "RayJob"]
    _, *workers = pod_templates(job)
    for worker in workers:
        (container,) = worker["spec"]["containers"]
        assert "nvidia.com/gpu" in container["resources"]["limits"]
        started = container["lifecycle"]["postStart"]["exec"]["command"]
        assert "nvidia-cuda-mps-control -d || true" in started


def test_the_image_is_built_from_files_that_exist_with_everything_pinned() -> None:
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    allowed = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    for line in lines:
        if line.startswith("COPY"):
            sources = [word for word in line.split()[1:-1] if not word.startswith("--")]
            for source in sources:
                assert (ROOT / source).exists()
                assert f"!{source.removeprefix('./')}" in allowed
    [install] = [line for line in lines if "pip install" in line]
    assert "--constraint constraints.txt" in install
    extras = re.search(r'"\.\[([\w,]+)\]"', install)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(EXTRAS)
    users = [line.split()[1] for line in lines if line.startswith("USER")]
    assert users[-1:] == ["1000"], "a number, by which Kubernetes knows that it is not root"
    wheel = PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {f"!{source}" for source in wheel["force-include"]} <= set(allowed)


# Continuous integration, and the image.


def test_workflows_call_only_what_anyone_can_type() -> None:
    """What they do besides lies in the Makefile, where it can be tried."""
    targets = set(re.findall(r"^([a-z-]+)(?= |:)", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for workflow in WORKFLOWS:
        for command in re.findall(r"make ((?:[a-z-]+ ?)+)$", workflow.read_text(), re.MULTILINE):
            for target in command.split():
                assert target in targets, (workflow.name, target)
