"""Every installed robust method is held to what a method owes, alone and with the others.

Every model is tried with every method in tests/models/test_contract.py.
"""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from torch import Tensor

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.base import Batch, EmbeddingRecommender, models
from mgstudy.models.bpr import BPR
from mgstudy.testing import RobustMethodContract
from mgstudy.training.robust.base import prepare_dataset, robust_methods
from mgstudy.training.run import build_trainer
from mgstudy.training.trainer import Trainer

IMMEDIATE = {"warmup_epochs": 0}
ACTING: dict[str, dict[str, Any]] = {
    "adversarial_embeddings": IMMEDIATE,
    "adversarial_features": IMMEDIATE,
}
NEUTRAL: list[tuple[str, dict[str, float]]] = [
    ("adversarial_embeddings", {**IMMEDIATE, "epsilon": 0.0}),
    ("adversarial_embeddings", {**IMMEDIATE, "weight": 0.0}),
    ("adversarial_features", {**IMMEDIATE, "epsilon": 0.0}),
    ("adversarial_features", {**IMMEDIATE, "weight": 0.0}),
    ("denoise", {"strength": 0.0}),
    ("dvib", {"noise": 0.0, "weight": 0.0, "scale": 0.5}),
    ("edge_dropout", {"probability": 0.0}),
    ("feature_noise", {"scale": 0.0}),
    ("information_bottleneck", {"noise": 0.0}),
    ("modality_dropout", {"probability": 0.0}),
    ("r_drop", {"weight": 0.0}),
]

for method in robust_methods:
    settings = [settings for name, settings in NEUTRAL if name == method.name]
    globals()[f"Test{method.__name__}"] = type(
        f"Test{method.__name__}", (RobustMethodContract,), {"method": method, "neutral": settings}
    )


@pytest.mark.parametrize(
    ("model", "accepted"),
    [
        ("BPR", ["adversarial_embeddings", "r_drop"]),
        ("VBPR", sorted(set(robust_methods.names()) - {"edge_dropout"})),
        ("FREEDOM", robust_methods.names()),
        (
            "LayerGCN",
            ["adversarial_embeddings", "edge_dropout", "information_bottleneck", "r_drop"],
        ),
        ("BM3", sorted(set(robust_methods.names()) - {"r_drop"})),
        ("ItemKNNCBF", []),
    ],
)
def test_which_methods_go_with_which_models(model: str, accepted: list[str]) -> None:
    kind = models.get(model)
    assert [method.name for method in robust_methods if method.refusal(kind) is None] == accepted


@pytest.mark.parametrize("name", ["denoise", "modality_dropout"])
def test_one_modality_is_not_enough_for_some(small_dataset: Dataset, name: str) -> None:
    alone = small_dataset.with_features({"image": small_dataset.features["image"]})
    refusal = robust_methods.get(name).refusal(models.get("VBPR"), alone)
    assert refusal == f"{name} needs 2 or more modalities, dataset 'small' has 1"
    assert robust_methods.get(name).refusal(models.get("VBPR"), small_dataset) is None


class OwnArithmetic(BPR):
    """A model from elsewhere, which shares nothing."""

    name = "OwnArithmetic"

    def loss(self, batch: Batch) -> Tensor:
        assert batch.negatives is not None
        users, items = self.user_embedding[batch.users], self.item_embedding
        margin = (users * (items[batch.positives] - items[batch.negatives])).sum(dim=1)
        return -margin.sigmoid().log().mean()


class Fails(EmbeddingRecommender):
    """A model that cannot be tried out."""

    name = "Fails"

    def loss(self, batch: Batch) -> Tensor:
        raise RuntimeError("needs a week of preparation")

    def representations(self) -> tuple[Tensor, Tensor]:
        raise NotImplementedError


def test_a_model_from_elsewhere_is_judged_by_what_it_does() -> None:
    accepted = [method.name for method in robust_methods if method.refusal(OwnArithmetic) is None]
    assert accepted == ["adversarial_embeddings"]
    refusal = robust_methods.get("r_drop").refusal(OwnArithmetic)
    assert refusal == "r_drop needs a prediction as a probability, which the loss of " + (
        "OwnArithmetic has not"
    )
    refusal = robust_methods.get("r_drop").refusal(Fails)
    assert refusal is not None and refusal.endswith("unknown: needs a week of preparation")


def test_trying_a_model_out_leaves_the_random_numbers_alone() -> None:
    class Fresh(BPR):
        name = "Fresh"

    state = torch.get_rng_state()
    assert robust_methods.get("edge_dropout").refusal(Fresh) is not None
    assert torch.equal(torch.get_rng_state(), state)


# Neutral settings: the loss itself, so nothing at all can differ.


def test_every_method_has_a_neutral_setting() -> None:
    assert {name for name, _ in NEUTRAL} == set(robust_methods.names())


def test_training_under_neutral_methods_is_ordinary_training_to_the_bit(
    small_dataset: Dataset,
) -> None:
    settings = TrainingSettings(epochs=2, batch_size=64, objective="recall@10", cutoffs=(10,))
    losses = []
    for robust in ([], NEUTRAL):
        trainer = build_trainer(small_dataset, model="FREEDOM", robust=robust, settings=settings)
        losses.append([(result.loss, result.metrics) for result in trainer.epochs()])
    assert losses[0] == losses[1]


# Composition.


def test_the_first_of_a_list_is_innermost(vbpr: Any) -> None:
    noise = vbpr.method("feature_noise", scale=1.0)
    adversary = vbpr.method("adversarial_features", weight=0.5, **IMMEDIATE)
    calls = 0

    class Counting(type(noise)):  # type: ignore[misc]
        def wrap(self, loss: Any, context: Any) -> Any:
            inner = super().wrap(loss, context)

            def counted() -> Tensor:
                nonlocal calls
                calls += 1
                return inner()

            return counted

    counting = Counting(vbpr.model, noise.parameters)
    vbpr.robust_loss(counting, adversary)()
    assert calls == 3
    vbpr.robust_loss(adversary, counting)()
    assert calls == 3 + 1


def test_the_data_are_prepared_in_order(small_dataset: Dataset) -> None:
    denoise = robust_methods.get("denoise")
    settings = [denoise.Parameters(threshold=threshold) for threshold in (2.0, 3.0)]
    chained = prepare_dataset([(denoise, one) for one in settings], small_dataset)
    by_hand = denoise.prepared(denoise.prepared(small_dataset, settings[0]), settings[1])
    assert chained.feature_fingerprints == by_hand.feature_fingerprints


# In a training by name.


def test_a_training_is_built_on_the_prepared_data(small_dataset: Dataset) -> None:
    trainer = build_trainer(small_dataset, model="VBPR", robust=[("denoise", {"threshold": 1.0})])
    expected = robust_methods.get("denoise")
    expected_dataset = expected.prepared(small_dataset, expected.Parameters(threshold=1.0))
    assert trainer.dataset.feature_fingerprints == expected_dataset.feature_fingerprints
    table = trainer.model.features.table("image")
    assert torch.equal(table, torch.from_numpy(expected_dataset.features["image"]))
    assert not torch.equal(table, torch.from_numpy(small_dataset.features["image"]))


def test_a_continued_training_gives_the_same_numbers_to_the_bit(small_dataset: Dataset) -> None:
    def started() -> Trainer:
        return build_trainer(
            small_dataset,
            model="FREEDOM",
            gradient="mirror_gradient",
            robust=[
                (name, {"warmup_epochs": 1} if name in ACTING else {})
                for name in robust_methods.names()
            ],
            settings=TrainingSettings(
                epochs=4, batch_size=128, objective="recall@10", cutoffs=(10,)
            ),
        )

    # All draw from torch's global generator, so one is built when the one before is done.
    losses = [result.loss for result in started().epochs()]
    first = started()
    epochs = first.epochs()
    assert [next(epochs).loss for _ in range(2)] == losses[:2]
    state = copy.deepcopy(first.state_dict())
    second = started()
    second.load_state_dict(state)
    assert [result.loss for result in second.epochs()] == losses[2:]


def test_an_impossible_training_is_refused(small_dataset: Dataset) -> None:
    with pytest.raises(InputError, match="edge_dropout needs a graph, which the loss of VBPR has"):
        build_trainer(small_dataset, model="VBPR", robust=[("edge_dropout", {})])


def test_counts_the_passes_it_makes(small_dataset: Dataset) -> None:
    settings = TrainingSettings(epochs=2, batch_size=64, objective="recall@10", cutoffs=(10,))
    trainer = build_trainer(
        small_dataset,
        model="VBPR",
        gradient="sam",
        robust=[("adversarial_features", {"warmup_epochs": 1})],
        settings=settings,
    )
    batches = -(-len(small_dataset.train) // 64)
    first, second = [result.gradient_computations for result in trainer.epochs()]
    assert (first, second - first) == (2 * batches, 2 * 3 * batches)
