"""What p-values are held to; Holm's correction, and a test that needs no distribution.

Apart from the other statistics, which come with all of scipy's distributions: a plan needs none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

CONFIDENCE = 0.95
ALPHA = 0.05
FEWEST_SEEDS = 3
"""With fewer scores on either side, nothing is tested over seeds."""


def exceedance_test(values: Sequence[float], others: Sequence[float]) -> tuple[float, int]:
    """Rosenbaum's test of whether one sample's largest values could be the other's.

    Of all values together, the ``k`` largest are of one sample. Were the samples of one
    distribution, every choice of which of the n + m values are the first's would be as likely, so
    that p = [C(N − k, n − k) + C(N − k, m − k)] / C(N, n) with N = n + m. Nothing is assumed of the
    distribution; values that are equal across samples end the run.

    Args:
        values: The first sample.
        others: The second.

    Returns:
        p, two-sided; and 1 where the first sample has the largest, -1 where the second has, 0 where
        they share it.

    Source: Rosenbaum, Tables for a nonparametric test of location, Annals of Mathematical
    Statistics 25 (1954).
    """
    if not values or not others or max(values) == max(others):
        return 1.0, 0
    is_ours = max(values) > max(others)
    above, below = (values, others) if is_ours else (others, values)
    run = sum(value > max(below) for value in above)
    return exceedance_p(run, len(values), len(others)), 1 if is_ours else -1


def exceedance_p(run: int, size: int, other: int) -> float:
    """How likely the ``run`` largest values of two samples of these sizes are all of one of them,
    were the samples of one distribution."""
    total = size + other
    ways = sum(math.comb(total - run, of - run) for of in (size, other) if of >= run)
    return min(1.0, ways / math.comb(total, size))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's (1979) step-down correction, which bounds the chance of any false positive; NaN is
    no test, and stays."""
    given = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(given)  # NaN last.
    times = np.count_nonzero(~np.isnan(given)) - np.arange(len(given))
    corrected = np.empty_like(given)
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(given[order] * times))
    return [float(p) for p in corrected]
