"""The help, and what a shell offers while a command is typed."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from driven import Driven

from mgstudy.cli.app import PURPOSES


def test_every_command_is_listed_under_what_it_is_for_by_a_whole_sentence(
    printed: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    whole = printed("--help")
    parts = re.split(rf"^({'|'.join(PURPOSES)}):$", whole, flags=re.MULTILINE)
    assert parts[1::2] == list(PURPOSES)
    listed = [
        re.findall(r"^  ([a-z-]+)  +((?:.|\n {5,})*)$", part, re.MULTILINE) for part in parts[2::2]
    ]
    assert all(sentence.endswith(".") for group in listed for _, sentence in group)
    assert not any("..." in sentence for group in listed for _, sentence in group)
    from mgstudy.cli import app

    registered = {
        of.name or of.callback.__name__  # type: ignore[union-attr]
        for of in (*app.registered_commands, *app.registered_groups)
    }
    assert {name for group in listed for name, _ in group} == registered
    assert " ".join(whole.split()).endswith("docs/ in the source distribution explains the rest.")


@pytest.fixture
def offered(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Callable[[str], list[str]]:
    """What a shell offers after a line that has been typed, in a workspace with a study."""
    monkeypatch.setenv("MGSTUDY_HOME", str(tmp_path))
    Driven(tmp_path, "tiktok")
    (tmp_path / ".mgstudy" / "datasets" / "baby").mkdir(parents=True)
    (tmp_path / ".mgstudy" / "datasets" / "baby" / "manifest.json").write_text("{}")

    def offer(line: str) -> list[str]:
        words = line.split(" ")
        monkeypatch.setenv("_MGSTUDY_COMPLETE", "complete_bash")
        monkeypatch.setenv("COMP_WORDS", " ".join(words))
        monkeypatch.setenv("COMP_CWORD", str(len(words) - 1))
        ended = command()
        assert (ended.code, ended.err) == (0, "")
        return list(ended.out.split())

    return offer


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("mgstudy status ", ["tiktok"]),
        ("mgstudy compare ti", ["tiktok"]),
        ("mgstudy compare x", []),
        ("mgstudy data describe b", ["baby"]),
        ("mgstudy robustness tiktok --cells a", [
            "a/BPR/mirror_gradient/none/adam/999", "a/BPR/plain/none/adam/999"
        ]),
        ("mgstudy robustness never --cells ", []),
        ("mgstudy recommend tiktok a/BPR/p", ["a/BPR/plain/none/adam/999"]),
        ("mgstudy compare tiktok --metric recall", ["recall@20"]),
        ("mgstudy compare tiktok --baseline gradient=p", ["gradient=plain"]),
        ("mgstudy parts gr", ["gradient"]),
        ("mgstudy parts gradient mi", ["mirror_gradient"]),
        ("mgstudy parts nonsense m", []),
        ("mgstudy models VB", ["VBPR"]),
        ("mgstudy robustness tiktok --risks f", ["fgsm", "flatness"]),
    ],
)  # fmt: skip
def test_a_shell_offers_what_there_is(
    line: str, names: list[str], offered: Callable[[str], list[str]]
) -> None:
    assert sorted(offered(line)) == names
