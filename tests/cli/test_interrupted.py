"""What a command says that Ctrl-C ends where nothing else handles it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgstudy import api, cli


def interrupted(*_arguments: Any, **_options: Any) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize(
    ("module", "function"), [(cli, "import_commands"), (api, "read_study"), (api, "prepare")]
)
def test_it_is_said_in_one_line(
    command: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    module: Any,
    function: str,
) -> None:
    file = tmp_path / "file.yaml"
    file.write_text("name: x\n")
    cli.import_commands()
    monkeypatch.setattr(module, function, interrupted)
    what = "prepare" if function == "prepare" else "launch"
    assert command(what, file, "--home", tmp_path) == (130, "", "interrupted\n")
