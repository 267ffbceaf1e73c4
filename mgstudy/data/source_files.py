"""Raw files that are read once and recognised again."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
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

    Args:
        paths: The files.
        known: Those that were hashed before.
        progress: Told of the bytes of all that are hashed now.

    Raises:
        InputError: If a file is missing or cannot be read.
    """
    remembered = {(file.path, file.size, file.modified_ns): file for file in known}
    states = {path: _state(path) for path in paths}
    new = {path: state for path, state in states.items() if state not in remembered}
    before, total = 0, sum(size for _, size, _ in new.values())

    def told(activity: str, done: int, of_file: int) -> None:
        # Of many images, each would have a bar of its own.
        progress("hash raw files", before + done, max(total, before + done))

    for path, (_, size, modified_ns) in new.items():
        with _said_of(path):
            sha256 = sha256_of(path, told)
        before += size
        file = SourceFile(path=path, size=size, modified_ns=modified_ns, sha256=sha256)
        remembered[states[path]] = file
    return {path: remembered[state] for path, state in states.items()}


def _state(path: Path) -> tuple[Path, int, int]:
    """Path, size and time of a file, by which it is recognised."""
    with _said_of(path):
        status = refuse_what_is_no_file(path)
    return path, status.st_size, status.st_mtime_ns


@contextmanager
def _said_of(path: Path) -> Iterator[None]:
    try:
        yield
    except FileNotFoundError:
        link = " (the link leads nowhere)" if path.is_symlink() else ""
        raise InputError(f"{path}: no such file{link}; {_neighbours(path)}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _neighbours(path: Path) -> str:
    if not path.parent.is_dir():
        return f"there is no folder {path.parent} either"
    names = sorted(entry.name for entry in path.parent.iterdir())
    return f"the folder holds {', '.join(names[:8]) or 'nothing'}{', ...' if names[8:] else ''}"
