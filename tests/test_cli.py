from __future__ import annotations

import io
import json
import re
import socket
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pretended_gpu import PretendedGpu
from programs import MGSTUDY, finished
from rich.console import Console

from mgstudy import api
from mgstudy.api import planning
from mgstudy.cli.app import typed
from mgstudy.config.document import load_document
from mgstudy.config.reading import yaml_text
from mgstudy.errors import InputError
from mgstudy.report.console import plan as plans
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.running.gpus import UNUSABLE_GPUS
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.storage.optuna_storage import opened_storage
from mgstudy.tracking.store import TrackingStore

ROOT = Path(__file__).parents[1]

Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "home"
    monkeypatch.setenv("MGSTUDY_HOME", str(folder))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return folder


# Raw data in the MMRec format: 4 users and 5 items.

ROWS = [(0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 2), (1, 1, 0), (1, 4, 0), (1, 3, 1), (2, 0, 0)]
IMAGE = np.arange(10, dtype=np.float16).reshape(5, 2)


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    folder = tmp_path / "raw"
    folder.mkdir()
    write_rows(folder, ROWS)
    np.save(folder / "image_feat.npy", IMAGE)
    content = {"name": "toy", "source": {"kind": "mmrec", "path": str(folder)}}
    (folder / "toy.yaml").write_text(yaml_text(content))
    return folder


def write_rows(folder: Path, rows: list[tuple[int, ...]]) -> None:
    lines = ["userID\titemID\tx_label", *("\t".join(map(str, row)) for row in rows)]
    (folder / "toy.inter").write_text("\n".join(lines) + "\n")


@pytest.fixture
def study_file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(
        "name: toy-study\n"
        "question: does [it] work?\n"
        "factors:\n"
        "  dataset: [toy]\n"
        "  model: [BPR, VBPR]\n"
        "  gradient: [plain, mirror_gradient]\n"
        "  robust: [none, modality_dropout]\n"
        "space:\n"
        "  optimizer: {learning_rate: {log_float: [1e-3, 1e-1]}}\n"
        "  gradient: {mirror_gradient: {variant: {choice: [loss_scaled, update_scaled]}}}\n"
        "trials: 2\n"
        "training: {epochs: 2, objective: recall@2}\n"
    )
    return path


def test_the_way_of_a_newcomer_up_to_the_launch(
    command: Command, home: Path, raw: Path, study_file: Path
) -> None:
    code, out, err = command("prepare", raw / "toy.yaml")
    assert (code, err) == (0, "")
    assert "dataset toy: 3 users, 5 items" in out
    code, out, err = command("prepare", raw / "toy.yaml", "--json")
    assert json.loads(out)["counts"]["items"] == 5

    code, out, err = command("plan", study_file)
    assert (code, err) == (0, "")
    assert "4 cells, 8 trials and 20 confirmations to run" in out
    assert "does [it] work?" in out
    assert "variant in [loss_scaled, update_scaled]" in out
    assert "left out: 4 combinations: modality_dropout needs 2 or more modalities" in out
    plan = json.loads(command("plan", study_file, "--set", "trials=5", "--json")[1])
    assert plan["trials_to_run"] == 20
    assert [cell["trials"] for cell in plan["cells"]] == [5] * 4
    assert plan["cells"][0]["searched"]["optimizer.learning_rate"] == {"log_float": [0.001, 0.1]}
    assert len(plan["left_out"]) == 4
    # A plan runs nothing and leaves nothing behind.
    assert not (home / ".mgstudy" / "studies").exists()
    assert not (home / "mlflow.db").exists()


def test_a_plan_refuses_what_a_launch_refuses_and_says_what_goes_on_otherwise(
    command: Command, raw: Path, study_file: Path
) -> None:
    command("prepare", raw / "toy.yaml")
    study = api.read_study(study_file)
    place = TrackingStore(study.workspace, study.config.tracking, study.config.name).place
    StudyManifest.of(study, place).write(study.folder)
    with opened_storage(study.folder.database(study.config)) as storage:
        StudyRecord(study.config, study.plan.cells, study.datasets, storage).next_request()
    code, out, err = command("plan", study_file, "--set", "training.epochs=7")
    assert (code, out) == (2, "")
    assert "the study was begun with other settings (training.epochs: was 2, is 7)" in err
    code, out, err = command(
        "plan", study_file, "--set", "trials=1", "--set", "factors.seed=[1, 2]"
    )
    assert (code, err) == (0, "")
    assert "trials: was 2, is 1; what has run stays as it is, and a cell that has as many" in out
    assert "factors.seed: a search for each of 2 seeds, compared seed by seed" in out
    assert "what has run stays" not in command("plan", study_file).out


def test_a_pipe_is_as_wide_as_columns_says_else_as_wide_as_a_row(
    command: Command, raw: Path, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("prepare", raw / "toy.yaml")
    monkeypatch.setenv("COLUMNS", "60")
    narrow = command("plan", study_file).out
    assert re.search(r"^BPR +plain +2 +0 +2\n  searched: model.BPR.reg", narrow, re.MULTILINE)
    assert "optimizer.learning_rate log_float [0.001, 0.1]" in " ".join(narrow.split())
    assert max(map(len, narrow.splitlines())) <= 60
    monkeypatch.delenv("COLUMNS")
    rows = [line for line in command("plan", study_file).out.splitlines() if "BPR" in line]
    assert re.search(r"^BPR +plain +2 +0 +2 +model.BPR.*learning_rate log_float", rows[0])


def test_a_plan_can_time_its_cells(command: Command, raw: Path, study_file: Path) -> None:
    command("prepare", raw / "toy.yaml")
    code, out, _ = command("plan", study_file, "--measure", "--json")
    assert code == 0
    assert all(cell["seconds_per_epoch"] > 0 for cell in json.loads(out)["cells"])


def test_a_plan_times_epochs_where_trials_will_run_or_not_at_all(
    command: Command, raw: Path, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("prepare", raw / "toy.yaml")
    monkeypatch.setattr(plans, "this_machine", lambda: {"CPU": 8.0, "GPU": 1.0})
    study = api.read_study(study_file)
    with PretendedGpu() as gpu:
        content = api.plan(study, measure=True)
        assert gpu.operations["index_select"]
    assert content["timed_on"] == "cuda" and content["cells"][0]["seconds_per_epoch"] > 0
    plans.print_plan(content, console := Console(file=io.StringIO(), width=300))
    assert "trials that share a GPU slow each other down" in console.file.getvalue()

    there = api.plan(study, measure=True, nodes=[{"CPU": 4.0}])
    assert there["timed_on"] is None and there["cells"][0]["seconds_per_epoch"] is None
    plans.print_plan(there, console := Console(file=io.StringIO(), width=300))
    assert "times epochs where it runs, so give it on one of the nodes" in console.file.getvalue()


def test_a_plan_says_of_gpus_that_torch_cannot_use_what_launch_says(
    command: Command, raw: Path, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("prepare", raw / "toy.yaml")
    broken = {"CPU": 8.0, "GPU": 0.0, UNUSABLE_GPUS: 1.0}
    for module in (plans, planning):
        monkeypatch.setattr(module, "this_machine", lambda: broken)
    assert api.plan(api.read_study(study_file))["gpu_per_trial"] == 0
    study = api.read_study(study_file, ["resources.gpu=0.5"])
    for verb in (api.plan, api.launch):
        with pytest.raises(InputError, match="torch cannot use the GPUs here"):
            verb(study)


def test_the_workspace_is_the_option_else_the_variable_else_this_folder(
    command: Command, home: Path, raw: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def manifest(folder: Path) -> Path:
        return folder / ".mgstudy" / "datasets" / "toy" / "manifest.json"

    assert command("prepare", raw / "toy.yaml", "--home", tmp_path / "other")[0] == 0
    assert manifest(tmp_path / "other").exists()
    assert not home.exists()
    assert command("prepare", raw / "toy.yaml")[0] == 0
    assert manifest(home).exists()
    monkeypatch.delenv("MGSTUDY_HOME")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert command("prepare", raw / "toy.yaml")[0] == 0
    assert manifest(tmp_path / "here").exists()


# Schemas.


@pytest.mark.parametrize(
    ("kind", "folder"), [("study", "search_spaces"), ("pipeline", "pipelines")]
)
def test_a_schema_accepts_what_is_shipped_and_refuses_what_is_wrong(
    command: Command, kind: str, folder: str
) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    code, out, _ = command("schema", kind)
    assert code == 0
    schema = json.loads(out)
    validator = jsonschema.validators.validator_for(schema)
    validator.check_schema(schema)
    files = sorted((ROOT / folder).glob("*.yaml"))
    assert files
    for path in files:
        content = load_document(path).data
        assert [error.message for error in validator(schema).iter_errors(content)] == []
        assert not validator(schema).is_valid({**content, "nmae": "x"})
        assert not validator(schema).is_valid({k: v for k, v in content.items() if k != "name"})


STUDY: dict[str, Any] = {
    "name": "s",
    "factors": {"dataset": ["a"], "model": ["BPR"]},
    "trials": 3,
}


@pytest.mark.parametrize(
    ("change", "valid"),
    [
        ({}, True),
        ({"pruner": "NopPruner"}, True),
        ({"pruner": {"name": "NopPruner"}}, True),
        ({"sampler": 3}, False),
        ({"resources": {"gpu": "auto"}}, True),
        ({"resources": {"gpu": 0.5}}, True),
        ({"resources": {"gpu": "some"}}, False),
        ({"training": {"early_stopping": None}}, True),
        ({"training": {"epoch": 3}}, False),
        ({"factors": {"dataset": ["a"], "model": ["my_package:Model"]}}, True),
        ({"factors": {"dataset": ["a"], "model": ["VBRP"]}}, False),
        ({"factors": {"dataset": ["a"], "model": []}}, False),
        ({"factors": {"dataset": ["a"], "model": ["BPR"], "robust": ["none", ["r_drop"]]}}, True),
        ({"factors": {"dataset": ["a"], "model": [{"name": "BPR", "label": "b"}]}}, True),
        ({"factors": {"dataset": ["a"], "model": [{"label": "b"}]}}, False),
        ({"space": {"model": {"BPR": {"embedding_size": {"choice": [4, 8]}}}}}, True),
        ({"space": {"model": {"BPR": {"embeding_size": 4}}}}, False),
    ],
)
def test_the_schema_and_the_reader_agree(change: dict[str, Any], valid: bool) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    from mgstudy.study.definition.schema import study_schema

    assert jsonschema.Draft202012Validator(study_schema()).is_valid({**STUDY, **change}) == valid


# Where MLflow's UI is.


def test_the_ui_of_a_server_is_where_the_server_is(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@tracking.org")
    code, out, _ = command("ui")
    assert (code, out) == (0, "MLflow's UI is where its server is: https://me:***@tracking.org\n")


def test_the_ui_is_refused_a_port_that_is_taken_before_an_address_is_printed(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        code, out, err = command("ui", "--port", port)
    assert (code, out) == (1, "")
    assert err == f"error: port {port} on 127.0.0.1 is taken; --port chooses another\n"


def test_a_folder_for_mlflow_is_refused_by_plan_and_launch(
    command: Command, raw: Path, study_file: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("prepare", raw / "toy.yaml")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "./mlruns")
    for verb in ("plan", "launch"):
        code, out, err = command(verb, study_file)
        assert (code, out) == (2, "")
        assert err == (
            "error: MLFLOW_TRACKING_URI=./mlruns: MLflow does not record in folders any more; "
            "use sqlite:///mlflow.db, or unset it\n"
        )
    assert not (home / ".mgstudy" / "studies").exists()


# Wrong input: exit code 2 and one line that names the place.


def with_value(value: float) -> Callable[[Path], object]:
    def spoil(raw: Path) -> None:
        table = IMAGE.copy()
        table[2, 1] = value
        np.save(raw / "image_feat.npy", table)

    return spoil


BAD_DATA: dict[str, tuple[Callable[[Path], object], str]] = {
    "item out of range": (
        lambda raw: write_rows(raw, [*ROWS, (3, 5, 0)]),
        "toy.inter: line 10: itemID is 5, expected the number of one of the 5 rows of image",
    ),
    "negative item": (
        lambda raw: write_rows(raw, [*ROWS, (2, -1, 0)]),
        "toy.inter: line 10: itemID is -1",
    ),
    "nan": (with_value(np.nan), "image_feat.npy: row 2, column 1: is nan"),
    "infinity": (with_value(np.inf), "image_feat.npy: row 2, column 1: is inf"),
    "too many rows": (
        lambda raw: np.save(raw / "image_feat.npy", np.zeros((6, 2), np.float32)),
        "image_feat.npy: has 6 rows",
    ),
    "empty split": (lambda raw: write_rows(raw, ROWS[:3]), "toy.inter: the test split is empty"),
    "pickle": (
        lambda raw: np.save(raw / "image_feat.npy", np.array([{}]), allow_pickle=True),
        "image_feat.npy: holds pickled Python objects",
    ),
    "missing file": (lambda raw: (raw / "toy.inter").unlink(), "expected one *.inter file"),
    "not UTF-8": (
        lambda raw: (raw / "toy.inter").write_bytes(b"userID\titemID\tx_label\n0\t\xff\t0\n"),
        "toy.inter: line 2: not UTF-8",
    ),
    "pipeline not UTF-8": (
        lambda raw: (raw / "toy.yaml").write_bytes(b"name: caf\xe9"),
        "toy.yaml: not UTF-8 text",
    ),
    "missing pipeline": (lambda raw: (raw / "toy.yaml").unlink(), "toy.yaml: no such file"),
    "unknown source": (
        lambda raw: (raw / "toy.yaml").write_text("name: toy\nsource: {kind: mmrek}"),
        "toy.yaml:2: source.kind: unknown source 'mmrek'; did you mean 'mmrec'?",
    ),
    "unknown setting": (
        lambda raw: (raw / "toy.yaml").write_text("name: toy\nsource:\n  kind: mmrec\n  pth: x"),
        "toy.yaml:4: source.pth: unknown key; did you mean 'path'?",
    ),
}


@pytest.mark.parametrize(("spoil", "said"), BAD_DATA.values(), ids=BAD_DATA)
def test_bad_data_ends_with_2_and_one_line_and_leaves_nothing(
    command: Command, home: Path, raw: Path, spoil: Callable[[Path], object], said: str
) -> None:
    spoil(raw)
    code, out, err = command("prepare", raw / "toy.yaml")
    lines = err.splitlines()
    if "pth" in said:  # `path` is missing, too.
        lines = [line for line in lines if "is missing" not in line]
    assert (code, out, len(lines)) == (2, "", 1)
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert not list(home.rglob("manifest.json"))
    assert not list(home.rglob("*.partial"))


def test_a_truncated_table_is_made_again_or_said_to_be_lost(
    command: Command,
    home: Path,
    raw: Path,
    study_file: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    command("prepare", raw / "toy.yaml")
    (table,) = home.rglob("image-*.parquet")
    whole = table.read_bytes()
    table.write_bytes(whole[: len(whole) // 2])
    assert command("plan", study_file)[0] == 0
    assert table.read_bytes() == whole
    assert f"{table}" in caplog.text
    assert "damaged" in caplog.text

    table.write_bytes(whole[: len(whole) // 2])
    (raw / "image_feat.npy").unlink()
    code, _, err = command("plan", study_file)
    assert code == 2
    (line,) = err.splitlines()
    assert "study.yaml:4: factors.dataset.0: dataset 'toy' has a missing or damaged table" in line


BAD_STUDY = {
    "trainig: {}": "unknown key; did you mean 'training'?",
    "training.objective=recal@2": "training.objective: unknown metric 'recal'; did you mean 'reca",
    "training.measures=[recal]": "training.measures: unknown measure 'recal'",
    "factors.model=[]": "factors.model: is empty",
    "factors.model.1=VBRP": "factors.model.1: unknown model 'VBRP'; did you mean 'VBPR'?",
    "factors.dataset=[toi]": "factors.dataset.0: dataset 'toi' is not prepared",
    "factors.gradient.1=mirror": "factors.gradient.1: unknown gradient strategy 'mirror'",
    "trials=many": "trials: input should be a valid integer",
    "trials=0": "trials: input should be greater than or equal to 1",
    "space.gradient={mirror_gradient: {alpha1: 0.1, alpha2: 0.2}}": "alpha2 (0.2) must be below",
    "space.optimizer.learning_rate={log_float: [1, 0.1]}": "low (1) must be below high (0.1)",
    "sampler=TPESampelr": "sampler: unknown sampler 'TPESampelr'; did you mean 'TPESampler'?",
    "resources.gpu=1.5": "resources.gpu: a trial takes a share of one GPU",
}


@pytest.mark.parametrize("verb", ["plan", "launch"])
@pytest.mark.parametrize(("override", "said"), BAD_STUDY.items())
def test_a_wrong_study_ends_with_2_and_one_line_before_anything_starts(
    command: Command, home: Path, raw: Path, study_file: Path, verb: str, override: str, said: str
) -> None:
    command("prepare", raw / "toy.yaml")
    change = override if "=" in override else override.replace(": ", "=")
    code, out, err = command(verb, study_file, "--set", change)
    (line,) = err.splitlines()
    assert (code, out) == (2, "")
    assert line.startswith(f"error: --set {change}: ")
    assert said in line
    assert not (home / ".mgstudy" / "studies").exists()
    assert not (home / "mlflow.db").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["status", "nothing"], "error: no study 'nothing' in workspace"),
        (["compare", "nothing"], "error: no study 'nothing' in workspace"),
        (
            ["compare", "nothing", "--json", "--csv"],
            "error: give one of --json, --csv, --latex and --markdown",
        ),
        (["compare", "nothing", "--json", "--ablation"], "error: --ablation is a table"),
        (["compare", "nothing", "--by-dataset"], "error: --by-dataset is for --latex"),
        (["compare", "nothing", "--digits", "2"], "error: --digits and --percent are for"),
        (["launch", "nowhere.yaml"], "error: nowhere.yaml: no such file"),
        (["models", "VBRP"], "error: unknown model 'VBRP'; did you mean 'VBPR'?"),
    ],
)
def test_what_does_not_exist_ends_with_2_and_one_line(
    command: Command, home: Path, arguments: list[str], said: str
) -> None:
    code, out, err = command(*arguments)
    assert (code, out) == (2, "")
    assert err.startswith(said)
    assert len(err.splitlines()) == 1
    assert not home.exists()


@pytest.mark.parametrize(
    "arguments", [["lanch"], ["launch"], ["schema", "nothing"], ["ui", "--port", "0"]]
)
def test_a_command_that_does_not_exist_ends_with_2(command: Command, arguments: list[str]) -> None:
    code, _, err = command(*arguments)
    assert code == 2
    assert "mgstudy" in err


def test_a_workspace_that_is_a_file_is_refused(
    command: Command, raw: Path, study_file: Path
) -> None:
    for arguments in (["plan", study_file], ["prepare", raw / "toy.yaml"], ["status", "x"]):
        code, _, err = command(*arguments, "--home", study_file)
        assert code == 2
        assert err == f"error: {study_file}: is a file, expected the folder of a workspace\n"


def test_a_failure_of_the_environment_ends_with_1(
    command: Command, home: Path, raw: Path, study_file: Path
) -> None:
    command("prepare", raw / "toy.yaml")
    (home / ".mgstudy" / "studies").touch()
    code, _, err = command("launch", study_file)
    (line,) = err.splitlines()
    assert code == 1
    assert line.startswith("error: ")
    assert str(home / ".mgstudy" / "studies") in line


def test_a_command_that_is_printed_can_be_typed() -> None:
    assert typed("compare", "s", home="my data$") == "`mgstudy compare s --home 'my data$'`"
    assert typed("ui", home=None) == "`mgstudy ui`"
    secret = typed("compare", "s", home="s3://key:secret@bucket/studies")
    assert secret == "`mgstudy compare s --home 's3://key:***@bucket/studies'`"


def test_an_encoding_that_lacks_a_character_ends_no_command(
    command: Command, raw: Path, study_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command("prepare", raw / "toy.yaml")
    written = io.BytesIO()
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(written, encoding="ascii"))
    code, _, err = command("plan", study_file, "--set", "question=± 1 café?")
    sys.stdout.flush()
    assert (code, err) == (0, "")
    assert b"? 1 caf??" in written.getvalue()


def test_a_page_needs_the_name_of_a_file(command: Command, raw: Path) -> None:
    command("prepare", raw / "toy.yaml")
    code, out, err = command("data", "describe", "toy", "--html", "")
    assert (code, out, err) == (2, "", "error: '.' is not the name of a file\n")


def test_too_little_memory_is_said_in_one_line(
    command: Command, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def allocate(path: Path) -> None:
        np.zeros(2**59)

    monkeypatch.setattr("mgstudy.data.sources.mmrec.open_array", allocate)
    code, out, err = command("prepare", raw / "toy.yaml")
    assert (code, out) == (1, "")
    assert err.startswith("error: there is not enough memory: Unable to allocate 4.00 EiB")
    assert len(err.splitlines()) == 1


def test_the_version_is_that_of_the_package(command: Command) -> None:
    assert command("--version") == (0, f"mgstudy {version('mgstudy')}\n", "")


def test_the_installed_command_runs_and_imports_nothing_heavy_for_help(tmp_path: Path) -> None:
    profiled = {"PYTHONPROFILEIMPORTTIME": 1}
    ended = finished(MGSTUDY, "--help", cwd=tmp_path, environment=profiled)
    for name in ("prepare", "plan", "launch", "status", "compare", "ui", "schema", "models"):
        assert re.search(rf"^\W*{name}\s+[A-Z]", ended.stdout, re.MULTILINE)
    imported = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "mgstudy.cli" in imported
    assert imported.isdisjoint({"torch", "ray", "mlflow", "pandas", "optuna"})
    assert list(tmp_path.iterdir()) == []


def test_a_plan_says_which_differences_it_sees_and_how_many_seeds_see_another(
    command: Command, raw: Path, study_file: Path
) -> None:
    command("prepare", raw / "toy.yaml")
    strategies = "factors.gradient=[plain, mirror_gradient]"
    plan = ("plan", study_file, "--set", strategies)
    out = " ".join(command(*plan, "--detect", "3%").out.split())
    assert "differences in recall@2 are seen 4 times of 5 if they are at least" in out
    assert re.search(r"BPR on toy: \d+ % between two configurations; 3 % takes \d+ seeds", out)
    content = json.loads(command(*plan, "--detect", "3%", "--json").out)
    assert content["detect"] == 0.03
    assert all(row["seeds_wanted"] > 5 and row["over_seeds"] > 0.03 for row in content["power"])
    code, _, said = command(*plan, "--detect", "much")
    assert code == 2 and "--detect much: expected a percentage, for example 3%" in said


def test_a_full_disk_that_output_goes_to_is_said_in_a_line(home: Path) -> None:
    with Path("/dev/full").open("w") as full:
        done = finished(MGSTUDY, "--help", code=1, stdout=full)
    assert done.stderr == "error: No space left on device\n"


def test_a_current_folder_that_is_gone_is_said_in_a_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    leave = f"mkdir {gone}; cd {gone}; rmdir {gone}; exec {MGSTUDY} ls"
    done = finished("sh", "-c", leave, code=1)
    assert done.stderr == (
        "error: the current folder: No such file or directory; change to another\n"
    )
