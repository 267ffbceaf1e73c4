"""Every completion that is installed, held to what any of them owes."""

from __future__ import annotations

from typing import Any

from mgstudy.features.completions.base import completions
from mgstudy.testing import CompletionContract

QUICK: dict[str, dict[str, Any]] = {"diffusion": {"epochs": 1, "sampling_steps": 1, "positions": 8}}
"""Settings of those that take long."""

for completion in completions:
    name = f"Test{completion.__name__}"
    settings = {"completion": completion, "parameters": QUICK.get(completion.name, {})}
    globals()[name] = type(name, (CompletionContract,), settings)
