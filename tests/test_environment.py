from __future__ import annotations

import logging
import os

import pytest

from mgstudy.environment import for_a_while


def test_what_is_changed_for_a_while_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MGSTUDY_A", "theirs")
    monkeypatch.delenv("MGSTUDY_B", raising=False)
    logger = logging.getLogger("mgstudy.of.a.test")
    logger.setLevel(logging.INFO)
    variables = {"MGSTUDY_A": "ours", "MGSTUDY_B": "ours"}
    with pytest.raises(ZeroDivisionError), for_a_while(variables, {logger.name: logging.ERROR}):
        assert (os.environ["MGSTUDY_A"], os.environ["MGSTUDY_B"]) == ("theirs", "ours")
        assert logger.level == logging.ERROR
        raise ZeroDivisionError
    assert os.environ["MGSTUDY_A"] == "theirs"
    assert "MGSTUDY_B" not in os.environ
    assert logger.level == logging.INFO
