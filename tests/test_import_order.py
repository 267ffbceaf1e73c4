"""Imports run one way, so that every layer can be read, tested and used without those above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Set
from pathlib import Path

import pytest

PACKAGE = "mgstudy"
ROOT = Path(__file__).parents[1] / PACKAGE

LAYERS: tuple[frozenset[str], ...] = (
    frozenset(
        {
            "environment",
            "errors",
            "lazy",
            "limits",
            "private",
            "registry",
            "significance",
            "statistics",
        }
    ),
    frozenset({"files", "fingerprint", "urls", "workspace"}),
    frozenset({"config"}),
    frozenset({"data"}),
    frozenset({"features"}),
    frozenset({"models"}),
    frozenset({"training"}),
    frozenset({"robustness"}),
    frozenset({"study"}),
    frozenset({"tracking"}),
    frozenset({"report"}),
    frozenset({"cluster"}),
    frozenset({"__init__", "__main__", "cli", "api"}),
    frozenset({"testing"}),
)
"""What may import what: a part imports its own layer and earlier ones, never a later one."""

UNRELATED = frozenset({("tracking", "report"), ("report", "tracking")})
"""Neighbours in the order that nevertheless stand side by side."""

WITHOUT_FRAMEWORKS = ("config", "data", "features", "models", "training", "robustness")
FORBIDDEN_DISTRIBUTIONS: dict[str, frozenset[str]] = {
    **{part: frozenset({"ray", "optuna", "mlflow"}) for part in WITHOUT_FRAMEWORKS},
    "study": frozenset({"mlflow"}),
}
"""Training runs in anyone's own loop, and a study without MLflow."""


def modules() -> dict[str, Path]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imported_names(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """Line and absolute dotted name of every import, wherever it stands in the file."""
    package = module if is_package else module.rpartition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            source = node.module or ""
            if node.level:
                ancestors = package.split(".")
                kept = ancestors[: len(ancestors) - node.level + 1]
                source = ".".join([*kept, source] if source else kept)
            yield from ((node.lineno, f"{source}.{alias.name}") for alias in node.names)


def part_of(name: str, parts: Set[str]) -> str:
    """The part of the package that a dotted name inside it belongs to."""
    _, _, rest = name.partition(".")
    part = rest.partition(".")[0]
    return part if part in parts else "__init__"


def violations(module: str, source: str, parts: Set[str], is_package: bool = False) -> list[str]:
    """What in a module's ``source`` breaks the order.

    Args:
        module: Its absolute dotted name.
        source: Its text.
        parts: First-level modules and packages, which tell ``from mgstudy import models`` (a part)
            from ``from mgstudy import train`` (a name in ``mgstudy/__init__.py``).
        is_package: Whether the module is a package's ``__init__.py``.
    """
    rank = {part: position for position, layer in enumerate(LAYERS) for part in layer}
    own = part_of(module, parts)
    if own not in rank:
        return [f"{module}: {own!r} has no place in LAYERS"]
    found = []
    for line, name in imported_names(ast.parse(source), module, is_package):
        top = name.removeprefix(f"{PACKAGE}.private.").partition(".")[0].partition("_")[0]
        if top in FORBIDDEN_DISTRIBUTIONS.get(own, frozenset()):
            found.append(f"{module}:{line}: {own} must work without {top}")
        if name.partition(".")[0] != PACKAGE:
            continue
        other = part_of(name, parts)
        if rank.get(other, len(LAYERS)) > rank[own] or (own, other) in UNRELATED:
            found.append(f"{module}:{line}: {own} must not import {other}")
    return list(dict.fromkeys(found))


def test_imports_run_one_way() -> None:
    all_modules = modules()
    parts = {name.split(".")[1] for name in all_modules if "." in name}
    assert {"config", "data", "models", "training"} <= parts
    found = [
        violation
        for name, path in all_modules.items()
        for violation in violations(
            name, path.read_text("utf-8"), parts, is_package=path.name == "__init__.py"
        )
    ]
    assert not found, "\n".join(found)


STUDY_ROOMS = ("storage", "definition", "search", "results", "running", "robustness")
"""The rooms of a study, from the lowest: each knows those below it."""


def test_the_rooms_of_a_study_stand_one_above_the_other() -> None:
    found = []
    for name, path in modules().items():
        _, _, own = name.partition(f"{PACKAGE}.study.")
        if not own:
            continue
        source = path.read_text("utf-8")
        for line, other in imported_names(ast.parse(source), name, path.name == "__init__.py"):
            _, _, theirs = other.partition(f"{PACKAGE}.study.")
            rooms = [room.partition(".")[0] for room in (own, theirs)]
            if theirs and STUDY_ROOMS.index(rooms[1]) > STUDY_ROOMS.index(rooms[0]):
                found.append(f"{name}:{line}: {rooms[0]} must not import {rooms[1]}")
    assert not found, "\n".join(found)


PARTS = frozenset(part for layer in LAYERS for part in layer)


@pytest.mark.parametrize(
    ("module", "source", "complaint"),
    [
        ("data.batches", "from mgstudy.models import bpr", "data must not import models"),
        ("data.batches", "import mgstudy.models.bpr as bpr", "data must not import models"),
        ("data.batches", "from mgstudy import errors, models", "data must not import models"),
        ("data.batches", "from ..models.bpr import BPR", "data must not import models"),
        ("data.batches", "from mgstudy import train", "data must not import __init__"),
        ("errors", "import mgstudy.config", "errors must not import config"),
        ("tracking.runs", "import mgstudy.report.table", "tracking must not import report"),
        ("report.table", "import mgstudy.tracking.runs", "report must not import tracking"),
        ("cluster.jobs", "from mgstudy.api import launch", "cluster must not import api"),
        ("training.trainer", "import ray.tune", "training must work without ray"),
        ("training.trainer", "from optuna import Trial", "training must work without optuna"),
        (
            "training.trainer",
            "from mgstudy.private.ray import ignored_below",
            "training must work without ray",
        ),
        (
            "training.trainer",
            "from mgstudy.private.ray_tune import stop_trials_at_once",
            "training must work without ray",
        ),
        ("study.driver", "from mlflow.entities import Run", "study must work without mlflow"),
        ("helpers", "", "'helpers' has no place in LAYERS"),
        (
            "models.bpr",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mgstudy.training",
            "models must not import training",
        ),
        (
            "models.bpr",
            "def build():\n    from mgstudy.study.definition.cell import Cell",
            "models must not import study",
        ),
    ],
)
def test_checker_refuses(module: str, source: str, complaint: str) -> None:
    found = violations(f"{PACKAGE}.{module}", source, PARTS | {"helpers"})
    assert len(found) == 1
    assert complaint in found[0]


def test_checker_resolves_relative_imports_of_a_package() -> None:
    source = "from .trainer import Trainer\nfrom ..study import driver"
    found = violations("mgstudy.training", source, PARTS, is_package=True)
    assert found == ["mgstudy.training:2: training must not import study"]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("models.bpr", "from mgstudy import errors\nfrom mgstudy.data.dataset import Dataset"),
        ("models.bpr", "from .base import Batch\nimport raylib, torch"),
        ("study.driver", "import ray, optuna\nfrom mgstudy.robustness import risks"),
        ("cluster.jobs", "import mgstudy.report, mgstudy.tracking\nimport mlflow"),
        ("cli", "from mgstudy import __version__\nfrom mgstudy.api import launch"),
    ],
)
def test_checker_allows(module: str, source: str) -> None:
    assert violations(f"{PACKAGE}.{module}", source, PARTS) == []
