from __future__ import annotations

from pathlib import Path

import pytest

from mgstudy.config.parameters import Fixed, LogFloatRange
from mgstudy.errors import InputError
from mgstudy.study.definition.cell import FACTORS, Cell
from mgstudy.study.definition.expansion import expand
from mgstudy.training.gradient.mirror_gradient import MirrorGradient


def test_factors_are_crossed_in_full_and_in_order(expanded) -> None:
    plan = expanded(
        "dataset: [both, image]\nmodel: [BPR, VBPR]\ngradient: [plain, mirror_gradient]\n"
        "robust: [none, adversarial_embeddings]\noptimizer: [adam, sgd]\nseed: [1, 2]"
    )
    assert len({cell.key for cell in plan.cells}) == len(plan.cells) == 2**6
    assert plan.left_out == ()
    first, last = plan.cells[0], plan.cells[-1]
    assert tuple(first.levels) == tuple(factor for factor in FACTORS if factor != "completion")
    assert first.key == "both/BPR/plain/none/adam/1"
    assert last.key == "image/VBPR/mirror_gradient/adversarial_embeddings/sgd/2"
    assert (last.dataset, last.robust, last.seed) == ("image", ("adversarial_embeddings",), 2)


# What is wrong, and where.


@pytest.mark.parametrize(
    ("factors", "rest", "said"),
    [
        ("model: [BPR, VBRP]", "", "s.yaml:4: factors.model.1: unknown model 'VBRP'; did you me"),
        ("gradient: [mirror]", "", "factors.gradient.0: unknown gradient strategy 'mirror'"),
        (
            "optimizer: [adan]",
            "",
            "factors.optimizer.0: unknown optimizer 'adan'; did you mean 'ad",
        ),
        (
            "robust:\n  - none\n  - [r_drop, r_dorp]",
            "",
            "s.yaml:7: factors.robust.1.1: unknown robust method 'r_dorp'; did you mean 'r_drop'?",
        ),
        (
            "gradient: [{name: mirror_gradient, parameters: {intervall: 3}}]",
            "",
            "factors.gradient.0.parameters.intervall: mirror_gradient has no such parameter; did "
            "you mean 'interval'?",
        ),
        ("model: ['nowhere:Model']", "", "factors.model.0: cannot import model 'nowhere:Model'"),
        ("model: ['mgstudy.cli:app']", "", "factors.model.0: 'mgstudy.cli:app' is not a model"),
        (
            "",
            "space:\n  model:\n    VBPR: {embedding_size: 8}",
            "s.yaml:8: space.model.VBPR: no model of this study has this name or parameter; did "
            "you mean 'BPR'?",
        ),
        (
            "",
            "space: {model: {BPR: {embeding_size: 8}}}",
            "space.model.BPR.embeding_size: BPR has no such parameter; did you mean 'embedding_si",
        ),
        (
            "",
            "space: {optimizer: {momentum: 0.9}}",
            "space.optimizer.momentum: no optimizer of this study has this name or parameter",
        ),
        ("", "space: {model: {BPR: 3}}", "space.model.BPR: expected a mapping of BPR's parameters"),
        (
            "",
            "space: {optimizer: {learning_rate: {log_flaot: [1, 2]}}}",
            "space.optimizer.learning_rate: expected a value, {choice: [..]}",
        ),
        (
            "",
            "space:\n  optimizer:\n    learning_rate: {log_float: [0, 1]}",
            "s.yaml:8: space.optimizer.learning_rate: low (0) must be above 0",
        ),
        (
            "",
            "space: {optimizer: {learning_rate: {float: [-1, 1]}}}",
            "space.optimizer.learning_rate: -1.0 is not valid: input should be greater than 0",
        ),
        (
            "",
            "space: {model: {embedding_size: {float: [1, 8]}}}",
            "space.model.embedding_size: 1.0 is not valid: input should be a valid integer",
        ),
        (
            "gradient: [mirror_gradient]",
            "space: {gradient: {variant: {choice: [loss_scaled, update]}}}",
            "space.gradient.variant: 'update' is not valid: input should be 'loss_scaled' or",
        ),
        (
            "",
            "space: {optimizer: {learning_rate: .nan}}",
            "space.optimizer.learning_rate: '.nan' is not a finite number",
        ),
        (
            "gradient:\n  - mirror_gradient",
            "space:\n  gradient:\n    alpha1: {float: [0.5, 2]}\n    alpha2: {float: [0.1, 0.6]}",
            "s.yaml:10: space.gradient.alpha1: mirror_gradient cannot have alpha1=0.5, alpha2=0.6",
        ),
        (
            "robust:\n  - [r_drop, feature_noise, r_drop]",
            "",
            "s.yaml:6: factors.robust.0.2: r_drop stands twice in this list",
        ),
        (
            "model: [{name: HIIMA, label: ours}]",
            "",
            "model.0.label: HIIMA is a reconstruction from the title of its paper, which tables",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line_with_its_place(
    expanded, factors: str, rest: str, said: str
) -> None:
    with pytest.raises(InputError) as caught:
        expanded(factors, rest)
    assert str(caught.value).startswith("s.yaml:")
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# Which space wins.


def learning_rate_decay(expanded, factors: str, rest: str = "") -> dict[str, object]:
    cells = expanded(factors, rest).cells
    return {cell.key.split("/")[1]: cell.spaces["optimizer.learning_rate_decay"] for cell in cells}


def test_published_settings_win_over_defaults_and_what_is_written_over_both(expanded) -> None:
    factors = "model: [BPR, MGCN]"
    found = learning_rate_decay(expanded, factors)
    assert found == {"BPR": Fixed(value=1.0), "MGCN": Fixed(value=0.96)}
    found = learning_rate_decay(expanded, factors, "space: {optimizer: {learning_rate_decay: 0.9}}")
    assert found == {"BPR": Fixed(value=0.9), "MGCN": Fixed(value=0.9)}


def test_a_level_wins_over_a_part_and_a_part_over_the_factor(expanded) -> None:
    plan = expanded(
        "gradient:\n- sam\n- mirror_gradient\n"
        "- {name: mirror_gradient, label: rare, parameters: {interval: 9}}",
        "space:\n  gradient:\n    interval: 2\n    mirror_gradient: {interval: 5, alpha1: 2.0}",
    )
    intervals = {
        cell.levels["gradient"]: cell.fixed.get(f"gradient.{cell.gradient}.interval")
        for cell in plan.cells
    }
    assert intervals["mirror_gradient"] == 5
    assert intervals["rare"] == 9
    rare = plan.cells[2].spaces
    assert rare["gradient.mirror_gradient.alpha1"] == Fixed(value=2.0)
    assert rare["gradient.mirror_gradient.alpha2"] == MirrorGradient.Parameters.spaces()["alpha2"]


def test_a_parameter_of_a_factor_reaches_every_part_that_has_it_and_no_other(expanded) -> None:
    plan = expanded(
        "gradient: [plain, mirror_gradient]\noptimizer: [adam, sgd]",
        "space:\n  gradient: {interval: 7}\n  optimizer: {learning_rate: {log_float: [1e-4, 0.1]}}",
    )
    for cell in plan.cells:
        mirrored = cell.gradient == "mirror_gradient"
        assert ("gradient.mirror_gradient.interval" in cell.spaces) == mirrored
        assert not any(name.startswith("gradient.plain") for name in cell.spaces)
        assert cell.searched["optimizer.learning_rate"] == LogFloatRange(low=1e-4, high=0.1)
        assert ("optimizer.momentum" in cell.spaces) == (cell.optimizer == "sgd")


FOREIGN = """
from mgstudy.config.parameters import parameter, ParameterSet
from mgstudy.models.vbpr import VBPR

class WithInterval(VBPR):
    name = "with_interval"

    class Parameters(VBPR.Parameters):
        interval: float = parameter(0.25, "weight of the divergence, not of Mirror Gradient", ge=0)
"""


@pytest.fixture
def foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A model of another package that has a parameter which Mirror Gradient has, too."""
    (tmp_path / "their_models.py").write_text(FOREIGN)
    monkeypatch.syspath_prepend(tmp_path)
    return "their_models:WithInterval"


def test_two_parameters_never_collide(expanded, foreign: str) -> None:
    (cell,) = expanded(
        f"model: ['{foreign}']\ngradient: [mirror_gradient]\n"
        "robust: [[adversarial_embeddings, feature_noise]]",
        "space:\n  model: {WithInterval: {interval: {float: [0, 1]}}}\n"
        "  gradient: {interval: {choice: [1, 3]}}",
    ).cells
    assert (
        cell.key
        == "both/WithInterval/mirror_gradient/adversarial_embeddings+feature_noise/adam/999"
    )
    assert set(cell.searched) >= {
        "model.WithInterval.interval",
        "gradient.mirror_gradient.interval",
    }
    values = {name: index for index, name in enumerate(cell.spaces)}
    parts = [
        Cell.own("model", cell.model, values),
        Cell.own("gradient", cell.gradient, values),
        *(Cell.own("robust", method, values) for method in cell.robust),
        Cell.own("optimizer", None, values),
    ]
    assert parts[0]["interval"] != parts[1]["interval"]
    assert sorted(value for part in parts for value in part.values()) == sorted(values.values())


# What cannot be trained.


MIRRORED = ("plain", "mirror_gradient")


def test_impossible_combinations_are_left_out_with_their_reason(expanded) -> None:
    plan = expanded(
        "dataset: [both, image, bare]\nmodel: [BPR, VBPR, Popularity]\n"
        "gradient: [plain, mirror_gradient]\nrobust: [none, modality_dropout]"
    )
    kept = {tuple(cell.levels.values())[:4] for cell in plan.cells}
    assert kept == {
        *((data, "BPR", how, "none") for data in ("both", "image", "bare") for how in MIRRORED),
        *((data, "VBPR", how, "none") for data in ("both", "image") for how in MIRRORED),
        *(("both", "VBPR", how, "modality_dropout") for how in MIRRORED),
        *((data, "Popularity", "plain", "none") for data in ("both", "image", "bare")),
    }
    reasons = {tuple(entry.levels.values())[:4]: entry.reason for entry in plan.left_out}
    assert len(plan.cells) + len(reasons) == 3 * 3 * 2 * 2
    assert reasons["bare", "VBPR", "plain", "none"] == (
        "VBPR needs 1 or more modalities, dataset 'bare' has 0 (none)"
    )
    assert reasons["both", "BPR", "plain", "modality_dropout"] == (
        "modality_dropout needs item features, which the loss of BPR has not"
    )
    assert reasons["image", "VBPR", "plain", "modality_dropout"] == (
        "modality_dropout needs 2 or more modalities, dataset 'image' has 1"
    )
    assert reasons["both", "Popularity", "mirror_gradient", "none"] == (
        "Popularity is not trained: only gradient=plain and robust=none make sense"
    )


def test_a_study_without_a_possible_combination_is_refused(expanded) -> None:
    with pytest.raises(InputError) as caught:
        expanded("dataset: [bare]\nmodel: [VBPR]")
    assert str(caught.value).startswith("s.yaml: no combination can be trained: VBPR needs 1 or")


def test_what_is_not_trained_has_no_parameters_of_training(expanded) -> None:
    (cell,) = expanded(
        "model: [Popularity]", "space: {optimizer: {learning_rate: {log_float: [1e-3, 1e-1]}}}"
    ).cells
    assert cell.spaces == {}


# What derives from a cell.


def test_seeds_depend_on_study_cell_and_purpose_alone(expanded) -> None:
    (alone,) = expanded("model: [VBPR]").cells
    among = expanded("model: [BPR, VBPR]\nseed: [999, 1]").cells
    seeds = {cell.key: cell.derived_seed(7, "sampler") for cell in among}
    assert seeds[alone.key] == alone.derived_seed(7, "sampler")
    assert len(set(seeds.values())) == 4
    assert alone.derived_seed(8, "sampler") != alone.derived_seed(7, "sampler")
    assert alone.derived_seed(7, "grid") != alone.derived_seed(7, "sampler")
    assert all(0 <= seed < 2**32 for seed in seeds.values())


def test_the_size_of_a_space_and_its_grid(expanded) -> None:
    rest = "space:\n  model: {embedding_size: {choice: [4, 8]}, regularization: 0.1}\n"
    (cell,) = expanded("", f"{rest}  optimizer: {{learning_rate: 0.1}}").cells
    assert (cell.size(), cell.grid()) == (2, {"model.BPR.embedding_size": [4, 8]})
    (cell,) = expanded(
        "gradient: [mirror_gradient]",
        f"{rest}  optimizer: {{learning_rate: 0.1}}\n"
        "  gradient: {interval: {integer: [1, 3]}, alpha1: 1.0, alpha2: 0.2}",
    ).cells
    assert cell.size() == 6
    assert cell.grid() == {
        "model.BPR.embedding_size": [4, 8],
        "gradient.mirror_gradient.interval": [1, 2, 3],
    }
    (cell,) = expanded("", f"{rest}  optimizer: {{learning_rate: {{float: [0.1, 1]}}}}").cells
    assert cell.grid() is None


def test_without_datasets_their_modalities_are_not_asked_for(read) -> None:
    assert len(expand(*read("dataset: [elsewhere]\nmodel: [VBPR]")).cells) == 1
