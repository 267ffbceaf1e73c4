"""Raw text read in blocks of whole lines, whatever its compression and size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from mgstudy.errors import InputError
from mgstudy.files import Progress, refuse_what_is_no_file
from mgstudy.limits import limit, more_than

BLOCK_BYTES = 4 << 20
_SMALL = 64 << 20
GZIP_MAGIC, ZSTANDARD_MAGIC = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"


@dataclass(frozen=True)
class Block:
    """Some whole lines of a file.

    Attributes:
        first_line: Number of the first of them in the file, from 1.
        content: Their bytes, each line ended by a line feed.
    """

    first_line: int
    content: bytes

    def lines(self) -> Iterator[tuple[int, bytes]]:
        """Number and bytes of every line that is not empty."""
        for number, line in enumerate(self.content.split(b"\n"), start=self.first_line):
            if line.strip():
                yield number, line.rstrip(b"\r")


@dataclass
class Malformed:
    """Lines of a file that could not be read; they are counted, up to a share.

    Attributes:
        path: The file.
        share: The largest share of lines that may be malformed; ``None`` where no setting lets any
            pass.
        count: How many were.
        first: What was wrong with the first, and where.
    """

    path: Path
    share: float | None
    count: int = 0
    first: str | None = field(default=None)

    def add(self, line: int, fault: str) -> None:
        """Count a line.

        Raises:
            InputError: If none may be malformed.
        """
        self.count += 1
        self.first = self.first or f"{self.path}: line {line}: {fault}"
        if not self.share:
            # What a setting can mend is in every line.
            advised = self.share is None or "set source." in fault
            advice = "" if advised else "; set source.malformed_share to pass over a share of lines"
            raise InputError(f"{self.first}{advice}")

    def check(self, lines: int) -> None:
        """Stop if more of the lines read so far are malformed than may be.

        Raises:
            InputError: With the first of them.
        """
        if self.share is not None and self.count > self.share * lines:
            raise InputError(
                f"{self.first}; {self.count:,} of {lines:,} lines are malformed, more than the "
                f"share of {self.share:g} that source.malformed_share lets pass"
            )


@contextmanager
def open_stream(path: Path, progress: Progress) -> Iterator[Callable[[int], bytes]]:
    """Open a file, decompressing gzip and zstd, which are recognised by their first bytes.

    Args:
        path: The file.
        progress: Told of the bytes of the file itself that were read.

    Yields:
        What reads so many bytes, or what is left.

    Raises:
        InputError: If it cannot be read, is cut short or damaged, or holds more than
            ``mgstudy.limits`` allows; also inside the block.
    """
    compression: str | None = None
    unpacked = 0
    try:
        refuse_what_is_no_file(path)
        with path.open("rb") as file:
            magic = file.read(4)
            file.seek(0)
            total, stream = path.stat().st_size, file
            if magic.startswith(GZIP_MAGIC):
                compression = "gzip"
            elif magic == ZSTANDARD_MAGIC:
                compression = "zstd"
            if compression:
                stream = pa.CompressedInputStream(pa.PythonFile(file, "r"), compression)

            def read(size: int) -> bytes:
                nonlocal unpacked
                if content := stream.read(size):
                    unpacked += len(content)
                    refuse_too_much(path, unpacked, total)
                    progress(f"read {path.name}", file.tell(), max(total, file.tell()))
                return content

            yield read
    except OSError as error:
        if compression and error.errno is None:
            raise InputError(
                f"{path}: cannot be decompressed: {error}; the file is cut short or damaged, "
                "download it again"
            ) from error
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def refuse_too_much(path: Path, unpacked: int, size: int) -> None:
    """Stop where a small file holds very much, as one does that was made to fill a memory.

    Args:
        path: The file.
        unpacked: Bytes that were or will be read from it.
        size: Its own bytes.

    Raises:
        InputError: If that is more than ``mgstudy.limits`` allows.
    """
    if unpacked > max(_SMALL, size * limit("MGSTUDY_BYTES_PER_BYTE")):
        most = more_than("MGSTUDY_BYTES_PER_BYTE", f"times its {size:,} bytes")
        raise InputError(f"{path}: unpacks to {most}")


def line_blocks(path: Path, progress: Progress) -> Iterator[Block]:
    """The lines of a file in blocks of about ``BLOCK_BYTES``.

    Raises:
        InputError: If it cannot be read, or a line is longer than ``mgstudy.limits`` allows.
    """
    line, longest = 1, limit("MGSTUDY_LINE_BYTES")
    rest: list[bytes] = []
    with open_stream(path, progress) as read:
        while chunk := read(BLOCK_BYTES):
            if line == 1 and not rest:
                chunk = chunk.removeprefix(b"\xef\xbb\xbf")
            end = chunk.rfind(b"\n") + 1
            rest.append(chunk[:end] or chunk)
            if not end:
                if sum(map(len, rest)) > longest:
                    most = more_than("MGSTUDY_LINE_BYTES", "bytes")
                    raise InputError(f"{path}: line {line}: has {most}; not text?")
                continue
            content = b"".join(rest)
            rest = [chunk[end:]]
            yield Block(line, content)
            line += content.count(b"\n")
        content = b"".join(rest)
        if content.strip():
            yield Block(line, content + b"\n")
