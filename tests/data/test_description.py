"""A dataset described, with numbers counted by hand on the toy data."""

import json

import numpy as np
import pytest

from mgstudy.cli import datasets
from mgstudy.config.pipeline import PipelineConfig
from mgstudy.data.description import describe_dataset
from mgstudy.data.prepare import prepare

assert datasets.data  # Its import registers the command.


def test_toy_data(raw, workspace) -> None:
    raw.write_features("image", np.vstack([raw.features["image"][:4], np.zeros((1, 3))]))
    prepare(raw.pipeline(), workspace)
    described = describe_dataset(workspace, "toy")
    assert described.interactions == {"train": 5, "validation": 2, "test": 2}
    # Users train on 2, 2, 1 and 0 items; items 0 to 4 are trained by 2, 2, 1, 0 and 0 users.
    assert described.user_degrees.quantiles == {
        "0": 0, "0.25": 0.75, "0.5": 1.5, "0.75": 2, "0.95": 2, "1": 2
    }  # fmt: skip
    assert described.user_degrees.histogram.edges == [0, 1, 2, 4]
    assert described.user_degrees.histogram.counts == [1, 1, 2]
    assert described.item_degrees.histogram.counts == [2, 1, 2]
    validation, test = described.cold_start["validation"], described.cold_start["test"]
    assert (validation.items, validation.interactions_with_items, validation.users) == (1, 1, 0)
    assert (test.items, test.interactions_with_items, test.users) == (2, 2, 0)
    assert described.modalities["image"].zero_rows == 1
    assert described.modalities["audio"].mean_length == pytest.approx(
        np.linalg.norm(raw.features["audio"], axis=1).mean(), rel=1e-6
    )
    assert described.leakage.findings == []
    assert described.leakage.training_after_held_out is None


def test_a_pair_in_two_splits_is_found(raw, workspace) -> None:
    raw.write_rows([*raw.rows, (0, 0, 2), (0, 0, 2)])
    prepare(raw.pipeline(), workspace)
    leakage = describe_dataset(workspace, "toy").leakage
    assert leakage.shared_pairs == {"train/validation": 0, "train/test": 1, "validation/test": 0}
    assert leakage.repeated_within == {"train": 0, "validation": 0, "test": 1}
    assert leakage.findings == ["1 pairs of user and item are in both train and test"]


@pytest.mark.parametrize("step", ["split_per_user_temporal", "split_global_temporal"])
def test_a_split_by_time_leaks_nothing_and_a_random_one_says_how_much(
    tmp_path, workspace, step: str
) -> None:
    random = np.random.default_rng(0)
    log = tmp_path / "log.csv"
    rows = [f"{u},{i},{random.integers(10**6)}" for u in range(40) for i in range(12)]
    log.write_text("user,item,time\n" + "\n".join(rows) + "\n", "utf-8")
    source = {"kind": "table", "interactions": str(log), "timestamp": "time"}
    content = {"name": "shop", "source": source, "steps": ["reindex", step]}
    prepare(PipelineConfig.model_validate(content), workspace)
    leakage = describe_dataset(workspace, "shop").leakage
    assert leakage.findings == []
    share = leakage.training_after_held_out
    assert share == 0
    if step == "split_global_temporal":
        assert leakage.training_after_first_test == 0

    content["steps"] = ["reindex", "split_per_user_random"]
    prepare(PipelineConfig.model_validate(content), workspace)
    leakage = describe_dataset(workspace, "shop").leakage
    assert leakage.training_after_held_out == pytest.approx(1, abs=0.1)
    assert leakage.findings == []


def test_command(raw, workspace, tmp_path, command, printed) -> None:
    prepare(raw.pipeline(), workspace)
    arguments = ["data", "describe", "toy", "--home", workspace.home]
    text = printed(*arguments)
    assert "dataset toy: 4 users, 5 items" in text
    assert "cold in test: 2 items (2 interactions), 0 users" in text
    described = json.loads(printed(*arguments, "--json"))
    assert described["users"] == 4
    page = tmp_path / "toy.html"
    assert command(*arguments, "--html", page).code == 0
    assert page.read_text("utf-8").count("--share: ") == 6
