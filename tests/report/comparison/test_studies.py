"""The whole way from users' test scores to verdicts, on simulated studies whose truth is known."""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from rich.console import Console
from scipy import stats
from states import recorded, summary_of

from mgstudy.errors import InputError
from mgstudy.report.comparison import formats, paper
from mgstudy.report.comparison.baselines import parse_baseline
from mgstudy.report.comparison.published import against_published
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.page.report import report_content
from mgstudy.report.results import StudyResults
from mgstudy.study.definition.manifest import CellEntry
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import Stage, State

METRICS = ("recall@20", "ndcg@20")
Scores = Sequence[np.ndarray[Any, Any]]
Simulate = Callable[..., CellState]


@pytest.fixture
def cell(tmp_path: Path) -> Simulate:
    """A cell whose replicates have these scores by user (one array for each seed)."""
    seeds_in_use = itertools.count()

    def make(model: str, gradient: str, scores: Scores, seeds: int = 5, **levels: str):
        all_levels = {"dataset": "sim", "model": model, "gradient": gradient, "robust": "none"}
        all_levels |= levels
        key = "/".join(all_levels.values())
        trial = recorded(
            0,
            State.COMPLETE,
            0.5,
            {"best_metrics": {"recall@20": 0.5, "ndcg@20": 0.25}, "gradient_computations": 10},
            {1: 0.4, 2: 0.5},
        )
        confirmations = []
        for number, users in enumerate(scores):
            path = tmp_path / key / str(number) / "test_users.parquet"
            path.parent.mkdir(parents=True)
            table = pd.DataFrame(
                {"user": np.arange(len(users)), METRICS[0]: users, METRICS[1]: users / 2}
            )
            table.to_parquet(path, index=False)
            metrics = table[list(METRICS)].mean().to_dict()
            confirmations.append(
                recorded(
                    number,
                    State.COMPLETE,
                    0.5,
                    {"test_metrics": metrics, "best_metrics": metrics},
                    {1: 0.5},
                    Stage.CONFIRMATION,
                    seed=next(seeds_in_use),
                    files=path.parent,
                )
            )
        return CellState(key, all_levels, 1, frozenset(), [trial], seeds, confirmations)

    return make


def study(*cells: CellState, name: str = "sim", **fields: Any) -> StudySummary:
    return summary_of(cells, name, "why?", **fields)


def simulated(
    random: np.random.Generator,
    users: np.ndarray[Any, Any],
    effect: float = 0.0,
    seed_spread: float = 0.01,
    seeds: int = 5,
) -> list[np.ndarray[Any, Any]]:
    """Scores of every user for each seed: what users have in common between cells, an effect, what
    a seed does to all of them, and noise of a user under a seed."""
    return [
        users + effect + random.normal(0, seed_spread) + random.normal(0, 0.05, len(users))
        for _ in range(seeds)
    ]


def pairs(make: Simulate, count: int, effect: float, seed_spread: float = 0.01) -> Comparison:
    random = np.random.default_rng(5)
    users = random.uniform(0, 1, 60)
    cells = [
        make(f"M{pair}", gradient, simulated(random, users, shift, seed_spread))
        for pair in range(count)
        for gradient, shift in (("plain", 0.0), ("mg", effect))
    ]
    return compare_studies([study(*cells)], metrics=["recall@20"])


def mirrored(comparison: Comparison) -> pd.DataFrame:
    rows = comparison.of("recall@20")
    return rows[rows["gradient"] == "mg"]


def test_without_an_effect_false_positives_come_at_the_nominal_rate(cell: Simulate) -> None:
    rows = mirrored(pairs(cell, count=150, effect=0.0, seed_spread=0.0))
    # Ranks and labels of 5 + 5 seeds have few values, so that they stay below the nominal rate.
    below = ("p_wilcoxon", "p_permutation")
    for name in ("p_t", *below, "p_users_t", "p_users_wilcoxon", "p_users_permutation"):
        positives = int((rows[name] < 0.05).sum())
        fewer = "greater" if name in below else "two-sided"
        assert stats.binomtest(positives, len(rows), 0.05, alternative=fewer).pvalue > 0.01
    assert stats.kstest(rows["p_t"], "uniform").pvalue > 0.01
    said = rows["verdict"]
    assert not said.str.startswith(("better", "worse", "perhaps")).any()
    assert said.str.startswith("no difference found").all()


def test_what_a_seed_does_to_all_users_is_not_taken_for_an_effect(cell: Simulate) -> None:
    rows = mirrored(pairs(cell, count=60, effect=0.0, seed_spread=0.05))
    # Users alone are misled by it, which is why the verdict is on seeds.
    assert (rows["p_users_permutation"] < 0.05).mean() > 0.3
    positives = int((rows["p_t"] < 0.05).sum())
    assert stats.binomtest(positives, len(rows), 0.05).pvalue > 0.01
    assert rows["verdict"].str.startswith("no difference found").all()


@pytest.mark.parametrize(("effect", "word"), [(0.1, "better"), (-0.1, "worse")])
def test_a_real_effect_is_found(cell: Simulate, effect: float, word: str) -> None:
    rows = mirrored(pairs(cell, count=20, effect=effect))
    # Seeds spread by 0.012, so the effect is some eight times that.
    held = rows["verdict"].str.match(rf"^{word} over seeds, p[<=][0-9.]+, holds after Holm$")
    assert held.mean() > 0.9
    assert ((rows["difference_low"] < effect) & (effect < rows["difference_high"])).mean() > 0.8
    assert (np.sign(rows["effect_size"]) == np.sign(effect)).all()


# Small cases, with numbers by hand.


def constant(*levels: float) -> list[np.ndarray[Any, Any]]:
    return [np.array([level - 0.1, level, level, level + 0.1]) for level in levels]


def test_a_row_holds_means_intervals_and_differences(cell: Simulate) -> None:
    plain = cell("A", "plain", constant(0.1, 0.2, 0.3), seeds=3)
    mirror = cell("A", "mg", constant(0.2, 0.4, 0.6), seeds=3)
    row = mirrored(compare_studies([study(plain, mirror)])).iloc[0]
    assert (row["mean"], row["baseline_mean"]) == (pytest.approx(0.4), pytest.approx(0.2))
    assert row["difference"] == pytest.approx(0.2)
    assert row["relative_difference"] == pytest.approx(1.0)
    # s = 0.2, t(0.975, 2) = 4.30265.
    assert row["high"] - row["mean"] == pytest.approx(4.30265 * 0.2 / math.sqrt(3), abs=1e-5)
    assert row["p_t"] == pytest.approx(
        stats.ttest_ind([0.2, 0.4, 0.6], [0.1, 0.2, 0.3], equal_var=False).pvalue
    )
    assert not row["paired"]
    assert row["baseline"] == plain.key
    assert row["gradient_computations"] == 10
    # Every user gains the same, so over users nothing is left to chance.
    assert (row["users_low"], row["users_high"]) == (pytest.approx(0.2), pytest.approx(0.2))


def seeded(which: CellState, *seeds: int) -> CellState:
    replicates = zip(which.confirmations, seeds, strict=True)
    return replace(which, confirmations=[replace(r, seed=seed) for r, seed in replicates])


def failing(which: CellState, number: int) -> CellState:
    """The cell whose replicate of this number has failed."""
    outcome = {"failed": True, "reason": "training diverged"}
    replicates = [
        replace(r, state=State.FAILED, outcome=outcome) if r.number == number else r
        for r in which.confirmations
    ]
    return replace(which, confirmations=replicates)


def test_replicates_with_common_seeds_are_paired_by_seed(cell: Simulate) -> None:
    plain = cell("A", "plain", constant(0.1, 0.2, 0.3), seeds=3)
    mirror = cell("A", "mg", constant(0.31, 0.22, 0.1), seeds=3)
    studies = [study(seeded(plain, 7, 8, 9), seeded(mirror, 9, 8, 7))]
    row = mirrored(compare_studies(studies)).iloc[0]
    assert row["paired"]
    expected = stats.ttest_rel([0.31, 0.22, 0.1], [0.3, 0.2, 0.1]).pvalue
    assert row["p_t"] == pytest.approx(expected)


@pytest.mark.parametrize("who", ["plain", "mg"])
def test_a_failed_replicate_leaves_its_partner_out_and_the_others_in_pairs(
    cell: Simulate, who: str
) -> None:
    """Seed 9 has failed on one side: seeds 6, 7 and 8 stay pairs, over seeds and over users."""
    plain, mirror = [0.1, 0.2, 0.3, 0.9], [0.12, 0.23, 0.31, 0.5]
    cells = {
        name: seeded(cell("A", name, constant(*scores), seeds=4), 6, 7, 8, 9)
        for name, scores in (("plain", plain), ("mg", mirror))
    }
    cells[who] = failing(cells[who], 3)
    comparison = compare_studies([study(*cells.values())])
    row = mirrored(comparison).iloc[0]
    assert row["paired"] and row["pairs"] == 3
    assert row["p_t"] == pytest.approx(stats.ttest_rel(mirror[:3], plain[:3]).pvalue)
    # (0.02 + 0.03 + 0.01) / 3 over a mean of 0.2, though one side's mean has a fourth score.
    assert row["difference"] == pytest.approx(0.02)
    assert row["relative_difference"] == pytest.approx(0.1)
    assert row["difference_low"] < 0.02 < row["difference_high"]
    assert row["users_low"] == pytest.approx(0.02) == row["users_high"]
    assert row["mean"] == pytest.approx(np.mean(mirror[:3] if who == "mg" else mirror))
    assert row["verdict"].endswith("(3 of 4 pairs of seeds)")
    assert "the paired t test over common seeds" in formats.caption(comparison)


def test_seeds_that_left_no_pair_or_one_are_not_tested_as_if_they_were_others(
    cell: Simulate,
) -> None:
    plain = failing(seeded(cell("A", "plain", constant(0.1, 0.2), seeds=2), 1, 2), 1)
    mirror = seeded(cell("A", "mg", constant(0.3, 0.5), seeds=2), 1, 2)
    row = mirrored(compare_studies([study(plain, mirror)])).iloc[0]
    assert row["pairs"] == 1
    assert math.isnan(row["p_t"])
    assert row["verdict"] == "too few seeds to say (1 of 2 pairs of seeds)"


def test_a_table_of_pairs_and_of_none_names_both_tests(cell: Simulate) -> None:
    paired = [
        seeded(cell("A", "plain", constant(0.1, 0.2, 0.3)), 1, 2, 3),
        seeded(cell("A", "mg", constant(0.2, 0.5, 0.3)), 1, 2, 3),
    ]
    others = [cell("B", name, constant(0.1, 0.2, 0.3)) for name in ("plain", "mg")]
    said = formats.caption(compare_studies([study(*paired, *others)]))
    assert "the paired t test over common seeds or Welch's t test over seeds" in said


def verdicts(*cells: CellState, **fields: Any) -> dict[str, str]:
    comparison = compare_studies([study(*cells, **fields)])
    rows = comparison.of("recall@20")
    return dict(zip(rows["gradient"], rows["verdict"], strict=True))


def test_equal_scores_give_no_difference(cell: Simulate) -> None:
    same = constant(0.1, 0.2, 0.3)
    plain, mirror = cell("A", "plain", same, seeds=3), cell("A", "mg", same, seeds=3)
    assert verdicts(plain, mirror) == {"plain": "baseline", "mg": "no difference"}


def test_two_seeds_are_too_few_to_say(cell: Simulate) -> None:
    plain = cell("A", "plain", constant(0.1, 0.11), seeds=2)
    mirror = cell("A", "mg", constant(0.9, 0.91), seeds=2)
    assert verdicts(plain, mirror)["mg"] == "too few seeds to say"
    some = cell("A", "mg2", constant(0.9, 0.91), seeds=5)
    assert verdicts(plain, some)["mg2"] == "too few seeds to say (2 of 5 seeds)"


def test_what_is_missing_is_said(cell: Simulate) -> None:
    plain = cell("A", "plain", constant(0.1, 0.11, 0.12), seeds=3)
    alone = cell("B", "alone", constant(0.1, 0.11, 0.12), seeds=3)
    waits = cell("A", "waits", [], seeds=3)
    broken = replace(
        cell("A", "broken", constant(0.1), seeds=1),
        key="broken",
        levels={**plain.levels, "gradient": "broken"},
    )
    failed = replace(
        broken.confirmations[0], state=State.FAILED, outcome={"failed": True, "reason": "nan"}
    )
    broken = replace(broken, confirmations=[failed])
    hopeless = replace(
        waits,
        levels={**plain.levels, "gradient": "hopeless"},
        trials=[replace(waits.trials[0], state=State.FAILED, value=None, outcome={})],
    )
    unbegun = replace(waits, levels={**plain.levels, "gradient": "unbegun"}, trials=[])
    assert verdicts(plain, alone, waits, broken, hopeless, unbegun) == {
        "plain": "baseline",
        "alone": "no baseline cell",
        "waits": "not confirmed yet",
        "broken": "failed in confirmation",
        "hopeless": "no trial completed",
        "unbegun": "not begun",
    }
    assert verdicts(replace(plain, confirmations=[]), alone, cell("A", "mg", constant(0.1)))[
        "mg"
    ] == ("baseline: not confirmed yet")


def test_without_a_confirmation_validation_scores_stand_in_and_are_called_so(
    cell: Simulate,
) -> None:
    cells = [cell("A", "plain", [], seeds=0), cell("A", "mg", [], seeds=0)]
    comparison = compare_studies([study(*cells)])
    assert comparison.split == "validation"
    assert list(comparison.of("recall@20")["mean"]) == [0.5, 0.5]
    assert verdicts(*cells)["mg"] == "validation only: nothing to say yet"
    assert "the test split is not touched" in formats.caption(comparison)


def test_one_cell_is_a_table_too(cell: Simulate) -> None:
    comparison = compare_studies([study(cell("A", "plain", constant(0.1, 0.2, 0.3)))])
    assert list(comparison.of("recall@20")["verdict"]) == ["baseline"]
    assert formats.to_markdown(comparison).startswith("| model |")


POPULAR = {"sim": {"test": {"recall@20": 0.2, "ndcg@20": 0.1}, "validation": {"recall@20": 0.6}}}


def test_a_cell_that_does_not_beat_popularity_is_marked(cell: Simulate) -> None:
    cells = [
        cell("A", "plain", constant(0.1, 0.2, 0.15), seeds=3),
        cell("A", "mg", constant(0.3, 0.4, 0.35), seeds=3),
    ]
    comparison = compare_studies([study(*cells, popularity=POPULAR)], metrics=list(METRICS))
    assert list(comparison.of("recall@20")["beats_popularity"]) == [False, True]
    lines = formats.to_markdown(comparison).splitlines()
    assert "‡" in lines[2]
    assert "‡" not in lines[3]
    assert lines[4].startswith("| popularity | 0.2000 | 0.1000 |")
    assert "‡ no better than ranking by popularity" in lines[-1]


def test_several_studies_share_a_table_and_baselines(cell: Simulate) -> None:
    manifest = {"training": {"epochs": 5}, "datasets": {"sim": "x"}}
    plain = cell("A", "plain", constant(0.1, 0.11, 0.12), seeds=3)
    mirror = cell("A", "mg", constant(0.5, 0.51, 0.52), seeds=3)
    first = study(plain, name="one", **manifest)
    second = study(mirror, name="two", **manifest)
    rows = compare_studies([first, second]).of("recall@20")
    assert list(rows["study"]) == ["one", "two"]
    assert rows["difference"].iloc[1] == pytest.approx(0.4)
    assert rows["verdict"].iloc[1].startswith("better over seeds, p<0.001, holds after Holm")
    # Trained for longer, or on other data, it is no baseline.
    for other in (
        {**manifest, "training": {"epochs": 6}},
        {**manifest, "datasets": {"sim": "y"}},
    ):
        second = study(mirror, name="two", **other)
        rows = compare_studies([first, second]).of("recall@20")
        assert rows["verdict"].iloc[1] == "no baseline cell"
    with pytest.raises(InputError, match="different objectives"):
        compare_studies([first, study(mirror, name="two", training={"objective": "ndcg@20"})])


def test_a_study_that_asks_several_questions_has_a_table_for_each(cell: Simulate) -> None:
    cells = [
        cell("A", gradient, constant(*scores), seeds=3, robust=robust)
        for gradient, robust, scores in (
            ("plain", "none", (0.1, 0.2, 0.3)),
            ("mg", "none", (0.2, 0.4, 0.6)),
            ("plain", "noise", (0.3, 0.5, 0.4)),
            ("mg", "noise", (0.3, 0.4, 0.5)),
        )
    ]
    asks = [{"baseline": "robust=none"}, {"baseline": {"gradient": "plain", "robust": "none"}}]
    asked = study(*cells, settings={"questions": asks})
    comparison = compare_studies([asked])
    assert comparison.baseline == {"robust": "none"}
    against = comparison.of("recall@20")["baseline"]
    assert list(against.dropna()) == ["sim/A/plain/none", "sim/A/mg/none"]
    (other,) = comparison.further_questions()
    assert other.baseline == {"gradient": "plain", "robust": "none"}
    assert list(other.of("recall@20")["baseline"].dropna()) == ["sim/A/plain/none"] * 3
    labels = [line for of in (comparison, other) for line in paper.to_latex(of).splitlines()]
    assert r"\label{tab:sim}" in labels and r"\label{tab:sim-plain-none}" in labels
    content = report_content(asked)
    assert [s.title for s in content.sections if s.name.startswith("comparison")] == [
        "Comparison",
        "Comparison with gradient=plain, robust=none",
    ]
    assert compare_studies([asked], {"gradient": "plain"}).baseline == {"gradient": "plain"}


def test_a_second_question_whose_answer_is_the_same_is_answered_too(cell: Simulate) -> None:
    cells = [
        cell("A", gradient, constant(0.1, 0.2, 0.3), robust=robust)
        for gradient in ("plain", "mg")
        for robust in ("none", "noise")
    ]
    asks = [{"baseline": "robust=none"}, {"baseline": "gradient=plain"}]
    said = report_content(study(*cells, settings={"questions": asks})).verdict
    assert said[0].startswith("No difference is shown: of 2 comparisons")
    assert f"Against gradient=plain: {said[0]}" in said


def test_searches_under_several_seeds_are_told_from_means_over_seeds(cell: Simulate) -> None:
    cells = [cell("A", "plain", constant(0.1, 0.2, 0.3), seed=seed) for seed in ("1", "2")]
    advice = "for means over seeds use `confirmation: {seeds: N}`"
    assert advice in formats.caption(compare_studies([study(*cells)]))
    assert advice not in formats.caption(compare_studies([study(cells[0])]))


def test_the_baseline_is_read_and_checked(cell: Simulate) -> None:
    studies = [study(cell("A", "plain", []), cell("B", "mg", []))]
    assert parse_baseline("model=B, gradient=mg", studies) == {"model": "B", "gradient": "mg"}
    for text, said in (("gradien=mg", "did you mean 'gradient'"), ("model=C", "known: A, B")):
        with pytest.raises(InputError, match=said):
            parse_baseline(text, studies)
    with pytest.raises(InputError, match=r"did you mean 'recall@20'"):
        compare_studies(studies, metrics=["recal@20"])


def test_a_factor_may_be_one_studys_alone(cell: Simulate) -> None:
    searched = study(cell("B", "plain", constant(0.1, 0.2, 0.3)), name="searched")
    filled = study(
        *(
            replace(of, levels={**of.levels, "robust": "none", "completion": of.levels["robust"]})
            for of in (
                cell("A", "plain", constant(0.1, 0.11, 0.12), robust="mean"),
                cell("A", "plain", constant(0.5, 0.51, 0.52), robust="zero"),
            )
        ),
        name="filled",
    )
    for studies in ([searched, filled], [filled, searched]):
        baseline = parse_baseline("completion=mean", studies)
        rows = compare_studies(studies, baseline).of("recall@20").set_index("cell")
        assert list(rows["difference"].dropna()) == [pytest.approx(0.4)]
        assert formats.to_markdown(compare_studies(studies, baseline))


@pytest.mark.parametrize("found", ["nothing", "a pipe", "text", "no users", "two columns"])
def test_scores_by_user_that_are_gone_are_named_and_users_not_tested(
    cell: Simulate, found: str
) -> None:
    cells = [cell("A", g, constant(0.1, 0.2, 0.3)) for g in ("plain", "mg")]
    path = cells[1].confirmations[2].test_users
    table = pq.read_table(path)
    if found == "text":
        pq.write_table(table.set_column(1, METRICS[0], pa.array(["high"] * len(table))), path)
    elif found == "no users":
        pq.write_table(table.drop_columns(["user"]), path)
    elif found == "two columns":
        pq.write_table(table.append_column("user", table["user"]), path)
    else:
        path.write_bytes(b"nothing")
    if found == "a pipe":  # Which nobody ever writes to.
        path.unlink()
        os.mkfifo(path)
    comparison = compare_studies([study(*cells)])
    assert f"Not tested over users: {path}: users' test scores" in formats.caption(comparison)
    row = mirrored(comparison).iloc[0]
    assert math.isnan(row["p_users_permutation"])
    assert row["p_t"] == 1


PEAK, NOW = "VmHWM", "VmRSS"


def resident(what: str) -> int:
    """Bytes of memory that this process has, or had at most since the last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(what))


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="Linux knows a peak")
def test_many_users_take_little_memory(cell: Simulate, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as the largest of the published Amazon datasets has, however many cells there are."""
    monkeypatch.setattr("mgstudy.statistics.RESAMPLES", 500)
    monkeypatch.setattr("mgstudy.statistics.BOOTSTRAPS", 40)
    random = np.random.default_rng(0)
    cells = [
        cell(model, gradient, [random.integers(0, 4, 192_403) / 3 for _ in range(2)], seeds=2)
        for model in "ABCDEFGH"
        for gradient in ("plain", "mg")
    ]
    Path("/proc/self/clear_refs").write_text("5")
    before = resident(NOW)
    found = mirrored(compare_studies([study(*cells)], metrics=METRICS))
    assert resident(PEAK) - before < 230 << 20
    assert found["p_users_permutation"].between(0, 1).all()


def test_users_without_a_value_in_a_group_are_not_tested(cell: Simulate) -> None:
    """As if they had never been in the test: of a group's metric, such as ``recall-tail@20``."""
    random = np.random.default_rng(6)
    scores = {gradient: random.random((3, 20)) for gradient in ("plain", "mg")}
    nothing = np.full(30, np.nan)
    rows = [
        mirrored(
            compare_studies(
                [
                    study(
                        *(
                            cell(model, gradient, [np.append(users, rest) for users in of_seeds])
                            for gradient, of_seeds in scores.items()
                        )
                    )
                ]
            )
        ).iloc[0]
        for model, rest in (("A", []), ("B", nothing))
    ]
    for column in ("users_low", "users_high", "p_users_t", "p_users_wilcoxon"):
        assert rows[0][column] == pytest.approx(rows[1][column])
    assert rows[0]["p_users_permutation"] == pytest.approx(rows[1]["p_users_permutation"], abs=0.01)


# Formats.


@pytest.fixture
def comparison(cell: Simulate) -> Comparison:
    cells = [
        cell("A", "plain", constant(0.10, 0.11, 0.12), seeds=3),
        cell("A", "m_g", constant(0.30, 0.31, 0.32), seeds=3),
        cell("B", "plain", constant(0.40, 0.45, 0.50), seeds=3),
        cell("B", "m_g", constant(0.41, 0.44, 0.49), seeds=3),
    ]
    return compare_studies([study(*cells, popularity=POPULAR)])


def test_latex_has_rules_the_best_in_bold_and_marks(comparison: Comparison) -> None:
    lines = paper.to_latex(comparison).splitlines()
    body = [line for line in lines if line.endswith(r"\\")]
    assert body[0] == r"model & gradient & recall@20 & ndcg@20 & vs plain \\"
    # t(0.975, 2) · 0.01 / √3 = 0.02484; A does not beat popularity's 0.2.
    assert body[1].startswith(r"A & plain & 0.1100 $\pm$ 0.0248$^{\ddagger}$ &")
    assert body[2].startswith(r"A & m\_g & 0.3100 $\pm$ 0.0248$^{**\dagger}$ &")
    assert body[3].startswith(r"B & plain & \textbf{0.4500} $\pm$ 0.1242 &")
    assert sum(r"\textbf" in line for line in body) == 1
    assert body[4].startswith(r"B & m\_g & \underline{0.4467} $\pm$ ")
    assert body[2].endswith(r" & +181.8\% \\") and body[1].endswith(r" & -- \\")
    assert sum(r"\underline" in line for line in body) == 1
    assert body[5] == r"popularity (sim) &  & 0.2000 & 0.1000 & -- \\"
    assert [line for line in lines if "rule" in line] == [
        r"\toprule", r"\midrule", r"\midrule", r"\bottomrule"
    ]  # fmt: skip
    caption = "".join(lines)
    assert r"mean $\pm$ half of the 95\% interval" in caption
    assert r"$^{\dagger}$ A m\_g: by the t test on 3 seeds alone." in caption


def test_other_metrics_are_shown_with_the_verdict_on_the_objective(cell: Simulate) -> None:
    cells = [cell("A", g, constant(0.1, 0.11, 0.12)) for g in ("plain", "mg")]
    comparison = compare_studies([study(*cells)], metrics=["ndcg@20"])
    head, _, *rows = formats.to_markdown(comparison, ["ndcg@20"]).splitlines()
    assert head.startswith("| gradient | ndcg@20 | vs plain | verdict |")
    assert rows[1].startswith("| mg | 0.0550 ± 0.0124 | +0.0% | no difference")


def test_json_and_csv_hold_the_table_in_full(comparison: Comparison) -> None:
    content = json.loads(formats.to_json(comparison), parse_constant=pytest.fail)
    assert content["split"] == "test"
    assert content["popularity"] == {"sim": POPULAR["sim"]["test"]}
    assert [cell["gradient"] for cell in content["cells"]] == ["plain", "m_g"] * 2
    table = pd.read_csv(StringIO(formats.to_csv(comparison)), float_precision="round_trip")
    assert len(table) == 8
    for position, cell in enumerate(content["cells"]):
        row = comparison.of("recall@20").iloc[position]
        assert cell["metrics"]["recall@20"]["mean"] == row["mean"] == table["mean"][position]
        assert cell["metrics"]["recall@20"]["verdict"] == row["verdict"]
        assert cell["trials"] == 1
    assert content["cells"][0]["metrics"]["recall@20"]["p_t"] is None


def test_a_person_reads_verdicts_and_costs(comparison: Comparison) -> None:
    text = StringIO()
    formats.print_comparison(comparison, Console(file=text, width=200, markup=False))
    out = text.getvalue()
    assert "why?" in out
    assert "better over seeds, p<0.001, holds after Holm" in out
    assert "no difference found over seeds, p=" in out
    assert "0.3100 ± 0.0248" in out
    assert "+181.8%**" in out


def test_published_figures_stand_beside_ours(cell: Simulate) -> None:
    levels = {"dataset": "amazon_sports", "model": "VBPR", "robust": "none"}

    def entry(name: str, **spaces: Any) -> CellEntry:
        of = {**levels, "gradient": name}
        return CellEntry(key=name, levels=of, study=name, budget=1, spaces=spaces)

    spaces = {
        "plain": {},
        "mg": {"gradient.mirror_gradient.variant": "loss_scaled"},
        "mg_update": {"gradient.mirror_gradient.variant": "update_scaled"},
        "sam": {"gradient.sam.radius": 0.1},
    }
    cells = [
        replace(
            cell("VBPR", name, constant(0.09, 0.1, 0.11)),
            key=name,
            levels={**levels, "gradient": name},
        )
        for name in spaces
    ]
    entries = [entry(name, **space) for name, space in spaces.items()]
    found = against_published(compare_studies([study(*cells, entries=entries)]))
    # MMRec's README gives VBPR on Sports recall@20 0.0856 and ndcg@20 0.0384; nobody gives them
    # with Mirror Gradient, which was published at 5.
    assert list(found["cell"]) == ["plain", "plain"]
    assert list(found["published"]) == [0.0856, 0.0384]
    assert found["relative_difference"].iloc[0] == pytest.approx(0.1 / 0.0856 - 1)
    assert found["source"].str.startswith("https://github.com/").all()


def test_that_nothing_is_published_is_said_in_place_of_the_table(cell: Simulate) -> None:
    comparison = compare_studies([study(cell("VBPR", "plain", constant(0.1, 0.2, 0.3)))])
    found = against_published(comparison)
    assert found.empty
    said = "No published figures for the cells on sim: those that are shipped are of Amazon"
    text = StringIO()
    formats.print_comparison(comparison, Console(file=text, width=200), found=found)
    assert text.getvalue().splitlines()[-1].startswith(said)
    assert formats.to_markdown(comparison, found=found).splitlines()[-1].startswith(said)
    assert paper.to_latex(comparison, found=found).count("tabular") == 2


def test_shipped_figures_are_those_of_their_sources() -> None:
    from mgstudy.report.comparison.published import published_figures

    figures = published_figures().set_index(["dataset", "model", "gradient", "metric"])["value"]
    assert figures["sports", "VBPR", "mirror_gradient", "recall@5"] == 0.0375
    assert figures["elec", "FREEDOM", "plain", "ndcg@5"] == 0.0171
    assert figures["baby", "FREEDOM", "plain", "recall@20"] == 0.0992
    # Two sources give FREEDOM on Sports, at other cutoffs.
    assert figures.index.is_unique and len(figures) == 286


# As pandas tables.


def test_tables_hold_trials_replicates_and_curves(cell: Simulate) -> None:
    results = StudyResults(study(cell("A", "plain", constant(0.1, 0.2, 0.3)), cell("A", "mg", [])))
    assert list(results.trials()["value"]) == [0.5, 0.5]
    replicates = results.confirmations()
    assert list(replicates["trial"]) == [0, 1, 2]
    assert list(replicates["recall@20"]) == pytest.approx([0.1, 0.2, 0.3])
    assert all(Path(path).exists() for path in replicates["test_users"])
    curves = results.curves()
    assert list(curves.query("stage == 'search' and gradient == 'plain'")["value"]) == [0.4, 0.5]
    assert len(curves.query("stage == 'confirmation'")) == 3
    assert list(results.cells()["confirmed"]) == [3, 0]
    shown = results._repr_html_()
    assert repr(results).startswith("StudyResults ") and "2 cells, " in repr(results)
    assert shown.count("<tr") == 3 and len(shown) < 2000
    table = results.comparison(metrics=["recall@20"])
    assert table["mean"].iloc[0] == pytest.approx(0.2)
