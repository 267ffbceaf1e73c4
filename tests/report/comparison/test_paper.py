"""Tables for papers: names, datasets as columns, digits, an ablation, and widths as pdfTeX has
them."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from states import confirmed_cell, summary_of

from mgstudy.errors import InputError
from mgstudy.report.comparison.paper import PaperStyle, paper_table, to_latex, whole_method
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.latex import latex_table
from mgstudy.report.table import Table
from mgstudy.study.search.state import CellState

NAMES = {"mirror_gradient": "MG", "feature_noise": "noise", "recall@20": "R@20", "tiktok": "TikTok"}
METHODS = [
    ("plain", "none"),
    ("mirror_gradient", "none"),
    ("plain", "feature_noise+modality_dropout"),
    ("mirror_gradient", "feature_noise"),
    ("mirror_gradient", "feature_noise+modality_dropout"),
]


def cells(
    methods: Sequence[tuple[str, str]], datasets: Sequence[str] = ("tiktok",)
) -> list[CellState]:
    """A cell of each method and dataset; the later, the better it is."""
    made = []
    for number, (gradient, robust) in enumerate(methods):
        for place, dataset in enumerate(datasets):
            score = 0.1 + number / 100 + place / 10
            cell = confirmed_cell(gradient, [0.5], [score, score + 0.01, score + 0.02])
            levels = {**cell.levels, "dataset": dataset, "robust": robust}
            made.append(replace(cell, key="/".join(levels.values()), levels=levels))
    return made


def compared(
    found: Sequence[CellState], baseline: dict[str, str] | None = None, **settings: Any
) -> Comparison:
    popularity = {
        name: {"test": {"recall@20": 0.05}} for name in {c.levels["dataset"] for c in found}
    }
    study = summary_of(found, settings={"names": NAMES} | settings, popularity=popularity)
    return compare_studies([study], baseline, ["recall@20"])


def body(latex: str) -> list[str]:
    return [line for line in latex.splitlines() if line.endswith(r"\\")]


def test_names_are_those_of_the_study_file() -> None:
    head, *rows = body(to_latex(compared(cells(METHODS))))
    assert head == r"gradient & robust & R@20 & vs plain \\"
    assert rows[1].startswith("MG & none & ")
    assert rows[-2].startswith(r"MG & noise + modality\_dropout & \textbf{0.1500} $\pm$ 0.0248")
    assert rows[-1] == r"popularity (tiktok) &  & 0.0500 & -- \\"


def test_a_reconstruction_is_marked_by_whatever_name() -> None:
    found = [
        replace(cell, key=model, levels={**cell.levels, "model": model})
        for cell, model in zip(cells(METHODS[:1] * 2), ("HIIMA", "BPR"), strict=True)
    ]
    latex = to_latex(compared(found, names={"HIIMA": "Theirs", "model": "by"}))
    assert body(latex)[0].startswith("by & ") and body(latex)[1].startswith(r"Theirs$^{\S}$ & ")
    assert r"$^{\S}$ Theirs: a reconstruction from " in latex


def test_scores_are_written_as_asked() -> None:
    comparison = compared(cells(METHODS[:2]))
    rows = body(to_latex(comparison, style=PaperStyle(percent=True)))
    assert rows[0] == r"gradient & R@20 (\%) & vs plain \\"
    assert rows[1].startswith(r"plain & \underline{11.00} $\pm$ 2.48") and "5.00" in rows[-1]
    rows = body(to_latex(comparison, style=PaperStyle(digits=3)))
    assert rows[1].startswith(r"plain & \underline{0.110} $\pm$ 0.025")


def test_datasets_are_columns_with_a_difference_each() -> None:
    comparison = compared(cells(METHODS[:2], ["tiktok", "a_b"]))
    latex = to_latex(comparison, style=PaperStyle(by_dataset=True))
    above, head, plain, mirror, popularity = body(latex)
    assert above == r" & \multicolumn{2}{c}{TikTok} & \multicolumn{2}{c}{a\_b} \\"
    assert r"\cmidrule(lr){2-3}\cmidrule(lr){4-5}" in latex.splitlines()
    assert head == r"gradient & R@20 & vs plain & R@20 & vs plain \\"
    assert plain.count(r"\underline") == mirror.count(r"\textbf") == 2
    assert mirror.startswith("MG & ") and "+9.1" in mirror and "+4.8" in mirror
    assert popularity == r"popularity & 0.0500 & -- & 0.0500 & -- \\"


def test_an_ablation_names_what_is_gone_from_the_whole() -> None:
    found = cells(METHODS)
    whole = whole_method([summary_of(found)])
    assert whole == {"gradient": "mirror_gradient", "robust": "feature_noise+modality_dropout"}
    table = paper_table(compared(found, whole), style=PaperStyle(ablation=True))
    assert table.titles == ["variant", "R@20", "vs full"]
    assert [(row[0], row[2]) for row in table.rows] == [
        ("full", ""),
        ("w/o MG", "-13.3%"),
        ("w/o modality_dropout", "-6.7%"),
        ("w/o noise, modality_dropout", "-20.0%"),
        ("w/o MG, noise, modality_dropout", "-26.7%"),
        ("popularity (tiktok)", ""),
    ]
    assert "The full method is MG + noise + modality_dropout" in table.caption
    with pytest.raises(InputError, match="no method has all parts of the others: sam; give"):
        whole_method([summary_of(cells([*METHODS, ("sam", "none")]))])


def test_the_best_of_an_ablation_is_the_best_of_its_rows() -> None:
    """The last two cells have a part that the method lacks, and score more than all others."""
    beyond = [("sam", "feature_noise"), ("sam", "none")]
    found = cells([("plain", "none"), ("mirror_gradient", "none"), *beyond])
    whole = {"gradient": "mirror_gradient", "robust": "none"}
    table = paper_table(compared(found, whole), style=PaperStyle(ablation=True))
    assert [row[0] for row in table.rows] == ["full", "w/o MG", "popularity (tiktok)"]
    assert (table.strong, table.second) == ({(0, "R@20")}, {(1, "R@20")})
    assert "Cells with other parts, which are not shown: 2." in table.caption
    every = paper_table(compared(found, whole))
    assert every.strong == {(3, "R@20")} and "not shown" not in every.caption


def test_two_cells_of_one_row_are_refused() -> None:
    whole = {"gradient": "plain", "robust": "feature_noise+modality_dropout"}
    found = cells(
        [("plain", whole["robust"]), ("plain", "none"), ("plain", "modality_dropout+feature_noise")]
    )
    said = (
        "s/tiktok/M/plain/feature_noise[+]modality_dropout and "
        "s/tiktok/M/plain/modality_dropout[+]feature_noise have one place in the table, full; "
        "compare without --ablation"
    )
    with pytest.raises(InputError, match=said):
        paper_table(compared(found, whole), style=PaperStyle(ablation=True))
    alike = compared(cells(METHODS[:2]), names={"plain": "MG", "mirror_gradient": "MG"})
    with pytest.raises(
        InputError, match="have one place in the table, MG; give them other `names`"
    ):
        paper_table(alike)


DOCUMENTS = {
    "article": r"\documentclass[twocolumn]{article}\textwidth=506pt\columnsep=24pt",
    "paper": r"\documentclass[twocolumn,10pt]{article}\textwidth=516pt\columnsep=12pt",
}


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="no pdflatex here")
@pytest.mark.parametrize("document", DOCUMENTS)
def test_tables_fit_a_paper_in_two_columns(document: str, tmp_path: Path) -> None:
    datasets = ["tiktok", "amazon_baby", "amazon_sports"]
    comparison = compared(cells(METHODS, datasets))
    whole = whole_method(comparison.studies)
    ablation = compared(cells(METHODS), whole)
    wide = Table(
        ["model", *(f"METRIC{n}@20" for n in range(6))],
        [["FREEDOM", *["0.1234 ± 0.0012**"] * 6]],
        ["model"],
    )
    written = [
        to_latex(compared(cells(METHODS[:2])), style=PaperStyle(digits=3)),
        to_latex(comparison),
        to_latex(comparison, style=PaperStyle(by_dataset=True)),
        to_latex(ablation, style=PaperStyle(percent=True, ablation=True)),
        latex_table(wide, "wide"),
    ]
    floats = [re.findall(r"\\begin\{(table\*?)\}", latex)[0] for latex in written]
    assert floats[0] == "table" and floats[2] == floats[4] == "table*"
    boxes = []
    for latex, kind in zip(written, floats, strict=True):
        tabular = re.search(r"\\begin\{tabular\}.*\\end\{tabular\}", latex, re.DOTALL)
        size = re.search(r"\\centering(.*)", latex)
        assert tabular is not None and size is not None
        room = r"\textwidth" if kind == "table*" else r"\columnwidth"
        measured = rf"\typeout{{WIDTH \the\wd0 \space of \the{room}}}"
        boxes.append(rf"{{{size[1]}\setbox0=\hbox{{{tabular[0]}}}{measured}}}")
    text = "\n".join(
        [DOCUMENTS[document], r"\usepackage{booktabs}", r"\begin{document}", *written, *boxes]
    )
    (tmp_path / "paper.tex").write_text(text + "\n\\end{document}\n", "utf-8")
    done = subprocess.run(
        ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "paper.tex"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]
    found = re.findall(r"WIDTH ([\d.]+)pt of ([\d.]+)pt", done.stdout)
    assert len(found) == len(written)
    for latex, (width, room) in zip(written, found, strict=True):
        assert float(width) <= float(room), f"{width} > {room}: {latex}"
    assert r"Overfull \hbox" not in done.stdout
