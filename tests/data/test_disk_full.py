"""A disk that fills up in the middle, for real: a small file system in memory."""

import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from mgstudy.data.prepare import prepare
from mgstudy.errors import InputError, MgstudyError
from mgstudy.workspace import Workspace


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(folder)]
    try:
        mounted = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        pytest.skip("there is no mount command")
    if mounted.returncode:
        pytest.skip(f"mounting is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_is_said_and_leaves_nothing_half_written(raw, small_disk) -> None:
    large = np.random.default_rng(0).normal(size=(5, 40_000)).astype(np.float32)
    raw.write_features("image", large)
    workspace = Workspace(small_disk)
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
