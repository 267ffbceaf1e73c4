"""Seeds are added until it is decided, at the nominal rate of errors; by simulation."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats
from states import recorded

from mgstudy.config.study import Confirmation, Question, StudyConfig
from mgstudy.significance import ALPHA, holm
from mgstudy.statistics import sequential_p
from mgstudy.study.search.events import TrialRequest
from mgstudy.study.search.record import StudyRecord
from mgstudy.study.search.rounds import looks, over_looks, with_rounds
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import Stage, State

METRIC = "recall@20"


@pytest.mark.parametrize("fractions", [(0.2, 0.4, 0.6, 0.8, 1.0), (1 / 6, 1 / 3, 1 / 2, 1.0)])
def test_as_much_is_found_by_every_look_as_may_be_spent(fractions: tuple[float, ...]) -> None:
    """Sums of normal draws, looked at as they grow: without an effect, a share of
    α ln(1 + (e − 1) t) is significant by the look at the share t of them."""
    random, paths = np.random.default_rng(0), 40_000
    steps = np.sqrt(np.diff([0.0, *fractions]))
    sums = (random.normal(size=(paths, len(fractions))) * steps).cumsum(axis=1)
    p_values = 2 * stats.norm.sf(np.abs(sums) / np.sqrt(fractions))
    sequential = np.array(
        [sequential_p(row, fractions) for row in p_values[p_values.min(axis=1) < 0.1][:, :]]
    )
    assert (sequential < ALPHA).sum() / paths == pytest.approx(ALPHA, abs=0.004)
    first = (p_values[:, 0] < 0.05 * math.log1p((math.e - 1) * fractions[0])).mean()
    assert first == pytest.approx(0.05 * math.log1p((math.e - 1) * fractions[0]), abs=0.003)


def test_p_is_what_it_was_where_there_is_one_look() -> None:
    assert sequential_p([0.03], (1.0,)) == 0.03
    assert sequential_p([0.0125], (1 / 6, 1.0)) < 0.05 < sequential_p([0.0127], (1 / 6, 1.0))
    assert sequential_p([math.nan, 0.5], (0.5, 1.0)) > 0.5
    for fractions in ((1.0,), (0.5, 1.0)):
        assert math.isnan(sequential_p([math.nan], fractions))
        assert sequential_p([], fractions) == 1


def test_looks_are_rounds_of_seeds() -> None:
    assert looks(Confirmation(seeds=5)) == [5]
    assert looks(Confirmation(seeds=5, up_to=12)) == [5, 10, 12]
    with pytest.raises(ValueError, match="`seeds` is the size of a round: from 3 to 4, got 5"):
        Confirmation(seeds=5, up_to=4)


CONFIG = StudyConfig.model_validate(
    {
        "name": "s",
        "factors": {"dataset": ["a"], "model": ["BPR"]},
        "trials": 1,
        "training": {"objective": METRIC},
        "confirmation": {"seeds": 4, "up_to": 12, "margin": 0.1},
    }
)


def test_seeds_are_added_for_what_a_study_asks() -> None:
    def cell(robust: str, *scores: float) -> CellState:
        levels = {"gradient": "plain", "robust": robust}
        replicates = [
            recorded(
                n,
                State.COMPLETE,
                outcome={"test_metrics": {METRIC: score}},
                seed=len(robust) + 9 * n,
            )
            for n, score in enumerate(scores)
        ]
        trials = [recorded(0, State.COMPLETE, 0.5)]
        return CellState(robust, levels, 1, trials=trials, seeds=4, confirmations=replicates)

    cells = [cell("none", 0.1, 0.2, 0.3, 0.2), cell("noise", 0.2, 0.1, 0.3, 0.4)]
    assert [each.seeds for each in with_rounds(cells, CONFIG)] == [4, 4]
    asks = CONFIG.model_copy(update={"questions": (Question(baseline={"robust": "none"}),)})
    assert [each.seeds for each in with_rounds(cells, asks)] == [8, 8]


def studied(
    effects: dict[str, float], draw: Callable[[], float], config: StudyConfig = CONFIG
) -> list[CellState]:
    """A study whose confirmation went on until it was decided; each model has a cell, and its
    baseline without the effect, and nothing is searched."""
    scores: dict[str, list[float]] = {}
    cells: dict[str, CellState] = {}
    for model in effects:
        for gradient in ("plain", "mg"):
            key = f"{model}/{gradient}"
            levels = {"dataset": "a", "model": model, "gradient": gradient}
            trial = recorded(0, State.COMPLETE, 0.5)
            cells[key] = CellState(key, levels, 1, frozenset(), [trial], 0)
    while True:
        found = with_rounds(list(cells.values()), config)
        if all(cell.seeds == len(cell.confirmations) for cell in found):
            return found
        for cell in found:
            effect = 0.0 if cell.key.endswith("plain") else effects[cell.levels["model"]]
            reached = scores.setdefault(cell.key, [])
            reached += [1 + effect + draw() for _ in range(cell.seeds - len(reached))]
            cells[cell.key] = CellState(
                cell.key, cell.levels, 1, frozenset(), cell.trials, cell.seeds,
                [
                    recorded(number, State.COMPLETE, 0.5, {"test_metrics": {METRIC: score}},
                             stage=Stage.CONFIRMATION, seed=hash((cell.key, number)))
                    for number, score in enumerate(reached)
                ],
            )  # fmt: skip


def significant(cells: list[CellState], config: StudyConfig = CONFIG) -> list[bool]:
    """Which of the comparisons hold after Holm, by the looks that they had."""
    sizes = looks(config.confirmation)
    p_values = [
        over_looks(
            (cell.confirmations, other.confirmations),
            METRIC,
            config.confirmation,
            sizes.index(cell.seeds) + 1,
        )
        for other, cell in zip(cells[::2], cells[1::2], strict=True)
    ]
    return [p < ALPHA for p in holm(p_values)]


def test_without_an_effect_whole_studies_find_one_no_more_often_than_they_may() -> None:
    """``benchmarks/verdicts.py`` does the same with 2,000 studies of ten comparisons."""
    random, studies, misled = np.random.default_rng(1), 120, 0
    config = CONFIG.model_copy(update={"confirmation": Confirmation(seeds=4, up_to=12)})
    for _ in range(studies):
        cells = studied(dict.fromkeys("ABC", 0.0), lambda: random.normal(0, 0.05), config)
        misled += any(significant(cells, config))
    assert stats.binomtest(misled, studies, 0.06, alternative="greater").pvalue > 0.01


def test_what_is_decided_gets_no_more_seeds() -> None:
    """One is large, one is none and shown to be so, one cannot be told with so many seeds."""
    random = np.random.default_rng(2)
    draws = iter(random.normal(0, 1, 1000))
    spread = {"large": 0.01, "none": 0.001, "unknown": 0.2}
    cells = {
        cell.key: cell
        for model, effect in (("large", 0.5), ("none", 0.0), ("unknown", 0.0))
        for cell in studied({model: effect}, lambda of=spread[model]: of * next(draws))
    }
    assert {key: cell.seeds for key, cell in cells.items()} == {
        "large/plain": 4, "large/mg": 4, "none/plain": 4, "none/mg": 4,
        "unknown/plain": 12, "unknown/mg": 12,
    }  # fmt: skip


def confirmed(model: str, scores: Sequence[float], others: Sequence[float]) -> list[CellState]:
    """A cell with these test scores and its baseline, nothing of which was searched."""
    return [
        CellState(
            f"{model}/{gradient}",
            {"dataset": "a", "model": model, "gradient": gradient},
            1,
            trials=[recorded(0, State.COMPLETE, 0.5)],
            seeds=len(of),
            confirmations=[
                recorded(number, State.COMPLETE, 0.5, {"test_metrics": {METRIC: score}},
                         stage=Stage.CONFIRMATION, seed=100 * place + number)
                for number, score in enumerate(of)
            ],
        )
        for place, (gradient, of) in enumerate((("plain", others), ("mg", scores)))
    ]  # fmt: skip


def test_hidden_cells_count_in_the_family_and_get_no_more_seeds() -> None:
    """Dropping what does not work makes nothing significant: with one comparison this one would be
    decided after its first look, with three it is not, whichever are hidden."""
    config = CONFIG.model_copy(update={"confirmation": Confirmation(seeds=4, up_to=12)})
    clear = confirmed("A", [1.27, 1.30, 1.33, 1.36], [1.17, 1.20, 1.23, 1.26])
    noise = confirmed("B", [1.0, 1.3, 0.9, 1.2], [1.1, 1.2, 0.9, 1.25])
    more = confirmed("C", [1.0, 1.3, 0.9, 1.2], [1.1, 1.2, 0.9, 1.25])
    # What was cut short is not waited for.
    more = [replace(cell, confirmations=cell.confirmations[:2]) for cell in more]
    hidden = [replace(cell, is_hidden=True) for cell in (*noise, *more)]

    def seeds(*cells: CellState) -> dict[str, int]:
        return {cell.key: cell.seeds for cell in with_rounds(cells, config)}

    assert seeds(*clear) == {"A/plain": 4, "A/mg": 4}
    assert seeds(*clear, *hidden) == {
        "A/plain": 8, "A/mg": 8,
        "B/plain": 4, "B/mg": 4, "C/plain": 4, "C/mg": 4,
    }  # fmt: skip
    assert seeds(*clear, *noise)["B/mg"] == 8


ROUNDS = CONFIG.model_copy(update={"confirmation": Confirmation(seeds=5, up_to=30)})

UNCLEAR = [1.0, 1.3, 0.9, 1.2, 1.1], [1.1, 1.2, 0.9, 1.25, 1.0]
CLEAR = [1.21, 1.24, 1.27, 1.30, 1.33], [1.12, 1.11, 1.17, 1.20, 1.22]
"""After the first look p is 0.032: decided if it stands alone, not as one of two."""


def seeds_of(*cells: CellState, config: StudyConfig = ROUNDS) -> dict[str, int]:
    return {cell.key: cell.seeds for cell in with_rounds(cells, config)}


def shared_seeds(cells: list[CellState]) -> list[CellState]:
    return [
        replace(cell, confirmations=[replace(r, seed=r.number) for r in cell.confirmations])
        for cell in cells
    ]


def test_what_does_not_vary_gets_no_more_seeds_and_is_not_significant() -> None:
    still = confirmed("A", [0.1] * 5, [0.2] * 5)
    steps = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    apart = shared_seeds(confirmed("B", (steps - 0.07).tolist(), steps.tolist()))
    unclear = confirmed("C", *UNCLEAR)
    for cells in (still, apart):
        sides = cells[1].confirmations, cells[0].confirmations
        assert math.isnan(over_looks(sides, METRIC, ROUNDS.confirmation, 1))
    assert seeds_of(*still, *apart, *unclear) == {
        "A/plain": 5, "A/mg": 5, "B/plain": 5, "B/mg": 5, "C/plain": 10, "C/mg": 10,
    }  # fmt: skip


def failing(cell: CellState) -> CellState:
    """The same, and every replicate has failed."""
    failed = [replace(r, state=State.FAILED, outcome={}) for r in cell.confirmations]
    return replace(cell, confirmations=failed)


def without_winner(cell: CellState) -> CellState:
    """The same, and every trial of its search has failed."""
    failed = [recorded(0, State.FAILED)]
    return replace(cell, trials=failed, confirmations=[], searched=frozenset({"model.x"}))


@pytest.mark.parametrize("fails", [failing, without_winner])
@pytest.mark.parametrize("place", [0, 1])
def test_what_nothing_can_be_compared_with_gets_no_more_seeds(
    fails: Callable[[CellState], CellState], place: int
) -> None:
    pair = confirmed("A", *UNCLEAR)
    assert seeds_of(*pair) == {"A/plain": 10, "A/mg": 10}
    pair[place] = fails(pair[place])
    assert seeds_of(*pair) == {"A/plain": 5, "A/mg": 5}


def test_a_comparison_that_cannot_be_does_not_count_in_the_family() -> None:
    clear, other = confirmed("A", *CLEAR), confirmed("B", *UNCLEAR)
    sides = clear[1].confirmations, clear[0].confirmations
    assert ALPHA / 2 < over_looks(sides, METRIC, ROUNDS.confirmation, 1) < ALPHA
    assert seeds_of(*clear, *other)["A/mg"] == 10
    for fails in (failing, without_winner):
        assert set(seeds_of(*clear, other[0], fails(other[1])).values()) == {5}


def test_every_question_is_a_family_of_its_own() -> None:
    """As in its table: decided against plain, whatever else the study asks."""
    clear, unclear = confirmed("A", *CLEAR), confirmed("B", *UNCLEAR)
    rename = {"plain": "none", "mg": "noise"}
    unclear = [
        replace(c, levels={"model": "B", "robust": rename[c.levels["gradient"]]}) for c in unclear
    ]
    clear = [replace(c, levels={**c.levels, "robust": "none"}) for c in clear]
    asks = [Question(baseline={"gradient": "plain"}), Question(baseline={"robust": "none"})]
    config = ROUNDS.model_copy(update={"questions": tuple(asks)})
    assert seeds_of(*clear, *unclear, config=config) == {
        "A/plain": 5, "A/mg": 5, "B/plain": 10, "B/mg": 10,
    }  # fmt: skip


def test_a_margin_is_a_share_of_the_size_of_a_score_whatever_its_sign() -> None:
    scores = [0.50, 0.51, 0.49, 0.505, 0.495], [0.501, 0.508, 0.492, 0.503, 0.496]
    found = []
    for sign in (1, -1):
        other, cell = confirmed("A", *([sign * score for score in side] for side in scores))
        sides = cell.confirmations, other.confirmations
        found.append(over_looks(sides, METRIC, ROUNDS.confirmation, 1, margin=0.1))
    assert found[1] == pytest.approx(found[0]) and found[0] < ALPHA


REST = """
space: {optimizer: {learning_rate: 0.1}, model: {regularization: 0.1}}
start_with_defaults: false
confirmation: {seeds: 3, up_to: 9}
"""
FACTORS = "model: [BPR, VBPR]\ngradient: [plain, mirror_gradient]"


def drive(record: StudyRecord, most: int = 1000) -> None:
    """Run what the record hands out, up to so many trials; BPR's difference is large."""
    metric = record.config.training.objective
    while most and (trial := record.next_request()) is not None:
        outcome: dict[str, object] = {"best_value": 0.5}
        if trial.stage is Stage.CONFIRMATION:
            outcome["test_metrics"] = {metric: score(trial)}
        record.complete(trial, outcome)
        most -= 1


def score(trial: TrialRequest) -> float:
    noise = (trial.seed % 1000) / 1000
    is_better = trial.cell.model == "BPR" and trial.cell.gradient != "plain"
    return 100.0 + noise if is_better else noise


def test_a_launch_that_goes_on_adds_the_seeds_that_the_first_would_have(opened) -> None:
    record = opened(FACTORS, REST)
    drive(record)
    whole = {state.key: [t.seed for t in state.confirmations] for state in record.states}
    assert Counter(len(seeds) for seeds in whole.values()) == {3: 2, 9: 2}
    assert record.remaining() == 0


@pytest.mark.parametrize("interrupted", [7, 13, 17])
def test_interrupted_rounds_go_on_as_they_would_have(opened, interrupted: int) -> None:
    drive(opened(FACTORS, REST), interrupted)
    record = opened(FACTORS, REST)
    drive(record)
    assert sorted(state.seeds for state in record.states) == [3, 3, 9, 9]
    assert all(len(state.confirmations) == state.seeds for state in record.states)
    assert record.remaining() == 0
