"""The tables of docs/datasets.md list exactly the parts that are installed, in their own words.

``python tests/test_datasets_page.py`` writes them.
"""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from mgstudy.data.encoder import encoders, feature_steps
from mgstudy.data.sources.base import sources
from mgstudy.data.steps.base import steps
from mgstudy.registry import Registry

PAGE = Path(__file__).parents[1] / "docs" / "datasets.md"
REGISTRIES: dict[str, Registry[Any]] = {
    "sources": sources,
    "steps": steps,
    "encoders": encoders,
    "feature_steps": feature_steps,
}


def table(registry: Registry[Any]) -> str:
    """A row for each part of the package: name, first paragraph of the docstring, settings."""
    rows = ["| name | what it is | settings |", "|---|---|---|"]
    for part in registry:
        if not part.__module__.startswith("mgstudy."):
            continue
        summary = inspect.getdoc(part).split("\n\n")[0].replace("\n", " ").replace("``", "`")
        settings = ", ".join(f"`{name}`" for name in part.Parameters.model_fields)
        rows.append(f"| `{part.name}` | {summary} | {settings} |")
    return "\n".join(rows)


def section(name: str) -> re.Pattern[str]:
    return re.compile(rf"(<!-- {name}: [^>]*-->\n)(?:\n(?:\|.*\n)+)?", re.MULTILINE)


@pytest.mark.parametrize("name", REGISTRIES)
def test_table_is_up_to_date(name: str) -> None:
    page = PAGE.read_text("utf-8")
    assert table(REGISTRIES[name]) in page, "run `python tests/test_datasets_page.py`"


if __name__ == "__main__":
    content = PAGE.read_text("utf-8")
    for name, registry in REGISTRIES.items():
        made = table(registry)
        content = section(name).sub(lambda found, made=made: f"{found[1]}\n{made}\n", content)
    PAGE.write_text(content, "utf-8")
