"""What a shell offers while a command is typed: names that the workspace or the package has.

Where something is wrong, nothing is offered and nothing said: a half-typed line is no mistake. What
is needed is imported by the function that needs it, as in commands.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps
from typing import Any

import typer

from mgstudy.errors import MgstudyError


def _or_nothing(
    names: Callable[[typer.Context], Iterable[str]],
) -> Callable[[typer.Context], list[str]]:
    @wraps(names)
    def offered(ctx: typer.Context) -> list[str]:
        try:
            return list(names(ctx))
        except MgstudyError:
            return []

    return offered


@_or_nothing
def studies(ctx: typer.Context) -> Iterable[str]:
    """The studies of the workspace."""
    from mgstudy import api  # noqa: PLC0415

    return api.study_names(ctx.params.get("home"))


@_or_nothing
def datasets(ctx: typer.Context) -> Iterable[str]:
    """The prepared datasets of the workspace."""
    from mgstudy import api  # noqa: PLC0415

    return api.list_datasets(ctx.params.get("home"))


@_or_nothing
def cells(ctx: typer.Context) -> Iterable[str]:
    """The keys of the cells of the studies that have been typed."""
    return [cell.key for manifest in _manifests(ctx) for cell in manifest.cells]


@_or_nothing
def metrics(ctx: typer.Context) -> Iterable[str]:
    """What the studies that have been typed measure."""
    trainings = [manifest.config.training for manifest in _manifests(ctx)]
    return dict.fromkeys(str(metric) for of in trainings for metric in of.metrics)


@_or_nothing
def levels(ctx: typer.Context) -> Iterable[str]:
    """``factor=level`` of the studies that have been typed."""
    found = [cell.levels.items() for manifest in _manifests(ctx) for cell in manifest.cells]
    return dict.fromkeys(f"{factor}={level}" for pairs in found for factor, level in pairs)


@_or_nothing
def kinds(ctx: typer.Context) -> Iterable[str]:
    """The kinds of parts."""
    from mgstudy.report.console.parts import KINDS  # noqa: PLC0415

    return KINDS


@_or_nothing
def parts(ctx: typer.Context) -> Iterable[str]:
    """The parts of the kind that has been typed; models where no other kind can be."""
    from mgstudy.report.console.parts import part_names  # noqa: PLC0415

    return part_names(ctx.params.get("kind", "model"))


@_or_nothing
def risks(ctx: typer.Context) -> Iterable[str]:
    """What robustness is measured under."""
    from mgstudy.report.console.parts import part_names  # noqa: PLC0415

    return [*part_names("risk"), "flatness"]


def _manifests(ctx: typer.Context) -> list[Any]:
    from mgstudy import api  # noqa: PLC0415

    # Where an option still lacks its value, arguments are not told apart yet.
    typed = ctx.params.get("studies") or ctx.params.get("study") or ctx.args
    names = [typed] if isinstance(typed, str) else typed
    return api.study_manifests(names, ctx.params.get("home"))
