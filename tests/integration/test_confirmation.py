"""A study whose winners are confirmed, on a real Ray."""

from __future__ import annotations

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from heard import Heard
from mlflow.entities import Run
from mlflow.tracking import MlflowClient
from rich.console import Console
from scipy import stats

import mgstudy
from mgstudy import api
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.running.cell_trainer import build_cell_trainer
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import State
from mgstudy.training.checkpoint import load_checkpoint
from mgstudy.training.evaluation import Evaluator

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("two_slots")]

COUNTED_GPUS = 0 if torch.cuda.is_available() else 1
"""A GPU that Ray counts and torch cannot use changes nothing."""
STUDY = """\
name: confirmed
factors:
  dataset: [tiny]
  model: [BPR, 'their_parts:Buggy']
  gradient: [plain, mirror_gradient]
space:
  model: {embedding_size: 4, regularization: 0.01}
  gradient: {mirror_gradient: {alpha1: 1.0, alpha2: 0.3, interval: 2}}
  optimizer: {learning_rate: {choice: [0.001, 0.01, 0.05]}}
sampler: GridSampler
trials: 2
confirmation: {seeds: 2}
training: {epochs: 4, batch_size: 128, objective: ndcg@5, measures: [ndcg, recall], cutoffs: [5]}
pruner: NopPruner
"""


class Launches:
    """The study launched as it is, again, with more seeds, and with more trials."""

    def __init__(self, home: Path) -> None:
        self.heard: list[Heard] = []
        self.summaries: list[StudySummary] = []
        self.shown: list[str] = []
        (home / "confirmed.yaml").write_text(STUDY)
        for overrides in (
            [],
            [],
            ["confirmation.seeds=3", "resources.max_concurrent=1"],
            ["confirmation.seeds=3", "resources.max_concurrent=1", "trials=3"],
        ):
            self.study: Study = api.read_study(home / "confirmed.yaml", overrides, home)
            heard, text = Heard(), StringIO()
            launched = api.launch(self.study, Console(file=text, width=200), [heard])
            assert launched.finished
            assert launched.undelivered == 0
            self.heard.append(heard)
            self.summaries.append(launched.summary)
            self.shown.append(text.getvalue())

    def cells(self, launch: int) -> list[CellState]:
        """The cells that left a winner."""
        return [c for c in self.summaries[launch].cells if c.levels["model"] == "BPR"]


@pytest.fixture(scope="module")
def launches(home: Path, two_slots: None) -> Launches:
    return Launches(home)


def test_each_winner_is_trained_again_under_fresh_seeds(launches: Launches) -> None:
    seeds = set()
    for cell in launches.cells(0):
        assert cell.finished
        assert cell.best is not None
        assert [replicate.number for replicate in cell.confirmations] == [0, 1]
        for replicate in cell.confirmations:
            assert replicate.state is State.COMPLETE
            assert replicate.parameters == cell.best.parameters
            seeds.add(replicate.seed)
    assert len(seeds - {999}) == 4


def test_a_cell_without_a_winner_has_nothing_to_confirm(launches: Launches) -> None:
    for cell in launches.summaries[0].cells:
        if cell.levels["model"] == "Buggy":
            assert cell.finished
            assert cell.confirmations == []
            assert set(cell.confirmation_counts.values()) == {0}
    assert launches.summaries[0].finished
    assert launches.shown[0].splitlines()[-1].endswith("remaining 0 s")


def test_a_confirmation_is_repeated_to_the_bit_by_the_library(launches: Launches) -> None:
    study, found = launches.study, launches.cells(3)[1]
    cell = next(cell for cell in study.plan.cells if cell.key == found.key)
    replicate = found.confirmations[1]
    trainer = build_cell_trainer(
        cell,
        study.datasets["tiny"],
        replicate.parameters,
        study.config.training,
        seed=replicate.seed,
    )
    scores = {result.epoch + 1: result.metrics["ndcg@5"] for result in trainer.epochs()}
    assert scores == dict(replicate.values)
    assert trainer.test_metrics() == pytest.approx(replicate.test_metrics, rel=1e-12)


def test_the_kept_weights_give_every_users_score_on_test(launches: Launches) -> None:
    study = launches.study
    dataset = study.datasets["tiny"]
    for found in launches.cells(3):
        cell = next(cell for cell in study.plan.cells if cell.key == found.key)
        for replicate in found.confirmations:
            trainer = build_cell_trainer(cell, dataset, replicate.parameters, study.config.training)
            trainer.model.load_state_dict(load_checkpoint(replicate.weights)["model"])
            trainer.model.eval()
            evaluator = Evaluator(dataset, "test", study.config.training.metrics)
            scores = evaluator.evaluate_users(trainer.model.scorer())
            users = pd.read_parquet(replicate.test_users)
            assert list(users) == ["user", "ndcg@5", "recall@5"]
            assert np.array_equal(users["user"], np.unique(dataset.test.users))
            for name, values in scores.items():
                assert np.array_equal(users[name], values)
                assert replicate.test_metrics[name] == pytest.approx(values.mean(), rel=1e-12)


def test_the_search_never_scores_on_test(launches: Launches) -> None:
    for cell in launches.summaries[3].cells:
        for trial in cell.trials:
            assert not any("test" in name for name in trial.outcome)


def test_launched_again_it_runs_what_is_missing(launches: Launches) -> None:
    keys = [cell.key for cell in launches.cells(0)]
    winners = [cell.best.number for cell in launches.cells(0) if cell.best]
    assert launches.heard[1].finished == {}
    assert launches.heard[2].confirmed == sorted(
        f"{key}/confirmation/{winner}/2" for key, winner in zip(keys, winners, strict=True)
    )
    for before, after in zip(launches.cells(1), launches.cells(2), strict=True):
        assert after.confirmations[:2] == before.confirmations


def test_a_new_winner_is_confirmed_beside_the_earlier_one(launches: Launches) -> None:
    expected = []
    for before, after in zip(launches.cells(2), launches.cells(3), strict=True):
        assert before.best is not None
        assert after.best is not None
        if after.best.number == before.best.number:
            assert after.confirmations == before.confirmations
            assert after.superseded == ()
        else:
            expected += [f"{after.key}/confirmation/{after.best.number}/{i}" for i in range(3)]
            assert after.superseded == (before.best.number,)
            assert [r.seed for r in after.confirmations] == [r.seed for r in before.confirmations]
            assert all(replicate.weights.exists() for replicate in before.confirmations)
    assert launches.heard[3].confirmed == sorted(expected)
    # The test would be of no use otherwise.
    assert expected


def test_mlflow_tells_confirmations_from_trials(
    launches: Launches, home: Path, runs: Callable[[str], list[Run]]
) -> None:
    found = {run.data.tags["mgstudy.trial"]: run for run in runs("confirmation")}
    for launch in (2, 3):
        for cell in launches.cells(launch):
            assert cell.best is not None
            for replicate in cell.confirmations:
                key = f"{cell.key}/confirmation/{cell.best.number}/{replicate.number}"
                run = found[key]
                assert run.info.status == "FINISHED"
                assert run.data.tags["mgstudy.stage"] == "confirmation"
                assert run.data.tags["mgstudy.seed"] == str(replicate.seed)
                measured = run.data.metrics["test/ndcg_at_5"]
                assert measured == replicate.test_metrics["ndcg@5"]
    assert all(run.data.tags["mgstudy.stage"] == "search" for run in runs("trial"))
    assert not any(name.startswith("test/") for run in runs("trial") for name in run.data.metrics)


@pytest.fixture
def runs(home: Path) -> Callable[[str], list[Run]]:
    client = MlflowClient(f"sqlite:///{home}/mlflow.db")

    def with_role(role: str) -> list[Run]:
        experiment = client.get_experiment_by_name("confirmed")
        assert experiment is not None
        wanted = f"tags.`mgstudy.role` = '{role}'"
        return list(client.search_runs([experiment.experiment_id], wanted, max_results=1000))

    return with_role


# What the command line and the library say of it.


def test_the_comparison_is_on_test_scores(launches: Launches, printed) -> None:
    content = json.loads(printed("compare", "confirmed", "--json"), parse_constant=pytest.fail)
    assert content["split"] == "test"
    for row, cell in zip(content["cells"], launches.summaries[3].cells, strict=True):
        scores = [r.test_metrics["ndcg@5"] for r in cell.confirmations]
        found = row["metrics"]["ndcg@5"]
        assert found["seeds"] == len(scores)
        if not scores:
            assert found["verdict"] == "no trial completed"
            continue
        assert found["mean"] == pytest.approx(np.mean(scores))
        if cell.levels["gradient"] == "plain":
            assert found["verdict"] == "baseline"
        else:
            plain = [r.test_metrics["ndcg@5"] for r in launches.cells(3)[0].confirmations]
            expected = stats.ttest_ind(scores, plain, equal_var=False).pvalue
            assert found["p_t"] == pytest.approx(expected)
            assert found["p_users_permutation"] > 0
    dataset = launches.study.datasets["tiny"]
    counts = np.bincount(dataset.train.items, minlength=dataset.item_count).astype(np.float32)
    expected = Evaluator(dataset, "test", ["ndcg@5"]).evaluate(
        lambda users: torch.from_numpy(counts).repeat(len(users), 1)
    )
    assert content["popularity"]["tiny"]["ndcg@5"] == pytest.approx(expected["ndcg@5"])


def test_status_and_plan_count_confirmations(launches: Launches, home: Path, printed) -> None:
    cells = json.loads(printed("status", "confirmed", "--json"))["cells"]
    assert [cell["confirmations"]["complete"] for cell in cells] == [3, 3, 0, 0]
    more = ["--set", "trials=3", "--set", "confirmation.seeds=5"]
    content = json.loads(printed("plan", str(home / "confirmed.yaml"), *more, "--json"))
    assert content["trials_to_run"] == 0
    assert content["confirmations_to_run"] == 4
    assert content["seconds_estimated"] > 0


def test_the_library_gives_the_same_as_tables(launches: Launches, home: Path) -> None:
    results = mgstudy.load_study("confirmed", home)
    replicates = results.confirmations()
    assert len(replicates) == 6
    assert list(replicates["seed"]) == [r.seed for c in launches.cells(3) for r in c.confirmations]
    assert len(results.trials()) == 12
    assert set(results.curves()["stage"]) == {"search", "confirmation"}
    assert list(results.comparison(metrics=["ndcg@5"])["seeds"]) == [3, 3, 0, 0]
