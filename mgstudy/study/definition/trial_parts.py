"""The parts that a study's trials train with, each built with its arguments before one runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from mgstudy.config.document import Document
from mgstudy.config.factors import short_name
from mgstudy.config.parameters import ParameterSet, Space, Value
from mgstudy.config.study import StudyConfig
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.errors import InputError, own_line
from mgstudy.models.base import Recommender, models
from mgstudy.study.definition.cell import REGISTRIES, Cell, declared_parameters
from mgstudy.study.definition.cell_spaces import each_level
from mgstudy.training.robust.reach import first_batch
from mgstudy.urls import first_line

_USERS, _ITEMS, _LIKED = 64, 256, 8

Part: TypeAlias = tuple[str, str, dict[str, Value]]
"""Factor, name and parameters."""


def check_parts(
    config: StudyConfig,
    document: Document,
    cells: tuple[Cell, ...],
    datasets: Mapping[str, Dataset],
) -> None:
    """Build every completion, model, strategy, robust method and optimizer once with each of its
    values, on a few users and items, and train and rank once with models of other packages.

    Raises:
        InputError: If one cannot be built or used; with the place of its level, and the line of
            its own code that is wrong.
    """
    levels, built = set[Any](), set[Any]()
    with torch.random.fork_rng(devices=[]):
        for cell in cells:
            # Cells are combinations, and parts are built once for all of them.
            new = {(factor, label) for factor, label in cell.levels.items() if factor != "seed"}
            if new <= levels:
                continue
            levels |= new
            for parameters in _each_value(cell.spaces):
                parts = list(_parts(cell, parameters))
                keys = {(cell.dataset, *part[:2], *part[2].items()) for part in parts}
                if not keys <= built:
                    built |= keys
                    dataset = _few_of(datasets[cell.dataset], parameters)
                    _build(config, document, cell, parts, dataset)


def _build(
    config: StudyConfig, document: Document, cell: Cell, parts: list[Part], dataset: Dataset
) -> None:
    part, done = parts[0], "built"
    by_factor = {factor: [part for part in parts if part[0] == factor] for factor in REGISTRIES}
    try:
        for part in by_factor["completion"]:
            kind, own = _declared(part)
            kind(own)
        for part in by_factor["robust"]:
            method, own = _declared(part)
            dataset = method.prepared(dataset, own)
        (part,) = by_factor["model"]
        kind, own = _declared(part)
        model = kind(dataset, own)
        for part in by_factor["robust"]:
            method, own = _declared(part)
            method(model, own)
        for part in by_factor["optimizer"]:
            kind, own = _declared(part)
            optimizer = kind(own).build(model.trained_parameters())
        for part in by_factor["gradient"]:
            kind, own = _declared(part)
            strategy = kind(optimizer, own, clip_norm=config.training.clip_norm)
            strategy.epochs(own, config.training.epochs)
        (part,), done = by_factor["model"], "used"
        if not type(model).__module__.startswith("mgstudy."):
            _use(model)
    except Exception as error:  # Of another package, it may raise anything; so would every trial.
        factor, name, given = part
        place = next(
            location
            for location, level in each_level(config, factor)
            if level.name == name and level.label in cell.levels[factor].split("+")
        )
        told = "" if isinstance(error, InputError) else f"{type(error).__name__}: "
        shown = ", ".join(f"{key}={value!r}" for key, value in given.items()) or "its defaults"
        raise document.error(
            place,
            f"{short_name(name)} cannot be {done} with {shown}: "
            f"{own_line(error)}{told}{first_line(error)}",
        ) from error


def _use(model: Recommender) -> None:
    """Train a model on a batch, and rank for two users."""
    if model.trainable:
        model.train()
        model.before_epoch(0)
        loss = model.loss(first_batch(model))
        if not (isinstance(loss, Tensor) and loss.shape == () and loss.requires_grad):
            raise InputError(f"`loss` gives {_shown(loss)}, expected one number with a gradient")
        if not torch.isfinite(loss):
            raise InputError(f"`loss` gives {float(loss.detach())} on a few users and items")
        loss.backward()
    model.eval()
    expected = 2, model.dataset.item_count
    with torch.no_grad():
        scores = model.scorer()(torch.arange(2))
    if not (isinstance(scores, Tensor) and scores.shape == expected):
        raise InputError(
            f"`scorer` gives {_shown(scores)} for 2 users, expected a tensor of {expected}"
        )


def _shown(value: object) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {tuple(value.shape)}"
    return f"a {type(value).__name__}"


def _declared(part: Part) -> tuple[Any, ParameterSet]:
    factor, name, parameters = part
    kind = REGISTRIES[factor].get(name)
    return kind, declared_parameters(kind).validated(name, parameters)


def _parts(cell: Cell, parameters: Mapping[str, Value]) -> Iterator[Part]:
    """What a trial of a cell is made of; the model alone, where that is not trained."""
    for factor in REGISTRIES if models.get(cell.model).trainable else ("completion", "model"):
        chosen = getattr(cell, factor) or ()
        for name in (chosen,) if isinstance(chosen, str) else chosen:
            yield (
                factor,
                name,
                Cell.own(factor, None if factor == "optimizer" else name, parameters),
            )


def _each_value(spaces: Mapping[str, Space]) -> Iterator[dict[str, Value]]:
    """Parameters in as few ways as it takes for each to have each choice, and each end of a range,
    once."""
    for position in range(max((len(space.ends()) for space in spaces.values()), default=1)):
        yield {
            name: space.ends()[min(position, len(space.ends()) - 1)]
            for name, space in spaces.items()
        }


def _few_of(dataset: Dataset, parameters: Mapping[str, Value]) -> Dataset:
    """A dataset with the modalities, widths and domains of another and the names of its texts, and
    no more users and items than let each have as many neighbours as a parameter asks for."""
    numbers = [value for value in parameters.values() if type(value) is int]
    items = min(dataset.item_count, max(_ITEMS, 2 * max(numbers, default=0)))
    users = min(dataset.user_count, max(_USERS, 2 * max(numbers, default=0)))
    random = np.random.default_rng(0)
    pairs = np.repeat(np.arange(users), _LIKED), random.integers(items, size=users * _LIKED)
    liked = Interactions(
        *pairs,
        times=None if dataset.train.times is None else np.arange(users * _LIKED),
        ratings=None if dataset.train.ratings is None else np.ones(users * _LIKED),
    )
    features = {
        modality: random.standard_normal((items, table.shape[1]), dtype=np.float32)
        for modality, table in dataset.features.items()
    }
    of_items = None
    if dataset.domains:
        of_items = (np.arange(items) % len(dataset.domains)).astype(np.int8)
    few = Dataset.from_arrays(
        dataset.name, users, items, liked, liked, liked, features, dataset.domains, of_items
    )
    texts = [f"item {item}" for item in range(items)]
    return few.with_texts(dict.fromkeys(dataset.texts, texts))
