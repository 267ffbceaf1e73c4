"""A study's report: everything it says, and the HTML file it is laid out in, which loads nothing.

Its plots are drawn by plotly in the reader's browser, in the colours of the page; where no script
runs, and on paper, there are pictures in their place.
"""

from __future__ import annotations

import base64
import importlib.resources
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs
from plotly.utils import PlotlyJSONEncoder

from mgstudy.config.factors import level_label
from mgstudy.config.reading import yaml_text
from mgstudy.data.loading import read_manifest
from mgstudy.data.manifest import Manifest as PreparedManifest
from mgstudy.errors import MgstudyError
from mgstudy.files import written_whole
from mgstudy.report.comparison.answer import said_together, tested
from mgstudy.report.comparison.formats import comparison_table
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.drawn import plotly_figure, svg
from mgstudy.report.figures import Drawing, Figure
from mgstudy.report.importance import FEWEST_TRIALS_FOR_IMPORTANCE
from mgstudy.report.page import scores, strengths, tables
from mgstudy.report.page.fronts import fronts
from mgstudy.report.results import StudyResults
from mgstudy.report.table import Table
from mgstudy.report.texts import duration, percent
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.rounds import is_baseline
from mgstudy.workspace import Workspace


@dataclass(frozen=True)
class Section:
    """A part of the report: figures and tables, or why there are none.

    Attributes:
        name: Its anchor.
        title: Its heading.
        parts: Figures and tables, in order.
        absent: What is said in their place.
    """

    name: str
    title: str
    parts: Sequence[Figure | Table]
    absent: str = ""


@dataclass(frozen=True)
class ReportContent:
    """A report before it is laid out.

    Attributes:
        study: The study's name.
        question: What it asks.
        written: When the report was made, ISO 8601 in UTC.
        facts: Short facts under the question: cells, trials, time.
        verdict: The answer and the pooled estimates, a sentence each; of a single comparison its
            verdict.
        missing: What cannot be said, and what would have to be run.
        sections: The rest, in order.
        commands: What reproduces the study.
        pipelines: Each dataset's name to its pipeline file, as YAML.
        provenance: Name to value: versions, revision, seeds, fingerprints.
        configuration: The study file as it was understood, as YAML.
    """

    study: str
    question: str
    written: str
    facts: Sequence[tuple[str, str]]
    verdict: Sequence[str]
    missing: Sequence[str]
    sections: Sequence[Section]
    commands: Sequence[str]
    pipelines: Mapping[str, str]
    provenance: Sequence[tuple[str, str]]
    configuration: str


def report_content(
    summary: StudySummary,
    workspace: Workspace | None = None,
    baselines: Sequence[Mapping[str, str]] = (),
) -> ReportContent:
    """Collect what the report of a study says.

    Args:
        summary: The study.
        workspace: Where its datasets are, to tell of them.
        baselines: The levels of what cells are compared with; those of the study's questions when
            not given. Of several, each has a section.
    """
    manifest = summary.manifest
    baseline, *others = baselines or summary.baselines
    comparison = compare_studies([summary], baseline)
    drawing = Drawing(summary, baseline, _logarithmic(manifest))
    further = [compare_studies([summary], other) for other in others]
    prepared = {} if workspace is None else _prepared(manifest, workspace)
    pipelines = {
        of.name: yaml_text(of.pipeline.model_dump(mode="json")) for of in prepared.values()
    }
    sections = (
        Section(
            "comparison",
            "Comparison",
            _given(
                scores.differences(drawing, comparison),
                # The page has a table of its own for what the search has spent.
                comparison_table(comparison, costs=False),
                scores.scores(drawing, comparison),
                tables.every_metric(comparison),
            ),
        ),
        *(_further(of, summary, number) for number, of in enumerate(further, start=2)),
        *(
            [Section("fronts", "Objectives together", [front], "")]
            if (front := fronts(drawing)) is not None
            else ()
        ),
        Section(
            "strengths",
            "Effect of interval and strengths",
            _given(strengths.strengths(drawing), strengths.surfaces(drawing)),
            "No strength of what is compared was searched, or no trial that searched one is "
            "complete.",
        ),
        Section(
            "robustness",
            "Accuracy against robustness",
            scores.accuracy_against_robustness(drawing, StudyResults(summary).robustness()),
            f"No risk was measured; `mgstudy robustness {summary.name}` measures them, and the "
            "report written after it shows them here.",
        ),
        Section(
            "curves", "Learning curves", _given(scores.curves(drawing)), "No trial is complete."
        ),
        Section(
            "importance",
            "Parameter importance",
            _given(tables.importances(summary)),
            f"No cell has {FEWEST_TRIALS_FOR_IMPORTANCE} completed trials with different "
            "scores, which an estimate needs.",
        ),
        Section(
            "trials",
            "What was pruned, what failed",
            _given(
                tables.outcomes(summary),
                tables.failures(summary),
                tables.endings(summary),
                tables.left_out(summary),
            ),
        ),
        Section("cost", "Cost", [tables.costs(summary, manifest.config.resources.cpu)]),
        Section(
            "appendix",
            "Winners and datasets",
            _given(tables.winners(summary), tables.datasets(prepared)),
            "Nothing was searched, and the datasets are not in the workspace as they were.",
        ),
    )
    return ReportContent(
        study=summary.name,
        question=summary.question,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        facts=_facts(summary),
        verdict=[
            *_verdict(comparison),
            *(
                f"Against {_levels(of.baseline)}: {said}"
                for of in further
                # That there is no verdict yet is said of all at once.
                if of.split == "test"
                for said in _verdict(of)
            ),
        ],
        missing=_missing(summary, baseline),
        sections=sections,
        commands=[
            *(
                f"mgstudy prepare {name}-pipeline.yaml    # its pipeline below, under this name"
                for name in pipelines
            ),
            f"mgstudy launch {summary.name}.yaml    # the configuration below, saved under this "
            "name",
            f"mgstudy compare {summary.name}",
            f"mgstudy report {summary.name}",
        ],
        pipelines=pipelines,
        provenance=_provenance(manifest),
        configuration=yaml_text(manifest.config.model_dump(mode="json")),
    )


def _further(comparison: Comparison, summary: StudySummary, number: int) -> Section:
    """The comparison with another baseline."""
    drawing = Drawing(summary, comparison.baseline, frozenset())
    figure = scores.differences(drawing, comparison)
    if figure is not None:
        figure = replace(figure, name=f"{figure.name}-{number}")
    return Section(
        f"comparison-{number}",
        f"Comparison with {_levels(comparison.baseline)}",
        _given(figure, comparison_table(comparison, costs=False)),
    )


def _levels(baseline: Mapping[str, str]) -> str:
    return ", ".join(f"{factor}={level}" for factor, level in baseline.items())


def _prepared(manifest: StudyManifest, workspace: Workspace) -> dict[str, PreparedManifest]:
    """The manifests of the datasets, by their level's label, as far as they are as they were."""
    found = {}
    for level in manifest.config.factors.dataset:
        label = level_label(level)
        try:
            prepared = read_manifest(workspace, level if isinstance(level, str) else level.name)
        except MgstudyError:
            continue
        recorded = manifest.datasets.get(label)
        if recorded and prepared.interactions.key == recorded.interactions:
            found[label] = prepared
    return found


def _given(*parts: Figure | Table | None) -> list[Figure | Table]:
    return [part for part in parts if part is not None]


def _logarithmic(manifest: StudyManifest) -> frozenset[str]:
    return frozenset(
        name
        for cell in manifest.cells
        for name, space in cell.spaces.items()
        if isinstance(space, dict) and next(iter(space)).startswith("log")
    )


def _facts(summary: StudySummary) -> list[tuple[str, str]]:
    totals = sum((Counter(cell.counts) for cell in summary.cells), Counter[str]())
    seconds = sum(cell.seconds() for cell in summary.cells)
    state = "finished" if summary.finished else "running" if summary.driven else "not finished"
    return [
        ("state", state),
        ("cells", str(len(summary.cells))),
        *([("origin", summary.forked)] if summary.forked else ()),
        *([("no longer asked for", ", ".join(summary.hidden))] if summary.hidden else ()),
        ("trials", ", ".join(f"{count} {name}" for name, count in totals.items())),
        ("training time", duration(seconds)),
    ]


def _verdict(comparison: Comparison) -> list[str]:
    together = said_together(comparison)
    if len(tested(comparison)) > 1:
        return together
    if comparison.split == "validation":
        return [
            "There is no verdict yet: no winner was trained again under fresh seeds and scored on "
            "the test split. What follows is what the search found on the validation split that "
            "chose it, with one seed each."
        ]
    factors = comparison.varying_factors()
    return [
        f"{' '.join(str(row[name]) for name in factors)}: {row['verdict']} "
        f"({comparison.objective} {percent(row['relative_difference'])})."
        for row in comparison.of(comparison.objective).to_dict("records")
        if row["verdict"] != "baseline" and not pd.isna(row["relative_difference"])
    ] or ["Nothing could be compared on the test split."]


def _missing(summary: StudySummary, baseline: Mapping[str, str]) -> list[str]:
    missing = []
    waiting = sum(cell.counts["waiting"] + cell.counts["running"] for cell in summary.cells)
    if waiting:
        missing.append(f"{waiting} trials have not ended; launching the study again runs them.")
    replicates = sum(
        cell.confirmation_counts["waiting"] + cell.confirmation_counts["running"]
        for cell in summary.cells
    )
    if replicates and not waiting:
        missing.append(f"{replicates} confirmations have not ended.")
    if not any(cell.seeds for cell in summary.cells):
        missing.append(
            "No confirmation was asked for (`confirmation: {seeds: 5}`): nothing is known of the "
            "test split, nor of how much another seed would change."
        )
    without = [cell.key for cell in summary.cells if cell.best is None]
    if without:
        missing.append(f"Without a completed trial: {', '.join(without)}.")
    if len(summary.cells) == 1:
        missing.append("The study has one cell: there is nothing to compare it with.")
    elif not any(is_baseline(cell, baseline) for cell in summary.cells):
        missing.append(f"No cell has the baseline's levels ({_levels(baseline)}).")
    return missing


def _provenance(manifest: StudyManifest) -> list[tuple[str, str]]:
    environment, config = manifest.environment, manifest.config
    found = [
        ("last launched", manifest.launched),
        ("git revision", environment.git_revision or "not a checkout"),
        ("Python", environment.python),
        *((name, version) for name, version in environment.packages.items()),
        ("platform", environment.platform),
        ("processor", environment.processor),
        ("study seed", str(config.seed)),
        ("training seeds", ", ".join(map(str, config.factors.seed))),
    ]
    for name, dataset in manifest.datasets.items():
        found.append((f"dataset {name}, interactions", dataset.interactions))
        found += [
            (f"dataset {name}, {modality}", key) for modality, key in dataset.features.items()
        ]
    return found


def render(content: ReportContent) -> str:
    """The report as an HTML document: style, scripts, data and pictures are in it."""
    pictures: dict[str, str] = {}
    plots: dict[str, Any] = {}
    for section in content.sections:
        for figure in section.parts:
            if isinstance(figure, Figure):
                for number, panel in enumerate(figure.panels, start=1):
                    name = f"{figure.name}-{number}"
                    pictures[name] = _data_address(svg(panel, figure.wide))
                    plots[name] = plotly_figure(panel)
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(_template_file("report.html.j2")).render(
        content=content,
        pictures=pictures,
        plots=_json_in_html(plots),
        style=Markup(_template_file("report.css")),
        script=Markup(_template_file("report.js")),
        plotly=Markup(get_plotlyjs()),
    )


def save_report(document: str, path: Path) -> None:
    """Write a rendered report to a file, whole or not at all.

    Raises:
        InputError: If ``path`` is a folder, a pipe or a device.
        MgstudyError: If the file cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MgstudyError(f"{path.parent}: cannot be made: {error.strerror}") from error
    with written_whole(path) as file:
        file.write(document.encode())


def _template_file(name: str) -> str:
    return importlib.resources.files(__package__).joinpath("template", name).read_text("utf-8")


def _json_in_html(content: Any) -> Markup:
    """JSON that can stand in a script element: nothing in it can end the element."""
    text = json.dumps(content, cls=PlotlyJSONEncoder, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c").replace("&", "\\u0026"))


def _data_address(document: str) -> str:
    return f"data:image/svg+xml;base64,{base64.b64encode(document.encode()).decode()}"
