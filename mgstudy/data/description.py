"""What a prepared dataset is like, and what of its held-out splits leaks into training."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from mgstudy.data.dataset import Dataset, distinct, distinct_count
from mgstudy.data.histories import users_trained_on_later
from mgstudy.data.interactions import SPLITS
from mgstudy.data.loading import load_dataset, read_manifest
from mgstudy.data.manifest import Manifest
from mgstudy.workspace import Workspace

QUANTILES = (0.0, 0.25, 0.5, 0.75, 0.95, 1.0)
_PER_USER = ("split_per_user_temporal", "split_leave_out")
_GLOBAL = ("split_global_temporal",)


class _Described(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Histogram(_Described):
    """How many users or items have how many training interactions.

    Attributes:
        edges: Limits of the bins, one more than counts; a bin holds its lower limit.
        counts: Users or items in each bin.
    """

    edges: list[int]
    counts: list[int]


class Degrees(_Described):
    """Training interactions per user or item.

    Attributes:
        mean: Over all of them, those without any too.
        quantiles: Share to the degree that so many do not exceed.
        histogram: Of the degrees, in bins that double.
    """

    mean: float
    quantiles: dict[str, float]
    histogram: Histogram


class ColdStart(_Described):
    """A held-out split's interactions with what training never saw.

    Attributes:
        items: Items of the split without a training interaction.
        interactions_with_items: Interactions of the split with those.
        users: Users of the split without a training interaction.
    """

    items: int
    interactions_with_items: int
    users: int


class DomainDescription(_Described):
    """A domain of a dataset.

    Attributes:
        items: Items of the domain.
        users: Users with interactions in it.
        interactions: Split to interactions.
        known_in_others: Users with training interactions in it and in another domain.
    """

    items: int
    users: int
    interactions: dict[str, int]
    known_in_others: int


class ModalityDescription(_Described):
    """A modality's table.

    Attributes:
        shape: Items and columns.
        encoder: What made it; ``None`` where the source brought it.
        missing: Items that had no features and were filled.
        missing_share: The same as a share of all items.
        zero_rows: Items whose features are all zero.
        constant_columns: Columns with the same value for every item.
        mean_length: Mean Euclidean length of a row.
    """

    shape: tuple[int, int]
    encoder: str | None
    missing: int
    missing_share: float
    zero_rows: int
    constant_columns: int
    mean_length: float


class Leakage(_Described):
    """What would make a score look better than it is.

    Attributes:
        repeated_within: Split to interactions of a pair that the split has already.
        shared_pairs: Two splits, as ``train/test``, to the pairs of user and item in both.
        training_after_held_out: Share of users with held-out interactions who have a training
            interaction later than one of those, in the same domain (the largest share of one);
            ``None`` without timestamps.
        training_after_first_test: Share of training interactions later than the first of test;
            ``None`` without timestamps.
        findings: What of this breaks what the pipeline declares, in words; empty if nothing does.
    """

    repeated_within: dict[str, int]
    shared_pairs: dict[str, int]
    training_after_held_out: float | None
    training_after_first_test: float | None
    findings: list[str]


class DatasetDescription(_Described):
    """Everything ``mgstudy data describe`` shows."""

    name: str
    description: str
    users: int
    items: int
    interactions: dict[str, int]
    sparsity: float
    user_degrees: Degrees
    item_degrees: Degrees
    cold_start: dict[str, ColdStart]
    domains: dict[str, DomainDescription] = {}
    modalities: dict[str, ModalityDescription]
    steps: list[dict[str, Any]]
    leakage: Leakage


def describe_dataset(workspace: Workspace, name: str) -> DatasetDescription:
    """Describe a prepared dataset.

    Raises:
        InputError: If it is not prepared.
    """
    manifest = read_manifest(workspace, name)
    dataset = load_dataset(workspace, name)
    train_users = np.bincount(dataset.train.users, minlength=dataset.user_count)
    counts = manifest.counts
    return DatasetDescription(
        name=name,
        description=manifest.pipeline.description,
        users=counts.users,
        items=counts.items,
        interactions={split: getattr(counts, split) for split in SPLITS},
        sparsity=counts.sparsity,
        user_degrees=_degrees(train_users),
        item_degrees=_degrees(dataset.train_counts),
        cold_start={
            split: ColdStart(
                items=distinct_count(rows.items[dataset.train_counts[rows.items] == 0]),
                interactions_with_items=int((dataset.train_counts[rows.items] == 0).sum()),
                users=distinct_count(rows.users[train_users[rows.users] == 0]),
            )
            for split, rows in (("validation", dataset.validation), ("test", dataset.test))
        },
        domains={
            domain: _domain(dataset, position, domain)
            for position, domain in enumerate(dataset.domains)
        },
        modalities={
            modality: _modality(manifest, modality, features)
            for modality, features in dataset.features.items()
        },
        steps=[step.model_dump() for step in manifest.steps],
        leakage=_leakage(manifest, dataset),
    )


def _domain(dataset: Dataset, position: int, name: str) -> DomainDescription:
    within = dataset.of_domain(name)
    splits = {split: getattr(within, split) for split in SPLITS}
    trained = dataset.trained_in
    return DomainDescription(
        items=int(dataset.in_domain(name).sum()),
        users=distinct_count(np.concatenate([rows.users for rows in splits.values()])),
        interactions={split: len(rows) for split, rows in splits.items()},
        known_in_others=int((trained[:, position] & (trained.sum(axis=1) > 1)).sum()),
    )


def _degrees(degrees: NDArray[np.int64]) -> Degrees:
    largest = int(degrees.max())
    edges = [0, 1]
    while edges[-1] <= largest:
        edges.append(2 * edges[-1])
    counts, _ = np.histogram(degrees, bins=np.array(edges) - 0.5)
    return Degrees(
        mean=float(degrees.mean()),
        quantiles={f"{share:g}": float(np.quantile(degrees, share)) for share in QUANTILES},
        histogram=Histogram(edges=edges, counts=counts.tolist()),
    )


def _modality(
    manifest: Manifest, modality: str, features: NDArray[np.float32]
) -> ModalityDescription:
    table = manifest.features[modality]
    lengths = np.linalg.norm(features, axis=1)
    return ModalityDescription(
        shape=table.shape,
        encoder=table.encoder,
        missing=table.missing,
        missing_share=table.missing / len(features),
        zero_rows=int((lengths == 0).sum()),
        constant_columns=int((features == features[0]).all(axis=0).sum()),
        mean_length=float(lengths.mean(dtype=np.float64)),
    )


def _leakage(manifest: Manifest, dataset: Dataset) -> Leakage:
    pairs = {
        name: rows.users * dataset.item_count + rows.items
        for name, rows in zip(
            SPLITS, (dataset.train, dataset.validation, dataset.test), strict=True
        )
    }
    unique = {name: distinct(keys) for name, keys in pairs.items()}
    shared = {
        f"{first}/{second}": len(np.intersect1d(unique[first], unique[second], assume_unique=True))
        for first, second in (("train", "validation"), ("train", "test"), ("validation", "test"))
    }
    after_held_out = users_trained_on_later(dataset, within_domains=True)
    after_first_test = None
    train, test = dataset.train.times, dataset.test.times
    if train is not None and test is not None:
        after_first_test = float((train > test.min()).mean())
    declared = {name for step in manifest.pipeline.steps for name in step}
    return Leakage(
        repeated_within={name: len(keys) - len(unique[name]) for name, keys in pairs.items()},
        shared_pairs=shared,
        training_after_held_out=after_held_out,
        training_after_first_test=after_first_test,
        findings=_findings(shared, declared, manifest, after_held_out, after_first_test),
    )


def _findings(
    shared: Mapping[str, int],
    declared: set[str],
    manifest: Manifest,
    after_held_out: float | None,
    after_first_test: float | None,
) -> list[str]:
    findings = [
        f"{count:,} pairs of user and item are in both {splits.replace('/', ' and ')}"
        for splits, count in shared.items()
        if count
    ]
    by_time = not any(
        step.get("split_leave_out", {}).get("by") == "random" for step in manifest.pipeline.steps
    )
    if declared & set(_PER_USER) and by_time and after_held_out:
        findings.append(
            f"{after_held_out:.1%} of users have training interactions later than held-out ones, "
            "under a split by time"
        )
    if declared & set(_GLOBAL) and after_first_test:
        findings.append(
            f"{after_first_test:.1%} of training interactions are later than the first of test, "
            "under a global cut in time"
        )
    return findings
