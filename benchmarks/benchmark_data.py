"""The datasets that benchmarks run on: files as they are, or generated ones of any size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
from numpy.typing import NDArray

from mgstudy.data.dataset import Dataset, Interactions

WIDTHS = {"image": 4096, "text": 384}
"""Columns of the generated features: those of the published Amazon datasets."""
LOG = pa.schema([("user", pa.string()), ("item", pa.string()), ("timestamp", pa.int64())])


def read(folder: Path) -> Dataset:
    """The ``*.inter`` file of a folder, whose third column is the split (0, 1, 2), and its
    ``*_feat.npy`` tables.

    Held-out rows of users without training rows are left out, as published.
    """
    (path,) = folder.glob("*.inter")
    columns = np.loadtxt(path, dtype=np.int64, delimiter="\t", skiprows=1, usecols=(0, 1, 2))
    users, items, labels = columns.T
    trained = np.isin(users, users[labels == 0])
    train, validation, test = (
        Interactions(users[kept], items[kept])
        for label in range(3)
        for kept in [(labels == label) & trained]
    )
    features = {
        modality: np.load(folder / f"{modality}_feat.npy").astype(np.float32)
        for modality in ("image", "text", "audio")
        if (folder / f"{modality}_feat.npy").exists()
    }
    counts = int(users.max()) + 1, int(items.max()) + 1
    return Dataset.from_arrays(folder.name, *counts, train, validation, test, features)


def generate(
    folder: Path,
    users: int,
    items: int,
    interactions: int,
    *,
    held_out_users: int | None = None,
    widths: Mapping[str, int] = WIDTHS,
) -> None:
    """Write interactions whose items are popular by a power law, and random features.

    One item is held out of every user, or of the first ``held_out_users``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    drawn_users, drawn_items = _drawn(generator, users, items, interactions)
    held_out = np.arange(users if held_out_users is None else min(users, held_out_users))
    np.savez(
        folder / "interactions.npz",
        counts=np.array([users, items]),
        users=drawn_users,
        items=drawn_items,
        held_out_users=held_out,
        held_out_items=generator.integers(items, size=len(held_out)),
    )
    for modality, width in widths.items():
        _write_features(folder / f"{modality}.npy", generator, items, width)


def generate_raw(folder: Path, users: int, items: int, interactions: int, width: int) -> None:
    """Write what ``generate`` draws as raw data: ``log.csv`` with users, items and times, the table
    ``image.npy`` of random features, and ``items.txt`` with the item of each of its rows."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    drawn = _drawn(generator, users, items, interactions)
    with pyarrow.csv.CSVWriter(folder / "log.csv", LOG) as file:
        for start in range(0, interactions, 1_000_000):
            ids = [column[start : start + 1_000_000] for column in drawn]
            times = generator.integers(10**9, 14 * 10**8, size=len(ids[0]))
            keys = [_keys(letter, numbers) for letter, numbers in zip("UI", ids, strict=True)]
            file.write_table(pa.table([*keys, pa.array(times)], LOG))
    _write_features(folder / "image.npy", generator, items, width)
    (folder / "items.txt").write_text("\n".join(_keys("I", np.arange(items)).to_pylist()) + "\n")


def _drawn(
    generator: np.random.Generator, users: int, items: int, interactions: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Users, all as active, and items, popular by a power law."""
    popularity = 1.0 / np.arange(1, items + 1) ** 0.7
    ranks = generator.choice(items, size=interactions, p=popularity / popularity.sum())
    drawn = generator.integers(users, size=interactions)
    return drawn, generator.permutation(items)[ranks]


def _keys(letter: str, numbers: NDArray[np.int64]) -> pa.Array:
    """Names of ten characters."""
    digits = pc.utf8_lpad(pa.array(numbers).cast(pa.string()), 9, "0")
    return pc.binary_join_element_wise(letter, digits, "")


def _write_features(path: Path, generator: np.random.Generator, items: int, width: int) -> None:
    table = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=(items, width))
    for start in range(0, items, 4096):
        rows = table[start : start + 4096]
        rows[:] = generator.standard_normal(rows.shape, dtype=np.float32)


def read_generated(folder: Path) -> Dataset:
    """What ``generate`` wrote, with the features mapped rather than read."""
    with np.load(folder / "interactions.npz") as arrays:
        users, items = arrays["counts"].tolist()
        train = Interactions(arrays["users"], arrays["items"])
        held_out = Interactions(arrays["held_out_users"], arrays["held_out_items"])
    features = {path.stem: np.load(path, mmap_mode="r") for path in sorted(folder.glob("*.npy"))}
    return Dataset.from_arrays("generated", users, items, train, held_out, held_out, features)
