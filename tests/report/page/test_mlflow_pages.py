"""The pages of MLflow's UI on a study, in a real browser; screenshots go to MGSTUDY_SCREENSHOTS if
set."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from programs import MGSTUDY, started
from waiting import free_port

from mgstudy import api
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.search.trials import Stage
from mgstudy.tracking.ui import study_pages
from mgstudy.tracking.views import cell_titles
from mgstudy.workspace import Workspace

CHROMIUM = Path("/usr/bin/chromium")
MILLISECONDS = 120_000
STUDY = """\
name: pages
question: Does Mirror Gradient help BPR?
factors: {dataset: [tiny], model: [BPR], gradient: [plain, mirror_gradient]}
space:
  model: {embedding_size: 8, regularization: 0.0}
  gradient: {mirror_gradient: {interval: 2, alpha1: 1.0, alpha2: {float: [0.1, 0.9]}}}
  optimizer: {learning_rate: {log_float: [1.0e-4, 1.0e-1]}}
trials: 2
training: {objective: recall@20, cutoffs: [20]}
sampler: RandomSampler
confirmation: {seeds: 2}
"""
# What each seed scores on the test split.
SCORES = {"plain": [0.25, 0.5], "mirror_gradient": [0.5, 0.75]}
RUN_NAME = "attributes.`Run Name`"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Chromium"),
]


@pytest.fixture(scope="module")
def workspace(record, complete, prepared: Path, empty_store: Path) -> Workspace:
    """A finished study, and MLflow's record of it."""

    def become(trial):
        outcome = complete(trial)
        if trial.stage is Stage.CONFIRMATION:
            outcome |= {"test_metrics": {"recall@20": SCORES[trial.cell.gradient][trial.number]}}
        return outcome

    shutil.copy(empty_store, prepared / "mlflow.db")
    made: Workspace = record(become, STUDY, "pages")
    assert api.sync("pages", made.home).delivered > 0
    return made


@pytest.fixture(scope="module")
def summary(workspace: Workspace) -> StudySummary:
    return summarize(workspace, "pages")


@pytest.fixture(scope="module")
def server(workspace: Workspace) -> Iterator[str]:
    """Address of ``mgstudy ui`` on the study."""
    port = free_port()
    command = [MGSTUDY, "ui", "pages", "--port", port, "--home", workspace.home]
    with started(*command, seconds=1200, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        if not any("Application startup complete" in line for line in process.stdout):
            pytest.fail("mgstudy ui ended")
        yield f"http://127.0.0.1:{port}"


@pytest.fixture(scope="module")
def addresses(server: str, workspace: Workspace) -> dict[str, str]:
    pages = study_pages(workspace, ["pages"], server)
    return {title.partition(": ")[2]: address for title, address in pages.items()}


@pytest.fixture(scope="module")
def browser(server: str) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        yield opened
        opened.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """A page that shows nothing of another view, and is wide enough for every column: MLflow draws
    only those that are seen."""
    opened = browser.new_page(viewport={"width": 2400, "height": 1100})
    opened.set_default_timeout(MILLISECONDS)
    yield opened
    opened.close()


def photograph(page: Page, name: str) -> None:
    if folder := os.environ.get("MGSTUDY_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"mlflow-{name}.png")


def column(page: Page, name: str, rows: int) -> list[str]:
    """What stands in a column of the table of runs, once it has so many rows."""
    cells = page.locator(f'[role="gridcell"][col-id="{name}"]')
    expect(cells).to_have_count(rows, timeout=MILLISECONDS)
    # The page need not hold them in the order in which it shows them.
    found: list[tuple[str, str]] = cells.evaluate_all(
        "cells => cells.map(c => [c.closest('[row-index]').getAttribute('row-index'), c.innerText])"
    )
    in_order = [text for _, text in sorted(found, key=lambda row: int(row[0]))]
    # A run's name has its colour before it, as an unseen text.
    shown = [re.sub(r"^\s*#[0-9a-f]{6}\s", "", text) for text in in_order]
    return [" ".join(text.replace("(", " (").split()) for text in shown]


def test_the_trials_are_a_table_with_the_columns_that_matter(
    page: Page, addresses: dict[str, str], summary: StudySummary
) -> None:
    page.goto(addresses["trials, best first"])
    title = cell_titles([cell.levels for cell in summary.cells])
    expected = {
        f"{title(cell.levels)} #{trial.number}": trial.value or 0.0
        for cell in summary.cells
        for trial in cell.trials
    }
    names = column(page, RUN_NAME, 4)
    photograph(page, "trials")
    assert set(names) == set(expected)
    shown = [float(text) for text in column(page, "metrics.`best/recall_at_20`", 4)]
    assert shown == [expected[name] for name in names]
    assert shown == sorted(shown, reverse=True)
    gradients = column(page, "params.`gradient`", 4)
    short = {"plain": "plain", "mirror_gradient": "MG"}
    assert [short[name] for name in gradients] == [name.partition(" ")[0] for name in names]
    assert column(page, "tags.`mgstudy.state`", 4) == ["complete"] * 4
    assert column(page, "metrics.`cost/epochs`", 4) == ["3"] * 4
    strengths = column(page, "params.`gradient.mirror_gradient.alpha2`", 4)
    assert [text[:2] == "0." for text in strengths] == ["MG" in name for name in names]
    expect(page.get_by_text("Does Mirror Gradient help BPR?").first).to_be_visible()


def test_confirmed_winners_are_grouped_by_cell_with_their_mean_over_seeds(
    page: Page, addresses: dict[str, str]
) -> None:
    page.goto(addresses["confirmed winners on the test split, mean over seeds"])
    # A row for each of two cells, and for each of its two seeds.
    names = column(page, RUN_NAME, 6)
    photograph(page, "confirmed")
    scores = column(page, "metrics.`test/recall_at_20`", 6)
    assert dict(zip(names, scores, strict=True)) == {
        "Group: mirror_gradient 2": "0.625 (average)",
        "MG confirmation 0": "0.5",
        "MG confirmation 1": "0.75",
        "Group: plain 2": "0.375 (average)",
        "plain confirmation 0": "0.25",
        "plain confirmation 1": "0.5",
    }


def test_charts_show_the_best_run_of_each_cell(
    page: Page, addresses: dict[str, str], summary: StudySummary
) -> None:
    page.goto(addresses["best run of each cell"])
    coordinates = page.locator(".parcoords")
    # The strategy, the learning rate that both cells search, and the score.
    expect(coordinates.locator(".dimension")).to_have_count(3, timeout=MILLISECONDS)
    expect(coordinates.get_by_text("plain", exact=True)).to_be_visible()
    photograph(page, "best")
    curves = page.locator(".js-plotly-plot").first
    title = cell_titles([cell.levels for cell in summary.cells])
    for cell in summary.cells:
        assert cell.best is not None
        name = f"{title(cell.levels)} #{cell.best.number}"
        expect(page.get_by_text(name).first).to_be_visible(timeout=MILLISECONDS)
    # Two runs of three epochs.
    expect(curves.locator(".scatterlayer .point")).to_have_count(6, timeout=MILLISECONDS)
