"""The code in the documentation works as it stands there."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

from mgstudy.models.base import models
from mgstudy.testing import ModelContract

DOCS = Path(__file__).parents[1] / "docs"
MODULE = "mgstudy.models.featurelightgcn"


def code_blocks(document: str, language: str) -> list[str]:
    """The contents of a document's fenced blocks of one language, in order."""
    text = (DOCS / document).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def test_the_model_of_adding_a_model_passes_its_own_test(monkeypatch: pytest.MonkeyPatch) -> None:
    model_code, test_code = code_blocks("adding-a-model.md", "python")
    module = ModuleType(MODULE)
    monkeypatch.setitem(sys.modules, MODULE, module)
    exec(compile(model_code, "adding-a-model.md", "exec"), vars(module))
    assert models.get(f"{MODULE}:FeatureLightGCN") is module.FeatureLightGCN

    tests: dict[str, object] = {}
    exec(compile(test_code, "adding-a-model.md", "exec"), tests)
    test = tests["test_scores_follow_the_equations"]
    assert callable(test)
    test()
    contract = tests["TestFeatureLightGCN"]
    assert isinstance(contract, type) and issubclass(contract, ModelContract)
    held = contract()
    held.test_two_epochs_lower_the_loss()
    held.test_every_parameter_receives_a_gradient()
    held.test_a_restored_model_gives_identical_scores()
