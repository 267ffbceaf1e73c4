"""Raw files that are read once and recognised again."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from mgstudy.errors import InputError
from mgstudy.files import Progress, no_progress, refuse_what_is_no_file, sha256_of


class SourceFile(BaseModel):
    """A raw file as it was when it was read.

    Attributes:
        path: Absolute path.
        size: Bytes.
        modified_ns: Time of the last modification, nanoseconds since 1970.
        sha256: Of its content, hexadecimal.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: Path
    size: int
    modified_ns: int
    sha256: str


def identify(
    paths: Iterable[Path], known: Iterable[SourceFile] = (), progress: Progress = no_progress
) -> dict[Path, SourceFile]:
    """Hash files by content, but take the hash of a known file whose size and time are the same.

    Raises:
        InputError: If a file is missing or cannot be read.
    """
    remembered = {file.path: file for file in known}
    identified: dict[Path, SourceFile] = {}
    for path in paths:
        try:
            status = refuse_what_is_no_file(path)
            file = remembered.get(path)
            if file is None or (file.size, file.modified_ns) != (
                status.st_size,
                status.st_mtime_ns,
            ):
                file = SourceFile(
                    path=path,
                    size=status.st_size,
                    modified_ns=status.st_mtime_ns,
                    sha256=sha256_of(path, progress),
                )
        except FileNotFoundError:
            link = " (the link leads nowhere)" if path.is_symlink() else ""
            raise InputError(f"{path}: no such file{link}; {_neighbours(path)}") from None
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from error
        identified[path] = file
    return identified


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    names = sorted(entry.name for entry in path.parent.iterdir())
    return f"the folder holds {', '.join(names[:8]) or 'nothing'}{', ...' if names[8:] else ''}"
