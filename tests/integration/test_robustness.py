"""Measure the models of a launched study, on a real Ray, MLflow and Optuna storage."""

from __future__ import annotations

import json
import signal
import xml.etree.ElementTree as ET
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from mlflow.tracking import MlflowClient
from programs import DEADLINE, MGSTUDY, started
from rich.console import Console

from mgstudy import api
from mgstudy.errors import InputError, MgstudyError
from mgstudy.report.robustness.comparison import RobustnessTables
from mgstudy.study.definition.study import Study, as_launched
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.robustness import driver
from mgstudy.study.robustness.driver import remaining_tasks, run_robustness
from mgstudy.study.robustness.plan import RobustnessPlan, plan_robustness
from mgstudy.study.robustness.results import RobustnessResults
from mgstudy.study.running.placement import TrialResources
from mgstudy.study.storage.epoch_metrics import EpochMetrics
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("two_slots")]

COUNTED_GPUS = 0 if torch.cuda.is_available() else 1
"""By Ray; torch knows none."""
STUDY = """\
name: held
factors:
  dataset: [tiny]
  model: [BPR, VBPR, FREEDOM]
  gradient: [plain, mirror_gradient]
space:
  model: {embedding_size: 8, regularization: 0.01}
  gradient: {mirror_gradient: {alpha1: 1.0, alpha2: 0.3, interval: 2}}
  optimizer: {learning_rate: 0.02}
trials: 1
confirmation: {seeds: 2}
training: {epochs: 3, batch_size: 128, objective: recall@5, measures: [recall], cutoffs: [5]}
robustness:
  risks:
    - {name: gaussian_noise, parameters: {severities: [1, 4], seeds: [0, 1]}}
    - {name: missing_modality, label: gone, parameters: {severities: [1.0], seeds: [0]}}
  resamples: 100
  flatness: {batches: 1, noise_draws: 2, trace_probes: 1, landscape_points: 3, landscape_grid: 3}
"""
MODELS, POINTS = 12, 5
TOGETHER = """\
name: together
factors: {dataset: [tiny], model: [VBPR], gradient: [plain]}
trials: 3
training:
  epochs: 2
  measures: [recall]
  cutoffs: [5]
  objective: {maximize: [recall@5, robustness.gaussian_noise, recall@5 under swap 0.5]}
pruner: {name: ThresholdPruner, arguments: {lower: 0.9}}
confirmation: {seeds: 1}
resources: {max_concurrent: 1}
"""


class Measured:
    """The study launched, which measures its models at the end."""

    def __init__(self, home: Path) -> None:
        (home / "held.yaml").write_text(STUDY)
        self.study: Study = api.read_study(home / "held.yaml", [], home)
        text = StringIO()
        launched = api.launch(self.study, Console(file=text, width=200))
        assert launched.finished
        self.shown = text.getvalue()
        self.summary: StudySummary = launched.summary
        self.results = RobustnessResults(self.study.folder)
        self.content: dict[str, Any] = json.loads(
            (self.results.path / "robustness.json").read_text()
        )


@pytest.fixture(scope="module")
def measured(home: Path, two_slots: None) -> Measured:
    return Measured(home)


def measurements(measured: Measured, kind: str) -> list[dict[str, Any]]:
    found = measured.results.read().values()
    return [each for made in found for each in made if each["kind"] == kind]


def test_a_launch_measures_every_confirmed_model(measured: Measured) -> None:
    assert len(measurements(measured, "clean")) == MODELS
    assert len(measurements(measured, "flatness")) == MODELS
    assert len(measurements(measured, "landscape")) == MODELS / 2  # One replicate of each cell.
    # FREEDOM's graphs are frozen and rebuilt.
    assert len(measurements(measured, "risk")) == POINTS * (MODELS + MODELS / 3)
    assert f"{MODELS} models, {MODELS * (POINTS + 2) + MODELS // 2} measurements" in measured.shown
    assert f"[{MODELS}/{MODELS}]" in measured.shown


def test_the_clean_score_is_the_one_that_was_confirmed(measured: Measured) -> None:
    """The model rebuilt from its weights in another process scores on test as it did."""
    confirmed = {
        (cell.key, replicate.seed): replicate.test_metrics["recall@5"]
        for cell in measured.summary.cells
        for replicate in cell.confirmations
    }
    assert len(confirmed) == MODELS
    for found in measurements(measured, "clean"):
        assert found["split"] == "test"
        assert found["metrics"]["recall@5"] == confirmed[found["cell"], found["seed"]]


def test_bpr_drops_by_exactly_zero_and_vbpr_does_not(measured: Measured) -> None:
    curves = measured.content["curves"]
    for row in curves:
        if row["model"] == "BPR":
            assert (row["relative_drop"], row["drop_low"], row["drop_high"]) == (0, 0, 0)
            assert row["graph"] == "none"
    assert any(r["relative_drop"] != 0 for r in curves if r["model"] == "VBPR")
    assert {row["graph"] for row in curves if row["model"] == "FREEDOM"} == {"frozen", "rebuilt"}


def plan_of(name: str, home: Path, **chosen: list[str]) -> RobustnessPlan:
    workspace = Workspace.resolve(home)
    summary = summarize(workspace, name)
    study = as_launched(summary.manifest, summary.folder, workspace)
    return plan_robustness(study, summary, **chosen)


def test_a_second_time_measures_nothing_and_what_is_lost_is_measured_again(
    measured: Measured, home: Path
) -> None:
    before = measured.results.log.read_bytes()
    text = StringIO()
    api.measure_robustness("held", home, Console(file=text, width=200))
    assert measured.results.log.read_bytes() == before
    assert "measurements to make" not in text.getvalue()
    tables = {path.name: path.read_bytes() for path in measured.results.path.glob("*.csv")}
    # A machine that lost power in the middle of the last line, after losing one before.
    lines = before.splitlines(keepends=True)
    measured.results.log.write_bytes(b"".join([lines[0], *lines[2:-1], lines[-1][:50]]))
    plan = plan_of("held", home)
    assert sum(len(tasks) for _, tasks in remaining_tasks(plan, measured.results)) == 2
    api.measure_robustness("held", home)
    assert sorted(measured.results.log.read_bytes().splitlines()) == sorted(before.splitlines())
    for name, content in tables.items():
        assert (measured.results.path / name).read_bytes() == content


def test_tables_plots_and_json_say_the_same(measured: Measured) -> None:
    folder = measured.results.path
    for name in ("curves", "summary", "flatness"):
        table = pd.read_csv(folder / f"{name}.csv", keep_default_na=False, na_values=[""])
        stored = pd.DataFrame(measured.content[name])
        assert list(table.columns) == list(stored.columns)
        numbers = table.select_dtypes("number").columns
        assert len(table) == len(stored) > 0
        pd.testing.assert_frame_equal(
            table[numbers].astype(float), stored[numbers].astype(float), rtol=1e-12
        )
    names = {"risk_gaussian_noise", "risk_gone", "flatness", "landscape_line", "landscape_square"}
    plots = folder / "plots"
    assert {path.name for path in plots.iterdir()} == {
        f"{name}.{suffix}" for name in names for suffix in ("png", "svg")
    }
    for name in names:
        assert (plots / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert ET.parse(plots / f"{name}.svg").getroot().tag.endswith("svg")


def test_a_landscape_has_the_levels_of_its_cell(measured: Measured) -> None:
    found = {(each["model"], each["gradient"]) for each in measured.content["landscapes"]}
    assert found == {
        (model, gradient)
        for model in ("BPR", "VBPR", "FREEDOM")
        for gradient in ("plain", "mirror_gradient")
    }
    assert all("line" in each and "square" in each for each in measured.content["landscapes"])


def test_mlflow_has_the_numbers_on_the_models_and_the_plots_on_the_study(
    measured: Measured, home: Path
) -> None:
    client = MlflowClient(f"sqlite:///{home / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("held")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    (parent,) = [run for run in runs if run.data.tags["mgstudy.role"] == "study"]
    artifacts = {file.path for file in client.list_artifacts(parent.info.run_id, "robustness")}
    assert {"robustness/curves.csv", "robustness/risk_gone.svg", "robustness/flatness.png"} <= (
        artifacts
    )
    by_trial = {run.data.tags.get("mgstudy.trial"): run for run in runs}
    for found in measurements(measured, "flatness"):
        metrics = by_trial[found["model"]].data.metrics
        assert metrics["flatness/top_eigenvalue"] == pytest.approx(found["top_eigenvalue"])
    vbpr = next(f for f in measurements(measured, "clean") if "/VBPR/" in f["cell"])
    run = by_trial[vbpr["model"]]
    history = client.get_metric_history(run.info.run_id, "robustness/gaussian_noise/recall_at_5")
    expected: dict[int, list[float]] = {}
    for found in measurements(measured, "risk"):
        if found["model"] == vbpr["model"] and found["risk"] == "gaussian_noise":
            step = int(1000 * found["severity"])
            expected.setdefault(step, []).append(found["metrics"]["recall@5"])
    assert {m.step: m.value for m in history} == pytest.approx(
        {step: sum(values) / 2 for step, values in expected.items()}
    )


def test_accuracy_against_robustness_is_one_frame(measured: Measured, home: Path) -> None:
    frame = api.load_study("held", home).robustness()
    assert len(frame) == 6
    assert {"model", "gradient", "cell", "clean", "drop", "area"} <= set(frame.columns)
    assert {"drop/gone", "area/gaussian_noise", "flatness/hessian_trace"} <= set(frame.columns)
    assert not frame["clean"].isna().any()
    assert (frame.loc[frame["model"] == "BPR", "area"] == 0).all()


def test_only_some_cells_and_risks(measured: Measured, home: Path) -> None:
    plan = plan_of("held", home, cells=["VBPR/plain"], risks=["gone"])
    assert [model.cell.key for model in plan.trained] == ["tiny/VBPR/plain/none/adam/999"] * 2
    assert [task.kind for task in plan.tasks(plan.trained[0])] == ["clean", "risk"]
    with pytest.raises(InputError, match="unknown risk 'gon'; did you mean 'gone'"):
        plan_of("held", home, risks=["gon"])
    with pytest.raises(InputError, match="no cell matches 'VPBR'"):
        plan_of("held", home, cells=["VPBR"])
    with pytest.raises(InputError, match="no study 'hold'"):
        plan_of("hold", home)
    # Tables of everything measured, also when only some was asked for.
    tables: RobustnessTables = api.measure_robustness("held", home, cells=["VBPR/plain"])
    assert tables.summary["cell"].nunique() == 6


def test_only_one_process_measures_a_study(measured: Measured, home: Path) -> None:
    with (
        measured.results.writing(),
        pytest.raises(MgstudyError, match="already being measured by another process"),
    ):
        api.measure_robustness("held", home)


def test_without_confirmation_the_best_trial_is_measured_on_validation(home: Path) -> None:
    text = STUDY.replace("name: held", "name: searched").replace("seeds: 2}", "seeds: 0}")
    text = text.replace("[BPR, VBPR, FREEDOM]", "[BPR]").partition("robustness:")[0]
    text += "resources: {max_concurrent: 1}\n"
    (home / "searched.yaml").write_text(text)
    api.launch(api.read_study(home / "searched.yaml", [], home))
    assert not (home / ".mgstudy" / "studies" / "searched" / "robustness").exists()
    tables = api.measure_robustness("searched", home, risks=["swap"])
    assert set(tables.curves["split"]) == {"validation"}
    best = {cell.key: cell.best for cell in summarize(Workspace.resolve(home), "searched").cells}
    for row in tables.summary.to_dict("records"):
        trial = best[row["cell"]]
        assert trial is not None
        assert row["clean"] == trial.value


def test_a_study_searches_for_accuracy_and_robustness_together(home: Path) -> None:
    (home / "together.yaml").write_text(TOGETHER)
    study = api.read_study(home / "together.yaml", home=home)
    launched = api.launch(study, Console(quiet=True))
    (cell,) = launched.summary.cells
    assert cell.counts["complete"] == 3 and cell.counts["pruned"] == 0
    (replicate,) = cell.confirmations
    objectives = study.config.training.objectives
    assert set(objectives) <= set(replicate.test_metrics)
    for trial in cell.trials:
        assert trial.frozen is not None
        assert trial.frozen.values == [trial.outcome["best_metrics"][name] for name in objectives]
    comparison = api.compare(["together"], home=home)
    assert set(objectives) <= set(comparison.metrics)


def test_what_a_launch_at_a_url_has_found_is_there_for_every_machine(
    measured: Measured, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/shared"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/mlflow.db")
    text = STUDY.replace("name: held", "name: far").replace("[BPR, VBPR, FREEDOM]", "[VBPR]")
    (tmp_path / "far.yaml").write_text(f"{text}storage: sqlite:///{tmp_path}/far.db\n")
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "first"))
    api.prepare(home / "tiny.yaml", home=url)
    assert api.launch(api.read_study(tmp_path / "far.yaml", home=url)).finished
    table = api.load_study("far", url).robustness()
    assert len(table) == 2
    monkeypatch.setenv("MGSTUDY_CACHE", str(tmp_path / "second"))
    there = api.load_study("far", url)
    pd.testing.assert_frame_equal(there.robustness(), table)
    curves = [(e.trial, e.step) for e, _ in EpochMetrics.of(there.summary.folder).read()]
    assert sorted(curves) == sorted(
        (trial.key, step)
        for cell in there.summary.cells
        for trial in cell.every_trial()
        for step in trial.values
    )
    remote = tmp_path / "shared" / ".mgstudy" / "studies" / "far"
    names = {path.name for path in remote.rglob("*.*")}
    assert {"popularity.json", "robustness.json", "curves.csv", "summary.csv"} <= names
    before = (remote / "robustness" / "measurements.jsonl").read_bytes()
    api.measure_robustness("far", url)
    assert (remote / "robustness" / "measurements.jsonl").read_bytes() == before


@pytest.mark.skipif(not COUNTED_GPUS, reason="workers would use the GPU that there is")
def test_a_model_that_needs_more_of_a_gpu_gets_it_and_so_do_the_next_of_its_cell(
    measured: Measured, home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    tried = tmp_path / "tried"

    def measure(job: Any, dataset: Any, cpus: float) -> Any:
        with tried.open("a") as file:
            file.write(f"{job.trained.replicate} {job.gpu}\n")
        if job.gpu < 0.5:
            raise MemoryError("out of GPU memory: CUDA")
        yield from ([] for _ in job.tasks)

    monkeypatch.setattr(driver, "_measure", measure)
    plan = plan_of("held", home, cells=["VBPR/plain"], risks=["gone"])
    results = RobustnessResults(StudyFolder(tmp_path))
    with results.writing():
        run_robustness(plan, results, TrialResources(cpu=1, gpu=1 / 16, slots=1))
    assert tried.read_text().splitlines() == [
        "0 0.0625", "0 0.125", "0 0.25", "0 0.5", "1 0.5"
    ]  # fmt: skip
    assert remaining_tasks(plan, results) == []


def test_ctrl_c_keeps_what_was_measured_and_exits_130(measured: Measured, home: Path) -> None:
    """Everything is measured anew by another process, which is interrupted after its first
    model."""
    kept = measured.results.log.read_bytes()
    measured.results.log.unlink()
    try:
        with started(MGSTUDY, "robustness", "held", "--home", home) as process:
            assert process.stdout is not None
            for line in process.stdout:
                if line.startswith("[1/"):
                    process.send_signal(signal.SIGINT)
                    break
            rest, _ = process.communicate(timeout=DEADLINE)
        assert process.returncode == 130
        assert "goes on where it stopped" in rest
        partial = measured.results.read()
        assert 7 <= len(partial) < MODELS * (POINTS + 2)
    finally:
        measured.results.log.write_bytes(kept)
