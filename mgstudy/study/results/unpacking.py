"""Unpack an archive (``.tar.xz``) from anywhere: regular files of known names, and no more of them
than ``mgstudy.limits`` allows."""

from __future__ import annotations

import io
import lzma
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mgstudy.data.reading import refuse_too_much
from mgstudy.errors import InputError
from mgstudy.files import refuse_what_is_no_file

_MOST_MEMORY = 128 << 20
_BLOCK = 1 << 16


def unpack(path: Path, target: Path, is_known: Callable[[str], bool]) -> None:
    """Write the files of an archive below a folder.

    Args:
        path: The archive.
        target: The folder.
        is_known: Whether an archive may hold a file of this name, none of which leads out of it.

    Raises:
        InputError: If it holds anything else, or unpacks to too much.
        EOFError: If it is cut short.
    """
    size = refuse_what_is_no_file(path).st_size
    with (
        path.open("rb") as packed,
        io.BufferedReader(_Unpacked(packed, path, size)) as stream,
        tarfile.open(fileobj=stream, mode="r|") as archive,
    ):
        for member in archive:
            place = target / member.name
            if not (member.isreg() and not member.issparse() and is_known(member.name)):
                raise InputError(f"{path}: {member.name!r} has no place in the archive of a study")
            if place.exists():
                raise InputError(f"{path}: holds {member.name!r} twice")
            content = archive.extractfile(member)
            assert content is not None
            place.parent.mkdir(parents=True, exist_ok=True)
            with content, place.open("wb") as file:
                shutil.copyfileobj(content, file)
        while stream.read(_BLOCK):
            pass  # Its checksum is at the end.


class _Unpacked(io.RawIOBase):
    """What is packed in a file, with bounds on the memory that takes and on what comes out."""

    def __init__(self, packed: Any, path: Path, size: int) -> None:
        self._packed, self._path, self._size, self._count = packed, path, size, 0
        self._unpacking = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MOST_MEMORY)

    def readable(self) -> bool:
        """It is read."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Unpack as much as fits, or less."""
        while not self._unpacking.eof:
            block = self._packed.read(_BLOCK) if self._unpacking.needs_input else b""
            if self._unpacking.needs_input and not block:
                raise EOFError("it is cut short")
            found = self._unpacking.decompress(block, max_length=len(buffer))
            if found:
                self._count += len(found)
                refuse_too_much(self._path, self._count, self._size)
                buffer[: len(found)] = found
                return len(found)
        return 0
