"""What trials can rely on of a machine's GPUs, and what one of them may take of its own."""

from __future__ import annotations

import errno
import gc
import os
import re
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from mgstudy.limits import set_number

UNUSABLE_GPUS = "GPUs that torch cannot use"
"""Beside what Ray says of a machine: GPUs that Ray counts, and a trial would fail on."""
MPS = "GPUs shared by MPS"
"""Beside what Ray says of a machine: GPUs on which the kernels of several processes run together,
where otherwise processes take turns."""

CONTEXT_BYTES = 600 * 2**20
"""Bytes that a process takes of a GPU besides its tensors; torch does not count them. A guess that
no card has confirmed: they differ by card, driver and build of torch. ``benchmarks/gpu_check.py A
--only facts`` measures them, and ``MGSTUDY_CUDA_CONTEXT_BYTES`` sets them."""
_OUT_OF_MEMORY = re.compile(r"out of memory|CU\w+_STATUS_ALLOC_FAILED")


def judged(machine: dict[str, float]) -> dict[str, float]:
    """What Ray says of this machine, less GPUs that torch cannot use; and how GPUs are shared."""
    gpus = machine.get("GPU", 0.0)
    if not gpus:
        return machine
    if not torch.cuda.is_available():
        return {**machine, "GPU": 0.0, UNUSABLE_GPUS: gpus}
    return {**machine, MPS: gpus} if mps_answers() else machine


def mps_answers() -> bool:
    """Whether the control daemon of CUDA's Multi-Process Service answers where processes of this
    machine look for it."""
    control = Path(os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")) / "control"
    try:
        if stat.S_ISFIFO(control.stat().st_mode):
            os.close(os.open(control, os.O_WRONLY | os.O_NONBLOCK))
        else:
            with socket.socket(socket.AF_UNIX) as asking:
                asking.connect(str(control))
    except OSError as error:
        # Somebody listens there, in another way than we asked.
        return error.errno == errno.EPROTOTYPE
    return True


def context_bytes() -> int:
    """What is left free of a trial's share for what torch does not count (``CONTEXT_BYTES``).

    Raises:
        InputError: If the environment variable is no number.
    """
    return set_number("MGSTUDY_CUDA_CONTEXT_BYTES", CONTEXT_BYTES)


class TrialGpu:
    """The GPU of one worker process, or its share of one."""

    def __init__(self) -> None:
        with _ends_the_process("the GPU cannot be used"):
            _free, self._total = torch.cuda.mem_get_info()
        self._context = context_bytes()

    def begin(self, share: float) -> None:
        """Keep the next trial to its share of the memory, so that it cannot break its neighbours.

        Args:
            share: 0 to 1; what is more counts as 1.
        """
        with _ends_the_process("the GPU cannot be used"):
            # A model that is in a circle of references would count as the next one's.
            gc.collect()
            torch.cuda.empty_cache()
            allowed = max(0.0, min(share, 1.0) - self._context / self._total)
            torch.cuda.set_per_process_memory_fraction(allowed)
            torch.cuda.reset_peak_memory_stats()

    def peak(self) -> float:
        """The most that the trial has taken of the memory so far, 0 to 1."""
        return (torch.cuda.max_memory_reserved() + self._context) / self._total

    def end_if_broken(self) -> None:
        """After an exception, end this process if its GPU no longer answers: an illegal address, or
        under MPS a neighbour's, breaks everything that follows in the same process, and in no
        other."""
        with _ends_the_process("the GPU no longer answers"):
            torch.cuda.synchronize()


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether a GPU was full, seen by torch's allocator or by anything else of CUDA, which takes
    memory of its own."""
    if isinstance(error, torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_OUT_OF_MEMORY.search(str(error)))


@contextmanager
def _ends_the_process(why: str) -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        # Ray tells of a process that ends so as a lost worker, with these words.
        raise SystemExit(f"{why}: {' '.join(str(error).split())}") from error
