"""The failures mgstudy reports to a person, and the exit code of each.

Every message is one line that says what was wrong, where, and what to do. The command line
prints the message alone; a traceback is for bugs.
"""

from __future__ import annotations

import difflib
import sysconfig
import traceback
from collections.abc import Iterable
from pathlib import Path


class MgstudyError(Exception):
    """A failure of the environment (disk, network, service): exit code 1."""

    exit_code = 1


class InputError(MgstudyError):
    """Something the user gave is wrong (a file, a value, a name): exit code 2."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that no registered part carries.

    Args:
        kind: What was looked up, for example ``"model"``.
        name: The name that was not found.
        known: The names that exist.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        self.kind = kind
        self.name = name
        self.known = sorted(known)
        super().__init__(f"unknown {kind} {name!r}; {suggestion(name, self.known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """Say which known name is nearest to ``name``, or list them all when none is near."""
    names = sorted(known)
    by_lower_case = {candidate.lower(): candidate for candidate in names}
    near = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    if near:
        return f"did you mean {by_lower_case[near[0]]!r}?"
    return f"known: {', '.join(names) if names else 'none'}"


def own_line(error: BaseException) -> str:
    """``FILE:LINE: `` of a person's own code in which something went wrong: the innermost line that
    is neither mgstudy's nor an installed library's nor Python's. Empty if there is none."""
    libraries = (sysconfig.get_path(kind) for kind in ("stdlib", "purelib", "platlib"))
    others = [Path(__file__).parent, *map(Path, libraries)]
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename is not None:
        places.append((error.filename, error.lineno))
    for file, line in reversed(places):
        if not (file.startswith("<") or any(Path(file).is_relative_to(other) for other in others)):
            return f"{file}:{line}: "
    return ""
