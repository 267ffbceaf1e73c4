"""The report of a study whose winners were trained again and scored on the test split."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from mgstudy.report.figures import Figure
from mgstudy.report.page.report import ReportContent, render, report_content
from mgstudy.report.results import StudyResults
from mgstudy.report.table import Table
from mgstudy.study.results.summary import summarize
from mgstudy.study.search.trials import Stage

SEEDS = 4
METRICS = ("recall@20", "ndcg@20")
STUDY = f"""\
name: s
question: Does Mirror Gradient help BPR?
factors: {{dataset: [tiny], model: [BPR], gradient: [plain, mirror_gradient]}}
space:
  model: {{embedding_size: 8, regularization: 0.0}}
  gradient: {{mirror_gradient: {{interval: 2, alpha1: 1.0, alpha2: {{float: [0.1, 0.9]}}}}}}
  optimizer: {{learning_rate: 0.01}}
trials: 2
training: {{objective: recall@20, cutoffs: [20]}}
sampler: RandomSampler
confirmation: {{seeds: {SEEDS}}}
"""
# What each seed scores on the test split: Mirror Gradient is better by ten standard deviations.
SCORES = {"plain": [0.30, 0.31, 0.29, 0.30], "mirror_gradient": [0.40, 0.41, 0.39, 0.40]}


@pytest.fixture(scope="module")
def content(record, complete) -> ReportContent:
    def become(trial):
        outcome = complete(trial)
        if trial.stage is Stage.CONFIRMATION:
            score = SCORES[trial.cell.gradient][trial.number]
            outcome |= {"test_metrics": {METRICS[0]: score, METRICS[1]: score / 2}}
        return outcome

    workspace = record(become, STUDY, "confirmed")
    for cell in summarize(workspace, "confirmed").cells:
        for replicate in cell.confirmations:
            replicate.test_users.parent.mkdir(parents=True)
            spread = np.linspace(-0.2, 0.2, 30)
            scores = replicate.test_metrics["recall@20"] + spread
            table = pd.DataFrame({"user": range(30), METRICS[0]: scores, METRICS[1]: scores / 2})
            table.to_parquet(replicate.test_users, index=False)
    return report_content(StudyResults.load(workspace, "confirmed").summary)


def test_the_verdict_is_what_the_test_split_says(content: ReportContent) -> None:
    (sentence,) = content.verdict
    assert re.fullmatch(
        r"mirror_gradient: better over seeds, p[<=][0-9.]+, holds after Holm; "
        r"at 1\.50 times the gradient computations, and within the same 30 -18\.3% "
        r"\(-18\.3% to -18\.3%\) on validation \(recall@20 \+33\.3%\)\.",
        sentence,
    )
    assert content.missing == []


def test_the_verdict_comes_before_everything_else(content: ReportContent) -> None:
    document = render(content)
    places = [document.index(text) for text in ("<h1>", "better over", "<dl", "<nav", "<section")]
    assert places == sorted(places)


def test_dots_have_the_intervals_of_their_seeds(content: ReportContent) -> None:
    _, _, figure, _ = content.sections[0].parts
    assert isinstance(figure, Figure)
    (panel,) = figure.panels
    assert panel.x_label == "recall@20 on test"
    for series in panel.series:
        scores = SCORES[series.look.label]
        low, high = stats.t.interval(0.95, SEEDS - 1, loc=np.mean(scores), scale=stats.sem(scores))
        assert list(series.x) == pytest.approx([np.mean(scores)])
        assert series.low == pytest.approx([low])
        assert series.high == pytest.approx([high])


def test_popularity_is_in_the_comparison(content: ReportContent) -> None:
    _, table, figure, _ = content.sections[0].parts
    assert isinstance(table, Table)
    assert isinstance(figure, Figure)
    reference = figure.panels[0].reference
    assert reference is not None and reference[1] == "popularity"
    assert 0 < reference[0] < 1
    (row,) = [row for row in table.rows if "popularity" in " ".join(row).lower()]
    assert f"{reference[0]:.4f}" in row


def test_words_are_left_aligned_and_numbers_right(content: ReportContent) -> None:
    comparison = render(content).partition('id="comparison"')[2]
    head = comparison.partition("</thead>")[0]
    titles = re.findall(r'<th scope="col"( class="number")?>([^<]+)</th>', head)
    assert {title: bool(is_number) for is_number, title in titles} == {
        "gradient": False,
        "recall@20": True,
        "ndcg@20": True,
        "vs plain": True,
        "verdict": False,
    }
    assert re.search(r'<td class="text[^"]*"[^>]*>\s*better over', comparison)
