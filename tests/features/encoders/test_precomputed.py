import datetime
import gzip
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from mgstudy.errors import InputError

WIDTH = 3
VECTORS = {f"B{number:09d}": np.arange(3, dtype=np.float32) + number for number in range(600)}
KEYS = ["B000000007", "B000000599", "B999999999", "B000000000"]


def binary(vectors) -> bytes:
    """Amazon's image features: 10 bytes of ASIN and float32 values."""
    return b"".join(key.encode() + vector.astype("<f4").tobytes() for key, vector in vectors)


@pytest.mark.parametrize("compress", [bytes, gzip.compress])
def test_vectors_of_amazons_binary_are_those_of_their_items(tmp_path, encode, compress) -> None:
    path = tmp_path / "image_features_Toys.b"
    path.write_bytes(compress(binary(VECTORS.items())))
    encoded = encode("precomputed", keys=KEYS, file=str(path), width=WIDTH)
    assert encoded.known.tolist() == [True, True, False, True]
    for row in (0, 1, 3):
        assert np.array_equal(encoded.values[row], VECTORS[KEYS[row]])
    assert encoded.place(1, 2) == f"{path}: record 599 (from 0), column 2"


def test_a_binary_that_is_cut_short_is_said_with_its_record(tmp_path, encode) -> None:
    path = tmp_path / "a.b"
    path.write_bytes(binary(VECTORS.items())[:-1])
    message = re.escape(f"{path}: record 599 (from 0) is cut short")
    with pytest.raises(InputError, match=message):
        encode("precomputed", keys=KEYS, file=str(path), width=WIDTH)
    path.write_bytes(binary(VECTORS.items()))
    with pytest.raises(InputError, match=r"is no ASIN|is cut short|holds no vector"):
        encode("precomputed", keys=KEYS, file=str(path), width=4)


@pytest.mark.parametrize(("choice", "value"), [("first", 7), ("last", 100)])
def test_of_two_vectors_of_an_item_the_declared_one_counts(
    tmp_path, encode, choice: str, value: int
) -> None:
    path = tmp_path / "a.b"
    path.write_bytes(binary([*VECTORS.items(), (KEYS[0], VECTORS["B000000100"])]))
    settings = {"keys": KEYS, "file": str(path), "width": WIDTH}
    message = r"record 600 \(from 0\): item 'B000000007' has a vector already, record 7; set dupl"
    with pytest.raises(InputError, match=message):
        encode("precomputed", **settings)
    assert encode("precomputed", duplicates=choice, **settings).values[0, 0] == value


def test_rows_of_an_array_are_found_by_a_file_of_keys(tmp_path, encode) -> None:
    table = np.random.default_rng(0).normal(size=(4, 2))
    np.save(tmp_path / "a.npy", table)
    names = tmp_path / "keys.txt"
    names.write_text("B2\nB9\nB1\nB3\n", "utf-8")
    settings = {"file": str(tmp_path / "a.npy"), "row_keys": str(names)}
    encoded = encode("precomputed", **settings)
    assert encoded.known.tolist() == [True, True, True, False, False]
    assert np.array_equal(encoded.values[:3], table[[3, 2, 0]].astype(np.float32))
    names.write_text("B2\nB9\nB1\nB3\n", "utf-8-sig")
    assert np.array_equal(encode("precomputed", **settings).values, encoded.values)
    names.write_text("B2\nB2\nB1\nB3\n", "utf-8")
    with pytest.raises(InputError, match="line 2: item 'B2' has a row already, line 1"):
        encode("precomputed", **settings)
    names.write_text("B2\nB9\n", "utf-8")
    with pytest.raises(InputError, match=r"keys\.txt: has 2 lines, but a\.npy has 4 rows"):
        encode("precomputed", **settings)


def test_rows_of_an_array_are_items_counted_from_the_first_key(tmp_path, encode) -> None:
    table = np.random.default_rng(0).normal(size=(4, 2))
    np.save(tmp_path / "a.npy", table)
    encoded = encode("precomputed", keys=["3", "1", "9"], file=str(tmp_path / "a.npy"), first_key=1)
    assert encoded.known.tolist() == [True, True, False]
    assert np.array_equal(encoded.values[:2], table[[2, 0]].astype(np.float32))


def test_parquet_vectors_are_those_of_their_keys(tmp_path, encode) -> None:
    path = tmp_path / "a.parquet"
    columns = {"item": ["B1", "B7", "B3"], "feature": [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]}
    pyarrow.parquet.write_table(pa.table(columns), path)
    encoded = encode("precomputed", file=str(path))
    assert encoded.known.tolist() == [True, True, False, False, False]
    assert encoded.values[:2].tolist() == [[5, 6], [1, 2]]

    columns["feature"][2] = [5.0]
    pyarrow.parquet.write_table(pa.table(columns), path)
    message = r"record 2 \(from 0\): the vector of item 'B3' has 1 values, those before have 2"
    with pytest.raises(InputError, match=message):
        encode("precomputed", file=str(path))
    with pytest.raises(InputError, match="no column 'asin'; it has item, feature"):
        encode("precomputed", file=str(path), key_column="asin")


DAY = datetime.date(2020, 1, 1)
NO_VECTORS = {
    "text": ([["a"]], "column 'feature' is list<element: string>, expected lists of numbers"),
    "dates": ([[DAY]], "column 'feature' is list<element: date32[day]>, expected lists of"),
    "truth values": ([[True]], "column 'feature' is list<element: bool>, expected lists of"),
    "lists of lists": ([[[1.0]]], "is list<element: list<element: double>>, expected lists of"),
    "numbers": ([1.0], "column 'feature' is double, expected lists of numbers"),
    "nothing": ([None], "column 'feature' is null, expected lists of numbers"),
    "no value": (pa.array([[]], pa.list_(pa.float32())), "the vector of item 'B1' has no value"),
}


@pytest.mark.parametrize(("vectors", "message"), NO_VECTORS.values(), ids=NO_VECTORS)
def test_parquet_of_anything_but_lists_of_numbers_is_refused(
    tmp_path, encode, vectors, message
) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"item": ["B1"], "feature": vectors}), path)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        encode("precomputed", file=str(path))
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.filterwarnings("error")
def test_parquet_beyond_float32_is_infinite_without_a_warning(tmp_path, encode) -> None:
    path = tmp_path / "a.parquet"
    pyarrow.parquet.write_table(pa.table({"item": ["B1"], "feature": [[1e300]]}), path)
    assert np.isinf(encode("precomputed", file=str(path)).values).any()


def test_parquet_with_damaged_pages_is_refused(tmp_path, encode) -> None:
    path = tmp_path / "a.parquet"
    columns = {"item": ["B1"] * 500, "feature": [[float(row), 1.0] for row in range(500)]}
    pyarrow.parquet.write_table(pa.table(columns), path, compression="gzip")
    content = bytearray(path.read_bytes())
    content[4:400] = bytes(396)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet: .*; download it"):
        encode("precomputed", file=str(path))


def test_keys_of_an_array_may_end_as_on_windows(tmp_path, encode) -> None:
    np.save(tmp_path / "a.npy", np.ones((2, 2)))
    (tmp_path / "keys.txt").write_bytes(b"B2\r\nB1\r\n")
    settings = {"file": str(tmp_path / "a.npy"), "row_keys": str(tmp_path / "keys.txt")}
    assert encode("precomputed", **settings).known.sum() == 2


def test_vectors_of_no_item_are_refused(tmp_path, encode) -> None:
    path = tmp_path / "a.b"
    path.write_bytes(binary(VECTORS.items()))
    with pytest.raises(InputError, match="holds no vector of the dataset's 5 items, such as 'B3'"):
        encode("precomputed", file=str(path), width=WIDTH)


def test_a_file_of_unknown_format_is_refused(encode) -> None:
    with pytest.raises(InputError, match=r"a\.bin ends in none of \.b, \.npy, \.parquet"):
        encode("precomputed", file="a.bin")
