"""A trained model, measured on features other than those it was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mgstudy.config.robustness import ItemGraph
from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.data.derived import Arrays, DerivedArrays
from mgstudy.models.base import Recommender
from mgstudy.models.graph import SparseGraph
from mgstudy.models.item_features import ItemFeatures
from mgstudy.models.rows import gather_rows
from mgstudy.robustness.risks.base import Risk
from mgstudy.training.evaluation import Evaluator

_BOOTSTRAP_SEED = 20240513

UserMetrics = dict[str, NDArray[np.float64]]
"""Metric to its value for each user, shape ``[users]``, NaN where a user has none; to one value
where the metric is of all lists together."""


@dataclass(frozen=True)
class Measurement:
    """What a change did to a model.

    Attributes:
        graph: What became of its item graphs.
        reached: Whether the change could reach the scores at all; if not, the clean values are
            given, to the bit, and no ranking was made.
        values: Every metric of every user.
    """

    graph: ItemGraph
    reached: bool
    values: UserMetrics


class TrainedModel:
    """A trained model and how to build it again, measured under risks.

    A change reaches scores in two ways: features that the model reads when it scores, and graphs
    between items that it built from the features. A model with such graphs is measured twice, with
    the graphs frozen and with them rebuilt.

    Args:
        build: Gives the model with its trained weights, built on a dataset; called once for the
            clean dataset, and for every change that rebuilds a graph.
        dataset: What it was trained on.
        evaluator: Ranks on the clean graph of training interactions.
        prepare: What is done to a dataset before the model is built on it (robust methods may
            clean features); ``build`` does it itself.
    """

    def __init__(
        self,
        build: Callable[[Dataset], Recommender],
        dataset: Dataset,
        evaluator: Evaluator,
        prepare: Callable[[Dataset], Dataset] = lambda dataset: dataset,
    ) -> None:
        self.dataset = dataset
        self.evaluator = evaluator
        self._build = build
        self._prepare = prepare
        self.model = self._built(dataset)
        self._clean_tables = self.model.dataset.features

    @cached_property
    def clean(self) -> UserMetrics:
        """Every metric of every user, on the features the model was trained on."""
        return self._evaluate(self.model)

    @cached_property
    def reads_features(self) -> bool:
        """Whether the model reads features when it scores."""
        read: list[str] = []

        def note(modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
            read.append(modality)
            return rows

        with torch.no_grad(), self.model.features.transformed(note):
            self.model.scorer()
        return bool(read)

    @cached_property
    def has_item_graph(self) -> bool:
        """Whether the model builds a graph from the features: whether one is another when the
        items' features are in another order."""
        if not self.model.features.modalities:
            return False
        reversed_tables = {
            modality: np.ascontiguousarray(table[::-1])
            for modality, table in self.dataset.features.items()
        }
        other = self._built(with_changed_features(self.dataset, reversed_tables))
        return any(
            not _same_graph(own, changed)
            for own, changed in zip(_graphs(self.model), _graphs(other), strict=True)
        )

    def under(self, risk: Risk, severity: float, seed: int) -> Iterator[Measurement]:
        """Measure the model under a risk: once, or with item graphs frozen and rebuilt.

        Args:
            risk: What happens to the features.
            severity: How severely.
            seed: Of the risk's random choices.
        """
        if not self.reads_features and not self.has_item_graph:
            yield Measurement(ItemGraph.NONE, False, self.clean)
            return
        tables = risk.tables(self.dataset, severity, seed, self.model)
        changed = with_changed_features(self.dataset, tables)
        if self.has_item_graph:
            yield self._with_graph_as_it_was(changed, ItemGraph.FROZEN)
            yield self._with_graph_rebuilt(changed)
        else:
            yield self._with_graph_as_it_was(changed, ItemGraph.NONE)

    def _with_graph_as_it_was(self, changed: Dataset, graph: ItemGraph) -> Measurement:
        if not self.reads_features:
            return Measurement(graph, False, self.clean)
        transform = self._transform(self.model, self._prepare(changed).features)
        return Measurement(graph, bool(transform), self._evaluate(self.model, transform))

    def _with_graph_rebuilt(self, changed: Dataset) -> Measurement:
        if self._unchanged(changed.features):
            return Measurement(ItemGraph.REBUILT, False, self.clean)
        model = self._built(changed)
        # Tables that the model reads as constants are the changed ones already.
        trained = model.features.trained
        transform = self._transform(model, model.dataset.features) if trained else None
        return Measurement(ItemGraph.REBUILT, True, self._evaluate(model, transform))

    def _transform(
        self, model: Recommender, changed: Mapping[str, NDArray[np.float32]]
    ) -> ChangedFeatures:
        return ChangedFeatures(model.features, self._clean_tables, changed)

    def _unchanged(self, tables: Mapping[str, NDArray[np.float32]]) -> bool:
        clean = self.dataset.features
        return all(np.array_equal(clean[modality], tables[modality]) for modality in clean)

    def _built(self, dataset: Dataset) -> Recommender:
        return self._build(dataset).eval()

    @torch.no_grad()
    def _evaluate(
        self, model: Recommender, transform: ChangedFeatures | None = None
    ) -> UserMetrics:
        with model.features.transformed(transform) if transform else nullcontext():
            of_users, metrics = self.evaluator.evaluate_both(model.scorer())
        of_all = {name: np.array([value]) for name, value in metrics.items()}
        return of_all | of_users


def _graphs(model: Recommender) -> list[SparseGraph]:
    return [module for module in model.modules() if isinstance(module, SparseGraph)]


def _same_graph(left: SparseGraph, right: SparseGraph) -> bool:
    return torch.equal(left.columns, right.columns) and torch.equal(left.values, right.values)


class ChangedFeatures:
    """Shows a model changed tables in place of those it was trained on; a ``FeatureTransform``.

    A model that reads the tables as constants sees the changed ones. One that trained a copy of
    its own sees its copy plus the difference, since what changed is the information that the copy
    started from. A table that is not changed is not touched.

    Args:
        features: The model's door.
        clean: The tables that the model was trained on, by modality.
        changed: The tables after the change.
    """

    def __init__(
        self,
        features: ItemFeatures,
        clean: Mapping[str, NDArray[np.float32]],
        changed: Mapping[str, NDArray[np.float32]],
    ) -> None:
        self._trained = features.trained
        self._tables: dict[str, Tensor] = {}
        for modality in features.modalities:
            if np.array_equal(clean[modality], changed[modality]):
                continue
            values = changed[modality] - clean[modality] if self._trained else changed[modality]
            self._tables[modality] = as_tensor(values).to(features.table(modality).device)

    def __bool__(self) -> bool:
        """Whether anything is changed."""
        return bool(self._tables)

    def __call__(self, modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
        if modality not in self._tables:
            return rows
        table = self._tables[modality]
        values = table if items is None else gather_rows(table, items)
        return rows + values if self._trained else values


def with_changed_features(dataset: Dataset, tables: Mapping[str, NDArray[np.float32]]) -> Dataset:
    """The dataset with changed tables. What follows from them (item graphs) is not kept on disk:
    there is no end of changes, and none is met again."""
    changed = dataset.with_features(tables)
    return replace(changed, derived=_NotFromFeatures(dataset.derived))


class _NotFromFeatures(DerivedArrays):
    """Shares what follows from the interactions alone, and keeps the rest in this process."""

    def __init__(self, shared: DerivedArrays) -> None:
        super().__init__()
        self._shared = shared

    def get(
        self,
        name: str,
        inputs: Mapping[str, Any],
        compute: Callable[[], Mapping[str, NDArray[Any]]],
    ) -> Arrays:
        if "features" in inputs:
            return super().get(name, inputs, compute)
        return self._shared.get(name, inputs, compute)


def resampled_means(values: NDArray[np.float64], resamples: int) -> NDArray[np.float64]:
    """The mean over users in each of many bootstrap samples of them (Efron 1979).

    Sample b is the same users whatever is measured, so the difference of two models' means in
    sample b is that of the same users.

    Args:
        values: One per user, in the same order for everything that is to be compared.
        resamples: How many samples.

    Returns:
        Shape ``[resamples]``.
    """
    counts = _counts(len(values), resamples)
    means: NDArray[np.float64] = counts @ values / len(values)
    return means


@lru_cache(maxsize=2)
def _counts(users: int, resamples: int) -> NDArray[np.float32]:
    """How often each user is drawn in each sample, shape ``[resamples, users]``."""
    random = np.random.default_rng(_BOOTSTRAP_SEED)
    counts = np.empty((resamples, users), dtype=np.float32)
    for sample in range(resamples):
        counts[sample] = np.bincount(random.integers(users, size=users), minlength=users)
    return counts
