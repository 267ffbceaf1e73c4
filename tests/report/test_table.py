from __future__ import annotations

import math
import random
import re
from io import StringIO

import pytest
from rich.console import Console

from mgstudy.report.latex import latex_table
from mgstudy.report.table import Table
from mgstudy.report.texts import count, duration, parameter_names, percent, relative, score

TABLE = Table(
    ["mo_del", "recall@20", "source"],
    [
        ["B&P <i>", "0.1200 ± 0.0100**‡", "x|y"],
        ["V [red]", "0.2000 ± 0.0300", r"~ 100% \n"],
        ["popularity", "", ""],
    ],
    texts=["mo_del", "source"],
    caption="‡ not < popularity.",
    strong={(1, "recall@20")},
    shades={(0, "recall@20"): 0.25},
    styles={(1, "mo_del"): "red"},
    rule_before={2},
)


def test_latex_has_booktabs_rules_and_nothing_that_latex_would_take_for_a_command() -> None:
    assert latex_table(TABLE, "a_b").splitlines() == [
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
    assert r"b & b \\" in latex_table(Table(["b", "b"], [["1", "2"]]), "twice")


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
        '<td class="number" data-title="recall@20" style="--share: 0.250">0.1200 ± 0.0100**‡</td>'
        '<td class="text" data-title="source">x|y</td></tr>'
    )
    assert '<td class="number strong" data-title="recall@20">0.2000 ± 0.0300</td>' in second


def test_a_table_says_for_what_it_is_too_wide_and_what_comes_first_then() -> None:
    def table(words: int) -> str:
        titles = ["model", "score", "verdict"]
        return Table(titles, [["BPR", "0.1", "x" * words]], ["model"], lead=["verdict"]).html()

    assert "<table>" in table(20)
    assert '<table class="wide">' in table(40)
    assert '<table class="wide wider">' in table(120)
    assert '<td class="number lead" data-title="verdict">x' in table(20)


def test_markdown_is_one_line_a_row() -> None:
    assert Table(["a", "b"], [["x|y", "two\nlines"]], texts=["a"]).markdown() == (
        "| a | b |\n| --- | ---: |\n| x\\|y | two lines |"
    )


def shown(table: Table, width: int) -> str:
    text = StringIO()
    Console(file=text, width=width).print(table)
    return text.getvalue()


def test_a_terminal_shows_square_brackets_and_numbers_at_the_right() -> None:
    table = Table(["name", "count"], [["[red]", "7"], ["b", "12"]], texts=["name"])
    assert shown(table, 40) == "name   count\n[red]      7\nb         12\n"


VERDICT = "no difference found after correction, p=0.021 before it (3 of 4 pairs of seeds)"
COMPARED = Table(
    ["data", "model", "gradient", "recall@20", "best ndcg@20", "verdict", "trials", "time"],
    [
        ["baby", "FREEDOM", "plain", "0.0991 ± 0.0012", "0.0431", "baseline", "20", "2 h 5 min"],
        ["baby", "VBPR", "mirror_gradient", "0.1021 ± 0.0012**", "0.0441", VERDICT, "20", "1 min"],
    ],
    texts=["data", "model", "gradient"],
    caption="Scores.",
    notes=["verdict"],
    spare=["trials", "time"],
    styles={(1, "best ndcg@20"): "red"},
)
"""177 columns wide."""


def test_a_wide_terminal_shows_everything_in_columns() -> None:
    head, first, _, caption = shown(COMPARED, 200).splitlines()
    assert head.split() == " ".join(COMPARED.titles).split()
    assert first.split() == " ".join(COMPARED.rows[0]).split()
    assert caption == "Scores."


def test_what_all_rows_share_is_said_once_and_no_more_leaves_than_must() -> None:
    # Without the dataset's column and with a title in two lines, the rest fits.
    *_, first, second, caption = shown(COMPARED, 145).splitlines()
    assert first.startswith("FREEDOM  plain ")
    assert second.endswith(f"{VERDICT}      1 min")
    assert caption == "In every row: data baby, trials 20. Scores."
    *_, second, caption = shown(COMPARED, 140).splitlines()
    assert second.endswith(VERDICT)
    assert caption == "In every row: data baby, trials 20. Left out for want of room: time. Scores."


def test_the_verdict_gets_a_line_of_its_own_where_that_makes_the_rest_fit() -> None:
    assert shown(COMPARED, 86).splitlines()[1] == (
        "baby  FREEDOM  plain              0.0991 ± 0.0012        0.0431      20  2 h 5 min"
    )
    assert shown(COMPARED, 70).splitlines() == [
        "model    gradient                 recall@20  best ndcg@20       time",
        "FREEDOM  plain              0.0991 ± 0.0012        0.0431  2 h 5 min",
        "  verdict: baseline",
        "VBPR     mirror_gradient  0.1021 ± 0.0012**        0.0441      1 min",
        "  verdict: no difference found after correction, p=0.021 before it (3",
        "  of 4 pairs of seeds)",
        "In every row: data baby, trials 20. Scores.",
    ]
    # Titles take two lines before anything is left out.
    assert shown(COMPARED, 64).splitlines()[:2] == [
        "                                                best",
        "model    gradient                 recall@20  ndcg@20       time",
    ]


def test_where_no_row_fits_each_becomes_lines() -> None:
    assert shown(COMPARED, 44).splitlines()[4:] == [
        "VBPR  mirror_gradient",
        "  recall@20 0.1021 ± 0.0012**",
        "  best ndcg@20 0.0441",
        "  verdict: no difference found after",
        "  correction, p=0.021 before it (3 of 4",
        "  pairs of seeds)",
        "In every row: data baby, trials 20. Left out",
        "for want of room: time. Scores.",
    ]


@pytest.mark.parametrize("width", [30, 44, 60, 80, 100, 140, 200])
def test_names_and_numbers_are_whole_at_every_width(width: int) -> None:
    text = shown(COMPARED, width)
    assert max(map(len, text.splitlines())) <= width
    kept = [cell for row in COMPARED.rows for cell in row[:5]]
    assert all(cell in text for cell in kept)
    assert " ".join(VERDICT.split()) in " ".join(text.split())


@pytest.mark.parametrize("seed", range(5))
def test_no_cell_of_any_table_is_cut_at_any_width(seed: int) -> None:
    """Whatever a table holds: names and numbers are whole, notes are there word for word, no line
    is too long, and a column that is not there is named below."""
    draw = random.Random(seed)

    def word() -> str:
        return "".join(draw.choices("abcdefgh0123456789.", k=draw.randint(1, 12)))

    kinds = draw.choices(["name", "number", "spare", "note", "same"], k=draw.randint(1, 10))
    titles = [f"{kind}-{place}" for place, kind in enumerate(["name", *kinds])]
    rows = [
        [
            " ".join(word() for _ in range(8)) if title.startswith("note")
            else "all" if title.startswith("same") else word()
            for title in titles
        ]
        for _ in range(draw.randint(1, 6))
    ]  # fmt: skip
    chosen = {
        kind: [title for title in titles if title.startswith(kind)]
        for kind in ("name", "spare", "note")
    }
    table = Table(titles, rows, chosen["name"], notes=chosen["note"], spare=chosen["spare"])
    for width in range(24, 240, 17):
        text = shown(table, width)
        assert max(map(len, text.splitlines())) <= width
        words = text.split()
        for row in rows:
            for title, cell in zip(titles, row, strict=True):
                left_out = title in " ".join(words).partition("Left out for want of room: ")[2]
                assert left_out or cell in " ".join(words), (title, width)
                assert not left_out or title.startswith("spare")


def test_colours_stay_with_their_cells() -> None:
    for width in (40, 80, 200):
        text = StringIO()
        Console(file=text, width=width, force_terminal=True, color_system="standard").print(
            COMPARED
        )
        found = re.findall("\x1b\\[31m *(.*?)\x1b", text.getvalue())
        assert found == ["0.0441"]


def test_a_row_for_each_cell_is_named_by_what_tells_it_from_the_others() -> None:
    one, other = ({"dataset": "a", "model": "BPR", "gradient": g} for g in ("plain", "sam"))
    table = Table.of_cells([(one, ["1", "x"]), (other, ["2", "y"])], ["n", "why"], texts=["why"])
    assert table.titles == ["gradient", "n", "why"]
    assert table.rows == [["plain", "1", "x"], ["sam", "2", "y"]]
    assert [table.is_text(column) for column in range(3)] == [True, False, True]
    alone = Table.of_cells([(one, ["1"])], ["n"])
    assert alone.rows == [["BPR", "1"]]
    assert Table.of_cells([(one, ["1"])], ["n"], among=[one, other]).rows == [["plain", "1"]]


# Numbers.


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (59.4, "59 s"),
        (59.6, "1 min 0 s"),
        (200, "3 min 20 s"),
        (3599.7, "1 h 0 min"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_said_as_people_do(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_what_is_not_there_is_empty() -> None:
    assert [score(0.12345), score(None), score(math.nan)] == ["0.1235", "", ""]
    # No change has a sign too, but never a minus.
    assert [percent(0.0321), percent(-0.0001), percent(None)] == ["+3.2%", "+0.0%", ""]


def test_many_are_counted_in_thousands_and_millions() -> None:
    assert [count(n) for n in (950, 9999, 38_400, 1_240_000)] == ["950", "9999", "38k", "1.2M"]


def test_a_parameter_is_called_by_its_last_name_where_no_cell_has_two_of_it() -> None:
    twice = ["model.FREEDOM.dropout", "robust.r_drop.dropout"]
    alone = ["gradient.mirror_gradient.alpha2", "embedding_size", "model.VBPR.dropout"]
    assert list(parameter_names([alone]).values()) == ["embedding_size", "alpha2", "dropout"]
    of_all = parameter_names([frozenset(twice), alone])
    assert [of_all[name] for name in twice] == twice
    assert of_all["gradient.mirror_gradient.alpha2"] == "alpha2"
    # In two cells, one column is enough for both.
    assert set(parameter_names([twice[:1], twice[1:]]).values()) == {"dropout"}


def test_a_relative_difference_has_the_sign_of_the_difference() -> None:
    assert [relative(0.1, 0.2), relative(0.1, -0.2), relative(-0.1, -0.2)] == [0.5, 0.5, -0.5]
    assert math.isnan(relative(0.1, 0.0))


def test_a_cell_that_lacks_a_factor_has_a_row_too() -> None:
    """As the cells of an earlier launch may."""
    had, lacks = {"model": "BPR", "completion": "mean"}, {"model": "VBPR"}
    table = Table.of_cells([(had, ["1"]), (lacks, ["2"])], ["n"])
    assert table.rows == [["BPR", "mean", "1"], ["VBPR", "", "2"]]


def test_a_reconstructed_model_is_marked_and_the_caption_says_so() -> None:
    rows = [["BPR", "0.1"], ["HIIMA", "0.2"], ["HIIMA_small", "0.3"], ["popularity", ""]]
    table = Table(["model", "recall@20"], rows, ["model"], "Scores.")
    assert [row[0] for row in table.rows] == ["BPR", "HIIMA§", "HIIMA_small§", "popularity"]
    said = "HIIMA: a reconstruction from the title of its paper, not the authors' model."
    assert table.caption.startswith(f"Scores. § {said}")
    assert r"HIIMA$^{\S}$ & 0.2" in latex_table(table, "a")
    plain = Table(["model", "recall@20"], [["BPR", "0.1"]], ["model"], "Scores.")
    assert plain.caption == "Scores."
