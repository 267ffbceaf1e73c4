"""Where data comes from: the interface of every source."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from mgstudy.config.parameters import ParameterSet
from mgstudy.data.interactions import RawInteractions
from mgstudy.errors import InputError
from mgstudy.files import Progress, absolute, listed, no_progress
from mgstudy.registry import Registry

DuplicateItems = Literal["error", "first", "last"]


def _absolute(path: Path) -> Path:
    try:
        return absolute(path)
    except InputError as error:
        raise ValueError(str(error)) from None


RawPath = Annotated[Path, Field(strict=False), AfterValidator(_absolute)]
"""A raw file or folder as a source sees it: what was given as a URL has been fetched by then."""


def names_in(folder: Path) -> list[str]:
    """The names of the files in a source's folder.

    Raises:
        InputError: If there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(
            f"{folder}: no such folder; set source.path to where the data was downloaded"
        )
    return [path.name for path in listed(folder)]


def only_one(names: Collection[str], expected: str, folder: Path, setting: str) -> str:
    """The only one of some names that were found in a folder.

    Args:
        names: What was found.
        expected: What was looked for, for messages.
        folder: Where.
        setting: What in the pipeline file says which one.

    Raises:
        InputError: If there is none or more than one.
    """
    if len(names) != 1:
        found = f"several ({', '.join(sorted(names))})" if names else "none"
        raise InputError(f"{folder}: expected one {expected}, found {found}; name it in {setting}")
    return next(iter(names))


def rows_of(keys: pa.Array, named: Sequence[str]) -> NDArray[np.int64]:
    """The rows of items in a table whose rows are ``named``, given what they are called."""
    rows = {key: row for row, key in enumerate(named)}
    return np.array([rows[key] for key in keys.to_pylist()], dtype=np.int64)


@dataclass(frozen=True)
class Recipe:
    """Everything that a table is made from, besides the code: the same recipe, the same table.

    Attributes:
        parameters: JSON-like settings that change the content.
        files: Role to the file read in that role. Its content counts, not its name or place.
        folders: Role to the files of a folder that are read in that role. Their names count, too.
    """

    parameters: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Path] = field(default_factory=dict)
    folders: Mapping[str, Sequence[Path]] = field(default_factory=dict)

    def paths(self) -> list[Path]:
        """All files."""
        return [*self.files.values(), *chain.from_iterable(self.folders.values())]


class Source(ABC):
    """Reads one kind of raw data.

    A subclass in its own file in this package is found by its ``name``; nothing else has to be
    edited. Interactions and each modality are read apart, so that what did not change is not read
    again.

    Args:
        parameters: An instance of the class's ``Parameters``.
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    """Raised whenever the same recipe would give other tables than before."""
    progress: Progress = staticmethod(no_progress)
    """Told what is being read."""
    duplicate_items: DuplicateItems = "error"
    """What becomes of an item with two records."""
    duplicate_items_setting: str = "source.duplicate_items"
    """What in a pipeline file says so."""

    class Parameters(ParameterSet):
        """What a pipeline file can set, beside ``kind``."""

    def __init__(self, parameters: ParameterSet) -> None:
        self.parameters = parameters

    def resolved(self) -> Source:
        """This source with everything named that was left to be found, such as file names.

        Raises:
            InputError: If it cannot be found.
        """
        return self

    @abstractmethod
    def interactions_recipe(self) -> Recipe:
        """What the interactions are made from."""

    @abstractmethod
    def interactions(self) -> RawInteractions:
        """Read or make the interactions.

        Raises:
            InputError: If the raw data is wrong; names the file and the row.
        """

    def domain_interactions(self) -> dict[str, RawInteractions]:
        """The interactions of each domain, for a source of domains: steps up to cold_start are done
        to each for itself, and what is left is ``joined``."""
        return {}

    def joined(self, domains: Mapping[str, RawInteractions]) -> RawInteractions:
        """The domains as one, for a source of domains."""
        raise NotImplementedError

    def feature_recipes(self) -> Mapping[str, Recipe]:
        """Modality to what its table is made from, in the order of the modalities; for a source
        that brings tables of features itself."""
        return {}

    def features(self, modality: str, item_count: int) -> NDArray[np.floating[Any]]:
        """Read or make a modality's table.

        Args:
            modality: One of ``feature_recipes()``.
            item_count: Items of the interactions: the rows the table must have.

        Returns:
            float16, float32 or float64, shape ``[item_count, width]``, row = item id; may be
            mapped from a file.

        Raises:
            InputError: If the raw data is wrong or has another number of rows.
        """
        raise InputError(f"the source {self.name!r} brings no features of its own")

    def observed(self, modality: str, item_count: int) -> NDArray[np.bool_]:
        """Whether each row of ``features`` is the item's own; the others were filled in."""
        return np.ones(item_count, dtype=np.bool_)

    def encoding(self, modality: str) -> Mapping[str, Any] | None:
        """What made the features, where it is known: only what was encoded alike can be joined."""
        return None

    def feature_rows(self, keys: pa.Array) -> NDArray[np.int64]:
        """The rows of ``features`` of items, given what the raw data calls them."""
        return np.array([int(key) for key in keys.to_pylist()])

    def item_recipe(self) -> Recipe:
        """What the items' records are read from; for a source that has some."""
        return Recipe()

    def item_fields(self) -> list[str]:
        """The fields that an item's record may have, as far as they are known."""
        return []

    def item_origin(self) -> str:
        """How a message names where the items' records come from."""
        files = self.item_recipe().files.values()
        return str(next(iter(files), f"the source {self.name!r}"))

    def item_records(
        self, fields: Collection[str], wanted: Container[str]
    ) -> Iterator[tuple[str, str, Mapping[str, Any]]]:
        """The records of items: place in a file, what the raw data calls the item, and its fields.

        Args:
            fields: The fields that are needed; others need not be read.
            wanted: The items that are needed; records of others need not be read.

        Raises:
            InputError: If the source has no records, or one is wrong; names the file and the line.
        """
        raise InputError(
            f"{self.item_origin()}: has no records of items, which an encoder under `features` "
            "and what is under `texts` need; give the source a file of them, or do without"
        )

    def place(self, modality: str, row: int, column: int) -> str:
        """How a message names one value of a modality's table."""
        files = self.feature_recipes()[modality].files.values()
        return f"{next(iter(files), self.name)}: row {row}, column {column}"


sources: Registry[Source] = Registry(
    kind="source",
    base=Source,  # type: ignore[type-abstract]
    package="mgstudy.data.sources",
    entry_point_group="mgstudy.sources",
)
"""Every source that is installed."""
