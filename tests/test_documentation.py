"""The code in the documentation works as it stands there."""

from __future__ import annotations

import json
import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from mgstudy.models.base import models
from mgstudy.study.search.trials import State
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


def test_the_webhook_of_from_python_is_told_of_a_trial() -> None:
    heard: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            heard.append(json.loads(body)["text"])
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    code: dict[str, Any] = {}
    exec(compile(code_blocks("from-python.md", "python")[-1], "from-python.md", "exec"), code)
    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.handle_request)
        thread.start()
        webhook = code["Webhook"](f"http://127.0.0.1:{server.server_port}")
        trial = SimpleNamespace(key="tiktok/BPR/3")
        webhook.trial_finished(trial, State.COMPLETE, 0.25, {})
        webhook.thread.shutdown()
        thread.join(timeout=60)
    assert heard == ["tiktok/BPR/3 is complete: 0.25"]
