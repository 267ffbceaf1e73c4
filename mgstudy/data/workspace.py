"""Where mgstudy keeps what it makes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from mgstudy.errors import InputError

HOME_VARIABLE = "MGSTUDY_HOME"


@dataclass(frozen=True)
class Workspace:
    """The paths of one workspace; nothing is created before it is needed.

    Attributes:
        home: The folder a person works in; MLflow's store lies here, in the open.
    """

    home: Path

    @classmethod
    def resolve(cls, home: Path | None = None) -> Workspace:
        """The workspace at ``home``, else at ``MGSTUDY_HOME``, else in the current directory.

        Raises:
            InputError: If that is a file.
        """
        chosen = home or Path(os.environ.get(HOME_VARIABLE) or ".")
        folder = chosen.expanduser().absolute()
        if folder.exists() and not folder.is_dir():
            raise InputError(f"{folder}: is a file, expected the folder of a workspace")
        return cls(folder)

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
