"""Trained models under risks: exact where nothing changes, worse the more does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mgstudy.data.dataset import Dataset
from mgstudy.data.derived import DerivedArrays
from mgstudy.models.base import models
from mgstudy.robustness.risks.base import make_risk, risks
from mgstudy.robustness.trained_model import (
    ItemGraph,
    TrainedModel,
    resampled_means,
    with_changed_features,
)
from mgstudy.training.evaluation import Evaluator

Train = Callable[..., TrainedModel]
READS = {"VBPR", "MMGCF", "MGCN", "LATTICE", "MMGCN", "SLMRec", "ItemKNNCBF"}
BUILDS_GRAPHS = {"FREEDOM", "MGCN", "LATTICE", "DRAGON", "DAMRS", "SMORE", "PGL"}


def recall(trained: TrainedModel, risk: str, severity: float, seed: int = 0) -> dict[str, float]:
    found = trained.under(make_risk(risk), severity, seed)
    return {each.graph.value: float(each.values["recall@5"].mean()) for each in found}


@pytest.mark.parametrize("model", models.names())
def test_severity_zero_gives_the_clean_score_exactly(model: str, train: Train) -> None:
    trained = train(model, epochs=1)
    measured = list(trained.under(make_risk("gaussian_noise"), 0.0, seed=1))
    assert measured
    for each in measured:
        for metric, values in each.values.items():
            np.testing.assert_array_equal(values, trained.clean[metric])


@pytest.mark.parametrize("model", ["VBPR", "FREEDOM"])
@pytest.mark.parametrize("risk", risks.names())
def test_every_risk_through_its_whole_path_is_exact_at_zero(
    model: str, risk: str, train: Train
) -> None:
    trained = train(model, epochs=1)
    for each in trained.under(make_risk(risk), 0.0, seed=1):
        np.testing.assert_array_equal(each.values["recall@5"], trained.clean["recall@5"])


def test_rebuilding_on_the_clean_features_gives_the_clean_score_exactly(train: Train) -> None:
    trained = train("MGCN", epochs=1)
    copied = with_changed_features(trained.dataset, dict(trained.dataset.features))
    again = trained.evaluator.evaluate_users(trained._built(copied).scorer())
    np.testing.assert_array_equal(again["recall@5"], trained.clean["recall@5"])


def test_metrics_of_all_lists_and_of_groups_are_measured_too(train: Train) -> None:
    trained = train("VBPR", epochs=1)
    evaluator = Evaluator(trained.dataset, "test", ["coverage@5", "recall-heavy@5"])
    measured = TrainedModel(trained._build, trained.dataset, evaluator)
    means = evaluator.evaluate(measured.model.scorer())
    assert measured.clean["coverage@5"].tolist() == [means["coverage@5"]]
    assert np.nanmean(measured.clean["recall-heavy@5"]) == means["recall-heavy@5"]


@pytest.mark.parametrize("model", ["BPR", "LightGCN", "Popularity"])
def test_a_model_that_ignores_features_drops_by_exactly_zero(model: str, train: Train) -> None:
    trained = train(model, epochs=2)
    for name in risks:
        for severity in name().parameters.severities:
            for each in trained.under(name(), severity, seed=0):
                assert (each.graph, each.reached) == (ItemGraph.NONE, False)
                np.testing.assert_array_equal(each.values["ndcg@10"], trained.clean["ndcg@10"])
    # And not because it was not looked at: built on noise, it scores the same.
    noise = make_risk("gaussian_noise").tables(trained.dataset, 9.0, seed=0)
    changed = trained._built(with_changed_features(trained.dataset, noise))
    again = trained.evaluator.evaluate_users(changed.scorer())
    np.testing.assert_array_equal(again["ndcg@10"], trained.clean["ndcg@10"])


def test_the_drop_grows_with_severity_on_models_that_depend_on_their_features(
    train: Train,
) -> None:
    content_only = train("ItemKNNCBF", epochs=1)
    hybrid = train("VBPR", epochs=30)
    for trained in (content_only, hybrid):
        clean = float(trained.clean["recall@5"].mean())
        for risk, severities in {
            "gaussian_noise": (0.5, 2.0, 8.0),
            "swap": (0.25, 0.5, 1.0),
            "stale": (0.25, 0.5, 1.0),
        }.items():
            found = [
                np.mean([recall(trained, risk, severity, seed)["none"] for seed in range(4)])
                for severity in severities
            ]
            assert clean > found[0] > found[1] > found[2], (trained.model.name, risk, found)


def test_an_attack_lowers_the_score_more_than_noise_of_its_size(train: Train) -> None:
    trained = train("VBPR", epochs=30)
    clean = float(trained.clean["recall@5"].mean())
    noise = np.mean([recall(trained, "gaussian_noise", 0.5, seed)["none"] for seed in range(5)])
    assert recall(trained, "fgsm", 0.5)["none"] < noise < clean
    assert recall(trained, "pgd", 0.5)["none"] < noise


@pytest.mark.parametrize("model", sorted(READS | BUILDS_GRAPHS | {"BM3", "DualGNN"}))
def test_it_is_known_how_features_reach_a_model(model: str, train: Train) -> None:
    trained = train(model, epochs=1)
    assert trained.has_item_graph is (model in BUILDS_GRAPHS)
    if model in READS:
        assert trained.reads_features
    if model in {"BM3", "FREEDOM"}:
        assert not trained.reads_features
    graphs = [each.graph for each in trained.under(make_risk("swap"), 1.0, seed=0)]
    expected = [ItemGraph.FROZEN, ItemGraph.REBUILT] if trained.has_item_graph else [ItemGraph.NONE]
    assert graphs == expected


def test_a_frozen_graph_is_the_clean_one_and_a_rebuilt_one_that_of_the_change(train: Train) -> None:
    trained = train("FREEDOM", epochs=2)
    frozen, rebuilt = trained.under(make_risk("swap"), 1.0, seed=0)
    assert (frozen.reached, rebuilt.reached) == (False, True)
    np.testing.assert_array_equal(frozen.values["recall@5"], trained.clean["recall@5"])
    freedom = models.get("FREEDOM")
    swapped = make_risk("swap").tables(trained.dataset, 1.0, seed=0)
    by_hand = freedom(trained.dataset.with_features(swapped), freedom.Parameters()).eval()
    by_hand.load_state_dict(trained.model.state_dict())
    with torch.no_grad():
        expected = trained.evaluator.evaluate_users(by_hand.scorer())
    np.testing.assert_array_equal(rebuilt.values["recall@5"], expected["recall@5"])
    assert not np.array_equal(expected["recall@5"], trained.clean["recall@5"])


def test_a_trained_copy_gets_the_change_as_a_difference(train: Train) -> None:
    """The model's own tables are not the dataset's any more; the change is added to them."""
    trained = train("MGCN", epochs=1)
    features = trained.model.features
    tables = make_risk("gaussian_noise").tables(trained.dataset, 1.0, seed=0)
    own = {modality: features.table(modality).clone() for modality in features.modalities}
    assert not np.allclose(own["image"].detach().numpy(), trained.dataset.features["image"])
    expected = trained._built(trained.dataset)
    with torch.no_grad():
        for modality in features.modalities:
            difference = tables[modality] - trained.dataset.features[modality]
            expected.features.table(modality).add_(torch.from_numpy(difference))
        by_hand = trained.evaluator.evaluate_users(expected.scorer())
    frozen, _ = trained.under(make_risk("gaussian_noise"), 1.0, seed=0)
    np.testing.assert_array_equal(frozen.values["recall@5"], by_hand["recall@5"])
    torch.testing.assert_close(features.table("image"), own["image"], rtol=0, atol=0)


def test_what_follows_from_changed_features_is_not_kept_on_disk(
    small_dataset: Dataset, tmp_path: Path
) -> None:
    kept = replace(small_dataset, derived=DerivedArrays(tmp_path))
    freedom = models.get("FREEDOM")
    freedom(kept, freedom.Parameters())
    before = sorted(path.name for path in tmp_path.iterdir())
    assert any(name.startswith("nearest_items") for name in before)
    noise = make_risk("gaussian_noise").tables(kept, 1.0, seed=0)
    freedom(with_changed_features(kept, noise), freedom.Parameters())
    assert sorted(path.name for path in tmp_path.iterdir()) == before


# Bootstrap samples of users.


def test_samples_spread_as_the_standard_error_says() -> None:
    values = np.random.default_rng(0).exponential(size=400)
    means = resampled_means(values, resamples=4000)
    assert means.shape == (4000,)
    error = values.std() / np.sqrt(400)
    assert abs(means.mean() - values.mean()) < 4 * error / np.sqrt(4000)
    assert abs(means.std() / error - 1) < 0.05


def test_everything_is_measured_on_the_same_users() -> None:
    values = np.random.default_rng(0).random(50)
    np.testing.assert_allclose(
        resampled_means(3 * values + 1, 100), 3 * resampled_means(values, 100) + 1, rtol=1e-6
    )
    np.testing.assert_allclose(resampled_means(np.full(50, 0.25), 100), 0.25)
