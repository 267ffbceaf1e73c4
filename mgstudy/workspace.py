"""Where mgstudy keeps what it makes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mgstudy.errors import InputError
from mgstudy.shared_files import SharedFiles
from mgstudy.urls import redacted

HOME_VARIABLE = "MGSTUDY_HOME"


@dataclass(frozen=True)
class Workspace:
    """The paths of one workspace; nothing is created before it is needed.

    Attributes:
        home: The folder a person works in; MLflow's store lies here, in the open.
        shared: The workspace that ``home`` is this machine's copy of, when it lies at a URL.
    """

    home: Path
    shared: SharedFiles | None = None

    @classmethod
    def resolve(cls, home: Path | str | None = None) -> Workspace:
        """The workspace at ``home``, else at ``MGSTUDY_HOME``, else in the current directory.

        Args:
            home: A folder, or a URL such as ``s3://bucket/studies``.

        Raises:
            InputError: If that is a file.
        """
        chosen = str(home or os.environ.get(HOME_VARIABLE) or ".")
        if "://" in chosen:
            shared = SharedFiles.at(chosen)
            return cls(shared.copy, shared)
        folder = Path(chosen).expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file, expected the folder of a workspace")
        return cls(folder)

    @property
    def place(self) -> str:
        """Where it lies, for people."""
        return str(self.home) if self.shared is None else redacted(self.shared.url)

    def fetch(self, path: Path, anew: bool = False) -> None:
        """See ``SharedFiles.fetch``; a workspace in a folder has its files where they are."""
        if self.shared is not None:
            self.shared.fetch(path, anew)

    def publish(self, path: Path, anew: bool = False) -> None:
        """See ``SharedFiles.publish``."""
        if self.shared is not None:
            self.shared.publish(path, anew)

    def names(self, folder: Path) -> list[str]:
        """Names of what lies in a folder of the workspace, sorted."""
        if self.shared is not None:
            return self.shared.names(folder)
        return sorted(path.name for path in folder.glob("*"))

    @property
    def state(self) -> Path:
        """The folder of everything mgstudy keeps for itself."""
        return self.home / ".mgstudy"

    @property
    def datasets(self) -> Path:
        """Prepared datasets, a folder with a manifest for each."""
        return self.state / "datasets"

    @property
    def tables(self) -> Path:
        """Content-addressed Parquet tables that the manifests refer to."""
        return self.state / "tables"

    @property
    def derived(self) -> Path:
        """Arrays computed from datasets, see ``DerivedArrays``."""
        return self.state / "derived"

    @property
    def downloads(self) -> Path:
        """Raw files that were fetched, see ``Downloads``."""
        return self.state / "downloads"

    @property
    def studies(self) -> Path:
        """Studies, a folder each."""
        return self.state / "studies"

    def manifest(self, dataset: str) -> Path:
        """The manifest of a dataset."""
        return self.datasets / dataset / "manifest.json"
