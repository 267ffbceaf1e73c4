"""Which tables the studies of a workspace refer to."""

from __future__ import annotations

from pathlib import Path

from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace


def workspace_and_studies(home: str | Path | None) -> tuple[Workspace, dict[str, list[str]]]:
    """The workspace at ``home``, and each of its studies to the keys of the tables it began with.

    Raises:
        MgstudyError: If a study's manifest cannot be read.
    """
    workspace = Workspace.resolve(home)
    keys: dict[str, list[str]] = {}
    for path in sorted(workspace.studies.glob("*/")):
        folder = StudyFolder.of(workspace, path.name)
        if folder.manifest.exists():
            datasets = folder.read_manifest().get("datasets", {}).values()
            keys[f"study {path.name}"] = [
                key
                for dataset in datasets
                for key in (dataset["interactions"], *dataset["features"].values())
            ]
    return workspace, keys
