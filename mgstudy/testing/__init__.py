"""What every part owes, as suites for pytest: subclass one in your own tests and name your part.

    from mgstudy.testing import ModelContract

    class TestMine(ModelContract):
        model = Mine

mgstudy's own parts are held to the same suites. They need pytest; nothing else of mgstudy does.
What is listed here is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mgstudy.lazy import importing

if TYPE_CHECKING:
    from mgstudy.testing.completions import CompletionContract
    from mgstudy.testing.datasets import dataset_with_cold_ends, small_dataset
    from mgstudy.testing.gradient_strategies import GradientStrategyContract
    from mgstudy.testing.models import ModelContract
    from mgstudy.testing.risks import RiskContract
    from mgstudy.testing.robust_methods import RobustMethodContract
    from mgstudy.testing.sources import SourceContract

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
_SUITES = ("completions", "gradient_strategies", "models", "risks", "robust_methods", "sources")
pytest.register_assert_rewrite(*(f"{__name__}.{file}" for file in _SUITES))

__getattr__ = importing(__name__)
