"""What a machine's GPUs are found to be."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest
import torch
from pretended_gpu import PretendedGpu

from mgstudy.study.running.gpus import MPS, UNUSABLE_GPUS, judged, mps_answers


def test_a_gpu_that_torch_cannot_use_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert judged({"CPU": 4.0}) == {"CPU": 4.0}
    assert judged({"CPU": 4.0, "GPU": 2.0}) == {"CPU": 4.0, "GPU": 0.0, UNUSABLE_GPUS: 2.0}


def test_a_machine_says_how_its_gpus_are_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    with PretendedGpu():
        assert judged({"GPU": 1.0}) == {"GPU": 1.0}
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.bind(str(tmp_path / "control"))
            daemon.listen()
            assert judged({"GPU": 1.0}) == {"GPU": 1.0, MPS: 1.0}


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_SEQPACKET])
def test_a_daemon_that_has_ended_does_not_answer(
    kind: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", str(tmp_path))
    assert not mps_answers()
    with socket.socket(socket.AF_UNIX, kind) as daemon:
        daemon.bind(str(tmp_path / "control"))
        daemon.listen()
        assert mps_answers()
    assert not mps_answers()
    (tmp_path / "control").unlink()
    os.mkfifo(tmp_path / "control")
    assert not mps_answers()
    reading = os.open(tmp_path / "control", os.O_RDONLY | os.O_NONBLOCK)
    assert mps_answers()
    os.close(reading)
    (tmp_path / "control").unlink()
    (tmp_path / "control").touch()
    assert not mps_answers()
