"""How item features are made: the items as an encoder sees them, the interfaces of encoders and of
what is done to their tables.

The parts themselves lie in ``mgstudy/features/``; here is what preparing a dataset knows of them.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.data.encoded_rows import EncodedRows
from mgstudy.data.sources.base import Recipe, Source
from mgstudy.data.steps.base import DeclaredStep
from mgstudy.errors import InputError
from mgstudy.files import Progress
from mgstudy.limits import limit, more_than
from mgstudy.registry import Registry

Missing = Literal["error", "mean", "zero", "noise"]
TableChange: TypeAlias = Callable[[NDArray[np.float32]], NDArray[np.floating[Any]]]
"""What is done to a table of features."""


@dataclass(frozen=True)
class Items:
    """The items that features are made for.

    Attributes:
        count: Items, with ids from 0.
        keys: What the raw data calls them, by id; ``None`` where it counts them from 0 itself.
        source: Where their records come from.
        progress: Told what is being done.
        encoded: What an encoding that was stopped has encoded already.
        without: bool ``[items]``: items that are taken to have no record; none when not given.
    """

    count: int
    keys: pa.Array | None
    source: Source
    progress: Progress
    encoded: EncodedRows = field(default_factory=EncodedRows)
    without: NDArray[np.bool_] | None = None

    def table(self, width: int) -> NDArray[np.float32]:
        """A table with a row of zeros for each item.

        Raises:
            InputError: If it is larger than ``mgstudy.limits`` allows.
        """
        if 4 * width * self.count > limit("MGSTUDY_TABLE_BYTES"):
            most = more_than("MGSTUDY_TABLE_BYTES", "bytes")
            raise InputError(
                f"{self.source.item_origin()}: {width:,} columns of {self.count:,} rows are {most}"
            )
        return np.zeros((self.count, width), dtype=np.float32)

    def encoded_table(
        self,
        activity: str,
        wanted: Sequence[int],
        at_once: int,
        encode: Callable[[Sequence[int]], NDArray[np.floating[Any]]],
    ) -> NDArray[np.float32]:
        """A table whose rows are encoded in batches, less what an encoding that was stopped has
        encoded already; with zeros for items that are not wanted.

        Args:
            activity: What is being done.
            wanted: The items, at least one, in the order in which they are encoded.
            at_once: Items in a batch.
            encode: Gives the rows of a batch, shape ``[batch, width]``.

        Raises:
            InputError: As ``table``.
        """
        rows = self.encoded.read()
        left = [item for item in wanted if item not in rows]
        self.progress(activity, len(rows), len(wanted))
        for start in range(0, len(left), at_once):
            batch = left[start : start + at_once]
            block = encode(batch)
            self.encoded.keep(batch, block)
            rows.update(zip(batch, block, strict=True))
            self.progress(activity, len(rows), len(wanted))
        table = self.table(len(rows[wanted[0]]))
        for item, row in rows.items():
            table[item] = row
        return table

    def ids(self) -> dict[str, int]:
        """Id of each item by what the raw data calls it."""
        keys = map(str, range(self.count)) if self.keys is None else self.keys.to_pylist()
        return {key: item for item, key in enumerate(keys)}

    def name(self, item: int) -> str:
        """What the raw data calls an item."""
        return str(item) if self.keys is None else str(self.keys[item].as_py())

    def records(self, fields: Collection[str]) -> Iterator[tuple[int, Mapping[str, Any]]]:
        """Id and the asked-for fields of every item that has a record, in the order of the file.

        Raises:
            InputError: If the source has no records or none of these items, an item has two, or
                no item has a field.
        """
        ids = self.ids()
        seen: set[int] = set()
        never = set(fields)
        for place, key, record in self.source.item_records(fields, ids):
            item = ids.get(key)
            if item is None or (self.without is not None and self.without[item]):
                continue
            if item in seen:
                if self.source.duplicate_items == "error":
                    setting = self.source.duplicate_items_setting
                    raise InputError(
                        f"{place}: item {key!r} has a record already; set {setting} to first or "
                        "last to say which counts"
                    )
                if self.source.duplicate_items == "first":
                    continue
            seen.add(item)
            if never:
                never = {name for name in never if record.get(name) in (None, "", [])}
            yield item, record
        if not seen:
            called = islice(self.source.item_records(fields, _Everything()), 3)
            names = ", ".join(repr(key) for _, key, _ in called) or "not called anything"
            raise InputError(
                f"{self.source.item_origin()}: has no record of any of the dataset's "
                f"{self.count:,} items, such as {self.name(0)!r}; its own are {names}"
            )
        if never:
            raise InputError(
                f"{self.source.item_origin()}: no item has the field {min(never)!r}; known fields: "
                f"{', '.join(self.source.item_fields()) or 'none'}"
            )


class _Everything(Container[str]):
    """Holds whatever is asked for."""

    def __contains__(self, key: object) -> bool:
        return True


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

    reads_records: ClassVar[bool] = True
    """Whether it reads the items' records."""
    learns_from_items: ClassVar[bool] = False
    """Whether an item's row depends on other items' records, so that it encodes anew where some
    items are taken to have none."""
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


class FeatureStep(DeclaredStep):
    """Something that is done to a table of features, written under ``features: ...: steps``; in
    its own file in ``mgstudy/features/steps/``."""

    @abstractmethod
    def fitted(self, rows: NDArray[np.float32]) -> TableChange:
        """Learn from rows what is to be done to every row.

        Args:
            rows: Of the items that have the modality, shape ``[rows, width]``, finite, read-only.

        Returns:
            From any rows of this width to as many others.

        Raises:
            InputError: If it cannot be done to such a table.
        """

    def apply(
        self, table: NDArray[np.float32], observed: NDArray[np.bool_] | None = None
    ) -> NDArray[np.floating[Any]]:
        """Make another table with a row for each item.

        Args:
            table: Shape ``[items, width]``, finite and read-only.
            observed: Whether each item has the modality, shape ``[items]``; from the others, whose
                rows were filled in, nothing is learnt. All of them when not given.

        Raises:
            InputError: If it cannot be done to this table.
        """
        whole = observed is None or observed.all()
        return self.fitted(table if whole else table[observed])(table)


feature_steps: Registry[FeatureStep] = Registry(
    kind="feature step",
    base=FeatureStep,  # type: ignore[type-abstract]
    package="mgstudy.features.steps",
    entry_point_group="mgstudy.feature_steps",
)
"""Every feature step that is installed."""
