"""The studies of a workspace, and one trial whole, as text and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.filesize import decimal

from mgstudy.errors import MgstudyError
from mgstudy.files import sizes_below
from mgstudy.report.console.status import ended_and_total, state_of
from mgstudy.report.table import Table
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.trials import RecordedTrial

_TITLES = ["study", "state", "cells", "trials", "last launched", "question"]


def studies_content(found: Mapping[str, StudySummary | MgstudyError]) -> list[dict[str, Any]]:
    """The studies as JSON-like data; of one that cannot be read its ``problem``."""
    content: list[dict[str, Any]] = []
    for name, study in found.items():
        if isinstance(study, MgstudyError):
            content.append({"study": name, "problem": str(study)})
            continue
        done, total = ended_and_total(study.cells)
        content.append(
            {
                "study": name,
                "state": state_of(study),
                "cells": len(study.cells),
                "ended": done,
                "trials": total,
                "launched": study.manifest.launched,
                "question": study.question,
            }
        )
    return content


def print_studies(found: Mapping[str, StudySummary | MgstudyError], console: Console) -> None:
    """Show the studies for a person."""
    if not found:
        console.print("no studies; `mgstudy launch FILE` begins one", markup=False)
        return
    studies = studies_content(found)
    rows = [
        [s["study"], s["state"], str(s["cells"]), f"{s['ended']}/{s['trials']}", s["launched"],
         s["question"]]
        for s in studies
        if "problem" not in s
    ]  # fmt: skip
    if rows:
        texts = ("study", "state", "last launched", "question")
        console.print(Table(_TITLES, rows, texts, notes=("question",)))
    for study in studies:
        if "problem" in study:
            told = f"{study['study']}: {study['problem']}"
            console.print(told, style="red", markup=False, soft_wrap=True)


def study_content(summary: StudySummary) -> dict[str, Any]:
    """What a study is and where it lies, with what its folder holds in bytes, as JSON-like data."""
    (listed,) = studies_content({summary.name: summary})
    folder, manifest = summary.folder, summary.manifest
    sizes: Counter[str] = Counter()
    for path, size in sizes_below(folder.path):
        sizes[path.relative_to(folder.path).parts[0]] += size
    return {
        **listed,
        "folder": str(folder.path),
        "bytes": dict(sizes.most_common()),
        "optuna_storage": summary.storage,
        "mlflow": f"{summary.tracking_uri}, experiment {manifest.tracking.experiment}",
        "datasets": list(manifest.datasets),
        "factors": {
            factor: list(
                dict.fromkeys(of.levels[factor] for of in summary.cells if factor in of.levels)
            )
            for factor in summary.varying_factors()
        },
        "origin": summary.forked,
        "hidden_cells": summary.hidden,
        "mgstudy": manifest.environment.packages.get("mgstudy"),
        "git_revision": manifest.environment.git_revision,
    }


def print_study(summary: StudySummary, console: Console) -> None:
    """Show what a study is and where it lies for a person."""
    content = study_content(summary)
    sizes = content.pop("bytes")
    whole = ", ".join(f"{name} {decimal(size)}" for name, size in sizes.items())
    content["size"] = f"{decimal(sum(sizes.values()))} ({whole})"
    for name, value in content.items():
        if value:
            shown = value if isinstance(value, str) else json.dumps(value)
            line = f"{name.replace('_', ' ')}: {shown}"
            console.print(line, markup=False, highlight=False, soft_wrap=True)


def trial_content(trial: RecordedTrial) -> dict[str, Any]:
    """A trial as JSON-like data."""
    return {
        "trial": trial.key,
        "stage": trial.stage.value,
        "state": trial.state.value,
        "value": trial.value,
        "seed": trial.seed,
        "began": trial.began and trial.began.isoformat(sep=" ", timespec="seconds"),
        "ended": trial.ended and trial.ended.isoformat(sep=" ", timespec="seconds"),
        "parameters": dict(trial.parameters),
        "outcome": dict(trial.outcome),
        "curve": {str(step): value for step, value in trial.values.items()},
        "files": str(trial.files) if trial.files.is_dir() else None,
    }


def print_trial(trial: RecordedTrial, address: str, console: Console) -> None:
    """Show a trial for a person: each of its numbers on a line, its traceback last."""
    content = {**trial_content(trial), "MLflow": address}
    outcome, curve = content.pop("outcome"), content.pop("curve")
    traceback = outcome.pop("traceback", "")
    parameters = content.pop("parameters")
    for title, facts in (("", content), ("parameters", parameters), ("outcome", outcome)):
        if title and facts:
            console.print(f"{title}:", markup=False, highlight=False)
        for name, value in facts.items():
            if value is not None:
                shown = value if isinstance(value, str) else json.dumps(value)
                indent = "  " if title else ""
                line = f"{indent}{name}: {shown}"
                console.print(line, markup=False, highlight=False, soft_wrap=True)
    if curve:
        console.print("objective on the validation split, by epoch:", markup=False)
        line = ", ".join(f"{step}: {value:.4f}" for step, value in curve.items())
        console.print(f"  {line}", markup=False, highlight=False, soft_wrap=True)
    if traceback:
        console.print(traceback.rstrip(), style="red", markup=False, soft_wrap=True)


def deletion_text(summary: StudySummary, size: int, studies: int, runs: int, models: int) -> str:
    """What deleting a study frees, in a sentence."""
    done, _ = ended_and_total(summary.cells)
    parts = [f"{done} trials in {len(summary.cells)} cells", f"{decimal(size)} in its folder"]
    parts += [f"{studies} Optuna studies in {summary.storage}"] if studies else []
    parts += [f"{runs} MLflow runs with their artifacts"] if runs else []
    parts += [f"{models} versions of its registered model"] if models else []
    return f"study {summary.name} ({state_of(summary)}): {', '.join(parts)}"
