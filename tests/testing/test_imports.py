"""The suites are for whoever has pytest; mgstudy itself does without."""

from __future__ import annotations

import re
from pathlib import Path

import mgstudy
from mgstudy import testing

ROOT = Path(mgstudy.__file__).parent


def test_nothing_but_the_suites_needs_pytest() -> None:
    importing = {
        path.relative_to(ROOT).parts[0]
        for path in ROOT.rglob("*.py")
        if re.search(r"^\s*(import|from) pytest\b", path.read_text("utf-8"), re.MULTILINE)
    }
    assert importing == {"testing"}


def test_every_suite_is_found_by_its_name() -> None:
    assert [getattr(testing, name).__name__ for name in testing.__all__] == testing.__all__
