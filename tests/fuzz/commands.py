"""Command lines in which words are others, made from the commands' own declarations."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from values import TEXTS

BEGINS = {"ui": "opens a server", "submit": "needs a cluster", "doctor": "starts Ray"}
"""Commands that are left out, and why."""
ADDRESSES = ["http://[::1", "http://localhost:abc", "http://", "nosuch://x", "x y", "127.0.0.1:1",
             "http://127.0.0.1:1", "ray://127.0.0.1:1", "http://u:p@127.0.0.1:1"]  # fmt: skip
USUAL = {"file": "s.yaml", "study": "s", "studies": "s", "name": "tiny", "kind": "study",
         "key": "image", "address": "http://127.0.0.1:1"}  # fmt: skip


@cache
def declared() -> list[tuple[list[str], list[Any]]]:
    """Every command, with its parameters."""
    import typer

    from mgstudy import cli
    from mgstudy.cli.app import app

    cli.import_commands()
    found: list[tuple[list[str], list[Any]]] = []

    def walk(command: Any, words: list[str]) -> None:
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, [*words, name])
        if words and not hasattr(command, "commands") and words[0] not in BEGINS:
            found.append((words, command.params))

    walk(typer.main.get_command(app), [])
    return found


def command_line(number: int, draw: random.Random) -> list[str]:
    """A command with one argument or option that hardly anybody means."""
    words, parameters = declared()[number % len(declared())]
    words = list(words)
    odd = draw.choice([parameter.name for parameter in parameters])
    for parameter in parameters:
        texts = ADDRESSES if parameter.name == "address" else TEXTS
        text = draw.choice(texts) if parameter.name == odd else USUAL.get(parameter.name, "")
        text = text.replace("\0", "").encode(errors="replace").decode()
        option = max(parameter.opts, key=len)
        if not option.startswith("-"):
            words.append(text or USUAL.get(parameter.name, "x") if parameter.name != odd else text)
        elif parameter.name in {odd, "address"}:
            words += [option] if getattr(parameter, "is_flag", False) else [option, text]
    return words
