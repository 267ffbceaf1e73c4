"""The library: prepare a dataset, read a study, launch it. The command line calls these functions.

The glue between the rooms; it decides nothing.
"""

from __future__ import annotations

from mgstudy.api.datasets import load_dataset, prepare
from mgstudy.api.launching import Launched, launch, read_launched_study, resume
from mgstudy.api.results import load_study, sync, write_report
from mgstudy.api.robustness import measure_robustness
from mgstudy.study.definition.study import read_study
from mgstudy.tracking.sync import Synced

__all__ = [
    "Launched",
    "Synced",
    "launch",
    "load_dataset",
    "load_study",
    "measure_robustness",
    "prepare",
    "read_launched_study",
    "read_study",
    "resume",
    "sync",
    "write_report",
]
