"""Checkpoints: what random generators are at, and files that are written whole or not at all.

Files are read without running any code in them, so a state is tensors and plain values.
"""

from __future__ import annotations

import os
import random
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from mgstudy.errors import InputError
from mgstudy.files import refuse_what_is_no_file


def seed_everything(seed: int) -> None:
    """Seed every global generator, before a model is built: torch's on all devices, and Python's
    and NumPy's for third-party parts that use them."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


@contextmanager
def seeded(seed: int, device: torch.device | str = "cpu") -> Iterator[None]:
    """Inside it torch draws from a seed, in memory and on the device; after it, as if nothing had
    been drawn."""
    device = torch.device(device)
    on_gpu = device.type == "cuda"
    with torch.random.fork_rng([device] if on_gpu else []):
        # ``torch.manual_seed`` would seed all GPUs, and they would stay so.
        torch.default_generator.manual_seed(seed)
        if on_gpu:
            torch.cuda.default_generators[device.index or 0].manual_seed(seed)
        yield


def random_states(device: torch.device) -> dict[str, Any]:
    """The states of every global generator, and of the device's."""
    numpy_state = np.random.get_state(legacy=False)
    assert isinstance(numpy_state, dict)
    words = {**numpy_state["state"], "key": numpy_state["state"]["key"].tolist()}
    return {
        "torch_random": torch.get_rng_state(),
        "global_random": {"python": random.getstate(), "numpy": {**numpy_state, "state": words}},
        "device_random": torch.cuda.get_rng_state(device) if device.type == "cuda" else None,
    }


def set_random_states(state: Mapping[str, Any], device: torch.device) -> None:
    """Continue from ``random_states()``, whatever else ``state`` holds."""
    torch.set_rng_state(state["torch_random"].cpu())
    version, words, gauss = state["global_random"]["python"]
    random.setstate((version, tuple(words), gauss))
    numpy_state = state["global_random"]["numpy"]
    key = np.array(numpy_state["state"]["key"], dtype=np.uint32)
    np.random.set_state({**numpy_state, "state": {**numpy_state["state"], "key": key}})
    if state["device_random"] is not None and device.type == "cuda":
        torch.cuda.set_rng_state(state["device_random"].cpu(), device)


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a state of tensors and plain values; a file that is there is replaced in one step.

    Raises:
        OSError: If it cannot be written; a file that was there is untouched.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            _write(file, state)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Read what ``save_checkpoint`` wrote, with its tensors on ``device``.

    Raises:
        InputError: If there is no such file, it is damaged, or it holds anything but tensors and
            plain values.
    """
    try:
        refuse_what_is_no_file(path)
        with path.open("rb") as file:
            return read_checkpoint(file, str(path), device)
    except FileNotFoundError:
        raise InputError(f"there is no checkpoint {path}") from None
    except OSError as error:
        raise InputError(f"cannot read checkpoint {path}: {error.strerror}") from error


def read_checkpoint(
    file: IO[bytes], name: str, device: torch.device | str = "cpu"
) -> dict[str, Any]:
    """Read a checkpoint from an open file; ``name`` is how messages call it.

    Raises:
        InputError: If it is damaged, or holds anything but tensors and plain values.
    """
    try:
        # PyTorch writes checksums and does not look at them: a flipped bit would be trained on.
        with zipfile.ZipFile(file) as archive:
            damaged = archive.testzip()
        if damaged is not None:
            raise zipfile.BadZipFile(f"{damaged} does not match its checksum")
        file.seek(0)
        state = torch.load(file, map_location=device, weights_only=True)
    except Exception as error:  # Bytes that are no checkpoint make torch fail in any way.
        first_line = str(error).partition("\n")[0]
        raise InputError(f"cannot read checkpoint {name}: {first_line}") from error
    if not isinstance(state, dict):
        raise InputError(f"{name} is not a checkpoint of a training")
    return state


def _write(file: IO[bytes], state: Mapping[str, Any]) -> None:
    try:
        torch.save(dict(state), file)
    except RuntimeError as error:
        # A full disk reaches us as a complaint about the position in the file.
        cause = error.__context__
        if isinstance(cause, OSError):
            raise cause from error
        raise
