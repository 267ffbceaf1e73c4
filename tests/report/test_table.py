from __future__ import annotations

import re
from io import StringIO

from rich.console import Console

from mgstudy.report.table import Table

TABLE = Table(
    ["mo_del", "recall@20", "source"],
    [
        ["B&P <i>", "0.1200 ± 0.0100**‡", "x|y"],
        ["V [red]", "0.2000 ± 0.0300", r"~ 100% \n"],
        ["popularity", "", ""],
    ],
    texts=[0, 2],
    caption="‡ not < popularity.",
    strong={(1, 1)},
    shades={(0, 1): 0.25},
    styles={(1, 0): "red"},
    rule_before={2},
)


def test_latex_has_booktabs_rules_and_nothing_that_latex_would_take_for_a_command() -> None:
    assert TABLE.latex("a_b").splitlines() == [
        r"\begin{table}[t]",
        r"\centering",
        r"\caption{$^{\ddagger}$ not $<$ popularity.}",
        r"\label{tab:a_b}",
        r"\begin{tabular}{lrl}",
        r"\toprule",
        r"mo\_del & recall@20 & source \\",
        r"\midrule",
        r"B\&P $<$i$>$ & 0.1200 $\pm$ 0.0100$^{**\ddagger}$ & x$|$y \\",
        r"V [red] & \textbf{0.2000} $\pm$ 0.0300 & \textasciitilde{} 100\% \textbackslash{}n \\",
        r"\midrule",
        r"popularity & -- &  \\",
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table}",
    ]


def test_titles_that_are_the_same_stay_two_columns() -> None:
    assert r"b & b \\" in Table(["b", "b"], [["1", "2"]]).latex("twice")


def test_html_is_text_and_no_markup() -> None:
    html = TABLE.html()
    assert re.findall(r"<th scope=\"col\"[^>]*>[^<]*</th>", html) == [
        '<th scope="col">mo_del</th>',
        '<th scope="col" class="number">recall@20</th>',
        '<th scope="col">source</th>',
    ]
    first, second, _ = re.findall("<tr><th scope=.row.*</tr>", html)
    assert first == (
        '<tr><th scope="row">B&amp;P &lt;i&gt;</th>'
        '<td class="number" style="--share: 0.250">0.1200 ± 0.0100**‡</td>'
        '<td class="text">x|y</td></tr>'
    )
    assert '<td class="number strong">0.2000 ± 0.0300</td>' in second


def test_markdown_is_one_line_a_row() -> None:
    assert Table(["a", "b"], [["x|y", "two\nlines"]], texts=[0]).markdown() == (
        "| a | b |\n| --- | ---: |\n| x\\|y | two lines |"
    )


def shown(table: Table, width: int) -> str:
    text = StringIO()
    Console(file=text, width=width).print(table.rich())
    return text.getvalue()


def test_a_terminal_shows_square_brackets_and_numbers_at_the_right() -> None:
    table = Table(["name", "count"], [["[red]", "7"], ["b", "12"]], texts=[0])
    assert shown(table, 40) == "name   count\n[red]      7\nb         12\n"


def test_a_narrow_terminal_folds_and_loses_nothing() -> None:
    wide, narrow = shown(TABLE, 200), shown(TABLE, 24)
    assert max(map(len, narrow.splitlines())) <= 24
    assert sorted("".join(narrow.split())) == sorted("".join(wide.split()))


def test_columns_are_taken_by_their_titles() -> None:
    table = TABLE.only(["source", "recall@20"])
    assert table.rows[0] == ["x|y", "0.1200 ± 0.0100**‡"]
    assert [table.is_text(column) for column in range(2)] == [True, False]
