from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from published_values import formula
from scipy.optimize import minimize
from torch import Tensor

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.errors import InputError
from mgstudy.models.base import Batch
from mgstudy.models.item_graphs import consensus_graph
from mgstudy.models.layers import sparsemax
from mgstudy.models.propagation import propagate
from mgstudy.models.sieoug import SIEOUG, optimal_plan

BATCH = Batch(
    users=torch.tensor([0, 5, 7, 0, 8, 16, 19]),
    positives=torch.tensor([1, 0, 10, 14, 21, 22, 13]),
    negatives=torch.tensor([6, 5, 0, 20, 15, 23, 19]),
    nominal_size=8,
)
FIRST, SECOND = torch.tensor([0, 5, 7]), torch.tensor([0, 8, 16, 19])
SETTINGS = {
    "embedding_size": 8,
    "neighbour_count": 3,
    "hyperedges": 4,
    "hyperedge_temperature": 0.5,
    "anchor_temperature": 0.2,
    "regularization": 0.1,
    "overlap_weight": 0.5,
    "matching_weight": 0.5,
}


@pytest.fixture
def two(toy):
    """The toy problem of two domains: users 0, 2, 5 and 8 keep their ids, everyone else is somebody
    else among items 12 to 23."""
    users, items = toy.dataset.train.users, toy.dataset.train.items
    second = (items >= 12).astype(np.int8)
    others = [user for user in range(12) if user not in (0, 2, 5, 8)]
    renamed = np.arange(12)
    renamed[others] = 12 + np.arange(len(others))
    train = Interactions(np.where(second, renamed[users], users), items)
    dataset = Dataset.from_arrays(
        "crossed",
        20,
        24,
        train,
        toy.dataset.validation,
        toy.dataset.test,
        toy.dataset.features,
        ("first", "second"),
        (np.arange(24) >= 12).astype(np.int8),
    )
    scored = {0: [0, 1, 12, 13], 7: [0, 12, 23], 16: [0, 12, 23], 3: [0, 12]}
    return replace(toy, dataset=dataset, batch=BATCH, scored=scored)


@pytest.fixture
def crossed(two) -> Dataset:
    return two.dataset


def built(dataset: Dataset, **settings) -> tuple[SIEOUG, dict[int, Tensor]]:
    """The model with the specification's weights, and its tensors by the specification's index."""
    model = SIEOUG(dataset, SIEOUG.Parameters(**{**SETTINGS, **settings}))
    tensors = {
        0: model.user_embeddings[0],
        1: model.user_embeddings[1],
        2: model.item_embedding,
    }
    index = 3
    for projection in model.projections.values():
        tensors |= {index: projection.weight, index + 1: projection.bias}
        index += 2
    attention = model.attention
    weights = [*model.prototypes, attention[0].weight, attention[0].bias, attention[2].weight]
    tensors |= dict(enumerate(weights, start=index))
    assert len(tensors) == len(list(model.parameters()))
    for position, tensor in tensors.items():
        with torch.no_grad():
            tensor.copy_(formula(tensor.numel(), position).view(tensor.shape))
    return model, tensors


def check(two, over: float, match: float, **expected) -> None:
    model, tensors = built(two.dataset)
    domain_users, _ = model.representations()
    first, second = model._distinct(BATCH.users + 20 * (BATCH.positives >= 12))
    assert torch.equal(first, FIRST) and torch.equal(second, SECOND)
    for loss, value in ((model._overlap_loss, over), (model._matching_loss, match)):
        assert loss(domain_users, first, second).item() == pytest.approx(value, abs=1e-5)
    two.check(model, tensors, **expected)


def test_agrees_with_the_specification(two) -> None:
    check(
        two,
        over=0.581772,
        match=0.857202,
        loss=1.476094,
        scores="0.037585 0.394761 0.136881 0.023953 | 0.182575 0.106382 0.068357 | "
        "0.036214 -0.060875 -0.055605 | 0.071132 -0.022193",
        gradients="0: .36155, 1: .38763, 2: .24239, 3: .34348, 4: .32555, 5: .11072, 6: .32555, "
        "7: .043060, 8: .055642, 9: .044882, 10: .00088514, 11: .0036876",
    )


def test_agrees_with_the_specification_on_one_modality(two) -> None:
    dataset = two.dataset
    check(
        replace(two, dataset=dataset.with_features({"text": dataset.features["text"]})),
        over=0.656164,
        match=0.602805,
        loss=1.297172,
        scores="0.050357 0.735603 0.405379 0.245596 | 0.057271 0.258981 0.209390 | "
        "0.033612 0.028892 -0.008689 | -0.002955 -0.104871",
    )


@pytest.mark.parametrize(
    ("modalities", "row", "shares", "plan"),
    [
        (
            ("image", "text"),
            {0: 0.801450, 2: 0.126765, 6: 0.071785},
            [0.461142, 0, 0.538858, 0],
            [0.181950, 0.004489, 0.000001, 0.146899],
        ),
        (
            ("text",),
            {0: 0.502272, 2: 0.317776, 6: 0.179952},
            [0, 0.466014, 0, 0.533986],
            [0.149479, 0.055694, 0.000139, 0.128172],
        ),
    ],
)
def test_the_item_graph_groups_and_plan_are_those_of_the_specification(
    crossed: Dataset, modalities, row, shares, plan
) -> None:
    dataset = crossed.with_features({name: crossed.features[name] for name in modalities})
    graph = propagate(consensus_graph(dataset, 3), torch.eye(24))
    assert {i: v for i, v in enumerate(graph[0].tolist()) if v} == pytest.approx(row, abs=1e-5)
    assert not graph[:12, 12:].any() and not graph[12:, :12].any()
    model, _ = built(dataset)
    content = [
        layer(model.features.rows(modality)) for modality, layer in model.projections.items()
    ]
    of_groups = model.group_shares(torch.stack(content).mean(dim=0))[0]
    assert of_groups[0].tolist() == pytest.approx(shares, abs=1e-5)
    if len(modalities) == 2:
        assert int((of_groups > 0).sum()) == 33
    found = model.plan(model.representations()[0], FIRST, SECOND)
    assert found[0].tolist() == pytest.approx(plan, abs=1e-5)


def test_items_in_any_order_and_users_by_number_are_scored_alike(crossed: Dataset) -> None:
    """With the items' ids shuffled, the same weights give each item the same scores."""
    order = np.random.default_rng(0).permutation(24)
    new_ids = np.argsort(order)
    shuffled = replace(
        crossed.with_features({name: table[order] for name, table in crossed.features.items()}),
        fingerprint="shuffled",
        train=Interactions(crossed.train.users, new_ids[crossed.train.items]),
        item_domains=crossed.item_domains[order],
    )
    model, tensors = built(crossed)
    other, others = built(shuffled)
    with torch.no_grad():
        for index, tensor in others.items():
            tensor.copy_(tensors[index][order] if index == 2 else tensors[index])
    users = torch.tensor([4, 16, 4])
    expected = model.scorer()(users)[:, order]
    torch.testing.assert_close(other.scorer()(users), expected, rtol=1e-4, atol=1e-6)


def test_without_guidance_a_domain_s_rows_know_nothing_of_the_other_domain(crossed) -> None:
    train = crossed.train
    fewer = replace(
        crossed,
        fingerprint="fewer",
        train=train.where((train.items >= 12) | (np.arange(len(train)) % 2 == 0)),
    )
    rows = BATCH.positives >= 12
    batch = Batch(BATCH.users[rows], BATCH.positives[rows], BATCH.negatives[rows], 8)
    gradients = []
    for dataset in (crossed, fewer):
        model, tensors = built(dataset, transfer="items")
        model.loss(batch).backward()
        gradients.append([tensor.grad for tensor in tensors.values()])
    for one, other in zip(*gradients, strict=True):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


@pytest.mark.parametrize(
    ("settings", "absent"),
    [
        ({"transfer": "items"}, set()),
        ({"transfer": "users"}, {"projections", "prototypes", "attention"}),
        ({"transfer": "none"}, {"projections", "prototypes", "attention"}),
        ({"pair_view": False}, {"attention"}),
        ({"group_view": False}, {"prototypes", "attention"}),
    ],
)
def test_an_ablation_has_no_parameter_that_it_does_not_train(crossed, settings, absent) -> None:
    model = SIEOUG(crossed, SIEOUG.Parameters(**settings))
    model.loss(BATCH).backward()
    assert all(weight.grad is not None for weight in model.parameters())
    assert not absent & {name.split(".")[0] for name, _ in model.named_parameters()}
    guided = settings.get("transfer") in (None, "both", "users")
    weightless = SIEOUG.Parameters(**settings, overlap_weight=0.0, matching_weight=0.0)
    other = SIEOUG(crossed, weightless)
    other.load_state_dict(model.state_dict())
    assert torch.equal(model.loss(BATCH), other.loss(BATCH)) != guided


def test_a_batch_of_one_domain_has_nothing_to_match(crossed: Dataset) -> None:
    model, _ = built(crossed)
    rows = torch.tensor([2])  # Of user 7, whom only the first domain knows.
    batch = Batch(BATCH.users[rows], BATCH.positives[rows], BATCH.negatives[rows], 8)
    alone, _ = built(crossed, transfer="items")
    assert model.loss(batch).item() == pytest.approx(alone.loss(batch).item(), abs=1e-7)


def test_anchors_are_drawn_anew_for_each_epoch_among_users_of_both_domains(crossed) -> None:
    few = SIEOUG(crossed, SIEOUG.Parameters(anchors=2))
    drawn = set()
    for epoch in range(40):
        few.before_epoch(epoch)
        assert len(set(few.anchors.tolist())) == 2
        drawn |= set(few.anchors.tolist())
    assert drawn == {0, 2, 5, 8}
    everyone = SIEOUG(crossed, SIEOUG.Parameters())
    everyone.before_epoch(0)
    assert everyone.anchors.tolist() == [0, 2, 5, 8]


def test_refuses_a_dataset_without_two_domains_or_users_in_both(toy, crossed) -> None:
    with pytest.raises(InputError, match="SIEOUG needs two domains, dataset 'toy' has none"):
        SIEOUG(toy.dataset, SIEOUG.Parameters())
    apart = crossed.train.where((crossed.train.items < 12) | (crossed.train.users >= 12))
    with pytest.raises(InputError, match=r"training interactions in both domains, .* has 0"):
        SIEOUG(replace(crossed, train=apart), SIEOUG.Parameters())


def test_sparsemax_is_the_nearest_distribution() -> None:
    torch.manual_seed(2)
    values = 2 * torch.randn(6, 5, dtype=torch.float64)
    values.requires_grad_()
    found = sparsemax(values)
    assert found.sum(dim=1).tolist() == pytest.approx([1.0] * 6)
    assert (found == 0).any()
    for row, expected in zip(values.detach().numpy(), found.detach().numpy(), strict=True):
        solved = minimize(
            lambda x, row=row: ((x - row) ** 2).sum(),
            np.full(5, 0.2),
            bounds=[(0, None)] * 5,
            constraints={"type": "eq", "fun": lambda x: x.sum() - 1},
            tol=1e-12,
        )
        assert solved.x == pytest.approx(expected, abs=1e-5)
    assert torch.autograd.gradcheck(sparsemax, (values,))


def test_a_plan_has_equal_shares_and_prefers_the_same(crossed: Dataset) -> None:
    torch.manual_seed(1)
    left, right = torch.rand(30, 7).softmax(dim=1), torch.rand(40, 7).softmax(dim=1)
    same = torch.zeros(30, 40, dtype=torch.bool)
    same[3, 5] = True
    plan = optimal_plan(left, right, same, smoothness=0.1, rounds=20)
    assert plan.sum(dim=0).tolist() == pytest.approx([1 / 40] * 40, rel=1e-5)
    assert plan.sum(dim=1).tolist() == pytest.approx([1 / 30] * 30, abs=1e-3)
    assert plan[3].argmax() == 5 and plan[:, 5].argmax() == 3


@pytest.mark.parametrize("transfer", ["both", "items", "users", "none"])
def test_what_a_way_of_transfer_does_not_use_is_not_searched(crossed, transfer) -> None:
    others = {
        "item_layers": 2,
        "neighbour_count": 2,
        "hyperedges": 5,
        "hyperedge_temperature": 0.7,
        "anchors": 2,
        "anchor_temperature": 0.9,
        "matching_smoothness": 0.5,
        "matching_rounds": 1,
        "overlap_weight": 0.7,
        "matching_weight": 0.9,
    }

    def loss(**changed: object) -> float:
        torch.manual_seed(0)
        return SIEOUG(crossed, SIEOUG.Parameters(transfer=transfer, **changed)).loss(BATCH).item()

    idle = SIEOUG.without_effect(crossed, {"transfer": transfer})
    assert loss(**idle) == loss()
    assert {name for name, value in others.items() if loss(**{name: value}) == loss()} == set(idle)
