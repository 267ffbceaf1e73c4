"""What a long encoding has encoded so far: a kill costs one batch."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mgstudy.files import locked, written_whole


@dataclass(frozen=True)
class EncodedRows:
    """Rows of a table that is not finished, a file for each batch.

    Attributes:
        folder: Where they lie, one folder for each thing that makes the table; nothing is kept
            when not given.
    """

    folder: Path | None = None

    @contextmanager
    def held(self) -> Iterator[None]:
        """Be the only process that encodes these: `mgstudy cache gc` leaves them alone."""
        if self.folder is None:
            yield
            return
        with locked(self.folder.with_name(self.folder.stem.removeprefix("."))):
            yield

    def read(self) -> dict[int, NDArray[np.float32]]:
        """The items that are encoded, to their rows; of a batch that cannot be read, none."""
        rows: dict[int, NDArray[np.float32]] = {}
        for path in self.folder.glob("*.npz") if self.folder is not None else ():
            try:
                with np.load(path, allow_pickle=False) as batch:
                    rows.update(zip(batch["items"].tolist(), batch["rows"], strict=True))
            except Exception:  # Archive, compression and header each have errors of their own.
                continue
        return rows

    def keep(self, items: Sequence[int], rows: NDArray[Any]) -> None:
        """Keep a batch.

        Args:
            items: The items.
            rows: Shape ``[batch, width]``.

        Raises:
            MgstudyError: If it cannot be written.
        """
        if self.folder is None:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        # One that is kept twice, by two processes, is the same.
        with written_whole(self.folder / f"{items[0]}.npz") as file:
            np.savez(file, items=np.asarray(items), rows=rows.astype(np.float32))

    def discard(self) -> None:
        """Delete them all: the table is there."""
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
