"""DreamUMM against section S5.2 of its specification, and what it owes beside."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn import functional

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.errors import InputError
from mgstudy.models.dreamumm import DreamUMM
from mgstudy.models.dreamummfixed import DreamUMMFixed


@pytest.fixture
def timed(toy):
    """The toy problem with the times and ratings of S5.2."""
    u, i = toy.dataset.train.users, toy.dataset.train.items
    return replace(toy, dataset=with_train(toy.dataset, u, i))


def with_train(dataset: Dataset, u, i) -> Dataset:
    train = Interactions(u, i, (7 * i + 3 * u + 2) % 31, 1.0 + (u + 2 * i) % 5)
    parts = (dataset.validation, dataset.test, dataset.features)
    return Dataset.from_arrays("timed", dataset.user_count, dataset.item_count, train, *parts)


def text_only(toy):
    return replace(toy, dataset=toy.dataset.with_features({"text": toy.dataset.features["text"]}))


LATE = {"recency": 0.8, "history_length": 4}


@pytest.mark.parametrize(
    ("settings", "modalities", "scores"),
    [
        (
            {"recency": 1.0, "history_length": 50},
            "both",
            "-0.113892 0.463375 -0.588441 -0.397229 | 0.319432 0.133392 0.082270 | "
            "-0.503897 0.434471 -0.063390",
        ),
        (
            LATE,
            "both",
            "-0.389351 0.311649 -0.483086 -0.141495 | 0.319432 0.133392 0.082270 | "
            "0.145011 0.219994 0.037773",
        ),
        (
            LATE | {"strength": "rating", "popular_share": 0.1, "centre": False},
            "both",
            "-0.208419 0.430369 -0.303442 -0.009885 | 0.380560 0.386953 0.291541 | "
            "0.196207 0.179782 0.242141",
        ),
        (
            LATE,
            "text",
            "-0.603384 0.151806 -0.566743 -0.057027 | 0.607254 0.107363 0.457962 | "
            "0.233097 0.452734 0.107085",
        ),
    ],
)
def test_the_closed_form_agrees_with_the_specification(timed, settings, modalities, scores) -> None:
    problem = timed if modalities == "both" else text_only(timed)
    model = DreamUMMFixed(problem.dataset, DreamUMMFixed.Parameters(**settings))
    problem.check(model, {}, loss=None, scores=scores)


@pytest.mark.parametrize(
    ("settings", "kind", "loss", "scores", "gradients"),
    [
        (
            LATE,
            "both",
            2.913146,
            "0.130080 0.800438 0.431120 0.258860 | 0.351379 0.773476 0.712041 | "
            "0.768615 -0.687203 0.168840",
            "0: 1.1130, 1: 4.9771, 2: 2.7439, 3: 5.2386, 4: 2.7479",
        ),
        (
            LATE | {"popular_share": 0.2},
            "unordered",
            2.732307,
            "0.298934 0.846371 0.517180 0.242064 | 0.351379 0.773476 0.712041 | "
            "0.874668 -0.639815 0.224614",
            "0: 1.9671, 1: 2.7818, 2: 1.8241, 3: 2.6917, 4: 2.8110",
        ),
        (
            LATE | {"strength": "rating"},
            "text",
            2.951237,
            "-0.096050 0.415433 0.028004 -0.093485 | 0.665730 0.328482 0.824112 | "
            "0.848271 0.233472 0.160357",
            "1: 7.6739, 2: 1.3349",
        ),
    ],
)
def test_the_learned_space_agrees_with_the_specification(
    timed, settings, kind, loss, scores, gradients
) -> None:
    problem = text_only(timed) if kind == "text" else timed
    if kind == "unordered":
        problem = replace(problem, dataset=problem.dataset.pairs_only())
    parameters = {"embedding_size": 8, "temperature": 0.1, "alignment_weight": 0.1, **settings}
    model = DreamUMM(problem.dataset, DreamUMM.Parameters(**parameters))
    tensors = {0: model.modality_logits}
    for position, projection in enumerate(model.projections.values()):
        tensors |= problem.linear(1 + 2 * position, projection)
    problem.check(model, tensors, loss=loss, scores=scores, gradients=gradients)


def test_the_closed_form_is_where_the_weighted_cosines_are_greatest(timed) -> None:
    model = DreamUMMFixed(timed.dataset, DreamUMMFixed.Parameters(**LATE))
    users, items = model.representations()
    latest = items[[4, 17, 8, 21]]  # Of user 0, see S5.2.
    weights = 0.8 ** torch.arange(4)
    others = functional.normalize(torch.randn(1000, items.shape[1]))
    best = weights @ (latest @ users[0])
    assert ((latest @ others.t()).t() @ weights).max() < best


def test_the_order_of_a_history_matters_only_with_recency(timed) -> None:
    backwards = replace(timed.dataset.train, times=-timed.dataset.train.times)
    other = replace(timed.dataset, train=backwards, fingerprint="backwards")
    for recency, same in ((1.0, True), (0.9, False)):
        parameters = DreamUMMFixed.Parameters(recency=recency, history_length=None)
        one, two = (
            DreamUMMFixed(d, parameters).representations()[0] for d in (timed.dataset, other)
        )
        assert torch.allclose(one, two, atol=1e-6) == same


@pytest.mark.parametrize("ordered", [True, False])
def test_a_training_history_holds_nothing_of_the_positive_or_after_it(toy, ordered) -> None:
    """Against plain loops, where pairs repeat and a user has nothing but one item."""
    rows = [(0, 3), (0, 5), (0, 3), (0, 7), (1, 2), (1, 2), (2, 9), (2, 1)]
    users, items = np.array(rows).T
    dataset = with_train(toy.dataset, users, items)
    times, ratings = np.array([5, 1, 9, 4, 1, 2, 1, 1]), np.array([2.0, 4, 3, 1, 5, 1, 2, 2])
    train = Interactions(users, items, times if ordered else None, ratings)
    dataset = replace(dataset, train=train, fingerprint=f"repeats{ordered}")
    parameters = DreamUMM.Parameters(recency=0.5, history_length=2, strength="rating")
    model = DreamUMM(dataset, parameters)
    vectors = torch.randn(24, 6)
    means, empty = model.means.before(vectors, torch.tensor(users), torch.tensor(items))
    for row, (user, item) in enumerate(rows):
        own = [place for place in range(len(rows)) if users[place] == user]
        if ordered:
            own.sort(key=lambda place: times[place])
            last = max(place for place, at in enumerate(own) if items[at] == item)
            kept = own[:last][-2:]
            weights = [0.5**back * ratings[at] for back, at in enumerate(reversed(kept))][::-1]
        else:
            kept = [at for at in own if items[at] != item]
            weights = [ratings[at] for at in kept]
        assert empty[row] == (not kept)
        if kept:
            expected = torch.tensor(weights).float() @ vectors[items[kept]] / sum(weights)
            torch.testing.assert_close(means[row], expected)
        else:
            assert not means[row].any()


def test_a_user_without_history_is_given_what_is_popular(timed) -> None:
    model = DreamUMMFixed(timed.dataset, DreamUMMFixed.Parameters())
    users, items = model.representations()
    shares = torch.from_numpy(timed.dataset.train_counts / len(timed.dataset.train)).float()
    torch.testing.assert_close(users[3], functional.normalize(shares @ items, dim=0))


def test_ratings_that_are_not_there_are_refused(timed) -> None:
    with pytest.raises(InputError, match="has no ratings, which strength=rating needs"):
        DreamUMM(timed.dataset.pairs_only(), DreamUMM.Parameters(strength="rating"))


def test_what_has_no_effect_without_times_is_not_searched(timed) -> None:
    assert DreamUMM.without_effect(timed.dataset, {}) == {}
    unordered = timed.dataset.pairs_only()
    fixed = DreamUMM.without_effect(unordered, {})
    assert fixed == {"history_length": None, "recency": 1.0}
    one, two = (
        DreamUMMFixed(unordered, DreamUMMFixed.Parameters(**settings)).representations()[0]
        for settings in (fixed, LATE)
    )
    assert torch.equal(one, two)
