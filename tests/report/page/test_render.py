from __future__ import annotations

import base64
import itertools
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mgstudy.errors import InputError, MgstudyError
from mgstudy.report.page.report import render, report_content, save_report
from mgstudy.report.results import StudyResults


class Elements(HTMLParser):
    """Every element's name and attributes, and the text of scripts by their id."""

    def __init__(self, document: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str | None, str] = {}
        self._script: str | None = ""
        self.feed(document)

    def handle_starttag(self, tag, attrs) -> None:
        self.found.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id")

    def handle_data(self, data) -> None:
        if self.found[-1:] and self.found[-1][0] == "script":
            self.scripts[self._script] = self.scripts.get(self._script, "") + data


@pytest.fixture(scope="module")
def document(record, complete) -> str:
    return render(
        report_content(StudyResults.load(record(complete, name="rendered"), "rendered").summary)
    )


def test_the_page_loads_nothing(document: str) -> None:
    for tag, attributes in Elements(document).found:
        assert tag not in ("link", "iframe", "base")
        for name in ("src", "href"):
            assert (attributes.get(name) or "#").startswith(("#", "data:image/svg+xml;base64,"))
    style = re.search(r"<style>(.*?)</style>", document, re.DOTALL)
    assert style is not None
    assert "url(" not in style[1]
    assert "@import" not in style[1]


def test_what_a_study_says_is_text_and_no_markup(document: str) -> None:
    assert "Is &lt;b&gt;it&lt;/b&gt; better? &lt;/script&gt;" in document
    assert "<b>it</b>" not in document


def test_every_plot_has_a_picture_and_says_what_is_seen(document: str) -> None:
    elements = Elements(document)
    plots = json.loads(elements.scripts["plots"])
    places = {
        attributes["id"]: attributes
        for _, attributes in elements.found
        if (attributes.get("id") or "").startswith("plot-")
    }
    assert set(places) == {f"plot-{name}" for name in plots}
    # The scores; two strengths of two models, their two surfaces, two models' learning curves.
    assert len(plots) == 1 + 4 + 2 + 2
    assert all(attributes["aria-label"] for attributes in places.values())
    pictures = [attributes for tag, attributes in elements.found if tag == "img"]
    assert len(pictures) == len(plots)
    for picture in pictures:
        assert picture["alt"]
        encoded = (picture["src"] or "").removeprefix("data:image/svg+xml;base64,")
        assert ElementTree.fromstring(base64.b64decode(encoded)).tag.endswith("svg")


def test_headings_go_down_one_step_at_a_time(document: str) -> None:
    levels = [int(tag[1]) for tag, _ in Elements(document).found if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_a_report_is_saved_whole_or_refused(tmp_path: Path) -> None:
    save_report("text", tmp_path / "new" / "report.html")
    assert (tmp_path / "new" / "report.html").read_text() == "text"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["report.html"]
    with pytest.raises(InputError, match="is a folder"):
        save_report("text", tmp_path)
    with pytest.raises(MgstudyError, match="cannot be made"):
        save_report("text", tmp_path / "new" / "report.html" / "inside.html")
