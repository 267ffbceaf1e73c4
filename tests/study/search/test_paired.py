"""Searches that try the same configurations of what cells share."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from states import confirmed_cell, recorded

from mgstudy.config.study import StudyConfig
from mgstudy.statistics import signed_ranks
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.rounds import search_luck
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import State

FACTORS = "model: [BPR, VBPR]\ngradient: [plain, mirror_gradient]"
REST = "search: {paired: true}\nconfirmation: {seeds: 0}\nsampler: RandomSampler\n"
FINITE = """
space: {model: {regularization: {choice: [0.1, 0.01, 0.001]}}, optimizer: {learning_rate: 0.1}}
"""


def parameters(record: StudyRecord) -> dict[str, list[dict[str, object]]]:
    """Of each cell's trials, those of model and optimizer."""
    while (trial := record.next_request()) is not None:
        record.complete(trial, {"best_value": 0.5})
    return {
        state.key.partition("/none")[0]: [
            {n: v for n, v in trial.parameters.items() if n.startswith(("model.", "optimizer."))}
            for trial in state.trials
        ]
        for state in record.states
    }


@pytest.mark.parametrize("space", ["", FINITE])
def test_trial_i_has_the_same_configuration_in_every_cell(opened, space: str) -> None:
    found = parameters(opened(FACTORS, REST + space))
    assert found["both/BPR/plain"] == found["both/BPR/mirror_gradient"]
    assert found["both/VBPR/plain"] == found["both/VBPR/mirror_gradient"]
    tried = [tuple(sorted(values.items())) for values in found["both/BPR/plain"]]
    assert len(set(tried)) == len(tried) == 3


def test_a_range_of_the_strategys_own_leaves_the_shared_list_as_it_is(opened) -> None:
    """The model's combinations can be counted, the whole cell's cannot."""
    own = "gradient: {mirror_gradient: {alpha2: {float: [0.1, 0.5]}}}"
    space = (
        "space: {model: {regularization: {choice: [0.1, 0.01, 0.001, 0.0001]}}, "
        f"optimizer: {{learning_rate: 0.1}}, {own}}}\n"
    )
    record = opened("model: [VBPR]\ngradient: [plain, mirror_gradient]", f"{REST}{space}trials: 4")
    found = parameters(record)
    plain, mirrored = found["both/VBPR/plain"], found["both/VBPR/mirror_gradient"]
    assert plain == mirrored
    assert len({tuple(values.values()) for values in plain}) == 4
    drawn = [
        trial.parameters["gradient.mirror_gradient.alpha2"]
        for state in record.states
        for trial in state.trials
        if "mirror_gradient" in state.key
    ]
    assert len(set(drawn)) == 4


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_defaults_of_some_parameters_alone_repeat_no_configuration(opened, seed: int) -> None:
    space = (
        "space: {model: {embedding_size: {choice: [32, 64]}, regularization: {choice: [0.5, 0.6]}},"
        " optimizer: {learning_rate: 0.1}}\n"
    )
    found = parameters(opened("model: [VBPR]", f"{REST}{space}trials: 4\nseed: {seed}"))
    (tried,) = found.values()
    assert tried[0]["model.VBPR.embedding_size"] == 64
    assert len({tuple(values.items()) for values in tried}) == 4


def test_an_interrupted_search_stays_paired(opened) -> None:
    whole = parameters(opened(FACTORS, REST + "start_with_defaults: false\n"))
    assert whole["both/BPR/plain"] == whole["both/BPR/mirror_gradient"]


def test_grids_pair_nothing() -> None:
    with pytest.raises(ValueError, match="draws configurations itself"):
        StudyConfig.model_validate(
            {
                "name": "s",
                "factors": {"dataset": ["a"], "model": ["BPR"]},
                "trials": 1,
                "search": {"paired": True},
                "sampler": "BruteForceSampler",
            }
        )


def test_pairs_are_tested_by_signed_ranks() -> None:
    differences = [0.1, 0.3, -0.05, 0.2, 0.4, 0.25, 0.15]
    p, direction = signed_ranks(differences)
    assert p == pytest.approx(stats.wilcoxon(differences).pvalue) and direction == 1
    assert signed_ranks([]) == signed_ranks([0.0]) == (1.0, 0)
    # What was pruned on one side is behind by more than all others.
    assert signed_ranks([-0.1, -0.2, -0.3, -0.4, -0.5, -np.inf])[0] == pytest.approx(2 / 2**6)


def search(gradient: str, scores: np.ndarray, quality: np.ndarray) -> CellState:
    trials = [
        recorded(number, State.COMPLETE, float(score), parameters={"model.x": float(configuration)})
        for number, (score, configuration) in enumerate(zip(scores, quality, strict=True))
    ]
    cell = confirmed_cell(gradient, [0.1] * len(trials), [])
    return CellState(cell.key, cell.levels, len(trials), frozenset({"model.x"}), trials)


@pytest.mark.parametrize(("effect", "least", "most"), [(0.0, 0.0, 0.06), (0.02, 0.8, 1.0)])
def test_luck_cancels_in_pairs(effect: float, least: float, most: float) -> None:
    """Configurations spread by 0.05, a training by 0.01: unpaired searches cannot see 0.02."""
    random, studies, paired, alone = np.random.default_rng(0), 150, 0, 0
    for _ in range(studies):
        quality, other = random.normal(0.5, 0.05, (2, 12))
        ours, theirs, unpaired = (
            search(name, of + shift + random.normal(0, 0.01, 12), of)
            for name, of, shift in (
                ("mg", quality, effect), ("plain", quality, 0.0), ("plain", other, 0.0)
            )
        )  # fmt: skip
        paired += search_luck(ours, theirs, True)[0] < 0.05
        alone += search_luck(ours, unpaired, False)[0] < 0.05
    assert stats.binomtest(paired, studies, max(most, 1e-9), alternative="greater").pvalue > 0.01
    assert paired / studies >= least
    assert alone / studies < 0.2
