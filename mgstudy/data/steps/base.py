"""What is done between the raw files and the dataset: the interface of a step."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet
from mgstudy.data.interactions import RawInteractions
from mgstudy.errors import InputError
from mgstudy.registry import Registry


class DeclaredStep(ABC):
    """One thing that is done, written in a list of ``steps`` in a pipeline file.

    A subclass in its own file in the package of its kind is found by its ``name``; nothing else has
    to be edited. The first line of its docstring is what the documentation says of it.

    Args:
        parameters: An instance of the class's ``Parameters``.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same parameters would give another result than before."""

    class Parameters(ParameterSet):
        """What a pipeline file can set."""

    def __init__(self, parameters: ParameterSet) -> None:
        self.parameters = parameters

    def content(self) -> Any:
        """Everything the result depends on besides what it is done to, JSON-like."""
        return {
            "name": self.name,
            "version": self.version,
            "parameters": self.parameters.model_dump(mode="json"),
        }


class Step(DeclaredStep):
    """Something that is done to interactions, written under ``steps``."""

    splits: ClassVar[bool] = False
    """Whether it says what is for training, validation and test."""

    @abstractmethod
    def apply(self, interactions: RawInteractions) -> RawInteractions:
        """Do it, and add a record of it.

        Raises:
            InputError: If the interactions lack what the step needs.
        """

    def timestamps(self, interactions: RawInteractions) -> NDArray[np.int64]:
        """The interactions' timestamps.

        Raises:
            InputError: If the raw data has none.
        """
        if interactions.timestamps is None:
            raise InputError(
                f"{interactions.origin}: has no timestamps, which the step {self.name!r} needs"
            )
        return interactions.timestamps


steps: Registry[Step] = Registry(
    kind="step",
    base=Step,  # type: ignore[type-abstract]
    package="mgstudy.data.steps",
    entry_point_group="mgstudy.steps",
)
"""Every step that is installed."""
