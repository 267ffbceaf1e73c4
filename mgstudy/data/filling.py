"""What an item without features gets."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgstudy.data.encoder import Items, Missing
from mgstudy.errors import InputError

_ROWS_AT_ONCE = 4096


def refuse_missing(modality: str, items: Items, known: NDArray[np.bool_]) -> None:
    """Say which item has no features.

    Raises:
        InputError: Always.
    """
    missing = np.flatnonzero(~known)
    raise InputError(
        f"{items.source.item_origin()}: item {items.name(int(missing[0]))!r} has interactions but "
        f"no {modality} features, as have {len(missing):,} of {items.count:,} items; set "
        f"features.{modality}.missing to mean, zero or noise, or mend the file"
    )


def fill(
    values: NDArray[np.floating[Any]], known: NDArray[np.bool_], choice: Missing, origin: str
) -> NDArray[np.floating[Any]]:
    """Fill the rows of unknown items, in place where the array can be written to.

    Args:
        values: Shape ``[items, width]``.
        known: Whether each row is known.
        choice: What the others get. Noise is normal, with the known rows' mean and deviation per
            column, and always the same.
        origin: Where the table comes from, for messages.

    Raises:
        InputError: If no row is known.
    """
    if known.all():
        return values
    if not known.any():
        raise InputError(f"{origin}: none of the {len(known):,} items has features")
    filled = values if values.flags.writeable else values.copy()
    missing = np.flatnonzero(~known)
    if choice == "zero":
        filled[missing] = 0
        return filled
    mean = _mean(values, known)
    if not np.isfinite(mean).all():
        # A value that is not finite is named where it stands when the table is written.
        filled[missing] = 0
        return filled
    if choice == "mean":
        filled[missing] = mean
        return filled
    deviation = np.sqrt(_mean(values, known, about=mean))
    generator = np.random.default_rng(0)
    filled[missing] = mean + deviation * generator.standard_normal((len(missing), len(mean)))
    return filled


def _mean(
    values: NDArray[Any], known: NDArray[np.bool_], about: NDArray[np.float64] | None = None
) -> NDArray[np.float64]:
    """Mean of the known rows, or of their squared distance, in blocks and in double precision."""
    total = np.zeros(values.shape[1])
    for start in range(0, len(values), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        block = values[rows][known[rows]].astype(np.float64)
        total += (block if about is None else (block - about) ** 2).sum(axis=0)
    mean: NDArray[np.float64] = total / known.sum()
    return mean
