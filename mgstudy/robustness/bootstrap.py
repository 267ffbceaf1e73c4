"""Resample users, the same for every model and every change, so that differences are paired."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

_SEED = 20240513


def resampled_means(values: NDArray[np.float64], resamples: int) -> NDArray[np.float64]:
    """The mean over users in each of many bootstrap samples of them (Efron 1979).

    Sample b is the same users whatever is measured, so the difference of two models' means in
    sample b is that of the same users.

    Args:
        values: One per user, in the same order for everything that is to be compared.
        resamples: How many samples.

    Returns:
        Shape ``[resamples]``.
    """
    counts = _counts(len(values), resamples)
    means: NDArray[np.float64] = counts @ values / len(values)
    return means


@lru_cache(maxsize=2)
def _counts(users: int, resamples: int) -> NDArray[np.float32]:
    """How often each user is drawn in each sample, shape ``[resamples, users]``."""
    random = np.random.default_rng(_SEED)
    counts = np.empty((resamples, users), dtype=np.float32)
    for sample in range(resamples):
        counts[sample] = np.bincount(random.integers(users, size=users), minlength=users)
    return counts
