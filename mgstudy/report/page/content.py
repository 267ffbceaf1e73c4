"""Everything that a study's report says, before it is laid out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import pandas as pd

from mgstudy.config.reading import yaml_text
from mgstudy.report.comparison.baselines import DEFAULT_BASELINE, is_baseline
from mgstudy.report.comparison.formats import comparison_table
from mgstudy.report.comparison.studies import Comparison, compare_studies
from mgstudy.report.figures import Drawing, Figure
from mgstudy.report.numbers import duration, percent, score
from mgstudy.report.page import scores, strengths, tables
from mgstudy.report.robustness.comparison import load_robustness
from mgstudy.report.table import Table
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.results.summary import StudySummary

_SPENT = ("trials", "gradients", "time")


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
        verdict: What can be said, a sentence each.
        missing: What cannot be said, and what would have to be run.
        sections: The rest, in order.
        commands: What reproduces the study.
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
    provenance: Sequence[tuple[str, str]]
    configuration: str


def report_content(
    summary: StudySummary, baseline: Mapping[str, str] | None = None
) -> ReportContent:
    """Collect what the report of a study says."""
    manifest = summary.manifest
    chosen = DEFAULT_BASELINE if baseline is None else baseline
    comparison = compare_studies([summary], chosen)
    drawing = Drawing(summary, chosen, _logarithmic(manifest))
    processors = manifest.config.resources.cpu
    importance = tables.importances(summary)
    by_strength = [strengths.strengths(drawing), strengths.surfaces(drawing)]
    dots, curves = scores.scores(drawing, comparison), scores.curves(drawing)
    ended = [tables.outcomes(summary), tables.failures(summary), tables.endings(summary)]
    sections = (
        Section(
            "comparison",
            "Comparison",
            [_table(comparison), *([] if dots is None else [dots]), _every_metric(comparison)],
        ),
        Section(
            "strengths",
            "Effect of interval and strengths",
            [figure for figure in by_strength if figure is not None],
            "No strength of what is compared was searched, or no trial that searched one is "
            "complete.",
        ),
        Section(
            "robustness",
            "Accuracy against robustness",
            scores.accuracy_against_robustness(drawing, load_robustness(summary.folder)),
            f"No risk was measured; `mgstudy robustness {summary.name}` measures them, and the "
            "report written after it shows them here.",
        ),
        Section(
            "curves",
            "Learning curves",
            [curves] if curves is not None else [],
            "No trial is complete.",
        ),
        Section(
            "importance",
            "Parameter importance",
            [importance] if importance is not None else [],
            f"No cell has {tables.FEWEST_TRIALS_FOR_IMPORTANCE} completed trials with different "
            "scores, which an estimate needs.",
        ),
        Section(
            "trials",
            "What was pruned, what failed",
            [table for table in (*ended, tables.left_out(summary)) if table is not None],
        ),
        Section("cost", "Cost", [tables.costs(summary, chosen, processors)]),
    )
    return ReportContent(
        study=summary.name,
        question=summary.question,
        written=datetime.now(UTC).isoformat(timespec="seconds"),
        facts=_facts(summary),
        verdict=_verdict(comparison),
        missing=_missing(summary, chosen),
        sections=sections,
        commands=_commands(summary.name),
        provenance=_provenance(manifest),
        configuration=yaml_text(manifest.config.model_dump(mode="json")),
    )


def _logarithmic(manifest: StudyManifest) -> frozenset[str]:
    return frozenset(
        name
        for cell in manifest.cells
        for name, space in cell.spaces.items()
        if isinstance(space, dict) and next(iter(space)).startswith("log")
    )


def _facts(summary: StudySummary) -> list[tuple[str, str]]:
    totals = {
        state: sum(cell.counts[state] for cell in summary.cells)
        for state in ("complete", "pruned", "failed", "running", "waiting")
    }
    seconds = sum(cell.seconds() for cell in summary.cells)
    state = "finished" if summary.finished else "running" if summary.driven else "not finished"
    return [
        ("state", state),
        ("cells", str(len(summary.cells))),
        ("trials", ", ".join(f"{count} {name}" for name, count in totals.items() if count)),
        ("training time", duration(seconds)),
    ]


def _verdict(comparison: Comparison) -> list[str]:
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
        wanted = ", ".join(f"{name}={level}" for name, level in baseline.items())
        missing.append(f"No cell has the baseline's levels ({wanted}).")
    return missing


def _table(comparison: Comparison) -> Table:
    whole = comparison_table(comparison)
    # The page has tables of its own for what the search has spent.
    shown = [title for title in whole.titles if title not in ("verdict", *_SPENT)]
    return whole.only([*shown, "verdict"])


def _every_metric(comparison: Comparison) -> Table:
    factors = comparison.varying_factors()
    by_metric = {name: comparison.of(name) for name in comparison.metrics}
    first = comparison.of(comparison.objective).to_dict("records")
    strong = {
        (int(frame["mean"].to_numpy(dtype=float, na_value=float("-inf")).argmax()), place)
        for place, frame in enumerate(by_metric.values(), start=len(factors))
        if frame["mean"].notna().any()
    }
    rows = [
        [
            *(str(row[name]) for name in factors),
            *(score(frame["mean"].iloc[number]) for frame in by_metric.values()),
        ]
        for number, row in enumerate(first)
    ]
    return Table(
        [*factors, *by_metric],
        rows,
        range(len(factors)),
        f"Every metric on the {comparison.split} split; the highest of each column is bold.",
        strong=frozenset(strong),
    )


def _commands(study: str) -> list[str]:
    return [
        f"mgstudy launch {study}.yaml    # the configuration below, saved under this name",
        f"mgstudy compare {study}",
        f"mgstudy report {study}",
    ]


def _provenance(manifest: StudyManifest) -> list[tuple[str, str]]:
    environment, config = manifest.environment, manifest.config
    found = [
        ("last launched", manifest.launched),
        ("git revision", environment["git_revision"] or "not a checkout"),
        ("Python", environment["python"]),
        *((name, version) for name, version in environment["packages"].items()),
        ("platform", environment["platform"]),
        ("processor", environment["processor"]),
        ("study seed", str(config.seed)),
        ("training seeds", ", ".join(map(str, config.factors.seed))),
    ]
    for name, dataset in manifest.datasets.items():
        found.append((f"dataset {name}, interactions", dataset.interactions))
        found += [
            (f"dataset {name}, {modality}", key) for modality, key in dataset.features.items()
        ]
    return found
