"""The ranking metrics that exist, and how one is named: ``recall@20``.

What each of them computes is in ``mgstudy.training.evaluation``; the names are here because a study
file mentions them.
"""

from __future__ import annotations

from typing import NamedTuple

from mgstudy.errors import InputError, UnknownNameError

MEASURES = ("recall", "ndcg", "precision", "map", "hit_rate")
"""Every measure of a ranked list; a metric is a measure at a cutoff."""


class Metric(NamedTuple):
    """A measure of the first ``cutoff`` items of a ranked list."""

    measure: str
    cutoff: int

    def __str__(self) -> str:
        return f"{self.measure}@{self.cutoff}"


def parse_metric(name: str) -> Metric:
    """Read a metric's name, such as ``"recall@20"``.

    Raises:
        UnknownNameError: If there is no such measure.
        InputError: If the cutoff is missing or is not a whole number above 0.
    """
    measure, _, cutoff = name.partition("@")
    if measure not in MEASURES:
        raise UnknownNameError("metric", measure, MEASURES)
    if not (cutoff.isascii() and cutoff.isdigit() and int(cutoff) > 0):
        raise InputError(
            f"metric {name!r} needs a cutoff, a whole number above 0: write {measure}@20, say"
        )
    return Metric(measure, int(cutoff))
