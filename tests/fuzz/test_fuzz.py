"""A few hundred malformed inputs, and all nonsense; ``make fuzz INPUTS=5000`` for more."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from programs import finished


@pytest.mark.integration
def test_what_is_malformed_is_met_with_a_few_lines_and_nothing_is_half_done() -> None:
    program = Path(__file__).with_name("run.py")
    ended = finished(sys.executable, program, "--inputs", 200, "--seed", 0, code=None)
    assert ended.returncode == 0, f"{ended.stdout}\n{ended.stderr}"
