"""The library: prepare a dataset, read a study, launch it. The command line calls these functions.

The glue between the rooms; it decides nothing.
"""

from __future__ import annotations

from mgstudy.api.datasets import (
    clean_cache,
    describe_cached,
    describe_dataset,
    list_cache,
    load_dataset,
    prepare,
    verify_cache,
)
from mgstudy.api.launching import (
    Launched,
    file_schema,
    launch,
    plan,
    read_launched_study,
    resume,
)
from mgstudy.api.results import (
    Synced,
    compare,
    load_study,
    read_summary,
    serve_pages,
    sync,
    write_report,
)
from mgstudy.api.robustness import measure_robustness
from mgstudy.study.definition.study import read_study

__all__ = [
    "Launched",
    "Synced",
    "clean_cache",
    "compare",
    "describe_cached",
    "describe_dataset",
    "file_schema",
    "launch",
    "list_cache",
    "load_dataset",
    "load_study",
    "measure_robustness",
    "plan",
    "prepare",
    "read_launched_study",
    "read_study",
    "read_summary",
    "resume",
    "serve_pages",
    "sync",
    "verify_cache",
    "write_report",
]
