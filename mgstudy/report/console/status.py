"""Where a study stands, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console
from rich.table import Table

from mgstudy.report.console.study_progress import failure_lines
from mgstudy.report.numbers import duration
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import RecordedTrial, State


def status_content(summary: StudySummary) -> dict[str, Any]:
    """The study as JSON-like data: stores, and per cell levels, counts and best trial."""
    return {
        "study": summary.name,
        "question": summary.question,
        "objective": summary.objective,
        "optuna_storage": summary.storage,
        "mlflow_tracking_uri": summary.manifest.tracking.uri,
        "mlflow_experiment": summary.manifest.tracking.experiment,
        "driven": summary.driven,
        "driver": {
            "name": summary.driver.name,
            "alive": summary.driver.is_alive,
            "silent_seconds": round(summary.driver.silent_seconds),
        },
        "stale": summary.stale,
        "finished": summary.finished,
        "cells": [
            {
                "key": cell.key,
                "levels": dict(cell.levels),
                "budget": cell.budget,
                "trials": cell.counts,
                "best": _best_content(cell.best),
                "confirmations": cell.confirmation_counts,
                "stale": cell.stale,
                "failed_and_retried": len(cell.retried),
            }
            for cell in summary.cells
        ],
        "left_out": [entry.model_dump() for entry in summary.left_out],
    }


def print_status(summary: StudySummary, console: Console) -> None:
    """Show the study for a person."""
    totals: Counter[str] = Counter()
    confirmations: Counter[str] = Counter()
    for cell in summary.cells:
        totals.update(cell.counts)
        confirmations.update(cell.confirmation_counts)
    state = "finished" if summary.finished else "running" if summary.driven else "not running"
    console.print(f"study {summary.name}: {state}", highlight=False)
    if summary.question:
        console.print(summary.question, highlight=False, markup=False)
    tracking = summary.manifest.tracking
    for label, value in (
        ("Optuna storage", summary.storage),
        (
            "MLflow store",
            f"{tracking.uri}, experiment {tracking.experiment}",
        ),
        ("trials", ", ".join(f"{count} {name}" for name, count in totals.items())),
        ("confirmations", _confirmations_text(confirmations)),
    ):
        console.print(f"{label}: {value}", highlight=False, markup=False, soft_wrap=True)
    console.print(_cells_table(summary))
    for line in driver_lines(summary):
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    for line in [*failed_trials(summary), *_retried_lines(summary)]:
        console.print(line, style="red", markup=False, soft_wrap=True)
    if summary.left_out:
        console.print(f"{len(summary.left_out)} combinations left out:")
        for reason, count in Counter(entry.reason for entry in summary.left_out).items():
            console.print(f"  {count}: {reason}", markup=False, soft_wrap=True)


def driver_lines(summary: StudySummary) -> list[str]:
    """What is wrong with the study's driver: it is gone and has left trials behind, or hangs."""
    driver = summary.driver
    heard = f"last heard of {duration(driver.silent_seconds)} ago"
    if driver.hangs:
        return [
            f"{driver.name} drives the study and seems to hang, {heard}: if that stays so, end "
            f"it, then `mgstudy resume {summary.name}` goes on"
        ]
    if not summary.stale:
        return []
    who = f"{driver.name} is gone, {heard}" if driver.name else "their driver is gone"
    return [
        f"stale trials: {summary.stale}; {who}; `mgstudy resume {summary.name}` goes on with "
        "them from their last checkpoints"
    ]


def failed_trials(summary: StudySummary) -> list[str]:
    """The reasons of failed trials, equal ones of a cell together."""
    return failure_lines(
        Counter(
            (cell.key, _reason(trial))
            for cell in summary.cells
            for trial in (*cell.trials, *cell.confirmations)
            if trial.state is State.FAILED
        )
    )


def _retried_lines(summary: StudySummary) -> list[str]:
    return [
        f"{count} failed in {cell.key} and got another try: {reason}"
        for cell in summary.cells
        for reason, count in Counter(_reason(trial) for trial in cell.retried).items()
    ]


def _reason(trial: RecordedTrial) -> str:
    return str(trial.outcome.get("reason", "unknown"))


def _cells_table(summary: StudySummary) -> Table:
    factors = summary.varying_factors() or ["model"]
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for factor in factors:
        table.add_column(factor)
    states = list(summary.cells[0].counts) if summary.cells else []
    for name in [*states, f"best {summary.objective}", "confirmed"]:
        table.add_column(name, justify="right")
    table.add_column("with")
    for cell in summary.cells:
        best = cell.best
        table.add_row(
            *(cell.levels[factor] for factor in factors),
            *(str(count) for count in cell.counts.values()),
            "" if best is None else f"{best.value:.4f}",
            f"{cell.confirmation_counts['complete']}/{cell.seeds}" if cell.seeds else "",
            "" if best is None else searched_text(best, cell.searched),
        )
    return table


def _confirmations_text(counts: Counter[str]) -> str:
    shown = {name: count for name, count in counts.items() if name != State.PRUNED}
    return ", ".join(f"{count} {name}" for name, count in shown.items())


def searched_text(trial: RecordedTrial, searched: frozenset[str]) -> str:
    """The searched parameters of a trial, by their short names."""
    return ", ".join(
        f"{name.rpartition('.')[2]}={value:.3g}"
        if isinstance(value, float)
        else f"{name.rpartition('.')[2]}={value}"
        for name, value in trial.parameters.items()
        if name in searched
    )


def _best_content(best: RecordedTrial | None) -> dict[str, Any] | None:
    if best is None:
        return None
    return {
        "trial": best.number,
        "value": best.value,
        "epoch": best.outcome.get("best_epoch"),
        "parameters": dict(best.parameters),
        "metrics": best.outcome.get("best_metrics", {}),
    }
