"""What fills the gaps of a dataset, as a factor of a study."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from mgstudy.errors import InputError
from mgstudy.features.completions.base import completions
from mgstudy.study.definition.expansion import CellPlan, expand
from mgstudy.study.running.cell_trainer import build_cell_trainer


@pytest.fixture
def plan(read, datasets):
    """Expand a study whose dataset ``gaps`` lacks the image of its first three items."""
    lacking = replace(datasets["both"], observed={"image": np.arange(9) >= 3})

    def make(factors: str) -> CellPlan:
        return expand(*read(factors), {**datasets, "gaps": lacking})

    return make


def test_a_completion_is_a_factor_of_its_own(plan) -> None:
    made = plan("dataset: [gaps]\ncompletion: [mean, zero]\nmodel: [VBPR, FREEDOM]")
    assert [cell.key for cell in made.cells] == [
        f"gaps/{completion}/{model}/plain/none/adam/999"
        for completion in ("mean", "zero")
        for model in ("VBPR", "FREEDOM")
    ]
    assert made.left_out == ()


def test_each_cell_trains_on_the_features_that_its_completion_makes(plan, datasets, read) -> None:
    neighbours = "{name: neighbours, label: three, parameters: {count: 3}}"
    made = plan(f"dataset: [gaps]\ncompletion: [zero, {neighbours}]\nmodel: [VBPR]")
    gaps = replace(datasets["both"], observed={"image": np.arange(9) >= 3})
    tables = [cell.completed(gaps).features["image"] for cell in made.cells]
    assert not tables[0][:3].any()
    assert tables[1][:3].all()
    assert [cell.fixed.get("completion.neighbours.count") for cell in made.cells] == [None, 3]
    config, _ = read("")
    values = {name: space.ends()[0] for name, space in made.cells[1].spaces.items()}
    dataset = made.cells[1].completed(gaps)
    trainer = build_cell_trainer(made.cells[1], dataset, values, config.training)
    assert np.array_equal(trainer.model.features.table("image").numpy(), tables[1])


def test_every_completion_can_be_a_level(plan) -> None:
    names = completions.names()
    made = plan(f"dataset: [gaps]\ncompletion: [{', '.join(names)}]\nmodel: [VBPR]")
    assert [cell.completion for cell in made.cells] == names
    for cell in made.cells:
        assert cell.filling is not None
        assert cell.filling.parameters == type(cell.filling).Parameters()


def test_without_the_factor_a_cell_is_called_as_before(plan) -> None:
    (cell,) = plan("dataset: [gaps]\nmodel: [VBPR]").cells
    assert cell.key == "gaps/VBPR/plain/none/adam/999" and cell.completion is None


def test_where_there_is_nothing_to_fill_the_first_completion_stands_for_all(plan) -> None:
    made = plan("dataset: [both, gaps]\ncompletion: [zero, mean]\nmodel: [VBPR, BPR]")
    assert [cell.key.split("/")[:3] for cell in made.cells] == [
        ["both", "zero", "VBPR"],
        ["both", "zero", "BPR"],
        ["gaps", "zero", "VBPR"],
        ["gaps", "zero", "BPR"],
        ["gaps", "mean", "VBPR"],
    ]
    reasons = {
        entry.levels["dataset"] + entry.levels["model"]: entry.reason for entry in made.left_out
    }
    assert "no item of both lacks a modality" in reasons["bothVBPR"]
    assert "BPR reads no features" in reasons["gapsBPR"]


def test_a_completion_that_a_dataset_does_not_allow_is_left_out(read, datasets) -> None:
    lacking = replace(datasets["image"], observed={"image": np.arange(9) >= 3})
    made = expand(
        *read("dataset: [image]\ncompletion: [neighbours, mean]\nmodel: [VBPR]"),
        {"image": lacking},
    )
    assert [cell.completion for cell in made.cells] == ["mean"]
    assert "needs 2 or more modalities" in made.left_out[0].reason


@pytest.mark.parametrize(
    ("completion", "said"),
    [
        ("[meen]", "unknown completion 'meen'; did you mean 'mean'"),
        (
            "[{name: neighbours, parameters: {count: {choice: [1, 2]}}}]",
            "s.yaml:4: factors.completion.0.parameters.count: a completion is made once",
        ),
        ("[{name: neighbours, parameters: {coumt: 1}}]", "no such parameter; did you mean 'count'"),
        ("[{name: neighbours, parameters: {count: 0}}]", "factors.completion.0.parameters.count"),
    ],
)
def test_a_wrong_completion_is_refused_with_its_place(completion: str, said: str, plan) -> None:
    with pytest.raises(InputError) as caught:
        plan(f"completion: {completion}\nmodel: [VBPR]")
    assert said in str(caught.value)
