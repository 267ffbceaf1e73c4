"""Hyperparameter studies of Mirror Gradient and robust training for multimodal recommenders.

What is listed here is imported when it is first used: ``import mgstudy`` itself costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mgstudy.api import (
        launch,
        load_dataset,
        load_study,
        prepare,
        read_study,
        write_report,
    )
    from mgstudy.models.base import Recommender
    from mgstudy.training.gradient.mirror_gradient import MirrorGradient
    from mgstudy.training.run import build_trainer, train

_HOMES = {
    "MirrorGradient": "mgstudy.training.gradient.mirror_gradient",
    "Recommender": "mgstudy.models.base",
    "build_trainer": "mgstudy.training.run",
    "launch": "mgstudy.api",
    "load_dataset": "mgstudy.api",
    "load_study": "mgstudy.api",
    "prepare": "mgstudy.api",
    "read_study": "mgstudy.api",
    "train": "mgstudy.training.run",
    "write_report": "mgstudy.api",
}

__all__ = [
    "MirrorGradient",
    "Recommender",
    "build_trainer",
    "launch",
    "load_dataset",
    "load_study",
    "prepare",
    "read_study",
    "train",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'mgstudy' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
