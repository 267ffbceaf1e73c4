"""Small raw data in the MMRec format, and a workspace to prepare it in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from mgstudy.config.pipeline import PipelineConfig
from mgstudy.workspace import Workspace

ROWS: tuple[tuple[int, int, int], ...] = (
    (0, 0, 0), (0, 1, 0), (0, 2, 1), (0, 3, 2),
    (1, 1, 0), (1, 2, 0), (1, 3, 1),
    (2, 0, 0), (2, 4, 2),
    (3, 4, 1), (3, 0, 2),
)  # fmt: skip
"""User, item, label. User 3 has no training interaction; items 3 and 4 are in none."""
FEATURES = {
    "image": np.random.default_rng(5).normal(size=(5, 3)).astype(np.float32),
    "audio": np.random.default_rng(6).normal(size=(5, 2)).astype(np.float32),
}


@dataclass(frozen=True)
class RawFolder:
    """A folder of raw files, valid until a test spoils it: 4 users, 5 items, image and audio."""

    path: Path
    rows = ROWS
    features = FEATURES

    @property
    def interactions(self) -> Path:
        return self.path / "toy.inter"

    def write_rows(self, rows: Sequence[Sequence[Any]]) -> None:
        lines = ["userID\titemID\tx_label", *("\t".join(map(str, row)) for row in rows)]
        self.interactions.write_text("\n".join(lines) + "\n", "utf-8")

    def feature_file(self, modality: str) -> Path:
        return self.path / f"{modality}_feat.npy"

    def write_features(self, modality: str, table: NDArray[Any]) -> None:
        np.save(self.feature_file(modality), table)

    def pipeline(self, name: str = "toy", **settings: Any) -> PipelineConfig:
        source = {"kind": "mmrec", "path": str(self.path), **settings}
        return PipelineConfig.model_validate({"name": name, "source": source})


@pytest.fixture
def raw(tmp_path: Path) -> RawFolder:
    folder = RawFolder(tmp_path / "raw")
    folder.path.mkdir()
    folder.write_rows(folder.rows)
    for modality, table in folder.features.items():
        folder.write_features(modality, table)
    return folder


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "home")
