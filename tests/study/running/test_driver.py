from __future__ import annotations

import socket
from pathlib import Path

import pytest
import ray

from mgstudy.errors import MgstudyError
from mgstudy.study.running.driver import KeepBestCheckpoint, ray_session, require_cluster
from mgstudy.study.search.events import Assignment, State
from mgstudy.study.storage.checkpoints import CheckpointFolder


def test_only_the_best_weights_of_a_cell_are_kept(expanded, tmp_path) -> None:
    cells = expanded("model: [BPR, VBPR]").cells

    def finish(cell, number: int, state: State, value: float | None) -> None:
        weights = tmp_path / cell.key / str(number) / "best.pt"
        weights.parent.mkdir(parents=True)
        weights.touch()
        keep.trial_finished(Assignment(cell, number, 0, {}), state, value, {})

    def kept(cell) -> list[int]:
        return sorted(int(path.name) for path in (tmp_path / cell.key).iterdir())

    keep = KeepBestCheckpoint(CheckpointFolder(str(tmp_path)), {})
    first, second = cells
    finish(first, 0, State.COMPLETE, 0.3)
    finish(first, 1, State.COMPLETE, 0.2)
    finish(second, 0, State.COMPLETE, 0.1)
    assert (kept(first), kept(second)) == ([0], [0])
    finish(first, 2, State.COMPLETE, 0.4)
    finish(first, 3, State.COMPLETE, 0.4)
    assert kept(first) == [2]
    # The best of an earlier launch is known from the record.
    keep = KeepBestCheckpoint(CheckpointFolder(str(tmp_path)), {first.key: (2, 0.4)})
    finish(first, 4, State.COMPLETE, 0.35)
    assert kept(first) == [2]
    finish(first, 5, State.COMPLETE, 0.5)
    assert kept(first) == [5]


def test_an_address_at_which_nothing_listens_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Nobody listens on it.
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for given in (address, f"ray://{address}"):
            monkeypatch.setenv("RAY_ADDRESS", given)
            with (
                pytest.raises(MgstudyError, match=f"no Ray cluster answers at RAY_ADDRESS={given}"),
                ray_session(),
            ):
                pass
        taken.listen()
        require_cluster(address)
    for name in ("auto", "local"):
        require_cluster(name)


@pytest.mark.parametrize("kind", ["a file", "too long"])
def test_a_ray_that_does_not_start_is_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("file" if kind == "a file" else "x" * 120)
    if kind == "a file":
        folder.touch()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    with pytest.raises(MgstudyError) as raised, ray_session():
        pass
    (line,) = str(raised.value).splitlines()
    assert line.startswith("Ray does not start on this machine: ")
    assert str(folder) in line
    assert not ray.is_initialized()
