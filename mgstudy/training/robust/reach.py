"""What of a model a robust method can reach, found by trying the model out."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from enum import Enum

import numpy as np
import torch
from torch import Tensor, nn

from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.errors import InputError
from mgstudy.models.base import Batch, Recommender
from mgstudy.models.graph import SparseGraph
from mgstudy.models.propagation import entries_scaled
from mgstudy.models.signals import Signal, signals_noted
from mgstudy.training.checkpoint import seeded


class Reach(Enum):
    """Something that a model's loss may pass through or depend on."""

    FEATURES = "item features"
    PROJECTIONS = "a projection of item features"
    EDGES = "a graph"
    HIDDEN = "a hidden layer"
    REPRESENTATIONS = "representations that it compares"
    PREDICTIONS = "a prediction as a probability"
    EMBEDDINGS = "embeddings of users or items"


@functools.cache
def reach_of(model: type[Recommender]) -> frozenset[Reach]:
    """What the loss of ``model`` passes through, with the parameters that it is tried out with: its
    defaults, as a rule.

    The model is built on a dataset of a few users and items and its loss computed once, so nothing
    has to be declared and nothing can be declared wrongly. Torch's generator is left as it was.

    Raises:
        InputError: If the model cannot be tried out.
    """
    try:
        with seeded(0):
            return _try_out(model)
    except Exception as error:
        raise InputError(
            f"{model.name} cannot be tried out on a small dataset, so what robust methods "
            f"could reach in it is unknown: {error}"
        ) from error


def embedding_tables(model: Recommender) -> Mapping[str, nn.Parameter]:
    """The model's trained tables with a row per user, per item, or for both, by parameter name.

    Its copy of the feature tables is not among them: it is reached through ``model.features``.
    """
    users, items = model.dataset.user_count, model.dataset.item_count
    linear = {id(layer.weight) for layer in model.modules() if isinstance(layer, nn.Linear)}
    others = linear | {id(table) for table in model.features.parameters()}
    return {
        name: weight
        for name, weight in model.named_parameters()
        if weight.requires_grad
        and weight.dim() == 2
        and len(weight) in (users, items, users + items)
        and id(weight) not in others
    }


def first_batch(model: Recommender) -> Batch:
    """The first pairs of the model's dataset, to try it out with where it lies."""
    train, items = model.dataset.train, model.dataset.item_count
    device = next(model.parameters(), torch.empty(0)).device
    users, positives = (
        torch.from_numpy(np.array(column[:_BATCH])).to(device)
        for column in (train.users, train.items)
    )
    negatives = (positives + 1) % items if model.samples_negatives else None
    return Batch(users, positives, negatives, nominal_size=_BATCH)


_USERS, _ITEMS, _BATCH = 13, 29, 8


def _try_out(kind: type[Recommender]) -> frozenset[Reach]:
    dataset = _small_dataset()
    model = kind(dataset, kind.Parameters(**kind.tried_with)).train()
    model.before_epoch(0)
    found: set[Reach] = set()

    def note_features(modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
        found.add(Reach.FEATURES)
        return rows

    def note_edges(graph: SparseGraph) -> Tensor:
        found.add(Reach.EDGES)
        return torch.ones_like(graph.values)

    with (
        model.features.transformed(note_features),
        entries_scaled(note_edges),
        signals_noted(Signal.PROJECTION) as projections,
        signals_noted(Signal.HIDDEN) as hidden,
        signals_noted(Signal.REPRESENTATION) as representations,
        signals_noted(Signal.LOGITS) as logits,
    ):
        model.loss(first_batch(model))
    for reach, noted in (
        (Reach.PROJECTIONS, projections),
        (Reach.HIDDEN, hidden),
        (Reach.REPRESENTATIONS, representations),
        (Reach.PREDICTIONS, logits),
        (Reach.EMBEDDINGS, embedding_tables(model)),
    ):
        if noted:
            found.add(reach)
    return frozenset(found)


def _small_dataset() -> Dataset:
    random = np.random.default_rng(0)
    users = np.repeat(np.arange(_USERS), 3)
    train = Interactions(users, (2 * users + np.tile([0, 3, 7], _USERS)) % _ITEMS)
    features = {
        modality: random.standard_normal((_ITEMS, width), dtype=np.float32)
        for modality, width in (("image", 6), ("text", 5))
    }
    # Domains are for models that need them; others do not look at them.
    of_items = (np.arange(_ITEMS) % 2).astype(np.int8)
    made = Dataset.from_arrays(
        "small", _USERS, _ITEMS, train, train, train, features, ("a", "b"), of_items
    )
    return made.with_texts({"title": [f"item {item}" for item in range(_ITEMS)]})
