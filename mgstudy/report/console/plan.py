"""What a study would run, as text and as JSON."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console

from mgstudy.config.metrics import DOMAINS, split_group
from mgstudy.config.training import parse_objective
from mgstudy.data.histories import users_trained_on_later
from mgstudy.files import is_there
from mgstudy.models.base import Recommender, models
from mgstudy.report.comparison.power import MOST_SEEDS, planned_power
from mgstudy.report.table import Table
from mgstudy.report.texts import duration, hidden_text
from mgstudy.study.definition.manifest import StudyManifest, cell_entries
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import summarize_as
from mgstudy.study.running.estimate import seconds_from_trials, seconds_per_epoch
from mgstudy.study.running.placement import this_machine, trial_resources
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import State


def plan_content(
    study: Study,
    measure: bool,
    nodes: Sequence[Mapping[str, float]] | None = None,
    detect: float | None = None,
) -> dict[str, Any]:
    """What would run, as JSON-like data.

    Args:
        study: The study.
        measure: Whether to train two epochs of every cell, to time one, where trials will run; on
            a cluster's machines it cannot be done from here.
        nodes: What each machine of a cluster has; this machine when not given.
        detect: The relative difference that the study is to see.

    Raises:
        InputError: If not even one trial fits.
    """
    states = _states(study)
    resources = trial_resources(study.config.resources, nodes or [this_machine()])
    timed_on = None if nodes is not None else "cuda" if resources.gpu else "cpu"
    per_trial = seconds_from_trials(study.plan.cells, states)
    cells: list[dict[str, Any]] = []
    for cell in study.plan.cells:
        state = states[cell.key]
        nothing_won = state.search_finished and state.best is None
        cells.append(
            {
                "key": cell.key,
                "levels": dict(cell.levels),
                "trials": state.budget,
                "done": state.ended,
                "to_run": state.left + state.counts[State.RUNNING],
                "confirmations": 0 if nothing_won else state.seeds,
                # What more trials may still dethrone is counted as confirmed.
                "confirmations_to_run": state.replicates_left
                + state.confirmation_counts[State.RUNNING],
                "searched": {name: space.to_yaml() for name, space in cell.searched.items()},
                "fixed": cell.fixed,
                "seconds_per_trial": per_trial[cell.key],
                "seconds_per_epoch": seconds_per_epoch(
                    study.config, cell, study.datasets[cell.dataset], timed_on
                )
                if measure and timed_on
                else None,
            }
        )
    to_run = [cell["to_run"] + cell["confirmations_to_run"] for cell in cells]
    seconds = [
        count * (cell["seconds_per_trial"] or 0.0)
        for cell, count in zip(cells, to_run, strict=True)
    ]
    confirmation, objective = study.config.confirmation, study.config.training.objective
    power = planned_power(
        list(states.values()),
        objective,
        confirmation.seeds,
        confirmation.shared,
        detect,
        baseline=study.config.baselines[0],
        paired_searches=study.config.search.paired,
    )
    known_all = all(
        cell["seconds_per_trial"] is not None or not count
        for cell, count in zip(cells, to_run, strict=True)
    )
    return {
        "study": study.config.name,
        "question": study.config.question,
        "cells": cells,
        "trials_to_run": sum(cell["to_run"] for cell in cells),
        "confirmations_to_run": sum(cell["confirmations_to_run"] for cell in cells),
        "nodes": None if nodes is None else len(nodes),
        "slots": resources.slots,
        "cpu_per_trial": resources.cpu,
        "gpu_per_trial": resources.gpu,
        "timed_on": timed_on if measure else None,
        "epochs": study.config.training.epochs,
        "seconds_estimated": sum(seconds) / resources.slots if known_all else None,
        "hidden": [key for key, state in states.items() if state.is_hidden],
        "objective": objective,
        "seeds": confirmation.seeds,
        "detect": detect,
        "baseline": study.config.baselines[0],
        "power": power,
        "notes": [*_notes_on_order(study), *_notes_on_domains(study), *_notes_on_cost(study)],
        "left_out": [entry.model_dump() for entry in study.plan.left_out],
    }


def print_plan(content: dict[str, Any], console: Console) -> None:
    """Show the plan for a person."""
    cells, nodes = content["cells"], content["nodes"]
    where = "here" if nodes is None else f"on {nodes} nodes"
    console.print(
        f"study {content['study']}: {len(cells)} cells, {content['trials_to_run']} trials and "
        f"{content['confirmations_to_run']} confirmations to run, "
        f"{content['slots']} at once {where} ({content['cpu_per_trial']:g} CPU, "
        f"{content['gpu_per_trial']:g} GPU each)",
        highlight=False,
    )
    if content["question"]:
        console.print(content["question"], markup=False, highlight=False)
    if content["waits_for"]:
        told = f"to be launched before, for its parameters: {content['waits_for']}"
        console.print(told, markup=False, highlight=False, style="yellow")
    is_timed = any(cell["seconds_per_epoch"] is not None for cell in cells)
    rows = [
        [
            *(str(cell[name]) for name in ("trials", "done", "to_run")),
            *([f"{cell['seconds_per_epoch']:.2f}"] if is_timed else ()),
            ", ".join(_space_text(name, space) for name, space in cell["searched"].items())
            or "nothing",
        ]
        for cell in cells
    ]
    levels = [cell["levels"] for cell in cells]
    titles = ["trials", "done", "to run", *(["s/epoch"] if is_timed else ()), "searched"]
    table = Table.of_cells(zip(levels, rows, strict=True), titles, notes=("searched",))
    console.print(table)
    fixed = [f"{name}={level}" for name, level in levels[0].items() if name not in table.titles]
    console.print(f"the same in every cell: {', '.join(fixed) or 'nothing'}", highlight=False)
    console.print(_time_text(content), highlight=False)
    if content["hidden"]:
        console.print(hidden_text(content["hidden"]), markup=False, style="yellow", soft_wrap=True)
    for line in _power_lines(content):
        console.print(line, markup=False, highlight=False)
    for note in content["notes"]:
        console.print(note, markup=False, highlight=False, style="yellow")
    for reason, count in Counter(entry["reason"] for entry in content["left_out"]).items():
        said = f"left out: {count} combinations: {reason}"
        console.print(said, markup=False, highlight=False, style="yellow")


def _notes_on_order(study: Study) -> list[str]:
    """Where a model that reads order has none, or one that tells of what is held out."""
    notes: dict[str, None] = {}
    for cell in study.plan.cells:
        model: type[Recommender] = models.get(cell.model)
        if not model.reads_order:
            continue
        dataset = study.datasets[cell.dataset]
        later = users_trained_on_later(dataset)
        if later is None:
            unread = " and ".join(model.without_effect(dataset, {}))
            notes[
                f"{cell.dataset} has no times: {model.name} reads each user's history as a set"
                + (f", and does not search {unread}" if unread else "")
            ] = None
        elif later > 0:
            notes[
                f"{model.name} reads histories in order, and on {cell.dataset} {later:.0%} of "
                "users train on interactions later than held-out ones, as under a random split: "
                "declare split_per_user_temporal, split_global_temporal, or split_leave_out by time"
            ] = None
    return list(notes)


def _notes_on_domains(study: Study) -> list[str]:
    """Where domains are not ranked apart by what selects."""
    measure, cutoff = parse_objective(study.config.training.objective).metric
    name, group = split_group(measure)
    if group == DOMAINS:
        return []
    return [
        f"{label} has the domains {' and '.join(dataset.domains)}, whose items "
        f"{measure}@{cutoff} ranks together; set training.objective: {name}-{DOMAINS}@{cutoff} for "
        "the mean of the domains, each ranked alone"
        for label, dataset in study.datasets.items()
        if dataset.domains
    ]


def _notes_on_cost(study: Study) -> list[str]:
    """What models cost that cost much, with the first value of what is searched."""
    notes: dict[str, None] = {}
    rows = study.config.training.rows_per_epoch
    for cell in study.plan.cells:
        model: type[Recommender] = models.get(cell.model)
        dataset = study.datasets[cell.dataset]
        values = {name: space.ends()[0] for name, space in cell.spaces.items()}
        own = cell.own("model", cell.model, values)
        pairs = min(rows or len(dataset.train), len(dataset.train))
        said = model.cost(dataset, model.Parameters.validated(cell.model, own), pairs)
        if said is not None:
            notes[said] = None
    return list(notes)


def _power_lines(content: Mapping[str, Any]) -> list[str]:
    """What the study can see, a line for each model and dataset."""
    power, seeds, wanted = content["power"], content["seeds"], content["detect"]
    if not power:
        levels = ", ".join(f"{name}={level}" for name, level in content["baseline"].items())
        return [f"power: no cell has a baseline ({levels}) to be compared with"]
    count = power[0]["comparisons"]
    comparisons = "one comparison" if count == 1 else f"{count} comparisons (Holm)"
    found: dict[str, None] = {}
    for row in power:
        over_seeds, over_searches = (
            _at_least(row[f"over_{name}"]) for name in ("seeds", "searches")
        )
        said = f"  {row['model']} on {row['dataset']}: {over_seeds} between two configurations"
        if row["over_searches"] is not None:
            said += f", {over_searches} between what two searches found"
        if wanted is not None:
            enough = row["seeds_wanted"]
            takes = f"{MOST_SEEDS} seeds or more" if enough is None else f"{enough} seeds"
            said += f"; {100 * wanted:.3g} % takes {takes}"
        of = f"the seed moves the score by {100 * row['spread']:.2g} %, {row['spread_source']}"
        found[f"{said} ({of})"] = None
    return [
        f"with {seeds} seeds and {comparisons}, differences in {content['objective']} are seen "
        "4 times of 5 if they are at least:",
        *found,
    ]


def _at_least(difference: float | None) -> str:
    return "no difference is seen" if difference is None else f"{100 * difference:.2g} %"


def _states(study: Study) -> dict[str, CellState]:
    """Where each cell would stand if the study were launched as it is now."""
    entries = cell_entries(study)
    if not is_there(study.folder.manifest):
        return {e.key: CellState.from_trials(e, study.config, ()) for e in entries}
    launched = StudyManifest.read(study.folder)
    now = launched.model_copy(update={"cells": entries, "config": study.config})
    return {cell.key: cell for cell in summarize_as(now, study.folder).cells}


def _space_text(name: str, space: Any) -> str:
    keyword, content = next(iter(space.items()))
    shown = ", ".join(f"{value:g}" if isinstance(value, float) else str(value) for value in content)
    return f"{name} {'in' if keyword == 'choice' else keyword} [{shown}]"


def _time_text(content: dict[str, Any]) -> str:
    if not content["trials_to_run"] + content["confirmations_to_run"]:
        return "nothing is left to run"
    if content["seconds_estimated"] is not None:
        return f"estimated time: {duration(content['seconds_estimated'])}, from finished trials"
    timed = [cell["seconds_per_epoch"] for cell in content["cells"]]
    if None in timed and content["nodes"] is not None:
        return (
            "estimated time: unknown before the first trials; `mgstudy plan --measure` times "
            "epochs where it runs, so give it on one of the nodes"
        )
    if None in timed:
        return "estimated time: unknown before the first trials; --measure times an epoch of each"
    shares = 0 < content["gpu_per_trial"] < 1
    slower = "; trials that share a GPU slow each other down, which is not in it" if shares else ""
    at_most = sum(
        (cell["to_run"] + cell["confirmations_to_run"])
        * cell["seconds_per_epoch"]
        * content["epochs"]
        for cell in content["cells"]
    )
    return (
        f"estimated time: at most {duration(at_most / content['slots'])}, if every trial ran all "
        f"{content['epochs']} epochs; early stopping and pruning take most of it away"
        f"{slower}"
    )
