"""One cell of a study: a combination of levels, with the space its trials are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from mgstudy.config.factors import short_name
from mgstudy.config.parameters import Choice, Fixed, IntegerRange, ParameterSet, Space, Value
from mgstudy.data.dataset import Dataset
from mgstudy.features.completions.base import Completion, complete, completions
from mgstudy.files import Progress, no_progress
from mgstudy.fingerprint import fingerprint
from mgstudy.models.base import Recommender, models
from mgstudy.registry import Registry
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.optimizers.base import optimizers
from mgstudy.training.robust.base import robust_methods

FACTORS = ("dataset", "completion", "model", "gradient", "robust", "optimizer", "seed")
REGISTRIES: dict[str, Registry[Any]] = {
    "completion": completions,
    "model": models,
    "gradient": gradient_strategies,
    "robust": robust_methods,
    "optimizer": optimizers,
}
"""What a factor's levels are names in; datasets and seeds are not named so."""


@dataclass(frozen=True)
class Cell:
    """One combination of levels. Only trials of one cell are comparable.

    Attributes:
        levels: Factor to the label of its level, in the order of ``FACTORS``; without
            ``completion`` where the study has no such factor.
        dataset: Label of the dataset's level; the name of a prepared dataset that is as it was.
        model: Name of the model.
        gradient: Name of the gradient strategy.
        robust: Names of the robust methods, in the order they apply.
        optimizer: Name of the optimizer.
        seed: Training seed of the cell's trials.
        spaces: Every parameter the cell uses, by its owner's name, for example
            ``model.FREEDOM.dropout`` or ``optimizer.learning_rate``.
        completion: Name of what fills the dataset's gaps; ``None`` for what the dataset brings.
    """

    levels: Mapping[str, str]
    dataset: str
    model: str
    gradient: str
    robust: tuple[str, ...]
    optimizer: str
    seed: int
    spaces: Mapping[str, Space]
    completion: str | None = None

    @property
    def key(self) -> str:
        """The cell's name inside its study: the labels of its levels."""
        return "/".join(self.levels.values())

    @cached_property
    def searched(self) -> dict[str, Space]:
        """The parameters that are sampled."""
        return {name: space for name, space in self.spaces.items() if not isinstance(space, Fixed)}

    @cached_property
    def fixed(self) -> dict[str, Value]:
        """The parameters that every trial has in common."""
        return {
            name: space.value for name, space in self.spaces.items() if isinstance(space, Fixed)
        }

    def size(self) -> float:
        """How many different trials the space holds; infinite with a continuous range."""
        return math.prod(_size(space) for space in self.searched.values())

    def budget(self, trials: int) -> int:
        """How many trials the cell gets of a study's: no more than it has combinations, of which
        none is tried twice; one where nothing is searched."""
        return int(min(trials, self.size()))

    def grid(self) -> dict[str, list[Value]] | None:
        """The values of every searched parameter, or ``None`` with a continuous range."""
        grid: dict[str, list[Value]] = {}
        for name, space in self.searched.items():
            if isinstance(space, Choice):
                grid[name] = list(space.choices)
            elif isinstance(space, IntegerRange):
                grid[name] = list(range(space.low, space.high + 1))
            else:
                return None
        return grid

    def completed(self, dataset: Dataset, progress: Progress = no_progress) -> Dataset:
        """The dataset of the cell's level with its gaps filled as the cell has it.

        Args:
            dataset: Of the level that ``dataset`` names.
            progress: Told what is being done, where the completion is made now.
        """
        completion = self.filling
        return dataset if completion is None else complete(dataset, completion, progress)

    @property
    def filling(self) -> Completion | None:
        """What fills the dataset's gaps; ``None`` for what the dataset brings."""
        if self.completion is None:
            return None
        kind: type[Completion] = completions.get(self.completion)
        own = self.own("completion", self.completion, self.fixed)
        return kind(kind.Parameters.validated(f"completion {self.completion}", own))

    @staticmethod
    def own(factor: str, part: str | None, parameters: Mapping[str, Value]) -> dict[str, Value]:
        """The parameters of one part, by their short names.

        Args:
            factor: The factor the part belongs to.
            part: The part's name; ``None`` for the optimizer, whose parameters stand under the
                factor itself since a cell has only one.
            parameters: Parameters by their full names.
        """
        prefix = f"{owner_name(factor, part)}."
        return {
            name.removeprefix(prefix): value
            for name, value in parameters.items()
            if name.startswith(prefix)
        }

    def describe(self) -> dict[str, Any]:
        """Levels and spaces as JSON-like data: what a cell is, for storing and comparing."""
        return {
            "levels": dict(self.levels),
            "spaces": {name: space.to_yaml() for name, space in sorted(self.spaces.items())},
        }

    def published_defaults(self) -> dict[str, Value]:
        """The default of every searched parameter whose space holds it, by its full name."""
        model: type[Recommender] = models.get(self.model)
        chosen = {
            "model": (self.model,),
            "gradient": (self.gradient,),
            "robust": self.robust,
            "optimizer": (self.optimizer,),
        }
        found: dict[str, Value] = {}
        for factor, names in chosen.items():
            for part in names:
                owner = owner_name(factor, None if factor == "optimizer" else part)
                declared = declared_parameters(REGISTRIES[factor].get(part)).model_fields
                for name, field in declared.items():
                    default = field.get_default(call_default_factory=True)
                    published = model.optimizer_spaces.get(name) if factor == "optimizer" else None
                    if isinstance(published, Fixed):
                        default = published.value
                    space = self.searched.get(f"{owner}.{name}")
                    if space is not None and space.holds(default):
                        found[f"{owner}.{name}"] = default
        return found

    def derived_seed(self, study_seed: int, purpose: str) -> int:
        """A 32-bit seed that depends on study seed, cell and purpose alone, so that adding a cell
        changes no other cell's seeds."""
        content = {"study_seed": study_seed, "cell": self.key, "purpose": purpose}
        return int(fingerprint(content)[:8], 16)


def declared_parameters(part: type) -> type[ParameterSet]:
    """The parameters that a model, strategy, method or optimizer takes."""
    return part.Parameters  # type: ignore[attr-defined, no-any-return]


def owner_name(factor: str, part: str | None) -> str:
    """What stands in front of a parameter's short name in its full one."""
    return factor if part is None else f"{factor}.{short_name(part)}"


def _size(space: Space) -> float:
    if isinstance(space, Choice):
        return len(space.choices)
    if isinstance(space, IntegerRange):
        return space.high - space.low + 1
    return math.inf
