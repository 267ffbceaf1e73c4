"""What every part owes, as suites for pytest: subclass one in your own tests and name your part.

    from mgstudy.testing import ModelContract

    class TestMine(ModelContract):
        model = Mine

mgstudy's own parts are held to the same suites. They need pytest; nothing else of mgstudy does.
What is listed here is imported when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from mgstudy.testing.completions import CompletionContract
    from mgstudy.testing.datasets import dataset_with_cold_ends, small_dataset
    from mgstudy.testing.gradient_strategies import GradientStrategyContract
    from mgstudy.testing.models import ModelContract
    from mgstudy.testing.risks import RiskContract
    from mgstudy.testing.robust_methods import RobustMethodContract
    from mgstudy.testing.sources import SourceContract

_HOMES = {
    "CompletionContract": "mgstudy.testing.completions",
    "GradientStrategyContract": "mgstudy.testing.gradient_strategies",
    "ModelContract": "mgstudy.testing.models",
    "RiskContract": "mgstudy.testing.risks",
    "RobustMethodContract": "mgstudy.testing.robust_methods",
    "SourceContract": "mgstudy.testing.sources",
    "dataset_with_cold_ends": "mgstudy.testing.datasets",
    "small_dataset": "mgstudy.testing.datasets",
}

__all__ = [
    "CompletionContract",
    "GradientStrategyContract",
    "ModelContract",
    "RiskContract",
    "RobustMethodContract",
    "SourceContract",
    "dataset_with_cold_ends",
    "small_dataset",
]

# A failed assertion shows here, as in a test file, what it compared.
pytest.register_assert_rewrite(*sorted(set(_HOMES.values())))


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
