"""Everything that files can name is listed, and says what it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mgstudy.report.console.parts import KINDS, part_content, parts_content

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


def test_parts_of_optuna_say_what_their_arguments_mean() -> None:
    found = part_content("pruner", "MedianPruner")
    warmup = found["parameters"]["n_warmup_steps"]
    assert warmup["description"].startswith("Pruning is disabled ") and warmup["default"] == 0
    assert "number of trials finish" in found["parameters"]["n_startup_trials"]["description"]
    assert ":class:" not in json.dumps([part for part in EVERY if part["kind"] == "sampler"])


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


def test_the_models_that_a_part_acts_on_are_those_it_does_not_refuse() -> None:
    acts_on = part_content("robust", "feature_noise")["acts_on"]
    assert "VBPR" in acts_on and "BPR" not in acts_on and "Popularity" not in acts_on
    trained = part_content("gradient", "sam")["acts_on"]
    assert {"VBPR", "BPR"} <= set(trained) and "Popularity" not in trained
    assert part_content("metric", "ndcg")["acts_on"] is None


def test_parameters_are_called_as_in_study_files(printed: Callable[..., str]) -> None:
    assert "gradient.sam.rho" in printed("parts", "gradient", "sam")
    said = printed("models", "MMGCN")
    assert "model.MMGCN.embedding_size" in said and "modalities: one or more" in said
    assert said == printed("parts", "model", "MMGCN")


def test_a_part_of_another_package_needs_no_paper(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, printed: Callable[..., str]
) -> None:
    (tmp_path / "unpublished.py").write_text(
        "from mgstudy.models.bpr import BPR\n"
        "class Mine(BPR):\n"
        '    """Mine."""\n'
        '    name = "Mine"\n'
        "    paper = None\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    assert "model Mine\n" in printed("models", "unpublished:Mine")
    assert "paper" not in json.loads(printed("models", "unpublished:Mine", "--json"))
