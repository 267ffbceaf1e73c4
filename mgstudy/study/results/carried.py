"""Parameters that a study's cells take from another study's winners instead of searching them."""

from __future__ import annotations

from mgstudy.config.factors import ChangedDataset
from mgstudy.errors import InputError
from mgstudy.study.definition.cell import Cell
from mgstudy.study.definition.study import Study
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.search.state import CellState

_ALIKE = ("model", "gradient", "robust", "optimizer")


def with_carried_parameters(study: Study) -> tuple[Study, str]:
    """A study whose ``parameters_from`` names another: where its cells would search, they have all
    parameters (but those of completions) of the winner of the other study's cell that has the same
    levels of model, gradient, robust training and optimizer on the same interactions. Of several,
    the one with the same level of the dataset, else the prepared dataset as it is, and the same
    completion and seed.

    A study without the field, or in which nothing is searched, comes back as it is.

    Returns:
        The study, and what it waits for: why some cells' parameters are not known yet, empty when
        all are. Such a cell has some value of each space, so that what would run can be counted.

    Raises:
        InputError: If a cell has no counterpart there, or more than one, or its counterpart's
            winner lacks a parameter; with the field's place.
    """
    name = study.config.parameters_from
    searching = [cell for cell in study.plan.cells if cell.searched]
    if name is None or not searching:
        return study, ""
    values = {
        cell.key: {parameter: space.ends()[0] for parameter, space in cell.searched.items()}
        for cell in searching
    }
    try:
        if name == study.config.name:
            raise InputError("a study cannot take parameters from itself")
        try:
            source = summarize(study.workspace, name)
        except InputError as error:
            return study.with_values(values), str(error)
        counterparts = {cell.key: _counterpart(study, cell, source) for cell in searching}
        for cell in searching:
            winner = counterparts[cell.key].winner
            if winner is None:
                continue
            if lacking := cell.searched.keys() - winner.parameters.keys():
                raise InputError(
                    f"cell {winner.key} of study {name} has no {', '.join(sorted(lacking))}"
                )
            values[cell.key] = {
                parameter: value
                for parameter, value in winner.parameters.items()
                if parameter in cell.spaces and not parameter.startswith("completion.")
            }
    except InputError as error:
        raise study.document.error(("parameters_from",), str(error)) from error
    open_ones = {state.key for state in counterparts.values() if state.winner is None}
    waits = f"study {name} has no winner yet of {', '.join(sorted(open_ones))}" if open_ones else ""
    return study.with_values(values), waits


def _counterpart(study: Study, cell: Cell, source: StudySummary) -> CellState:
    own = study.datasets[cell.dataset].fingerprint
    found = [
        state
        for state in source.cells
        if all(state.levels[factor] == cell.levels[factor] for factor in _ALIKE)
        and source.manifest.datasets[state.levels["dataset"]].interactions == own
    ]
    prepared = {
        level.label: level.name
        for level in study.config.factors.dataset
        if isinstance(level, ChangedDataset)
    }
    for factor, level in (
        ("dataset", cell.dataset),
        ("dataset", prepared.get(cell.dataset)),
        ("completion", cell.levels.get("completion")),
        ("seed", cell.levels["seed"]),
    ):
        found = [state for state in found if state.levels.get(factor) == level] or found
    if len(found) != 1:
        many = ", ".join(state.key for state in found) or "none"
        raise InputError(
            f"expected one cell of study {source.name} like {cell.key}, on the same interactions; "
            f"found {many}"
        )
    return found[0]
