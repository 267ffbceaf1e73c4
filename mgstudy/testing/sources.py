"""What every data source must do, whatever it reads."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from mgstudy.data.interactions import SPLITS, UNSPLIT, RawInteractions
from mgstudy.data.sources.base import Recipe, Source
from mgstudy.errors import InputError


class SourceContract(ABC):
    """Holds a source to what it owes; subclass it and write ``make``."""

    @abstractmethod
    def make(self, folder: Path) -> Source:
        """The source over a few raw files that this writes into an empty folder; called twice, it
        writes the same."""

    def test_interactions_are_whole_and_in_range(self, tmp_path: Path) -> None:
        found = self._resolved(tmp_path).interactions()
        rows = len(found.users)
        assert rows > 0
        for name, column in _columns(found).items():
            assert len(column) == rows, name
        assert found.users.dtype == found.items.dtype == np.int64
        assert found.users.min() >= 0 and found.users.max() < found.user_count
        assert found.items.min() >= 0 and found.items.max() < found.item_count
        assert set(found.splits.tolist()) <= {UNSPLIT, *range(len(SPLITS))}
        assert found.origin
        assert found.steps and found.steps[0].rows_in >= found.steps[0].rows_out
        assert found.steps[-1].rows_out == rows
        for keys, count in (
            (found.user_keys, found.user_count),
            (found.item_keys, found.item_count),
        ):
            assert keys is None or (pa.types.is_string(keys.type) and len(set(keys)) == count)
        if found.ratings is not None:
            assert found.ratings.dtype == np.float64 and np.isfinite(found.ratings).all()
        if found.timestamps is not None:
            assert found.timestamps.dtype == np.int64

    def test_reading_again_gives_the_same(self, tmp_path: Path) -> None:
        source = self._resolved(tmp_path)
        first, again = source.interactions(), source.interactions()
        for name, column in _columns(first).items():
            np.testing.assert_array_equal(column, _columns(again)[name], err_msg=name)
        for modality in source.feature_recipes():
            table, same = (source.features(modality, first.item_count) for _ in range(2))
            np.testing.assert_array_equal(table, same)

    def test_a_recipe_is_the_same_for_the_same_source_and_names_files_that_exist(
        self, tmp_path: Path
    ) -> None:
        source, other = (self._resolved(tmp_path) for _ in range(2))
        assert source.resolved().interactions_recipe() == source.interactions_recipe()
        for one, same in zip(_recipes(source), _recipes(other), strict=True):
            assert one == same
            assert json.loads(json.dumps(dict(one.parameters))) == dict(one.parameters)
            for path in one.paths():
                assert path.exists(), path

    def test_a_file_that_is_gone_is_refused_by_name(self, tmp_path: Path) -> None:
        source = self._resolved(tmp_path)
        for role, path in source.interactions_recipe().files.items():
            kept = path.read_bytes()
            path.unlink()
            with pytest.raises(InputError) as refused:
                source.interactions()
            assert path.name in str(refused.value), role
            assert "\n" not in str(refused.value)
            path.write_bytes(kept)

    def test_features_are_a_finite_row_per_item(self, tmp_path: Path) -> None:
        source = self._resolved(tmp_path)
        items = source.interactions().item_count
        for modality in source.feature_recipes():
            table = source.features(modality, items)
            assert table.ndim == 2 and len(table) == items and table.shape[1] > 0
            assert table.dtype in (np.float16, np.float32, np.float64)
            assert np.isfinite(table).all()
            place = source.place(modality, 3, 1)
            assert "row 3" in place and "column 1" in place

    def test_item_records_are_of_the_wanted_items_and_fields(self, tmp_path: Path) -> None:
        source = self._resolved(tmp_path)
        if not (source.item_recipe().files or source.item_fields()):
            with pytest.raises(InputError, match="has no records of items"):
                list(source.item_records(["title"], ["1"]))
            return
        found = source.interactions()
        keys = range(found.item_count) if found.item_keys is None else found.item_keys.to_pylist()
        wanted, fields = set(map(str, keys)), source.item_fields()
        records = {item: record for _, item, record in source.item_records(fields, wanted)}
        assert records and set(records) <= wanted
        for field in fields:
            # Whatever else is read with it; what an item lacks is absent or nothing.
            alone = list(source.item_records([field], wanted))
            for place, item, record in alone:
                assert any(character.isdigit() for character in place), "names no line or row"
                assert record.get(field) == records[item].get(field), field
        assert any(record.get(field) for record in records.values() for field in fields)
        assert not list(source.item_records(fields, []))

    def _resolved(self, folder: Path) -> Source:
        raw = folder / "raw"
        raw.mkdir(exist_ok=True)
        return self.make(raw).resolved()


def _columns(found: RawInteractions) -> dict[str, NDArray[Any]]:
    columns: dict[str, NDArray[Any] | None] = {
        "users": found.users,
        "items": found.items,
        "splits": found.splits,
        "ratings": found.ratings,
        "timestamps": found.timestamps,
    }
    return {name: values for name, values in columns.items() if values is not None}


def _recipes(source: Source) -> Iterable[Recipe]:
    return (
        source.interactions_recipe(),
        source.item_recipe(),
        *source.feature_recipes().values(),
    )
