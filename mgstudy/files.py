"""Files that appear whole or not at all, and what goes wrong with files."""

from __future__ import annotations

import errno
import hashlib
import io
import logging
import os
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeAlias

from filelock import FileLock, Timeout

from mgstudy.errors import InputError, MgstudyError
from mgstudy.lazy import NOBODYS_HOME

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

logger = logging.getLogger(__name__)

Progress: TypeAlias = Callable[[str, int, int], None]
"""Told what is being done, and how much of it is done of how much in all."""

_BLOCK = 1 << 20
_OF_THE_MACHINE = frozenset({errno.EACCES, errno.EDQUOT, errno.EIO, errno.EMFILE, errno.ENFILE,
                             errno.ENOSPC, errno.EPERM, errno.EROFS, errno.ESTALE})  # fmt: skip
"""What no input and no code is to blame for: full, broken or closed disks, too many open files."""
_OF_SQLITES_MACHINE = frozenset({8, 10, 13})
"""Of its error codes those that say as much: read only, cannot be read or written, full."""


def no_progress(activity: str, done: int, total: int) -> None:
    """The ``Progress`` that tells nobody."""


def absolute(path: Path | str) -> Path:
    """A path from the root on, with ``~`` filled in.

    Raises:
        InputError: If that is the home of nobody.
    """
    first = Path(path).parts[:1]
    try:
        if first == ("~",) and os.environ.get("HOME") == NOBODYS_HOME:
            raise RuntimeError
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise InputError(f"{path}: nobody's home is known by `{first[0]}` here") from None


def content_of(path: Path) -> bytes | None:
    """What is in a file; ``None`` where there is none.

    Raises:
        MgstudyError: If what is there is no file or cannot be read: nobody knows what it says.
    """
    try:
        refuse_what_is_no_file(path)
        return path.read_bytes()
    except FileNotFoundError as error:
        refuse_lost_link(path, error)
        return None
    except OSError as error:
        raise MgstudyError(f"{path}: cannot be read: {error.strerror}") from error


def refuse_what_is_no_file(path: Path) -> os.stat_result:
    """What the system says of a file. Whoever opened a pipe might wait for ever.

    Raises:
        InputError: If it is a folder, a pipe, a socket or a device.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        kind = "folder" if stat.S_ISDIR(status.st_mode) else "pipe, socket or device"
        raise InputError(f"{path}: is a {kind}, expected a file")
    return status


def refuse_where_no_file_can_be(path: Path) -> None:
    """Look whether a file is somewhere, or could be made there with the folders around it.

    Raises:
        InputError: If something else is there.
        OSError: If nothing can be written there.
    """
    if path.exists() or path.is_symlink():
        refuse_what_is_no_file(path)
        return
    folder = next(parent for parent in path.absolute().parents if os.path.lexists(parent))
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(f"{folder} takes no files") from error


def failure_of_the_machine(error: BaseException, place: Path | None = None) -> MgstudyError | None:
    """What there is to say of a failure that comes of one of the machine; ``None`` of another.

    Args:
        error: The failure.
        place: Where it was, if it does not say so itself.
    """
    cause: BaseException | None = error
    while cause is not None:
        is_of_sqlite = getattr(cause, "sqlite_errorcode", 0) & 0xFF in _OF_SQLITES_MACHINE
        if is_of_sqlite or (isinstance(cause, OSError) and cause.errno in _OF_THE_MACHINE):
            if isinstance(error, MgstudyError):
                return error
            where = getattr(cause, "filename", None) or place
            said = getattr(cause, "strerror", None) or cause
            return MgstudyError(f"{where}: {said}" if where else str(said))
        cause = cause.__cause__
    return None


def sha256_of(path: Path, progress: Progress = no_progress) -> str:
    """SHA-256 of a file's content, hexadecimal.

    Raises:
        InputError: If it is no file.
    """
    digest = hashlib.sha256()
    done, total = 0, refuse_what_is_no_file(path).st_size
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            progress(f"hash {path.name}", done, total)
    return digest.hexdigest()


def is_there(path: Path) -> bool:
    """Whether something lies somewhere, be it a link that leads nowhere.

    Raises:
        MgstudyError: If that cannot be looked up.
    """
    try:
        path.lstat()
    except FileNotFoundError as error:
        refuse_lost_link(path.parent, error)
        return False
    except OSError as error:
        raise MgstudyError(f"{path}: cannot be read: {error.strerror}") from error
    return True


def is_at(files: AbstractFileSystem, path: str) -> bool:
    """Whether something lies somewhere on a file system of fsspec's.

    Its own ``exists`` takes whatever fails, a connection for example, for no.

    Raises:
        Exception: If that cannot be looked up; every file system has errors of its own.
    """
    try:
        files.info(path)
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def listed(folder: Path) -> list[Path]:
    """What lies in a folder, sorted; nothing where there is no such folder.

    Raises:
        MgstudyError: If something is there that cannot be listed: nobody knows what is in it.
    """
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError as error:
        refuse_lost_link(folder, error)
        return []
    except OSError as error:
        raise MgstudyError(f"{folder}: cannot be read: {error.strerror}") from error


def found_in_each(folder: Path, name: str) -> list[Path]:
    """The file of a name in every folder within a folder that has one; of hidden ones, none.

    Raises:
        MgstudyError: If something is there that cannot be listed, be it no folder: nobody knows
            what was in it.
    """
    inside = [path for path in listed(folder) if not path.name.startswith(".")]
    return [path / name for path in inside if path / name in listed(path)]


def refuse_lost_link(path: Path, error: OSError | None = None) -> None:
    """See that something failed for itself, and not behind a link that leads nowhere, such as to a
    disk that is away.

    Raises:
        MgstudyError: If there is such a link.
    """
    nearest = next((place for place in (path, *path.parents) if os.path.lexists(place)), path)
    if nearest.is_symlink() and not nearest.exists():
        raise MgstudyError(f"{nearest}: cannot be read: the link leads nowhere") from error


def sizes_below(folder: Path) -> Iterator[tuple[Path, int]]:
    """The files below a folder and their sizes in bytes, but for what goes away meanwhile."""
    for parent, _, names in os.walk(folder):
        for name in names:
            path = Path(parent, name)
            with suppress(OSError):
                status = path.lstat()
                if stat.S_ISREG(status.st_mode):
                    yield path, status.st_size


def remove_all(paths: Iterable[Path]) -> None:
    """Remove files and folders, each as far as that goes.

    Raises:
        MgstudyError: If something could not be removed: the first, why, and how much besides.
    """
    left = [problem for path in paths for problem in _left(path)]
    if left:
        more = f", nor can {len(left) - 1} more" if left[1:] else ""
        raise MgstudyError(f"{left[0]}{more}")


def _left(path: Path) -> list[str]:
    """What cannot be removed of a file or folder, and why."""
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink(missing_ok=True)
            return []
        if left := [problem for inside in path.iterdir() for problem in _left(inside)]:
            return left
        path.rmdir()
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{path}: cannot be removed: {error.strerror}"]
    return []


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Be the only process that works on ``path``; a process that dies gives it up.

    Creates the folder of ``path``, where the lock lies beside it.

    Raises:
        InputError: If ``path`` has no name.
        MgstudyError: If the folder cannot be written to.
    """
    lock = FileLock(_beside(path, "lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.info("%s: waiting for the process that is making it", path)
            lock.acquire()
    except OSError as error:
        refuse_lost_link(path.parent, error)
        raise MgstudyError(f"{path.parent}: cannot be written to: {error.strerror}") from error
    try:
        yield
    finally:
        lock.release()


@contextmanager
def written_whole(path: Path) -> Iterator[BinaryIO]:
    """Open a file for writing that appears at ``path`` when the block ends, complete and on disk.

    Until then, and for ever if the block raises or the process dies, ``path`` is as it was. The
    caller holds a lock on ``path``: what a killed writer left is overwritten by the next one. What
    the block raises comes out as it is, also an ``OSError`` of something that it reads.

    Raises:
        InputError: If a folder, pipe or device is there, which the file would take the place of.
        MgstudyError: If the disk is full or cannot be written to.
    """
    partial = _beside(path, "partial")
    with said_of_writing(path):
        if path.exists():
            refuse_what_is_no_file(path)
        raw = _Target(partial, path)
    try:
        with io.BufferedWriter(raw) as file:
            yield file
            with said_of_writing(path):
                file.flush()
                os.fsync(file.fileno())
        with said_of_writing(path):
            partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    with said_of_writing(path):
        _flush_folder(path.parent)


def _beside(path: Path, kind: str) -> Path:
    if not path.name:
        raise InputError(f"'{path}' is not the name of a file")
    return path.with_name(f".{path.name}.{kind}")


class _Target(io.FileIO):
    """The file that is written for ``written_whole``, which says itself when it cannot be."""

    def __init__(self, partial: Path, path: Path) -> None:
        super().__init__(partial, "wb")
        self.path = path

    def write(self, data: Any, /) -> int:
        with said_of_writing(self.path):
            return super().write(data)


@contextmanager
def said_of_writing(path: Path) -> Iterator[None]:
    """Say of what fails in a block, which writes a file, that this cannot be written."""
    try:
        yield
    except OSError as error:
        refuse_lost_link(path.parent, error)
        raise MgstudyError(f"{path}: cannot be written: {error.strerror or error}") from error


def cut_half_line(path: Path) -> None:
    """Remove what a writer that was killed, or a full disk, left of its last line."""
    with path.open("r+b") as file:
        size = file.seek(0, 2)
        place = size
        while place > 0:
            start = max(0, place - 65536)
            file.seek(start)
            found = file.read(place - start).rfind(b"\n")
            if found >= 0:
                place = start + found + 1
                break
            place = start
        if place < size:
            file.truncate(place)


def _flush_folder(folder: Path) -> None:
    """Make a rename inside ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
