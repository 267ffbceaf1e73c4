"""How often verdicts are wrong, and how often they find what is there: on whole simulated studies.

    python benchmarks/verdicts.py [--studies 2000] [--only adaptive] [--seed 0]

``searched``: both cells draw their configurations from one space and seeds lift or lower each
training; whole studies are compared as ``mgstudy compare`` does, without and with an effect.
``learnt``: the test over searches alone, on searches by TPE, whose trials are not independent.
``adaptive``: confirmations that add seeds until it is decided, over ten comparisons.
``paired``: what is gained where searches try the same configurations.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import optuna

sys.path.insert(0, str(Path(__file__).parents[1] / "tests/helpers"))
from states import METRIC, confirmed_cell, recorded, summary_of

from mgstudy import statistics
from mgstudy.config.study import StudyConfig
from mgstudy.report.comparison.studies import compare_studies
from mgstudy.significance import ALPHA, exceedance_test, holm
from mgstudy.study.search.rounds import looks, over_looks, search_luck, with_rounds
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import Stage, State

CONFIGURATIONS, TRAININGS = 0.05, 0.005
"""Spreads of the scores of configurations, around 0.5, and of trainings of one of them."""


def searched(studies: int, seed: int) -> None:
    """Verdicts on cells that were searched."""
    print(
        "| trials | seeds | comparisons | effect | studies with `better` or `worse` |\n|"
        + "---|" * 5
    )
    random = np.random.default_rng(seed)
    for trials, seeds, comparisons in ((1, 3, 1), (3, 3, 2), (6, 5, 1), (12, 5, 3), (30, 10, 10)):
        for effect in (0.0, 0.15):
            found = 0
            for _ in range(studies):
                cells = []
                for model in map(str, range(comparisons)):
                    for gradient, shift in (("plain", 0.0), ("mg", effect)):
                        quality = 0.5 + shift + random.normal(0, CONFIGURATIONS, trials)
                        seen = quality + random.normal(0, TRAININGS, trials)
                        tests = quality[seen.argmax()] + random.normal(0, TRAININGS, seeds)
                        cells.append(confirmed_cell(gradient, seen.tolist(), tests.tolist(), model))
                study = summary_of(cells, training={"objective": METRIC})
                verdicts = compare_studies([study], metrics=[METRIC]).of(METRIC)["verdict"]
                found += bool(verdicts.str.match("better|worse").any())
            row = (trials, seeds, comparisons, effect, f"{found / studies:.1%}")
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


def learnt(studies: int, seed: int) -> None:
    """The exceedance test on searches by TPE of one space."""
    print("| surface | trials | p below 0.05, of all trials | of the first ten |\n|" + "---|" * 4)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    for surface in (_smooth, _of_two_basins):
        for trials in (12, 30):
            random, found, first = np.random.default_rng(trials + 1000 * seed), 0, 0
            for number in range(studies):
                sides = [
                    _by_tpe(surface, trials, 10**6 * seed + 2 * number + k, random) for k in (0, 1)
                ]
                found += exceedance_test(*sides)[0] < ALPHA
                first += exceedance_test(*(side[:10] for side in sides))[0] < ALPHA
            print(
                f"| {surface.__name__.strip('_')} | {trials} | {found / studies:.1%} "
                f"| {first / studies:.1%} |",
                flush=True,
            )


def _smooth(x: np.ndarray) -> float:
    return float(0.5 * np.exp(-2 * ((x - 0.6) ** 2).sum()))


def _of_two_basins(x: np.ndarray) -> float:
    """The better one is narrow, so that a search may never come upon it."""
    narrow, wide = (((x - centre) ** 2).sum() for centre in (0.25, 0.75))
    return float(0.5 * max(np.exp(-30 * narrow), 0.93 * np.exp(-4 * wide)))


def _by_tpe(
    surface: Callable[[np.ndarray], float], trials: int, seed: int, random: np.random.Generator
) -> list[float]:
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    scores = []
    for _ in range(trials):
        trial = study.ask()
        x = np.array([trial.suggest_float(name, 0, 1) for name in "abc"])
        scores.append(surface(x) * (1 + random.normal(0, 0.01)))
        study.tell(trial, scores[-1])
    return scores


def adaptive(studies: int, seed: int) -> None:
    """Seeds until it is decided: errors over whole studies, and what is found."""
    print(
        "| effect, in spreads over seeds | studies with a significant one | comparisons found "
        "| of them with 5 seeds alone | seeds of a cell |\n|" + "---|" * 5
    )
    random = np.random.default_rng(seed)
    config = StudyConfig.model_validate(
        {
            "name": "s",
            "factors": {"dataset": ["a"], "model": ["BPR"]},
            "trials": 1,
            "training": {"objective": METRIC},
            "confirmation": {"seeds": 5, "up_to": 30},
        }
    )
    # Every look is tested anew whenever it is asked how far a study is.
    statistics.t_test_p = _remembered(statistics.t_test_p)
    for effect in (0.0, 1.0, 1.5, 2.0):
        any_found, found, at_once, seeds = 0, 0, 0, 0
        count = studies if effect == 0 else max(1, studies // 10)
        for _ in range(count):
            cells = _confirmed(effect, random, config)
            p_values = [
                over_looks(
                    (cell.confirmations, other.confirmations),
                    METRIC,
                    config.confirmation,
                    looks(config.confirmation).index(cell.seeds) + 1,
                )
                for other, cell in _pairs(cells)
            ]
            significant = [p < ALPHA for p in holm(p_values)]
            any_found += any(significant)
            found += sum(significant)
            first = [
                statistics.t_test_p(_scores(cell)[:5], _scores(other)[:5], False)
                for other, cell in _pairs(cells)
            ]
            at_once += sum(p < ALPHA for p in holm(first))
            seeds += sum(cell.seeds for cell in cells)
        comparisons = 10 * count
        print(
            f"| {effect:g} | {any_found / count:.1%} | {found / comparisons:.1%} "
            f"| {at_once / comparisons:.1%} | {seeds / comparisons / 2:.1f} |",
            flush=True,
        )


def _remembered(test: Callable[..., float]) -> Callable[..., float]:
    """A test of two lists of scores that is computed once for the same ones."""
    found: dict[tuple[float, ...], float] = {}

    def remembered(values: list[float], others: list[float], paired: bool) -> float:
        key = (*values, -math.inf if paired else math.inf, *others)
        if key not in found:
            found[key] = test(values, others, paired)
        return found[key]

    return remembered


def _pairs(cells: list[CellState]) -> Iterable[tuple[CellState, CellState]]:
    return zip(cells[::2], cells[1::2], strict=True)


def _scores(cell: CellState) -> list[float]:
    return [trial.test_metrics[METRIC] for trial in cell.confirmations]


def _confirmed(effect: float, random: np.random.Generator, config: StudyConfig) -> list[CellState]:
    """Ten cells with their baselines, none of them searched, whose confirmation is over."""
    trial = recorded(0, State.COMPLETE, 0.5)
    cells = [
        CellState(f"{m}/{g}", {"model": m, "gradient": g}, 1, frozenset(), [trial])
        for m in map(str, range(10))
        for g in ("plain", "mg")
    ]
    scores = random.normal(0, 1, (len(cells), config.confirmation.up_to or 0)) + 100
    scores[1::2] += effect
    while True:
        cells = with_rounds(cells, config)
        if all(cell.seeds == len(cell.confirmations) for cell in cells):
            return cells
        cells = [
            CellState(
                cell.key, cell.levels, 1, frozenset(), cell.trials, cell.seeds,
                [
                    recorded(number, State.COMPLETE, 0.5, {"test_metrics": {METRIC: score}},
                             stage=Stage.CONFIRMATION, seed=1000 * place + number)
                    for number, score in enumerate(scores[place, : cell.seeds])
                ],
            )
            for place, cell in enumerate(cells)
        ]  # fmt: skip


def paired(studies: int, seed: int) -> None:
    """The test over searches where these try the same configurations, and where they do not."""
    print("| trials | effect, over the score | found, paired | found, not |\n|" + "---|" * 4)
    random = np.random.default_rng(seed)
    for trials in (6, 12, 30):
        for effect in (0.0, 0.01, 0.02, 0.04):
            found = [0, 0]
            for _ in range(studies):
                quality, other = random.normal(0.5, CONFIGURATIONS, (2, trials))
                shifted = _search("mg", quality + 0.5 * effect, quality, random)
                for place, of in enumerate((quality, other)):
                    baseline = _search("plain", of, of, random)
                    found[place] += search_luck(shifted, baseline, place == 0)[0] < ALPHA
            row = (trials, f"{effect:.0%}", *(f"{count / studies:.1%}" for count in found))
            print("| " + " | ".join(map(str, row)) + " |", flush=True)


def _search(
    gradient: str, scores: np.ndarray, configurations: np.ndarray, random: np.random.Generator
) -> CellState:
    seen = scores + random.normal(0, TRAININGS, len(scores))
    trials = [
        recorded(number, State.COMPLETE, float(score), parameters={"model.x": float(x)})
        for number, (score, x) in enumerate(zip(seen, configurations, strict=True))
    ]
    return CellState(gradient, {"gradient": gradient}, len(trials), frozenset({"model.x"}), trials)


PARTS = {part.__name__: part for part in (searched, learnt, adaptive, paired)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    arguments.add_argument("--studies", type=int, default=2000)
    arguments.add_argument("--only", choices=PARTS)
    arguments.add_argument("--seed", type=int, default=0, help="of the draws, for parts of a run")
    options = arguments.parse_args()
    for name, part in PARTS.items():
        if options.only in (None, name):
            print(f"\n{name}, {options.studies} studies\n")
            part(options.studies, options.seed)


if __name__ == "__main__":
    main()
