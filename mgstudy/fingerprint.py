"""Content fingerprints: the key of everything that is cached.

A fingerprint is a SHA-256 over canonical JSON or over the bytes themselves, never over a pickle,
so the same content has the same key in every process, on every machine and under every version.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

LENGTH = 32
"""Hexadecimal digits kept: 128 bits, so that two contents never meet by chance."""


def fingerprint(content: Mapping[str, Any]) -> str:
    """Fingerprint JSON-like content; the order of keys does not matter.

    Raises:
        TypeError: If ``content`` holds something JSON cannot express.
        ValueError: If it holds NaN or an infinity.
    """
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:LENGTH]


def fingerprint_arrays(arrays: Mapping[str, NDArray[Any]]) -> str:
    """Fingerprint arrays by name, dtype, shape and bytes."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name])
        digest.update(f"{name}:{array.dtype.str}:{array.shape};".encode())
        digest.update(array.view(np.uint8).data if array.size else b"")
    return digest.hexdigest()[:LENGTH]
