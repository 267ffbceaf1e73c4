"""What nobody should write, and what may become of a text, of bytes and of a file."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

NUMBERS: list[Any] = [
    0, -1, 1, 2, 0.5, -0.5, 1e-320, 1e300, float("inf"), float("nan"), 2**31, 2**32, 2**63,
    -(2**63) - 1, 10**400,
]  # fmt: skip
TEXTS = [
    "", " ", "a", "a/b", "../a", ".", "..", "a\nb", "a\n", "a" * 300, "é", "😀", "a\0b", "a\tb",
    "~nosuchuser", "~/x", "$HOME", "${NOSUCH}", "%s", "{}", "{title", "=", "true", "null", "1e3",
    "x:y", ".x:y", "os:system", "mgstudy.errors:InputError", "http://[::1", "nosuch://x",
    "file:///nowhere", "sqlite://", "sqlite:///x.db", "journal:///", "oracle://x", "a@b:c", "copy",
    "model_config", "-1", "--help", "\ud800", "\x1b[31m", "'", '"', "`x`", "-", "recall@99999",
    "1" * 5000,
]  # fmt: skip
OTHERS: list[Any] = [
    None, True, False, [], {}, [[]], [None], {"": ""}, {"name": 5}, {"a": {"b": {}}}, [1, "a", []],
    {"choice": []}, {"choice": [1, 1]}, {"integer": [2, 1]}, {"float": [0, 1e999]},
    {"log_float": [0, 1]}, {"name": "TPESampler", "arguments": {"n_startup_trials": "x"}},
    {"name": "MedianPruner", "arguments": {"n_startup_trials": -5}}, ["a"] * 1000,
]  # fmt: skip
RAW_YAML = [
    "2001-99-99", "2024-02-30", "0x_", "0b_", "0o9", "1_000", ".inf", ".nan", "~", "!!binary x",
    "!!int ten", "!!bool maybe", "!!timestamp x", "!!python/object/apply:os.system [ls]", "!x y",
    "&a [*a]", "*nope", "{<<: 3}", "{? [a] : b}", "'open", '"\\UFFFFFFFF"', "[", "{a", "@x", "`x`",
    "%x", "\t", "|\n", "- a", "a: b: c", "{a: 1, a: 2}", "{2001-99-99: 1}", "{1: 2}", "9" * 5000,
    "[" * 3000, "{a: " * 200, "!!float x", "!!null x", "12:30:45", "010", "0x10", "1e999", "=",
]  # fmt: skip
"""What may stand in a YAML file where a value is expected."""
MARK = "raw-yaml-value"
"""Stands for one of them in data that is written."""


def value(draw: random.Random) -> Any:
    """A value that hardly any setting can have."""
    return draw.choice(draw.choice([NUMBERS, TEXTS, OTHERS]))


def damaged_text(text: str, draw: random.Random) -> str:
    """A text with some of it lost, doubled, or nonsense in between."""
    for _ in range(draw.randint(1, 3)):
        begin, end = sorted(draw.randrange(len(text) + 1) for _ in range(2))
        end = min(end, begin + draw.choice([1, 3, 30]))
        inserted = draw.choice(["", text[begin:end] * 2, draw.choice(TEXTS), draw.choice(RAW_YAML)])
        text = text[:begin] + inserted + text[end:]
    return text


def damaged_bytes(content: bytes, draw: random.Random) -> bytes:
    """Bytes of which some are lost, doubled, or others."""
    damage = draw.randrange(7)
    begin, end = sorted(draw.randrange(len(content) + 1) for _ in range(2))
    if damage == 0:
        return content[:begin]
    if damage == 1:
        return content[:begin] + content[end:]
    if damage == 2:
        return content[:end] + content[begin:]
    if damage == 3:
        return content.replace(b"\n", draw.choice([b"\r\n", b"\r", b"\0", b"\n\n", b""]))
    if damage == 4:
        return content + draw.choice([b"\0" * 100, b"\r\n", b"\xff", content])
    changed = bytearray(content)
    for _ in range(draw.choice([1, 1, 5, 50])):
        if changed:
            changed[draw.randrange(len(changed))] = draw.choice([0, 255, 10, draw.randrange(256)])
    return bytes(changed)


def places(data: Any, place: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Where values stand in JSON-like data."""
    yield place
    if isinstance(data, dict | list):
        for step, inner in data.items() if isinstance(data, dict) else enumerate(data):
            yield from places(inner, (*place, step))


def replaced(data: Any, place: tuple[Any, ...], new: Any) -> Any:
    """JSON-like data with another value at a place; what is on the way there is made."""
    if not place:
        return new
    step, rest = place[0], place[1:]
    if isinstance(step, int):
        items = list(data) if isinstance(data, list) else []
        items += [None] * (step + 1 - len(items))
        items[step] = replaced(items[step], rest, new)
        return items
    inside = dict(data) if isinstance(data, dict) else {}
    inside[step] = replaced(inside.get(step), rest, new)
    return inside


def damaged_json(content: bytes, draw: random.Random) -> bytes:
    """JSON, or lines of it, in which a value is another one or lacks."""
    lines = content.splitlines() if content.count(b"\n{") else [content]
    position = draw.randrange(len(lines))
    data = json.loads(lines[position])
    place = draw.choice(list(places(data)))
    changed = replaced(data, place, value(draw))
    if place and isinstance(place[-1], str) and draw.random() < 0.2:
        del_from = changed
        for step in place[:-1]:
            del_from = del_from[step]
        del del_from[place[-1]]
    lines[position] = json.dumps(changed).encode()
    return b"\n".join(lines) + b"\n"


def something_else(path: Path, draw: random.Random) -> str:
    """Put what is no readable file in the place of a file or folder; what that is."""
    kinds = [
        "missing",
        "empty",
        "folder",
        "pipe",
        "dangling link",
        "loop",
        "zeros",
        "directory loop",
    ]
    kind = draw.choice(kinds)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "dangling link":
        path.symlink_to("nowhere")
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "zeros":
        path.symlink_to("/dev/zero")
    elif kind == "directory loop":
        path.symlink_to(path.parent)
    return kind
