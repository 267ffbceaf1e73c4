import copy
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mgstudy.data.derived import Arrays, DerivedArrays
from mgstudy.errors import MgstudyError


def counting(result: Arrays) -> tuple[Callable[[], Arrays], list[int]]:
    calls: list[int] = []

    def compute() -> Arrays:
        calls.append(1)
        return result

    return compute, calls


@pytest.mark.parametrize("on_disk", [False, True])
def test_arrays_are_computed_once_for_each_input(tmp_path: Path, on_disk: bool) -> None:
    store = DerivedArrays(tmp_path / "derived" if on_disk else None)
    compute, calls = counting({"a": np.arange(3), "empty": np.empty((0, 2))})
    for _ in range(2):
        arrays = store.get("thing", {"k": 10}, compute)
        assert arrays["a"].tolist() == [0, 1, 2]
        assert arrays["empty"].shape == (0, 2)
    assert len(calls) == 1
    store.get("thing", {"k": 11}, compute)
    store.get("other", {"k": 10}, compute)
    assert len(calls) == 3


def test_a_store_sent_to_another_process_maps_what_is_on_disk(tmp_path: Path) -> None:
    compute, calls = counting({"a": np.arange(3)})
    store = DerivedArrays(tmp_path)
    store.get("thing", {}, compute)
    elsewhere = copy.copy(store)
    array = elsewhere.get("thing", {}, compute)["a"]
    assert len(calls) == 1
    assert isinstance(array, np.memmap)
    assert not array.flags.writeable


def test_a_failed_computation_leaves_nothing(tmp_path: Path) -> None:
    store = DerivedArrays(tmp_path)
    with pytest.raises(ValueError, match="pickle"):
        store.get("thing", {}, lambda: {"a": np.arange(3), "b": np.array([{}])})
    assert [path.suffix for path in tmp_path.iterdir()] == [".lock"]
    compute, _ = counting({"a": np.arange(3)})
    assert list(store.get("thing", {}, compute)) == ["a"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(path.read_bytes()[:-1]),
        lambda path: path.write_bytes(b""),
        lambda path: path.unlink(),
        lambda path: path.with_name("inputs.json").write_text("["),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.unlink(), path.symlink_to("nowhere")),
    ],
)
def test_a_damaged_array_is_computed_again(tmp_path: Path, damage) -> None:
    compute, calls = counting({"a": np.arange(3)})
    DerivedArrays(tmp_path).get("thing", {}, compute)
    (path,) = tmp_path.rglob("a.npy")
    damage(path)
    assert DerivedArrays(tmp_path).get("thing", {}, compute)["a"].tolist() == [0, 1, 2]
    assert len(calls) == 2
    assert len([path for path in tmp_path.iterdir() if path.is_dir()]) == 1


def test_a_place_that_takes_no_arrays_is_said_to_be(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    store = DerivedArrays(tmp_path / "file" / "derived")
    with pytest.raises(MgstudyError, match="cannot be written to: Not a directory"):
        store.get("thing", {}, lambda: {"a": np.arange(3)})
