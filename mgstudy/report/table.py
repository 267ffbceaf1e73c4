"""Tables of texts, described once and shown in a terminal, in Markdown and in HTML; in LaTeX by
``latex_table``."""

from __future__ import annotations

import functools
import textwrap
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from mgstudy.config.factors import varying_factors
from mgstudy.registry import may_state

Place = tuple[int, str]
"""A row, counted from 0, and the title of a column."""

_GAP = "  "
_PHONE = 40
_PAPER = 110
"""Characters in a line of a page, on a phone and on paper."""

_RECONSTRUCTED = "§"


@dataclass(frozen=True)
class Table:
    """A table of texts.

    In a column ``model``, the name of a model that is only a reconstruction is marked, and the
    caption says of what.

    >>> rows = [["BPR", "0.0312"], ["VBPR", "0.0471"]]
    >>> table = Table(["model", "recall@20"], rows, ["model"], styles={(1, "recall@20"): "green"})
    >>> console.print(table)  # doctest: +SKIP
    >>> print(table.markdown())
    | model | recall@20 |
    | --- | ---: |
    | BPR | 0.0312 |
    | VBPR | 0.0471 |

    Attributes:
        titles: Its columns.
        rows: Its cells, each row as wide as ``titles``.
        texts: The columns that hold text, aligned left; the others hold numbers, aligned right. All
            hold text when not given.
        caption: What it shows; part of the LaTeX and of what a terminal shows, since Markdown and a
            page set it apart in ways of their own.
        notes: The columns of words about a row, for which a narrow terminal has a line of its own.
        spare: The columns that a narrow terminal leaves out first: costs, for example.
        strong: Cells that stand out: in bold, of which LaTeX takes the first word.
        second: Cells that LaTeX underlines, of which it takes the first word, too.
        shades: Cells to a share from 0 to 1 that their background shows in HTML.
        styles: Cells to a style of rich in a terminal, for example ``red``.
        rule_before: Rows that LaTeX sets apart by a rule above them.
        spans: Columns that LaTeX heads in two rows: the title, to what several of them have in
            common and to what stands below.
        lead: The columns that a page puts first, after the names, where a table is too wide and
            its rows become lines.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Collection[str] | None = None
    caption: str = ""
    notes: Collection[str] = ()
    spare: Collection[str] = ()
    strong: Collection[Place] = frozenset()
    second: Collection[Place] = frozenset()
    shades: Mapping[Place, float] = field(default_factory=dict)
    styles: Mapping[Place, str] = field(default_factory=dict)
    rule_before: Collection[int] = frozenset()
    spans: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    lead: Collection[str] = ()

    def __post_init__(self) -> None:
        if "model" not in self.titles:
            return
        place = list(self.titles).index("model")
        cells = (row[place] for row in self.rows if not row[place].endswith(_RECONSTRUCTED))
        found = {cell: model_as_shown(cell, cell) for cell in cells}
        said = [source for _, source in found.values() if source]
        if not said:
            return
        rows = [
            [
                found[cell][0] if column == place and cell in found else cell
                for column, cell in enumerate(row)
            ]
            for row in self.rows
        ]
        object.__setattr__(self, "rows", rows)
        object.__setattr__(self, "caption", " ".join(filter(None, [self.caption, *said])))

    @classmethod
    def of_cells(
        cls,
        cells: Iterable[tuple[Mapping[str, str], Sequence[str]]],
        titles: Sequence[str],
        texts: Collection[str] = (),
        among: Sequence[Mapping[str, str]] = (),
        **more: Any,
    ) -> Table:
        """A table with a row for each cell of a study: the levels that tell it from the others, or
        its model if it is alone, and what is said of it.

        Args:
            cells: The levels of each, and the rest of its row.
            titles: Columns of that rest.
            texts: Those of them that hold text.
            among: The levels of all cells, where the table is of some.
            more: Attributes of the table.
        """

        rows = list(cells)
        factors = varying_factors(among or [levels for levels, _ in rows]) or ["model"]
        return cls(
            [*factors, *titles],
            # A cell of an earlier launch may lack a factor.
            [[*(levels.get(factor, "") for factor in factors), *rest] for levels, rest in rows],
            [*factors, *texts],
            **more,
        )

    def is_text(self, column: int) -> bool:
        """Whether a column, counted from 0, holds text."""
        title = self.titles[column]
        return self.texts is None or title in self.texts or title in self.notes

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """For a terminal: whatever its width, no name and no number is broken or lost.

        Where it is too narrow, columns that say the same in every row are said once, below; then
        spare ones are left out, or notes get lines of their own, or both; and where even that is
        too wide, each row becomes a few lines.
        """
        width, places = options.max_width, range(len(self.titles))
        spare, notes = (
            [place for place in places if self.titles[place] in titles]
            for titles in (self.spare, self.notes)
        )
        same = [place for place in places if len({row[place] for row in self.rows}) == 1]
        if len(self.rows) == 1 or len(same) == len(places):
            same = []
        said_once = [place for place in same if place in notes]
        for shared, left_out, below in (
            ([], [], []),
            (same, [], []),
            (same, spare, []),
            (said_once, [], notes),
            (same, [], notes),
            (same, spare, notes),
        ):
            columns = [c for c in places if c not in {*shared, *left_out, *below}]
            if (widths := self._widths(columns, width)) is not None:
                yield from self._head(widths) if self.rows else ()
                break
        for number, row in enumerate(self.rows):
            # As texts, since square brackets in cells are meant and no markup.
            style = {title: self.styles.get((number, title), "") for title in self.titles}
            cells = {c: Text(_one_line(row[c]), style[self.titles[c]]) for c in columns}
            if widths is None:
                yield from self._stacked(cells, width)
            else:
                yield self._line(cells, widths)
            for place in below:
                if row[place] and place not in shared:
                    note = Text(f"{self.titles[place]}: {_one_line(row[place])}")
                    yield from _wrapped(note, console, width, _GAP)
        said = [f"{self.titles[place]} {self.rows[0][place] or 'none'}" for place in shared]
        gone = [self.titles[place] for place in left_out if place not in shared]
        sentences = [
            f"In every row: {', '.join(said)}." if said else "",
            f"Left out for want of room: {', '.join(gone)}." if gone else "",
            self.caption,
        ]
        if any(sentences):
            yield from _wrapped(Text(" ".join(filter(None, sentences)), "dim"), console, width)

    def _widths(self, columns: Collection[int], room: int) -> dict[int, int] | None:
        """How wide each column is, titles in one line as far as there is room; ``None`` if there is
        none for the others."""
        found = {
            c: max(map(cell_len, (*self.titles[c].split(), *(_one_line(r[c]) for r in self.rows))))
            for c in columns
        }
        left = room - sum(found.values()) - len(_GAP) * (len(found) - 1)
        if left < 0 or not found:
            return None
        for column, width in found.items():
            more = cell_len(self.titles[column]) - width
            if 0 < more <= left:
                found[column] = width + more
                left -= more
        return found

    def _head(self, widths: Mapping[int, int]) -> Iterator[Text]:
        titles = [
            textwrap.wrap(self.titles[column], max(width, 1), break_long_words=False)
            for column, width in widths.items()
        ]
        height = max(map(len, titles))
        for words in zip(*([""] * (height - len(lines)) + lines for lines in titles), strict=True):
            cells = (Text(word, "bold") for word in words)
            yield self._line(dict(zip(widths, cells, strict=True)), widths)

    def _line(self, cells: Mapping[int, Text], widths: Mapping[int, int]) -> Text:
        for column, width in widths.items():
            cells[column].align("left" if self.is_text(column) else "right", width)
        line = Text(_GAP).join(cells.values())
        line.rstrip()
        return line

    def _stacked(self, cells: Mapping[int, Text], room: int) -> Iterator[Text]:
        """A row as lines: its texts, then its numbers with their titles, as many as fit."""
        names = [cell for column, cell in cells.items() if self.is_text(column) and cell]
        yield Text(_GAP, "bold").join(names)
        line = Text()
        for column, cell in cells.items():
            if cell and not self.is_text(column):
                pair = Text(f"{_GAP}{self.titles[column]} ") + cell
                if line and line.cell_len + pair.cell_len > room:
                    yield line
                    line = Text()
                line += pair
        if line:
            yield line

    def markdown(self) -> str:
        """A pipe table (GitHub Flavored Markdown), without a line end."""
        rule = ["---" if self.is_text(column) else "---:" for column in range(len(self.titles))]
        escaped = ([_in_pipes(cell) for cell in row] for row in (self.titles, rule, *self.rows))
        return "\n".join(f"| {' | '.join(row)} |" for row in escaped)

    def html(self) -> Markup:
        """A ``table`` element whose first column heads the rows. Its class says whether it is too
        wide for a phone (``wide``), and for paper, too (``wider``)."""
        places = range(len(self.titles))
        too_wide = [self._widths(places, room) is None for room in (_PHONE, _PAPER)]
        kinds = [kind for kind, is_so in zip(("wide", "wider"), too_wide, strict=True) if is_so]
        head = [
            Markup('<th scope="col"{}>{}</th>').format(
                "" if self.is_text(column) else Markup(' class="number"'), title
            )
            for column, title in enumerate(self.titles)
        ]
        rows = []
        for number, row in enumerate(self.rows):
            cells = (self._html_cell(cell, number, column) for column, cell in enumerate(row))
            rows.append(Markup("<tr>{}</tr>").format(Markup("").join(cells)))
        whole = Markup("<table{}>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>")
        of_kind = Markup(' class="{}"').format(" ".join(kinds)) if kinds else ""
        return whole.format(of_kind, Markup("").join(head), Markup("\n").join(rows))

    def _html_cell(self, cell: str, row: int, column: int) -> Markup:
        if column == 0:
            return Markup('<th scope="row">{}</th>').format(cell)
        place = row, self.titles[column]
        kind = "text" if self.is_text(column) else "number"
        kind += " lead" if self.titles[column] in self.lead else ""
        strong = " strong" if place in self.strong else ""
        shade = self.shades.get(place)
        style = "" if shade is None else Markup(f' style="--share: {shade:.3f}"')
        title = Markup(' data-title="{}"').format(self.titles[column])
        whole = Markup('<td class="{}{}"{}{}>{}</td>')
        return whole.format(kind, strong, title, style, cell)


def _wrapped(text: Text, console: Console, room: int, indent: str = "") -> Iterator[Text]:
    for line in text.wrap(console, max(1, room - len(indent))):
        line.rstrip()
        yield Text(indent) + line


def _one_line(cell: str) -> str:
    return " ".join(cell.splitlines())


def _in_pipes(cell: str) -> str:
    return _one_line(cell.replace("|", "\\|"))


def model_as_shown(label: str, name: str) -> tuple[str, str]:
    """What a table calls a model, and what its caption says of it: a mark and its source where it
    is only a reconstruction, else nothing.

    Args:
        label: The model's label in the study.
        name: What it is to be called.
    """
    source = _reconstructed_from(label)
    if source is None:
        return name, ""
    said = f"{_RECONSTRUCTED} {name}: a reconstruction from {source}, not the authors' model."
    return f"{name}{_RECONSTRUCTED}", said


@functools.cache
def _reconstructed_from(label: str) -> str | None:
    """What the model that a label stands for was reconstructed from, if it was."""
    if not may_state("mgstudy.models", "mgstudy.models", label, "reconstructed_from"):
        return None
    # Models come with torch, which takes longer to import than a table to make.
    from mgstudy.models.base import models  # noqa: PLC0415

    for name, model in models.near(label).items():
        if label.startswith(name) and model.reconstructed_from is not None:
            return model.reconstructed_from
    return None
