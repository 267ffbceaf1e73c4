"""How item features are made: the interfaces of encoders and of what is done to their tables.

The parts themselves lie in ``mgstudy/features/``; here is what preparing a dataset knows of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.items import Items
from mgstudy.data.sources.base import Recipe
from mgstudy.registry import Registry

Missing = Literal["error", "mean", "zero", "noise"]


@dataclass(frozen=True)
class Encoded:
    """What an encoder made.

    Attributes:
        values: Floating point, shape ``[items, width]``; the rows of unknown items mean nothing.
        known: Whether each item was known, shape ``[items]``.
        place: How a message names one value, given row and column.
    """

    values: NDArray[np.floating[Any]]
    known: NDArray[np.bool_]
    place: Callable[[int, int], str]


class EncoderParameters(ParameterSet):
    """What every encoder can be told."""

    missing: Missing = parameter(
        "error",
        "what an item without features gets: nothing, which is an error; the mean of the others "
        "(the published pipelines' choice for images); zeros; or noise with the mean and deviation "
        "of the others",
    )


class Encoder(ABC):
    """Makes one modality's features, written in a pipeline file under ``features``.

    A subclass in its own file in ``mgstudy/features/encoders/`` is found by its ``name``; nothing
    else has to be edited. The first line of its docstring is what the documentation says of it.

    Args:
        parameters: An instance of the class's ``Parameters``.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same recipe would give another table than before."""
    keeps_unfilled: ClassVar[bool] = True
    """Whether the table is kept as encoded, so that filling the missing items in another way does
    not encode again. Not worth its space where encoding is only reading."""

    packages: ClassVar[tuple[str, ...]] = ()
    """Distributions whose versions a table's metadata notes, because they made it."""

    class Parameters(EncoderParameters):
        """What a pipeline file can set, beside ``encoder`` and ``steps``."""

    def __init__(self, parameters: EncoderParameters) -> None:
        self.parameters = parameters

    def resolved(self) -> Encoder:
        """This encoder with everything named that was left to be found, such as a model's files.

        Raises:
            InputError: If it cannot be found.
        """
        return self

    @property
    def reads_records(self) -> bool:
        """Whether it reads the items' records."""
        return True

    def recipe(self) -> Recipe:
        """What the table is made from, besides the items and their records."""
        return Recipe(parameters=self.parameters.model_dump(mode="json", exclude={"missing"}))

    @abstractmethod
    def encode(self, items: Items) -> Encoded:
        """Make the features.

        Raises:
            InputError: If the raw data is wrong; names the file and the row.
        """


encoders: Registry[Encoder] = Registry(
    kind="encoder",
    base=Encoder,  # type: ignore[type-abstract]
    package="mgstudy.features.encoders",
    entry_point_group="mgstudy.encoders",
)
"""Every encoder that is installed."""


class FeatureStep(ABC):
    """Something that is done to a table of features, written under ``features: ...: steps``.

    A subclass in its own file in ``mgstudy/features/steps/`` is found by its ``name``.

    Args:
        parameters: An instance of the class's ``Parameters``.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same parameters would give another table than before."""

    class Parameters(ParameterSet):
        """What a pipeline file can set."""

    def __init__(self, parameters: ParameterSet) -> None:
        self.parameters = parameters

    @abstractmethod
    def apply(self, table: NDArray[np.float32]) -> NDArray[np.floating[Any]]:
        """Make another table with a row for each item.

        Args:
            table: Shape ``[items, width]``, finite and read-only.

        Raises:
            InputError: If it cannot be done to this table.
        """

    def content(self) -> Any:
        """Everything the result depends on besides the table, JSON-like."""
        return {
            "name": self.name,
            "version": self.version,
            "parameters": self.parameters.model_dump(mode="json"),
        }


feature_steps: Registry[FeatureStep] = Registry(
    kind="feature step",
    base=FeatureStep,  # type: ignore[type-abstract]
    package="mgstudy.features.steps",
    entry_point_group="mgstudy.feature_steps",
)
"""Every feature step that is installed."""
