"""Models that read the order of interactions meet datasets with and without times."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mgstudy import api
from mgstudy.errors import InputError
from mgstudy.report.console.plan import plan_content
from mgstudy.study.definition.study import Study

TEXT = {"encoder": "tfidf_svd", "template": "{title}", "dimensions": 4, "minimum_items": 1}
TIMED = {"rating": "stars", "timestamp": "time"}
DATASETS: dict[str, tuple[dict[str, str], str]] = {
    "at_random": (TIMED, "split_per_user_random"),
    "by_time": (TIMED, "split_per_user_temporal"),
    "untimed": ({}, "split_per_user_random"),
}
"""Columns that are read beside user and item, and the split."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a dataset split at random, one split by time and one without times."""
    folder = tmp_path_factory.mktemp("home")
    random = np.random.default_rng(0)
    lines = [
        f"u{user},i{item},{random.integers(1, 6)},{1000 + random.integers(1000)}"
        for user in range(30)
        for item in random.choice(24, size=8, replace=False)
    ]
    (folder / "log.csv").write_text("\n".join(["user,item,stars,time", *lines]) + "\n", "utf-8")
    titles = [f"i{item},word{item % 5} other{item // 2} toy" for item in range(24)]
    (folder / "items.csv").write_text("\n".join(["item,title", *titles]) + "\n", "utf-8")
    files = {"interactions": str(folder / "log.csv"), "items": str(folder / "items.csv")}
    for name, (columns, split) in DATASETS.items():
        pipeline = {
            "name": name,
            "source": {"kind": "table", **files, **columns},
            "steps": ["reindex", split],
            "features": {"text": TEXT},
        }
        (folder / f"{name}.yaml").write_text(json.dumps(pipeline), "utf-8")
        api.prepare(folder / f"{name}.yaml", home=folder)
    return folder


def read(home: Path, models: list[str], datasets: list[str], **settings: Any) -> Study:
    study = {
        "name": "s",
        "factors": {"dataset": datasets, "model": models},
        "trials": 2,
        "training": {"epochs": 1, "cutoffs": [5], "objective": "recall@5"},
        "confirmation": None,
        **settings,
    }
    (home / "study.yaml").write_text(json.dumps(study), "utf-8")
    return api.read_study(home / "study.yaml", home=home)


def test_a_plan_says_where_the_order_is_missing_or_tells_of_what_is_held_out(home: Path) -> None:
    study = read(home, ["VBPR", "DreamUMM"], list(DATASETS))
    notes = plan_content(study, measure=False)["notes"]
    assert len(notes) == 2
    assert "untimed has no times: DreamUMM reads each user's history as a set" in notes[1]
    assert "does not search history_length and recency" in notes[1]
    assert "on at_random" in notes[0] and "as under a random split" in notes[0]
    others = read(home, ["VBPR", "LightGCN"], list(DATASETS))
    assert plan_content(others, measure=False)["notes"] == []


def test_what_has_no_effect_without_times_is_not_searched_there(home: Path) -> None:
    """Whatever the study file says of it."""
    space = {"model": {"recency": {"float": [0.5, 1.0]}}}
    study = read(home, ["DreamUMMFixed"], ["by_time", "untimed"], space=space)
    timed, untimed = study.plan.cells
    searched = {f"model.DreamUMMFixed.{name}" for name in ("history_length", "recency")}
    assert searched <= timed.searched.keys()
    assert {name: untimed.fixed[name] for name in searched} == {
        "model.DreamUMMFixed.history_length": None,
        "model.DreamUMMFixed.recency": 1.0,
    }


def test_times_and_ratings_go_to_models_that_read_them_alone(home: Path) -> None:
    """Trials hold a study's datasets in memory."""
    handed = read(home, ["VBPR"], ["by_time"]).datasets["by_time"]
    assert handed.train.times is None and handed.test.ratings is None
    train = read(home, ["VBPR", "DreamUMM"], ["by_time"]).datasets["by_time"].train
    assert train.times is not None and train.ratings is not None


def test_ratings_that_are_not_there_are_refused_before_anything_starts(home: Path) -> None:
    by_rating = {"name": "DreamUMM", "parameters": {"strength": "rating"}}
    read(home, [by_rating], ["by_time"])  # type: ignore[list-item]
    with pytest.raises(InputError, match="no ratings, which strength=rating needs"):
        read(home, [by_rating], ["untimed"])  # type: ignore[list-item]
