import math

import pytest
import torch
from torch.nn import functional

from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.damrs import (
    DAMRS,
    co_occurring_items,
    feedback_weights,
    preference_divergence,
    relation_alignment,
)


def test_agrees_with_the_specification(toy) -> None:
    parameters = DAMRS.Parameters(
        embedding_size=8,
        layers=2,
        item_layers=1,
        neighbour_count=3,
        relation_weight=0.2,
        preference_weight=0.3,
    )
    model = DAMRS(toy.with_item_neighbours(), parameters)
    toy.check(
        model,
        {0: model.user_embedding, 1: model.item_embedding},
        loss=0.345347,
        scores="-0.138129 -0.024667 0.005860 -0.120198 | 0.112925 -0.055112 0.052235 | "
        "-0.208594 -0.062924 0.101865",
        gradients="0: 0.050030, 1: 0.076054",
    )


def test_items_co_occur_by_shared_users_and_with_themselves(toy) -> None:
    matrix = co_occurring_items(toy.dataset, 2).toarray()
    # Item 6 has the users 5 and 6, who share the items 2, 9, 15, 19 and 22.
    assert matrix[6].nonzero()[0].tolist() == [2, 6, 9]
    assert matrix[12].nonzero()[0].tolist() == [12]
    assert matrix.max() == 1


def test_feedback_is_trusted_where_likely_and_undisputed_and_reversed_where_unlikely() -> None:
    positives = torch.tensor([[0.9, 0.2, 0.9], [0.9, 0.2, 0.3], [0.9, 0.8, 0.3]])
    negatives = torch.tensor([[0.5, 0.7, 0.6], [0.5, 0.6, 0.6], [0.6, 0.7, 0.6]])
    trust, doubt = feedback_weights(positives, negatives)
    # Means .9, .4, .5, unbiased variances 0, .12, .12; the negatives' mean is .6.
    assert trust.tolist() == pytest.approx([0.9, 0.4 * math.exp(-0.24), 0.5 * math.exp(-0.24)])
    assert doubt.tolist() == pytest.approx([0.0, 0.2, 0.3])


def test_preferences_diverge_by_the_symmetric_bernoulli_divergence() -> None:
    torch.manual_seed(0)
    users, items, views = torch.randn(3, 4), torch.randn(5, 4), torch.randn(5, 4)
    p, q = (torch.sigmoid(users @ functional.normalize(rows).t()) for rows in (items, views))
    one_way, other_way = (
        a * (a / b).log() + (1 - a) * ((1 - a) / (1 - b)).log() for a, b in ((p, q), (q, p))
    )
    expected = (one_way + other_way).mean()
    torch.testing.assert_close(preference_divergence(users, items, views), expected)


def test_relatives_are_aligned_by_their_share_of_the_similarity() -> None:
    # One view and 40 items around a circle: an item's relatives are its nearest twenty.
    angles = torch.linspace(0.0, 2 * math.pi, 41)[:40] + 0.001 * torch.arange(40)
    directions = torch.stack([angles.cos(), angles.sin()], dim=1)
    closeness = ((directions[[3, 30]] @ directions.t()) / 0.2).exp().sort(descending=True).values
    nearest, next_nearest = closeness[:, :10].sum(dim=1), closeness[:, 10:20].sum(dim=1)
    shares = torch.stack(
        [nearest / closeness.sum(dim=1), next_nearest / closeness[:, 10:].sum(dim=1)]
    )
    expected = -shares.log().sum(dim=0).mean()
    actual = relation_alignment([directions], torch.tensor([3, 30]))
    torch.testing.assert_close(actual, expected)


def test_no_gradient_is_lost_where_relatives_are_all_there_is_to_be_close_to() -> None:
    # The shares of the others are far below what a difference in float32 can resolve.
    directions = torch.zeros(30, 2)
    directions[:10, 0], directions[10:, 0] = 1.0, -1.0
    directions.requires_grad_()
    loss = relation_alignment([directions], torch.tensor([0]))
    loss.backward()
    # The first group has all but 20 e^-5 of 10 e^5, the second ten of twenty equal others.
    assert loss.item() == pytest.approx(math.log(1 + 2 * math.exp(-10)) + math.log(2), abs=1e-5)
    assert torch.isfinite(directions.grad).all()


def test_a_dataset_with_too_few_items_is_refused(toy) -> None:
    features = {name: table[:19] for name, table in toy.dataset.features.items()}
    train = toy.dataset.train
    few = Dataset.from_arrays("few", 12, 19, train, train, train, features)
    with pytest.raises(InputError, match="DAMRS needs 20 or more items, dataset 'few' has 19"):
        DAMRS(few, DAMRS.Parameters())


def test_the_alignment_has_the_gradient_of_its_definition() -> None:
    torch.manual_seed(0)
    tables = [torch.randn(30, 3) for _ in range(3)]
    items = torch.tensor([2, 7, 29])

    def defined(directions: list[torch.Tensor]) -> torch.Tensor:
        cosines = [rows[items] @ rows.t() for rows in directions]
        shares = [cosine.softmax(dim=1) for cosine in cosines]
        total = torch.zeros(())
        for cosine, share in zip(cosines, shares, strict=True):
            first = (sum(shares) + share).topk(10).indices
            second = share.scatter(1, first, 0.0).topk(10).indices
            closeness = (cosine / 0.2).exp()
            x, y = (closeness.gather(1, group).sum(dim=1) for group in (first, second))
            t = closeness.sum(dim=1)
            total = total - ((x / t + 1e-9).log() + (y / (t - x) + 1e-9).log()).mean()
        return total / 3

    results = []
    for function in (defined, lambda directions: relation_alignment(directions, items)):
        leaves = [table.clone().requires_grad_() for table in tables]
        loss = function([functional.normalize(leaf) for leaf in leaves])
        loss.backward()
        results.append([loss.detach(), *(leaf.grad for leaf in leaves)])
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-4)
