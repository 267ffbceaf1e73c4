"""What users rely on: the names of ``mgstudy``, typed, and the command line on top of them."""

from __future__ import annotations

import ast
import importlib
import inspect
import sys
import textwrap
import tomllib
import types
import typing
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import mgstudy

ROOT = Path(__file__).parents[1]

USE = ROOT / "tests" / "public_use.py"


def test_every_public_name_is_there_and_documented() -> None:
    assert sorted(mgstudy.__all__) == mgstudy.__all__
    for name in mgstudy.__all__:
        assert inspect.getdoc(getattr(mgstudy, name)), name
    with pytest.raises(AttributeError, match="no attribute 'lunch'"):
        mgstudy.lunch  # noqa: B018


def own_types(annotation: object) -> Iterator[type]:
    """Our classes in a type hint."""
    if isinstance(annotation, type) and annotation.__module__.startswith("mgstudy."):
        yield annotation
    for argument in typing.get_args(annotation):
        if not isinstance(argument, str | bytes | types.EllipsisType):
            yield from own_types(argument)


@pytest.mark.parametrize(
    "name", [n for n in mgstudy.__all__ if inspect.isfunction(getattr(mgstudy, n))]
)
def test_every_type_of_a_public_signature_is_public(name: str) -> None:
    verb = getattr(mgstudy, name)
    kinds = {p.kind for p in inspect.signature(verb).parameters.values()}
    hints = typing.get_type_hints(verb)
    if inspect.Parameter.VAR_KEYWORD in kinds:
        (anything,) = (
            p.name
            for p in inspect.signature(verb).parameters.values()
            if p.kind is inspect.Parameter.VAR_KEYWORD
        )
        # The constraints of a parameter are those of a pydantic field.
        assert hints[anything] is not typing.Any or name == "parameter", f"{name} takes anything"
    public = {getattr(mgstudy, other) for other in mgstudy.__all__}
    for hint in hints.values():
        for found in own_types(hint):
            assert found in public, f"{name} needs {found.__module__}.{found.__qualname__}"


def imported(source: str) -> Iterator[str]:
    """Dotted names of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(textwrap.dedent(source))):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def test_a_user_of_the_public_names_imports_nothing_else_and_is_typed() -> None:
    """By ``make types``, which finds a mistake of its, or that a wrong line of its is none."""
    outside = {"__future__", "pathlib", "typing"}
    assert {name.partition(".")[0] for name in imported(USE.read_text("utf-8"))} - outside == {
        "mgstudy"
    }
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["tool"]["mypy"]
    assert settings["strict"] and USE.relative_to(ROOT).as_posix() in settings["files"]


BELOW = (
    "config",
    "data",
    "features",
    "models",
    "robustness",
    "study",
    "tracking",
    "training",
    "workspace",
)
"""What the command line reaches through ``mgstudy.api`` alone."""


@pytest.mark.parametrize(
    "path", sorted((ROOT / "mgstudy" / "cli").glob("*.py")), ids=lambda path: path.stem
)
def test_the_command_line_calls_the_library_and_nothing_below_it(path: Path) -> None:
    found = [
        name
        for name in imported(path.read_text(encoding="utf-8"))
        if name.startswith(tuple(f"mgstudy.{room}" for room in BELOW))
    ]
    assert found == []


def test_the_library_is_one_import_away() -> None:
    for name in mgstudy.__all__:
        home = importlib.import_module(getattr(mgstudy, name).__module__)
        assert getattr(home, name) is getattr(mgstudy, name)


def test_on_windows_it_is_said_what_to_do(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as there:
        there.setattr(sys, "platform", "win32")
        code, out, err = command("quickstart")
        with pytest.raises(ImportError, match="install it inside WSL 2"):
            mgstudy.launch  # noqa: B018
    assert (code, out) == (1, "")
    assert err.startswith("error: mgstudy runs on Linux and macOS; on Windows, install it inside W")
    assert err.count("\n") == 1
