from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from driven import Driven

from mgstudy.config.document import parse_document
from mgstudy.config.study import StudyConfig
from mgstudy.errors import InputError
from mgstudy.study.definition.expansion import expand
from mgstudy.study.definition.study import Study
from mgstudy.study.results.carried import with_carried_parameters

RATE = "optimizer.learning_rate"
LESS = "{name: a, label: a_less, missing: {pattern: protected, rate: 0.4}}"


def study_of(source: Driven, name: str = "gaps", **changes: str) -> Study:
    """A study of a changed level of dataset a, which takes its parameters from ``source``."""
    lines = {
        "name": name,
        "parameters_from": source.name,
        "factors": f"{{dataset: [{LESS}], model: [BPR], gradient: [plain, mirror_gradient]}}",
        "trials": "7",
        **changes,
    }
    document = parse_document(
        "\n".join(f"{key}: {value}" for key, value in lines.items()), "g.yaml"
    )
    config = document.validate(StudyConfig)
    (dataset,) = source.record.datasets.values()
    datasets = dict.fromkeys(config.factors.labels("dataset"), dataset)
    plan = expand(config, document, datasets)
    return Study(config, document, source.workspace, datasets, plan)


def searched(home: Path, trials: int = 2) -> Driven:
    """A study of two cells, each with two trials of which the later is the better."""
    source = Driven(home, "complete", trials=2)
    for _ in range(trials * len(source.record.cells)):
        source.complete(source.begin())
    return source


def test_cells_take_the_parameters_of_the_winner_on_the_dataset_as_it_is(tmp_path: Path) -> None:
    source = searched(tmp_path)
    study, waits_for = with_carried_parameters(study_of(source))
    assert waits_for == ""
    for cell in study.plan.cells:
        winner = source.record.cells[f"a/{cell.key.partition('/')[2]}"].state.winner
        assert winner is not None and winner.number == 1
        assert not cell.searched
        assert cell.budget(7) == 1
        assert cell.fixed == winner.parameters
    # What the study file would search otherwise changes nothing.
    other = study_of(source, space="{optimizer: {learning_rate: 0.5}}")
    taken, _ = with_carried_parameters(other)
    assert [cell.fixed for cell in taken.plan.cells] == [cell.fixed for cell in study.plan.cells]
    # Read again as it was launched, it asks the other study no more.
    assert with_carried_parameters(study) == (study, "")


def test_what_is_not_searched_yet_is_waited_for(tmp_path: Path) -> None:
    source = searched(tmp_path, trials=1)
    study, waits_for = with_carried_parameters(study_of(source))
    assert waits_for.startswith("study complete has no winner yet of a/BPR/mirror_gradient")
    assert all(cell.budget(7) == 1 for cell in study.plan.cells)
    _, waits_for = with_carried_parameters(study_of(source, parameters_from="nowhere"))
    assert "no study 'nowhere'" in waits_for


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "complete"}, "a study cannot take parameters from itself"),
        (
            {"factors": f"{{dataset: [{LESS}], model: [LightGCN]}}"},
            "expected one cell of study complete like a_less/LightGCN/plain/none/adam/999, on the "
            "same interactions; found none",
        ),
    ],
)
def test_a_cell_without_a_counterpart_is_refused(
    tmp_path: Path, changes: dict[str, str], said: str
) -> None:
    with pytest.raises(InputError, match=rf"g.yaml:\d+: parameters_from: {said}"):
        with_carried_parameters(study_of(searched(tmp_path), **changes))


def test_other_interactions_are_no_counterpart(tmp_path: Path) -> None:
    source = searched(tmp_path)
    study = study_of(source)
    other = {label: replace(d, fingerprint="other") for label, d in study.datasets.items()}
    with pytest.raises(InputError, match="on the same interactions; found none"):
        with_carried_parameters(replace(study, datasets=other))
