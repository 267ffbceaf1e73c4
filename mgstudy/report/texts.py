"""Numbers, names and cells as they are told in tables and sentences."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Sequence


def duration(seconds: float) -> str:
    """For example ``8 s``, ``3 min 20 s`` or ``2 h 5 min``."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def score(
    value: float | None, low: float = math.nan, high: float = math.nan, decimals: int = 4
) -> str:
    """With half of the interval where there is one: ``0.0312 ± 0.0008``; empty where there is no
    score."""
    if value is None or math.isnan(value):
        return ""
    half = (high - low) / 2
    interval = "" if math.isnan(half) else f" ± {half:.{decimals}f}"
    return f"{value:.{decimals}f}{interval}"


def relative(difference: float, reference: float) -> float:
    """A difference over the size of what it is from, so that its sign stays where scores are
    negative; NaN where that is 0."""
    return difference / abs(reference) if reference else math.nan


def percent(share: float | None) -> str:
    """A change in percent with its sign, for example ``+3.2%``; empty where there is none."""
    return "" if share is None or math.isnan(share) else f"{share:+z.1%}"


def count(number: float) -> str:
    """For example ``950``, ``38k`` or ``1.2M``."""
    if number >= 1e6:
        return f"{number / 1e6:.1f}M"
    return f"{number / 1e3:.0f}k" if number >= 1e4 else f"{number:.0f}"


def parameter_names(of_cells: Iterable[Collection[str]]) -> dict[str, str]:
    """What each parameter is called: without the names of its part (``alpha2`` of
    ``gradient.mirror_gradient.alpha2``), or in full where a cell has two of one short name.

    Args:
        of_cells: The full names of each cell's parameters.
    """
    short = [{name: name.rpartition(".")[2] for name in sorted(names)} for names in of_cells]
    counted = [Counter(names.values()) for names in short]
    twice = {name for counts in counted for name in counts if counts[name] > 1}
    return {
        full: full if name in twice else name for names in short for full, name in names.items()
    }


def hidden_text(cells: Sequence[str]) -> str:
    """A sentence on cells that the last launch did not ask for."""
    return (
        f"Begun earlier, not in the study file now, and counted in corrections: {', '.join(cells)}"
    )
