"""The report in a real browser, opened from disk; screenshots go to MGSTUDY_SCREENSHOTS if set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from mgstudy.report.page.report import render, report_content, save_report
from mgstudy.report.results import StudyResults

CHROMIUM = Path("/usr/bin/chromium")
ARGUMENTS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
SIZES = {"phone": (390, 844), "desk": (1280, 900)}

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not CHROMIUM.exists(), reason=f"{CHROMIUM} is missing: install Chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(
            executable_path=str(CHROMIUM), args=list(ARGUMENTS), headless=True
        )
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def report(record, some, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "seen.html"
    save_report(
        render(report_content(StudyResults.load(record(some, name="seen"), "seen").summary)), path
    )
    return path


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_report_is_drawn_whole_and_alone(
    browser: Browser, report: Path, size: str, colours: str
) -> None:
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=colours)
    said: list[str] = []
    requested: list[str] = []
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.on("request", lambda request: requested.append(request.url))
    page.goto(report.as_uri())
    plots = page.locator(".interactive")
    assert plots.count() == 9
    for place in range(plots.count()):
        plot = plots.nth(place)
        plot.locator("svg.main-svg").first.wait_for()
        # Points or lines were drawn, not only the axes.
        assert plot.locator(".scatterlayer .trace").count() > 0
    assert said == []
    fetched = [url for url in requested if not url.startswith(("data:", "blob:"))]
    assert fetched == [report.as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 27)"
    assert dark == (colours == "dark")
    if folder := os.environ.get("MGSTUDY_SCREENSHOTS"):
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(path=Path(folder) / f"report-{size}-{colours}.png", full_page=True)
    page.close()


def test_every_table_fits_a_phone_and_paper_with_the_difference_and_its_verdict_first(
    browser: Browser, report: Path
) -> None:
    page = browser.new_page(viewport={"width": 400, "height": 800})
    page.goto(report.as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(it => { it.open = true; })")
    cut = """() => [...document.querySelectorAll('.scroll')]
        .filter(it => it.scrollWidth > it.clientWidth).map(it => it.ariaLabel)"""
    assert page.evaluate("document.documentElement.scrollWidth") <= 400
    assert page.evaluate(cut) == []
    row = page.locator("#comparison tr:has(td.number.lead:not(:empty))").first
    order = """it => [...it.children].filter(cell => cell.getClientRects().length)
        .sort((a, b) => a.getBoundingClientRect().top - b.getBoundingClientRect().top
            || a.getBoundingClientRect().left - b.getBoundingClientRect().left)
        .map(cell => cell.dataset.title ?? 'name')"""
    shown = row.evaluate(order)
    assert shown[:4] == ["name", "gradient", "vs plain", "verdict"]
    assert set(shown[4:]) == {"recall@20", "ndcg@20"}
    # A4 without its margins, at 96 pixels an inch.
    page.set_viewport_size({"width": 688, "height": 970})
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 688
    page.close()
