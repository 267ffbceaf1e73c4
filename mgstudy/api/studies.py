"""Launched studies: where they stand."""

from __future__ import annotations

from pathlib import Path

from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.workspace import Workspace


def read_summary(name: str, home: Path | str | None = None) -> StudySummary:
    """Where a launched study stands, also while it runs.

    Raises:
        InputError: If the workspace has no study of that name.
        MgstudyError: If its manifest or storage cannot be read.
    """
    return summarize(Workspace.resolve(home), name)
