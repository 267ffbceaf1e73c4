"""Tables of texts, described once and shown in a terminal, in Markdown, in LaTeX and in HTML."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from markupsafe import Markup
from rich.table import Table as RichTable
from rich.text import Text

Place = tuple[int, int]
"""A row and a column, counted from 0."""

_LATEX_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "×": r"$\times$", "|": r"$|$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip
_MARKS = re.compile(r"[*‡]+")
"""Marks of a number that a caption explains: raised in LaTeX."""


@dataclass(frozen=True)
class Table:
    """A table of texts.

    >>> rows = [["BPR", "0.0312"], ["VBPR", "0.0471"]]
    >>> table = Table(["model", "recall@20"], rows, texts=[0], styles={(1, 1): "green"})
    >>> console.print(table.rich())  # doctest: +SKIP
    >>> print(table.markdown())
    | model | recall@20 |
    | --- | ---: |
    | BPR | 0.0312 |
    | VBPR | 0.0471 |

    Attributes:
        titles: Its columns.
        rows: Its cells, each row as wide as ``titles``.
        texts: Places of the columns that hold text, aligned left; the others hold numbers, aligned
            right. All hold text when not given.
        caption: What it shows; part of the LaTeX alone, since a terminal, Markdown and a page set
            it apart in ways of their own.
        strong: Cells that stand out: in bold, of which LaTeX takes the first word.
        shades: Cells to a share from 0 to 1 that their background shows in HTML.
        styles: Cells to a style of rich in a terminal, for example ``red``.
        rule_before: Rows that LaTeX sets apart by a rule above them.
    """

    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Collection[int] | None = None
    caption: str = ""
    strong: Collection[Place] = frozenset()
    shades: Mapping[Place, float] = field(default_factory=dict)
    styles: Mapping[Place, str] = field(default_factory=dict)
    rule_before: Collection[int] = frozenset()

    def is_text(self, column: int) -> bool:
        """Whether a column holds text."""
        return self.texts is None or column in self.texts

    def only(self, titles: Sequence[str]) -> Table:
        """The columns of these titles, in this order, without what is said of single cells."""
        places = [list(self.titles).index(title) for title in titles]
        return Table(
            titles,
            [[row[place] for place in places] for row in self.rows],
            [number for number, place in enumerate(places) if self.is_text(place)],
            self.caption,
            rule_before=self.rule_before,
        )

    def rich(self) -> RichTable:
        """For a terminal. What does not fit into its width is folded: no character is lost."""
        shown = RichTable(box=None, pad_edge=False, padding=(0, 2, 0, 0))
        for column, title in enumerate(self.titles):
            justify: Literal["left", "right"] = "left" if self.is_text(column) else "right"
            shown.add_column(Text(title), justify=justify, overflow="fold")
        for number, row in enumerate(self.rows):
            styles = [self.styles.get((number, column), "") for column in range(len(row))]
            # As texts, since square brackets in cells are meant and no markup.
            shown.add_row(*(Text(cell, style) for cell, style in zip(row, styles, strict=True)))
        return shown

    def markdown(self) -> str:
        """A pipe table (GitHub Flavored Markdown), without a line end."""
        rule = ["---" if self.is_text(column) else "---:" for column in range(len(self.titles))]
        escaped = ([_in_pipes(cell) for cell in row] for row in (self.titles, rule, *self.rows))
        return "\n".join(f"| {' | '.join(row)} |" for row in escaped)

    def latex(self, label: str) -> str:
        r"""A floating table with booktabs' rules, which needs ``\usepackage{booktabs}``.

        Args:
            label: What ``\ref`` calls it, after ``tab:``.
        """
        import pandas as pd  # noqa: PLC0415

        rows = [
            [self._latex_cell(cell, number, column) for column, cell in enumerate(row)]
            for number, row in enumerate(self.rows)
        ]
        for number in self.rule_before:
            rows[number][0] = f"\\midrule\n{rows[number][0]}"
        titles = [_latex(title) for title in self.titles]
        alignment = ["l" if self.is_text(column) else "r" for column in range(len(titles))]
        return (
            pd.DataFrame(rows, columns=titles)
            .style.hide(axis="index")
            .to_latex(
                column_format="".join(alignment),
                position="t",
                position_float="centering",
                hrules=True,
                label=f"tab:{label}",
                caption=_latex(self.caption) or None,
            )
        )

    def html(self) -> Markup:
        """A ``table`` element whose first column heads the rows."""
        kinds = ["text" if self.is_text(column) else "number" for column in range(len(self.titles))]
        head = Markup("").join(
            Markup('<th scope="col"{}>{}</th>').format(
                Markup(' class="number"') if kind == "number" else "", title
            )
            for kind, title in zip(kinds, self.titles, strict=True)
        )
        body = Markup("\n").join(
            Markup("<tr>{}</tr>").format(
                Markup("").join(
                    self._html_cell(cell, (number, column), kinds[column])
                    for column, cell in enumerate(row)
                )
            )
            for number, row in enumerate(self.rows)
        )
        whole = Markup("<table>\n<thead><tr>{}</tr></thead>\n<tbody>\n{}\n</tbody>\n</table>")
        return whole.format(head, body)

    def _latex_cell(self, cell: str, row: int, column: int) -> str:
        if not cell:
            return "" if self.is_text(column) else "--"
        if (row, column) not in self.strong:
            return _latex(cell)
        number, separator, rest = cell.partition(" ")
        return rf"\textbf{{{_latex(number)}}}{separator}{_latex(rest)}"

    def _html_cell(self, cell: str, place: Place, kind: str) -> Markup:
        if place[1] == 0:
            return Markup('<th scope="row">{}</th>').format(cell)
        strong = " strong" if place in self.strong else ""
        shade = self.shades.get(place)
        style = "" if shade is None else Markup(f' style="--share: {shade:.3f}"')
        return Markup('<td class="{}{}"{}>{}</td>').format(kind, strong, style, cell)


def _in_pipes(cell: str) -> str:
    return " ".join(cell.replace("|", "\\|").splitlines())


def _latex(text: str) -> str:
    escaped = "".join(_LATEX_SPECIAL.get(letter, letter) for letter in text)
    return _MARKS.sub(lambda found: "$^{" + found[0].replace("‡", r"\ddagger") + "}$", escaped)
