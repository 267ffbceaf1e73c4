"""The datasets that benchmarks run on: files as they are, or generated ones of any size."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mgstudy.data.dataset import Dataset, Interactions

WIDTHS = {"image": 4096, "text": 384}
"""Columns of the generated features: those of the published Amazon datasets."""


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
    popularity = 1.0 / np.arange(1, items + 1) ** 0.7
    drawn = generator.choice(items, size=interactions, p=popularity / popularity.sum())
    held_out = np.arange(users if held_out_users is None else min(users, held_out_users))
    np.savez(
        folder / "interactions.npz",
        counts=np.array([users, items]),
        users=generator.integers(users, size=interactions),
        items=generator.permutation(items)[drawn],
        held_out_users=held_out,
        held_out_items=generator.integers(items, size=len(held_out)),
    )
    for modality, width in widths.items():
        table = np.lib.format.open_memmap(
            folder / f"{modality}.npy", mode="w+", dtype=np.float32, shape=(items, width)
        )
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
