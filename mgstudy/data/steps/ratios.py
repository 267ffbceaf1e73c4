"""The shares of training, validation and test that several steps take."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field


def _add_to_one(ratios: tuple[float, float, float]) -> tuple[float, float, float]:
    if min(ratios) <= 0 or abs(sum(ratios) - 1) > 1e-9:
        raise ValueError(f"ratios must be positive and add to 1, got {list(ratios)}")
    return ratios


Ratios = Annotated[tuple[float, float, float], Field(strict=False), AfterValidator(_add_to_one)]
"""Shares of training, validation and test."""
PUBLISHED_RATIOS = (0.8, 0.1, 0.1)
