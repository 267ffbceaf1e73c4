"""Datasets in the format of the MMRec toolbox: one table of interactions, one array per modality.

The interactions are tab-separated UTF-8 text with a header: ``userID``, ``itemID`` and ``x_label``
(0 train, 1 validation, 2 test); other columns are ignored. Ids count from 0. The row of a feature
array is the item's id.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.config.pipeline import Modality
from mgstudy.data.delimited import Dialect, read_delimited
from mgstudy.data.interactions import RawInteractions, StepRecord
from mgstudy.data.reading import Malformed
from mgstudy.data.records import Column, Columns
from mgstudy.data.sources.base import RawPath, Recipe, Source, names_in, only_one
from mgstudy.data.sources.binary import open_array
from mgstudy.errors import InputError
from mgstudy.limits import limit

USER, ITEM, SPLIT = "userID", "itemID", "x_label"
USUAL_FEATURES = {
    "image": "image_feat.npy",
    "text": "text_feat.npy",
    "audio": "audio_feat.npy",
}
LARGEST_ID = 2**31 - 1
_ID = Column(pa.int64(), most=LARGEST_ID, expected=f"an integer from 0 to {LARGEST_ID:,}")
_LABEL = Column(pa.int64(), most=2, expected="0 (train), 1 (validation) or 2 (test)")
_COLUMNS = {USER: _ID, ITEM: _ID, SPLIT: _LABEL}
_DIALECT = Dialect("\t", quoted=False, all_text=True)


class MMRec(Source):
    """A folder with an ``.inter`` file and ``.npy`` feature arrays, as MMRec reads them."""

    name: ClassVar[str] = "mmrec"

    class Parameters(ParameterSet):
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
        settings = self.parameters
        there, modalities = names_in(settings.path), settings.modalities
        name = settings.interactions
        if name is None:
            names = [name for name in there if name.endswith(".inter")]
            name = only_one(names, "*.inter file", settings.path, "source.interactions")
        if modalities is None:
            usual = USUAL_FEATURES.items()
            modalities = {modality: name for modality, name in usual if name in there}
        found = {"interactions": name, "modalities": modalities}
        return MMRec(settings.model_copy(update=found))

    def interactions_recipe(self) -> Recipe:
        return Recipe(files={"interactions": self._interactions_file})

    def interactions(self) -> RawInteractions:
        path = self._interactions_file
        table = self._read({})
        users, items, labels = (table[name].to_numpy() for name in _COLUMNS)
        for name, ids in ((USER, users), (ITEM, items)):
            occur = len(np.unique(ids))
            most = occur * limit("MGSTUDY_IDS_PER_ID") - 1
            if ids.max() > most:
                expected = (
                    f"at most {most:,}, as {occur:,} different ones occur and ids count from 0 "
                    "without gaps; set $MGSTUDY_IDS_PER_ID to allow larger ones"
                )
                self._read({name: Column(pa.int64(), most=most, expected=expected)})
        rows = len(users)
        return RawInteractions(
            users=users,
            items=items,
            splits=labels.astype(np.int8),
            user_count=int(users.max()) + 1,
            item_count=int(items.max()) + 1,
            origin=str(path),
            steps=(StepRecord(name=f"read {path.name}", rows_in=rows, rows_out=rows),),
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
            expected = f"the number of one of the {len(table):,} rows of {path.name}"
            self._read({ITEM: Column(pa.int64(), most=len(table) - 1, expected=expected)})
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

    def _read(self, limited: Columns) -> pa.Table:
        """The interactions, refusing what some of the columns may not hold."""
        malformed, columns = Malformed(self._interactions_file, None), {**_COLUMNS, **limited}
        return pa.concat_tables(read_delimited(malformed, columns, _DIALECT, self.progress))
