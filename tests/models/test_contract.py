"""Every installed model is held to what a model owes."""

from __future__ import annotations

from mgstudy.models.base import models
from mgstudy.testing import ModelContract

for model in models:
    globals()[f"Test{model.name}"] = type(f"Test{model.name}", (ModelContract,), {"model": model})
