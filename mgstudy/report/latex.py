"""A table for a paper: LaTeX, as wide as a column."""

from __future__ import annotations

import itertools
import re

import pandas as pd

from mgstudy.report.table import Table

_SPECIAL = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "±": r"$\pm$", "×": r"$\times$", "|": r"$|$", "<": r"$<$", ">": r"$>$",
}  # fmt: skip
_MARKS = re.compile(r"[*†‡§]+")
"""Marks of a number or name that a caption explains: raised in LaTeX."""
_DAGGERS = str.maketrans({"†": r"\dagger", "‡": r"\ddagger", "§": r"\S"})
_SMALL = r"\setlength{\tabcolsep}{3pt}"
_SIZES = (
    ("table", 240.0, "", 5.0, 6.0),
    ("table", 240.0, rf"\small{_SMALL}", 4.6, 3.0),
    ("table*", 500.0, "", 5.0, 6.0),
    ("table*", 500.0, rf"\small{_SMALL}", 4.6, 3.0),
    ("table*", 500.0, rf"\footnotesize{_SMALL}", 4.2, 3.0),
    ("table*", 500.0, rf"\scriptsize{_SMALL}", 3.7, 3.0),
)
"""What a table of LaTeX may be, the best first: the environment, its room (of one column or two of
ACM's and IEEE's papers) in points, the size of the type, how wide a digit is, rather too much, and
the space at each side of a column."""
_NOTE_EM = 12
"""Width of a column of words in LaTeX, in em."""


def latex_table(table: Table, label: str) -> str:
    r"""A floating table with booktabs' rules, which needs ``\usepackage{booktabs}``.

    It fits one column of a paper in two columns (ACM's and IEEE's at least), or else both, in type
    that is made smaller where it must be.

    Args:
        table: The table.
        label: What ``\ref`` calls it, after ``tab:``.
    """
    rows = [
        [_cell(table, cell, number, column) for column, cell in enumerate(row)]
        for number, row in enumerate(table.rows)
    ]
    for number in table.rule_before:
        rows[number][0] = f"\\midrule\n{rows[number][0]}"
    titles = [table.spans.get(title, ("", title)) for title in table.titles]
    heads = [(_escaped(above), _escaped(title)) for above, title in titles]
    columns = pd.MultiIndex.from_tuples(heads) if table.spans else [title for _, title in heads]
    float_, size = _float(table)
    text = (
        pd.DataFrame(rows, columns=columns)
        .style.hide(axis="index")
        .to_latex(
            column_format="".join(
                rf"p{{{_NOTE_EM}em}}" if title in table.notes else "l" if table.is_text(c) else "r"
                for c, title in enumerate(table.titles)
            ),
            position="t",
            position_float="centering",
            environment=float_,
            hrules=True,
            multicol_align="c",
            label=f"tab:{label}",
            caption=_escaped(table.caption) or None,
        )
    )
    if size:
        text = text.replace("\\centering\n", f"\\centering{size}\n", 1)
    return _with_rules_below_spans(table, text)


def _float(table: Table) -> tuple[str, str]:
    """The environment that the table fits into, and the size of its type."""
    letters = sum(
        max(
            _letters(text)
            for text in (table.spans.get(title, ("", title))[1], *(row[c] for row in table.rows))
        )
        if title not in table.notes
        else 2.0 * _NOTE_EM
        for c, title in enumerate(table.titles)
    )
    fitting = (
        (float_, size)
        for float_, room, size, points, gap in _SIZES
        if letters * points + 2 * gap * len(table.titles) <= room
    )
    return next(fitting, ("table*", _SIZES[-1][2]))


def _with_rules_below_spans(table: Table, text: str) -> str:
    """The head of the table with a short rule below what spans several columns."""
    if not table.spans:
        return text
    above = [table.spans.get(title, ("", ""))[0] for title in table.titles]
    rules, column = [], 0
    for name, of in itertools.groupby(above):
        width = len(list(of))
        if name:
            rules.append(rf"\cmidrule(lr){{{column + 1}-{column + width}}}")
        column += width
    head, toprule, rest = text.partition("\\toprule\n")
    first, line_end, rest = rest.partition("\n")
    return f"{head}{toprule}{first}{line_end}{''.join(rules)}\n{rest}"


def _cell(table: Table, cell: str, row: int, column: int) -> str:
    if not cell:
        return "" if table.is_text(column) else "--"
    place = row, table.titles[column]
    command = "textbf" if place in table.strong else "underline" if place in table.second else ""
    if not command:
        return _escaped(cell)
    number, separator, rest = cell.partition(" ")
    return rf"\{command}{{{_escaped(number)}}}{separator}{_escaped(rest)}"


def _letters(text: str) -> float:
    """How wide a text is in LaTeX, in letters of half the type's size."""
    return sum(1.6 if letter.isupper() or letter in "mw%±" else 1.0 for letter in text)


def _escaped(text: str) -> str:
    escaped = "".join(_SPECIAL.get(letter, letter) for letter in text)
    return _MARKS.sub(lambda found: "$^{" + found[0].translate(_DAGGERS) + "}$", escaped)
