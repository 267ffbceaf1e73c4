"""Where a study stands, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from rich.console import Console

from mgstudy.report.table import Table
from mgstudy.report.texts import duration, hidden_text, parameter_names
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial, State


def status_content(summary: StudySummary) -> dict[str, Any]:
    """The study as JSON-like data: stores, and per cell levels, counts and best trial."""
    return {
        "study": summary.name,
        "question": summary.question,
        "objective": summary.objective,
        "optuna_storage": summary.storage,
        "mlflow_tracking_uri": summary.tracking_uri,
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
                "hidden": cell.is_hidden,
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
    del confirmations[State.PRUNED]  # None ever is.
    experiment = summary.manifest.tracking.experiment
    console.print(f"study {summary.name}: {state_of(summary)}", highlight=False)
    if summary.question:
        console.print(summary.question, highlight=False, markup=False)
    for label, value in (
        ("Optuna storage", summary.storage),
        ("MLflow store", f"{summary.tracking_uri}, experiment {experiment}"),
        ("trials", _counts_text(totals)),
        ("confirmations", _counts_text(confirmations)),
    ):
        console.print(f"{label}: {value}", highlight=False, markup=False, soft_wrap=True)
    console.print(_cells_table(summary))
    if summary.forked:
        console.print(summary.forked, markup=False, soft_wrap=True)
    if summary.hidden:
        console.print(hidden_text(summary.hidden), markup=False, soft_wrap=True)
    for line in driver_lines(summary):
        console.print(line, style="yellow", highlight=False, markup=False)
    for line in [*failed_trials(summary), *_retried_lines(summary)]:
        console.print(line, style="red", highlight=False, markup=False)
    if summary.left_out:
        console.print(f"{len(summary.left_out)} combinations left out:", highlight=False)
        for reason, count in Counter(entry.reason for entry in summary.left_out).items():
            console.print(f"  {count}: {reason}", highlight=False, markup=False)


def state_of(summary: StudySummary) -> str:
    """In a word or two: finished, running or not running."""
    return "finished" if summary.finished else "running" if summary.driven else "not running"


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
            (cell.key, trial.reason)
            for cell in summary.cells
            for trial in (*cell.trials, *cell.confirmations)
            if trial.state is State.FAILED
        )
    )


def failure_lines(failures: Mapping[tuple[str, str], int]) -> list[str]:
    """Failures of a cell for the same reason as one line.

    Args:
        failures: How many there were by cell and reason.
    """
    return [f"{count} failed in {cell}: {reason}" for (cell, reason), count in failures.items()]


def _retried_lines(summary: StudySummary) -> list[str]:
    return [
        f"{count} failed in {cell.key} and got another try: {reason}"
        for cell in summary.cells
        for reason, count in Counter(trial.reason for trial in cell.retried).items()
    ]


def _cells_table(summary: StudySummary) -> Table:
    rows = []
    for cell in summary.cells:
        best = cell.best
        row = [
            *(str(count) for count in cell.counts.values()),
            "" if best is None else f"{best.value:.4f}",
            f"{cell.confirmation_counts['complete']}/{cell.seeds}" if cell.seeds else "",
            "" if best is None else _searched_text(best, cell.searched),
        ]
        rows.append((cell.levels, row))
    states = list(summary.cells[0].counts) if summary.cells else []
    return Table.of_cells(
        rows,
        [*states, f"best {summary.objective}", "confirmed", "with"],
        notes=("with",),
        spare=("pruned", "waiting"),
    )


def _counts_text(counts: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _searched_text(trial: RecordedTrial, searched: frozenset[str]) -> str:
    """The searched parameters of a trial, by their short names."""
    called = parameter_names([searched])
    return ", ".join(
        f"{called[name]}={value:.3g}" if isinstance(value, float) else f"{called[name]}={value}"
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


def ended_and_total(cells: Iterable[CellState]) -> tuple[int, int]:
    """Trials and confirmations that have ended, and those there will be."""
    ended = total = 0
    for cell in cells:
        ended += cell.ended + cell.confirmed
        total += sum(cell.counts.values()) + sum(cell.confirmation_counts.values())
    return ended, total
