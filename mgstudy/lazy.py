"""What importing the package does: names are imported when they are first used, so that it costs
nothing, and libraries can be imported where nobody's home is known."""

from __future__ import annotations

import ast
import functools
import importlib
import inspect
import os
import sys
from collections.abc import Callable
from typing import Any

NOBODYS_HOME = "/nonexistent"
"""What a user without a home is given, as Debian's ``nobody`` has it; it is never there."""

ON_WINDOWS = (
    "mgstudy runs on Linux and macOS; on Windows, install it inside WSL 2 "
    "(https://learn.microsoft.com/windows/wsl/install), where everything works as on Linux"
)
"""What is said on Windows in place of a traceback: files are locked there in other ways, and Ray's
clusters are untested."""


def have_a_home() -> None:
    """Set HOME where neither it nor the system says one: Ray cannot even be imported without, here
    and in its workers. Nothing of a study lies there."""
    if os.path.expanduser("~") == "~":  # noqa: PTH111 - pathlib raises where this does not.
        os.environ["HOME"] = NOBODYS_HOME


def importing(package: str) -> Callable[[str], Any]:
    """A package's ``__getattr__``: what its file imports under ``if TYPE_CHECKING`` is imported
    when it is first used.

    Args:
        package: Its name.

    Raises:
        AttributeError: When called with a name that is not among them.
    """

    @functools.cache
    def homes() -> dict[str, str]:
        """The names to the modules that have them."""
        whole = ast.parse(inspect.getsource(sys.modules[package]))
        return {
            alias.name: node.module
            for block in whole.body
            if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
            for node in block.body
            if isinstance(node, ast.ImportFrom) and node.module
            for alias in node.names
        }

    def find(name: str) -> Any:
        if name.startswith("__") or name not in homes():
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if sys.platform == "win32":
            raise ImportError(ON_WINDOWS)
        return getattr(importlib.import_module(homes()[name]), name)

    return find
