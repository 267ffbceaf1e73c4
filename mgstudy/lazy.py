"""What importing the package does: names are imported when they are first used, so that it costs
nothing, and libraries can be imported where nobody's home is known."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

NOBODYS_HOME = "/nonexistent"
"""What a user without a home is given, as Debian's ``nobody`` has it; it is never there."""


def have_a_home() -> None:
    """Set HOME where neither it nor the system says one: Ray cannot even be imported without, here
    and in its workers. Nothing of a study lies there."""
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - pathlib raises where this does not.
        os.environ["HOME"] = NOBODYS_HOME


def importing(package: str, homes: Mapping[str, Sequence[str]]) -> Callable[[str], Any]:
    """A package's ``__getattr__``.

    Args:
        package: Its name.
        homes: Modules to the names that the package offers of them.

    Raises:
        AttributeError: When called with a name that is not among them.
    """
    home_of = {name: module for module, names in homes.items() for name in names}

    def find(name: str) -> Any:
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(importlib.import_module(home_of[name]), name)

    return find
