"""Datasets in the format of the MMRec toolbox: one table of interactions, one array per modality.

The interactions are tab-separated UTF-8 text with a header: ``userID``, ``itemID`` and ``x_label``
(0 train, 1 validation, 2 test); other columns are ignored. Ids count from 0. The row of a feature
array is the item's id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv
from numpy.typing import NDArray

from mgstudy.config.parameters import parameter
from mgstudy.config.pipeline import Modality
from mgstudy.data.interactions import SPLITS, RawInteractions, StepRecord
from mgstudy.data.sources.arrays import open_array
from mgstudy.data.sources.base import RawPath, Recipe, Source, SourceParameters
from mgstudy.errors import InputError

USER, ITEM, SPLIT = "userID", "itemID", "x_label"
COLUMNS = (USER, ITEM, SPLIT)
USUAL_FEATURES = {
    "image": "image_feat.npy",
    "text": "text_feat.npy",
    "audio": "audio_feat.npy",
}
LARGEST_ID = 2**31 - 1


class MMRec(Source):
    """A folder with an ``.inter`` file and ``.npy`` feature arrays, as MMRec reads them."""

    name: ClassVar[str] = "mmrec"

    class Parameters(SourceParameters):
        path: RawPath = parameter(..., "folder of the files; relative to the current directory")
        interactions: str | None = parameter(
            None, "file of the interactions; by default the folder's only `*.inter`"
        )
        modalities: dict[Modality, str] | None = parameter(
            None,
            "modality to its file, in the order of the modalities; by default those of "
            f"{', '.join(USUAL_FEATURES.values())} that exist; {{}} for none",
        )

    parameters: Parameters

    def resolved(self) -> MMRec:
        folder = self.parameters.path
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder; set source.path to where the data was downloaded"
            )
        interactions, modalities = self.parameters.interactions, self.parameters.modalities
        if modalities is None:
            modalities = {
                modality: name
                for modality, name in USUAL_FEATURES.items()
                if (folder / name).exists()
            }
        return MMRec(
            self.parameters.model_copy(
                update={
                    "interactions": interactions or _only_interactions_file(folder),
                    "modalities": modalities,
                }
            )
        )

    def interactions_recipe(self) -> Recipe:
        return Recipe(files={"interactions": self._interactions_file})

    def interactions(self) -> RawInteractions:
        path = self._interactions_file
        columns = _read_columns(path)
        users, items, labels = (columns[name] for name in COLUMNS)
        if not len(users):
            raise InputError(f"{path}: holds no interaction, only a header")
        if (
            min(users.min(), items.min(), labels.min()) < 0
            or max(users.max(), items.max()) > LARGEST_ID
            or labels.max() >= len(SPLITS)
        ):
            _raise_first_fault(path)
        return RawInteractions(
            users=users,
            items=items,
            splits=labels.astype(np.int8),
            user_count=int(users.max()) + 1,
            item_count=int(items.max()) + 1,
            origin=str(path),
            steps=(StepRecord(name=f"read {path.name}", rows_in=len(users), rows_out=len(users)),),
        )

    def feature_recipes(self) -> Mapping[str, Recipe]:
        return {
            modality: Recipe(files={"features": self.parameters.path / name})
            for modality, name in (self.parameters.modalities or {}).items()
        }

    def features(self, modality: str, item_count: int) -> NDArray[np.floating[Any]]:
        path = self.feature_recipes()[modality].files["features"]
        table = open_array(path)
        if len(table) < item_count:
            line = next(
                (number, row[ITEM])
                for number, row in _rows(self._interactions_file)
                if int(row[ITEM]) >= len(table)
            )
            raise InputError(
                f"{self._interactions_file}: line {line[0]}: {ITEM} {line[1]} has no row in "
                f"{path.name}, which has {len(table):,}"
            )
        if len(table) > item_count:
            raise InputError(
                f"{path}: has {len(table):,} rows, but the highest {ITEM} in "
                f"{self._interactions_file.name} is {item_count - 1:,}: expected {item_count:,} "
                "rows, one per item"
            )
        return table

    @property
    def _interactions_file(self) -> Path:
        assert self.parameters.interactions is not None, "the source is resolved first"
        return self.parameters.path / self.parameters.interactions


def _only_interactions_file(folder: Path) -> str:
    names = sorted(path.name for path in folder.glob("*.inter"))
    if len(names) != 1:
        found = f"several ({', '.join(names)})" if names else "none"
        raise InputError(
            f"{folder}: expected one *.inter file, found {found}; name it in source.interactions"
        )
    return names[0]


def _read_columns(path: Path) -> dict[str, NDArray[np.int64]]:
    """The three columns as int64, parsed at once; a fault is then looked for line by line."""
    try:
        content = path.read_bytes()
        content.decode("utf-8")
        table = pyarrow.csv.read_csv(
            pa.BufferReader(content),
            parse_options=pyarrow.csv.ParseOptions(delimiter="\t", quote_char=False),
            convert_options=pyarrow.csv.ConvertOptions(
                include_columns=list(COLUMNS),
                column_types=dict.fromkeys(COLUMNS, pa.int64()),
                null_values=[],
            ),
        )
    except (UnicodeDecodeError, pa.ArrowInvalid, pa.ArrowKeyError) as error:
        _raise_first_fault(path, error)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return {name: table.column(name).to_numpy() for name in COLUMNS}


def _raise_first_fault(path: Path, cause: Exception | None = None) -> NoReturn:
    """Read the file slowly and say what is wrong with the first line that is."""
    for number, row in _rows(path):
        where = f"{path}: line {number}"
        for name in (USER, ITEM):
            text = row[name]
            if not _is_integer(text):
                raise InputError(f"{where}: {name} is {text!r}, expected an integer from 0")
            if not 0 <= int(text) <= LARGEST_ID:
                raise InputError(f"{where}: {name} is {text}, expected 0 to {LARGEST_ID:,}")
        if row[SPLIT].strip() not in {"0", "1", "2"}:
            raise InputError(
                f"{where}: {SPLIT} is {row[SPLIT]!r}, expected 0 (train), 1 (validation) "
                "or 2 (test)"
            )
    raise InputError(f"{path}: not a table of interactions: {cause}") from cause


def _rows(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """Line number, from 1, and fields by column name of every row.

    Raises:
        InputError: If the file is not UTF-8, lacks a column, or a line has other fields than the
            header.
    """
    with path.open("rb") as file:
        header: list[str] | None = None
        for number, line in enumerate(file, start=1):
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}: line {number}: not UTF-8 text (byte {error.start + 1} of the line); "
                    "save the file as UTF-8"
                ) from None
            fields = text.split("\t")
            if header is None:
                header = fields
                for name in COLUMNS:
                    if name not in header:
                        raise InputError(
                            f"{path}: no column {name!r}; the header, split at tabs, has "
                            f"{', '.join(map(repr, header))}"
                        )
            elif text:
                if len(fields) != len(header):
                    raise InputError(
                        f"{path}: line {number}: has {len(fields)} fields, the header has "
                        f"{len(header)}"
                    )
                yield number, dict(zip(header, fields, strict=True))
        if header is None:
            raise InputError(f"{path}: the file is empty")


def _is_integer(text: str) -> bool:
    digits = text.strip().removeprefix("-")
    return digits.isascii() and digits.isdecimal()
