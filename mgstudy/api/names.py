"""What a workspace has, by name: asked by shells while a command is typed, so that nothing is
imported here that takes long."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.workspace import Workspace


def study_names(home: Path | str | None = None) -> list[str]:
    """Names of the studies of a workspace, sorted.

    Raises:
        MgstudyError: If the workspace cannot be listed.
    """
    workspace = Workspace.resolve(home)
    return workspace.names(workspace.studies)


def study_manifests(names: Iterable[str], home: Path | str | None = None) -> list[StudyManifest]:
    """The manifests of studies.

    Raises:
        InputError: If the workspace has no study of a name.
        MgstudyError: If a manifest cannot be read.
    """
    workspace = Workspace.resolve(home)
    return [StudyManifest.read(StudyFolder.existing(workspace, name)) for name in names]
