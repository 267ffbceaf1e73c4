"""Which differences a study can see, against simulations and the pages that spreads come from."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from states import METRIC, recorded, summary_of
from states import confirmed_cell as cell

from mgstudy.report.comparison.power import (
    _least_sum_of_ranks,
    detectable,
    planned_power,
    power_over_seeds,
    recorded_spreads,
    seeds_for,
    spread_of,
)
from mgstudy.report.comparison.studies import compare_studies
from mgstudy.study.search.rounds import search_luck
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import State

PAGES = Path(__file__).parents[3] / "docs/results"
NUMBER = r"([\d.]+) ± ([\d.]+)[*‡]*"


def test_recorded_spreads_are_those_of_the_pages_that_they_name() -> None:
    names = ("dataset", "model", "gradient", "metric", "source")
    table = {tuple(row[name] for name in names): row for row in recorded_spreads()}
    found = 0
    for page in ("tiktok", "movielens_100k", "does_mirror_gradient_help"):
        for line in (PAGES / f"{page}.md").read_text().splitlines():
            cells = rf"\| (?:(\w+) \| )?(\w+) \| (\w+) \| {NUMBER} \| {NUMBER} \|"
            if row := re.match(cells, line):
                dataset, model, gradient, *numbers = row.groups(page)
                for metric, mean, half in zip(
                    ("recall@20", "ndcg@20"), numbers[::2], numbers[1::2], strict=True
                ):
                    source = f"docs/results/{page}.md"
                    entry = table[dataset, model, gradient, metric, source]
                    assert (entry["mean"], entry["half_interval"]) == (float(mean), float(half))
                    found += 1
    assert found == len(table) == 134
    # 0.0134 = 2.776 s / √5, over 0.0693.
    first = table["tiktok", "VBPR", "plain", "recall@20", "docs/results/tiktok.md"]
    assert first["share"] == pytest.approx(0.156, 0.01)


def test_the_spread_is_measured_where_it_can_be_and_recorded_otherwise() -> None:
    levels = {"dataset": "tiktok", "model": "BM3", "gradient": "plain"}
    said = spread_of(levels, METRIC, [])
    assert said.trainings == 35 and "BM3 on tiktok, docs/results/tiktok.md" in said.source
    assert "of BM3, docs" in spread_of({**levels, "dataset": "x"}, METRIC, []).source
    assert "other models" in spread_of({**levels, "model": "x"}, METRIC, []).source
    own = [cell(name, [0.3], [0.09, 0.10, 0.11], "BM3") for name in ("plain", "mg")]
    of = spread_of({**levels, "dataset": "sim"}, METRIC, own)
    assert (of.share, of.trainings) == (pytest.approx(0.1), 6)


@pytest.mark.parametrize(
    ("seeds", "paired", "comparisons"), [(5, False, 1), (5, False, 10), (8, True, 3)]
)
def test_power_is_the_share_of_studies_that_find_the_difference(
    seeds: int, paired: bool, comparisons: int
) -> None:
    random, studies, difference = np.random.default_rng(seeds), 4000, 0.25
    ours, theirs = (random.normal(shift, 0.1, (studies, seeds)) for shift in (difference, 0))
    test = stats.ttest_rel if paired else stats.ttest_ind
    seen = float((test(ours, theirs, axis=1).pvalue < 0.05 / comparisons).mean())
    power = power_over_seeds(difference, 0.1, seeds, comparisons, paired)
    assert seen == pytest.approx(power, abs=4 * math.sqrt(power * (1 - power) / studies))


def test_the_seeds_for_a_difference_are_the_fewest_that_see_it() -> None:
    seeds = seeds_for(0.03, 0.05, 10)
    powers = [power_over_seeds(0.03, 0.05, count, 10) for count in (seeds - 1, seeds)]
    assert powers[0] < 0.8 <= powers[1]
    # (z of 0.9975 + z of 0.8)² · 2 · (5/3)² = 74.
    assert 74 <= seeds <= 77
    assert seeds_for(1e-9, 0.05, 1) == 10_000


def searched(gradient: str, trials: int, pool: np.ndarray, seeds: int = 0) -> CellState:
    """A cell of so many trials, and the scores of others that say how lucky a search can be."""
    found = [recorded(number, State.COMPLETE, float(score)) for number, score in enumerate(pool)]
    return replace(cell(gradient, [0.1] * trials, [0.5] * seeds), trials=found)


def test_what_is_promised_is_seen_four_times_of_five_in_whole_studies() -> None:
    """Over seeds and searches, whose trials are drawn from one space."""
    random, trials, seeds, spread = np.random.default_rng(3), 12, 5, 0.01
    pool = random.beta(4, 3, 400)
    pilot = [searched(name, trials, pool) for name in ("plain", "mg")]
    noise = cell("plain", [0.1], list(random.normal(1, spread, 40)), "M")
    (promised,) = planned_power([*pilot, replace(noise, key="noise")], METRIC, seeds)
    difference, seen, studies = promised["over_searches"], 0, 60
    assert difference > promised["over_seeds"]
    for _ in range(studies):
        cells = []
        for gradient, factor in (("plain", 1.0), ("mg", 1 + difference)):
            found = random.choice(pool, trials) * factor
            tests = found.max() * random.normal(1, spread, seeds)
            cells.append(cell(gradient, found.tolist(), tests.tolist()))
        rows = compare_studies(
            [summary_of(cells, training={"objective": METRIC})], metrics=[METRIC]
        )
        seen += rows.of(METRIC)["verdict"].iloc[1].startswith("better")
    assert stats.binomtest(seen, studies, 0.8, alternative="less").pvalue > 0.01


def test_without_trials_nothing_is_promised_of_searches() -> None:
    cells = [searched(name, 12, np.array([])) for name in ("plain", "mg")]
    (promised,) = planned_power(cells, METRIC, 5, wanted=0.03)
    assert promised["over_searches"] is None
    assert promised["over_seeds"] > 0.03
    assert promised["seeds_wanted"] > 5


def tried(gradient: str, scores: np.ndarray, configurations: np.ndarray) -> CellState:
    trials = [
        recorded(number, State.COMPLETE, float(score), parameters={"model.x": float(x)})
        for number, (score, x) in enumerate(zip(scores, configurations, strict=True))
    ]
    return replace(cell(gradient, [0.1] * len(trials), []), trials=trials)


def test_searches_of_the_same_configurations_are_drawn_again_in_pairs() -> None:
    """Their luck cancels: what is promised is far less than of searches apart, and is seen four
    times of five."""
    random, trials, noise = np.random.default_rng(0), 12, 0.01

    def pair(difference: float, count: int) -> list[CellState]:
        quality = random.normal(0.5, 0.05, count)
        return [
            tried(name, quality * (1 + shift) + random.normal(0, noise, count), quality)
            for name, shift in (("plain", 0.0), ("mg", difference))
        ]

    # 200 trials tell how lucky searches of 12 are, here with a difference that is none of luck.
    plain, other = (replace(of, budget=trials) for of in pair(0.05, 200))
    apart, together = (
        detectable(other, plain, 1e-4, 5, 1, paired_searches=paired)["over_searches"]
        for paired in (False, True)
    )
    assert together < apart / 4
    studies = 300
    seen = sum(
        search_luck(ours, theirs, True)[0] < 0.05
        for theirs, ours in (pair(together, trials) for _ in range(studies))
    )
    assert seen / studies == pytest.approx(0.8, abs=0.08)


def test_the_sum_of_ranks_that_is_enough_is_wilcoxons() -> None:
    for pairs, level in ((6, 0.05), (12, 0.05), (12, 0.005), (30, 0.01)):
        needed = _least_sum_of_ranks(pairs, level)
        for total, found in ((needed, True), (needed - 1, False)):
            # Ranks from the highest on are above 0 until their sum is that.
            signs, left = -np.ones(pairs), total
            for rank in range(pairs, 0, -1):
                if rank <= left:
                    signs[rank - 1], left = 1, left - rank
            assert (stats.wilcoxon(signs * np.arange(1, pairs + 1)).pvalue < level) == found
    assert _least_sum_of_ranks(5, 0.05) == math.inf


def test_pairs_of_which_one_was_pruned_are_beyond_all_others() -> None:
    random = np.random.default_rng(1)
    quality = random.normal(0.5, 0.05, 12)
    plain, other = (tried(n, quality + random.normal(0, 1e-3, 12), quality) for n in ("plain", "m"))
    promised = detectable(other, plain, 1e-4, 5, 1, paired_searches=True)["over_searches"]
    pruned = [replace(t, value=None, state=State.PRUNED) for t in other.trials[:4]]
    fewer = replace(other, trials=[*pruned, *other.trials[4:]])
    assert detectable(fewer, plain, 1e-4, 5, 1, paired_searches=True)["over_searches"] > promised
