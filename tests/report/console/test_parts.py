"""Everything that files can name is listed, and says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from mgstudy.report.console.parts import KINDS, parts_content

EVERY = parts_content()


def test_every_kind_is_listed() -> None:
    assert {part["kind"] for part in EVERY} == set(KINDS)
    assert len({(part["kind"], part["name"]) for part in EVERY}) == len(EVERY)
    assert {("gradient", "mirror_gradient"), ("metric", "ndcg"), ("pruner", "NopPruner")} <= {
        (part["kind"], part["name"]) for part in EVERY
    }


@pytest.mark.parametrize("part", EVERY, ids=lambda part: f"{part['kind']}-{part['name']}")
def test_every_part_says_what_it_is_and_what_its_parameters_mean(part: dict[str, Any]) -> None:
    assert json.loads(json.dumps(part)) == part
    assert part["summary"].endswith((".", ":")) or part["kind"] in ("sampler", "pruner")
    if part["kind"] not in ("sampler", "pruner"):  # Optuna's documentation says what theirs mean.
        assert all(parameter["description"] for parameter in part["parameters"].values())


def test_one_is_explained(printed: Callable[..., str]) -> None:
    said = printed("parts", "gradient", "mirror_gradient")
    assert "Mirror Gradient (Algorithm 1 of the paper), in two variants." in said
    assert "{'choice': [0.1, 0.2, 0.3]}" in said
    (swap,) = (
        part for part in json.loads(printed("parts", "risk", "--json")) if part["name"] == "swap"
    )
    assert swap["parameters"]["severities"]["default"] == [0.1, 0.25, 0.5, 1.0]
    assert "startup_trials" in printed("parts", "sampler", "TPESampler")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["risks"], "unknown kind of part 'risks'; did you mean 'risk'?"),
        (["risk", "swpa"], "unknown risk 'swpa'; did you mean 'swap'?"),
        (["sampler", "TPE"], "unknown sampler 'TPE'"),
    ],
)
def test_what_there_is_not_is_refused(
    words: list[str], said: str, command: Callable[..., Any]
) -> None:
    ended = command("parts", *words)
    assert ended.code == 2 and said in ended.err
