"""Studies, cells and trials made by hand, as they would be read from a storage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mgstudy.config.parameters import Value
from mgstudy.config.study import StudyConfig
from mgstudy.study.definition.cell import Cell
from mgstudy.study.definition.manifest import CellEntry, DatasetEntry, Place, StudyManifest
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial, Stage, State
from mgstudy.study.storage.lease import Driver

SEARCHED = frozenset({"model.regularization"})
METRIC = "recall@20"


def recorded(
    number: int,
    state: State,
    value: float | None = None,
    outcome: Mapping[str, Any] | None = None,
    values: Mapping[int, float] | None = None,
    stage: Stage = Stage.SEARCH,
    **fields: Any,
) -> RecordedTrial:
    """A trial of a search, or a replicate."""
    given = {"key": f"{stage}/{number}", "seed": 999, **fields}
    return RecordedTrial(
        stage=stage,
        number=number,
        state=state,
        value=value,
        outcome=outcome or {},
        values=values or {},
        **given,
    )


def summary_of(
    cells: Sequence[CellState],
    name: str = "s",
    question: str = "",
    driven: bool = False,
    launched: str = "1970-01-01T00:00:00+00:00",
    training: Mapping[str, Any] | None = None,
    datasets: Mapping[str, str] | None = None,
    entries: Sequence[CellEntry] = (),
    settings: Mapping[str, Any] | None = None,
    **fields: Any,
) -> StudySummary:
    """A study with these cells; its manifest holds no more than it must, of each dataset the
    fingerprint of its interactions, and other ``settings`` of the study file."""
    config = StudyConfig.model_validate(
        {
            "name": name,
            "question": question,
            "factors": {"dataset": ["a"], "model": ["BPR"]},
            "trials": 1,
            "training": training or {},
            **(settings or {}),
        }
    )
    manifest = StudyManifest(
        name=name,
        config=config,
        tracking=Place(uri="sqlite:///m.db", experiment=name),
        cells=tuple(entries),
        datasets={
            label: DatasetEntry(interactions=key, features={})
            for label, key in (datasets or {}).items()
        },
        launched=launched,
    )
    return StudySummary(manifest, cells, **{"driver": Driver(is_alive=driven), **fields})


def confirmed_cell(
    gradient: str,
    trials: Sequence[float],
    tests: Sequence[float],
    model: str = "M",
    searched: frozenset[str] = SEARCHED,
    apart: int = 1000,
    **outcome: Any,
) -> CellState:
    """A cell whose trials reached these scores on validation, and whose replicates these on test,
    under seeds that are so far from the baseline's (pairs, if not at all)."""
    levels = {"dataset": "sim", "model": model, "gradient": gradient, "robust": "none"}
    key = "/".join(levels.values())
    return CellState(
        key,
        levels,
        len(trials),
        searched,
        [recorded(number, State.COMPLETE, value) for number, value in enumerate(trials)],
        len(tests),
        [
            recorded(
                number,
                State.COMPLETE,
                0.5,
                {"test_metrics": {METRIC: score}, "reason": "early_stopping", **outcome},
                stage=Stage.CONFIRMATION,
                seed=number + (0 if gradient == "plain" else apart),
            )
            for number, score in enumerate(tests)
        ],
    )


def first_values(cell: Cell) -> dict[str, Value]:
    """A value for each parameter of a cell: the first of what is searched, and what is fixed."""
    return {name: space.ends()[0] for name, space in cell.searched.items()} | cell.fixed
