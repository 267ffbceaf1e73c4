"""What may happen to item features: the interface of every risk."""

from __future__ import annotations

import zlib
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Annotated, Any, ClassVar, TypeAlias

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, BeforeValidator, Field

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError, UnknownNameError
from mgstudy.models.base import Recommender
from mgstudy.registry import Registry

Table: TypeAlias = NDArray[np.float32]
"""A feature table, shape ``[items, width]``."""
Tables: TypeAlias = dict[str, Table]
"""Modality to its feature table."""


def _tuple_from_yaml(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(value)
    return (value,) if isinstance(value, int | float) else value


def _ascending(values: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(sorted(set(values)))


Severities = Annotated[
    tuple[Annotated[float, Field(ge=0)], ...],
    BeforeValidator(_tuple_from_yaml),
    Field(min_length=1),
    AfterValidator(_ascending),
]
"""Points of a severity axis; 0 is no change."""
Shares = Annotated[
    tuple[Annotated[float, Field(ge=0, le=1)], ...],
    BeforeValidator(_tuple_from_yaml),
    Field(min_length=1),
    AfterValidator(_ascending),
]
"""Points of a severity axis that ends at 1: everything."""
Seeds = Annotated[
    tuple[Annotated[int, Field(ge=0, lt=2**32)], ...],
    BeforeValidator(_tuple_from_yaml),
    Field(min_length=1),
    AfterValidator(lambda seeds: tuple(dict.fromkeys(seeds))),
]
Modalities = Annotated[tuple[str, ...] | None, BeforeValidator(_tuple_from_yaml)]


class RiskParameters(ParameterSet):
    """What every risk can be told."""

    severities: Severities
    seeds: Seeds = parameter((0, 1), "one measurement each; the same for every model")
    modalities: Modalities = parameter(None, "what is changed; all modalities when not given")


class Risk(ABC):
    """Something that may happen to item features, more or less severely.

    A subclass in its own file under ``mgstudy/robustness/risks/`` is found by its ``name``. It owes

    * ``severity``: what its severity means, as the label of an axis;
    * ``Parameters``: with default ``severities``, that suit features of any scale;
    * ``changed``: the tables after the change. At severity 0 they are the dataset's, to the bit;
      and with the same generator, a lower severity does less of the same (the same items, the same
      directions), so that what is measured along the axis is the severity alone.

    Args:
        parameters: An instance of the class's ``Parameters``; its defaults when left out.
    """

    name: ClassVar[str]
    severity: ClassVar[str]
    """What the severity means, as the label of an axis."""
    needs_model: ClassVar[bool] = False
    """Whether the change depends on the model, as an attack's does; such a change cannot be made
    before there is one."""

    class Parameters(RiskParameters):
        """The risk's own settings."""

    def __init__(self, parameters: RiskParameters | None = None) -> None:
        self.parameters = self.Parameters() if parameters is None else parameters  # type: ignore[call-arg]

    def refusal(self, dataset: Dataset) -> str | None:
        """Why this cannot happen to ``dataset`` as severely as asked for, or ``None``."""
        return None

    def tables(
        self, dataset: Dataset, severity: float, seed: int, model: Recommender | None = None
    ) -> Tables:
        """Every table of the dataset, changed or as it was.

        Args:
            dataset: The clean dataset.
            severity: How severe; in the risk's own unit, 0 is no change.
            seed: Of the random choices, which do not depend on the severity.
            model: The trained model in evaluation mode, for a risk that needs it.

        Raises:
            InputError: If the dataset lacks a modality that the parameters name, or what comes out
                is not finite.
        """
        for modality in self.parameters.modalities or ():
            if modality not in dataset.features:
                raise InputError(
                    f"risk {self.name}: {UnknownNameError('modality', modality, dataset.features)}"
                )
        random = np.random.default_rng([seed, zlib.crc32(self.name.encode())])
        with np.errstate(over="ignore", invalid="ignore"):
            changed = self.changed(dataset, severity, random, model)
        for modality, table in changed.items():
            if not np.isfinite(table).all():
                raise InputError(
                    f"risk {self.name}: severity {severity:g} makes {modality} features that are "
                    "not finite"
                )
        return {**dataset.features, **changed}

    @abstractmethod
    def changed(
        self,
        dataset: Dataset,
        severity: float,
        random: np.random.Generator,
        model: Recommender | None,
    ) -> Tables:
        """The changed tables, float32; those that are not changed may be left out."""

    def chosen(self, dataset: Dataset) -> Sequence[str]:
        """The modalities to change, in the dataset's order."""
        wanted = self.parameters.modalities
        return [name for name in dataset.features if wanted is None or name in wanted]


class TableRisk(Risk):
    """A risk that meets each modality by itself."""

    @abstractmethod
    def changed_table(self, table: Table, severity: float, random: np.random.Generator) -> Table:
        """One modality's table after the change; ``table`` is a copy, which may be overwritten."""

    def changed(
        self,
        dataset: Dataset,
        severity: float,
        random: np.random.Generator,
        model: Recommender | None,
    ) -> Tables:
        return {
            modality: self.changed_table(
                np.array(dataset.features[modality], dtype=np.float32), severity, random
            )
            for modality in self.chosen(dataset)
        }


def spread(table: Table) -> float:
    """Standard deviation of all entries of a table: the unit of noise and of attacks, the same as
    ``feature_noise``'s in training."""
    return float(np.std(table, dtype=np.float64, ddof=1)) if table.size > 1 else 0.0


def affected_items(item_count: int, share: float, random: np.random.Generator) -> NDArray[np.int64]:
    """A random share of the items, in random order; that of a lower share comes first in it."""
    order: NDArray[np.int64] = random.permutation(item_count)
    return order[: round(share * item_count)]


def make_risk(name: str, parameters: dict[str, Any] | None = None) -> Risk:
    """A risk by name, with its parameters as a file gives them.

    Raises:
        UnknownNameError: If there is no risk of that name.
        InputError: If a parameter is unknown or out of range.
    """
    kind = risks.get(name)
    return kind(kind.Parameters.validated(f"risk {name}", parameters))


risks: Registry[Risk] = Registry(
    kind="risk",
    base=Risk,  # type: ignore[type-abstract]
    package="mgstudy.robustness.risks",
    entry_point_group="mgstudy.risks",
)
"""Every risk that is installed."""
