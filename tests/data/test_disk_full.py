"""A disk that fills up in the middle, for real: a small file system in memory."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from disks import small_disk

from mgstudy.data.prepare import prepare
from mgstudy.errors import InputError, MgstudyError
from mgstudy.workspace import Workspace


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "256k") as folder:
        yield folder


def test_a_full_disk_is_said_and_leaves_nothing_half_written(raw, disk) -> None:
    large = np.random.default_rng(0).normal(size=(5, 40_000)).astype(np.float32)
    raw.write_features("image", large)
    workspace = Workspace(disk)
    with pytest.raises(
        MgstudyError, match=r"image-.*parquet: cannot be written: No space"
    ) as caught:
        prepare(raw.pipeline(), workspace)
    assert not isinstance(caught.value, InputError)
    assert caught.value.exit_code == 1
    assert "\n" not in str(caught.value)
    assert not workspace.manifest("toy").exists()
    assert not list(workspace.state.rglob("*.partial"))
    assert not list(workspace.tables.glob("image-*"))

    raw.write_features("image", raw.features["image"])
    assert prepare(raw.pipeline(), workspace).features["image"].shape == (5, 3)
