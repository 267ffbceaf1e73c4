import re

import numpy as np
import pyarrow.parquet
import pytest

from mgstudy.data.interactions import SPLITS, RawInteractions
from mgstudy.data.layouts import (
    features_content,
    interactions_content,
    read_features,
    read_interactions,
)
from mgstudy.data.tables import TableStore, read_facts
from mgstudy.errors import InputError


@pytest.fixture
def write(tmp_path):
    store = TableStore(tmp_path)

    def write(content):
        store.ensure("table", lambda: content)
        return store.path("table")

    return write


def place(row: int, column: int) -> str:
    return f"row {row}, column {column}"


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", ">f4"])
def test_features_come_back_as_float32(write, dtype: str) -> None:
    table = np.random.default_rng(0).normal(size=(700, 129)).astype(dtype)
    read = read_features(write(features_content(table, {}, place)))
    assert read.dtype == np.float32
    assert np.array_equal(read, table.astype(np.float32))
    assert not read.flags.writeable


@pytest.fixture
def small_row_groups(monkeypatch) -> None:
    """Row groups of 4 KiB: 32 rows of 32 columns."""
    monkeypatch.setattr("mgstudy.data.layouts._ROW_GROUP_BYTES", 1 << 12)


@pytest.mark.usefixtures("small_row_groups")
def test_a_large_table_is_written_and_read_in_several_row_groups(write) -> None:
    table = np.random.default_rng(0).normal(size=(70, 32)).astype(np.float32)
    path = write(features_content(table, {}, place))
    assert pyarrow.parquet.ParquetFile(path).num_row_groups == 3
    assert np.array_equal(read_features(path), table)
    (row,) = pyarrow.parquet.read_table(path, filters=[("item", "=", 33)]).to_pylist()
    assert np.array_equal(np.array(row["feature"], np.float32), table[33])


@pytest.mark.usefixtures("small_row_groups")
def test_a_value_that_is_not_finite_is_named_by_its_place_in_the_whole_table(write) -> None:
    table = np.zeros((70, 32), dtype=np.float16)
    table[69, 5] = np.inf
    with pytest.raises(InputError, match=re.escape("row 69, column 5: is inf")):
        write(features_content(table, {}, place))


def test_the_schema_alone_tells_what_a_file_is(write) -> None:
    facts = {"dataset": "toy", "modality": "image", "source_sha256": {"features": "abc"}}
    path = write(features_content(np.zeros((4, 3)), facts, place))
    schema = pyarrow.parquet.read_schema(path)
    assert str(schema.field("feature").type) == "fixed_size_list<element: float not null>[3]"
    told = read_facts(path)
    assert told.pop("versions").keys() == {"python", "mgstudy", "numpy", "pyarrow"}
    assert told == {
        "format_version": 2,
        "content": "features",
        "shape": [4, 3],
        "dtype": "float32",
        **facts,
    }
    column = pyarrow.parquet.read_metadata(path).row_group(0).column(1)
    assert column.path_in_schema == "feature.list.element"
    assert not any("DICTIONARY" in encoding for encoding in column.encodings)


def test_interactions_come_back_in_order_by_split(write) -> None:
    random = np.random.default_rng(0)
    raw = RawInteractions(
        users=random.integers(50, size=1000),
        items=random.integers(30, size=1000),
        splits=random.integers(3, size=1000).astype(np.int8),
        user_count=50,
        item_count=30,
        origin="here",
    )
    splits = read_interactions(write(interactions_content(raw, {})))
    assert tuple(splits) == SPLITS
    for code, split in enumerate(splits.values()):
        assert split.users.dtype == split.items.dtype == np.int64
        assert np.array_equal(split.users, raw.users[raw.splits == code])
        assert np.array_equal(split.items, raw.items[raw.splits == code])


def test_a_table_of_another_format_is_refused_with_the_version_that_reads_it(
    write, monkeypatch
) -> None:
    monkeypatch.setattr("mgstudy.data.layouts.FORMAT", 3)
    path = write(features_content(np.zeros((4, 3)), {}, place))
    with pytest.raises(InputError, match=r"written in format 3, this version .* use mgstudy \d"):
        read_features(path)
