"""The tables of a study's report, as titles and texts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import optuna
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.storages import BaseStorage

from mgstudy.report.comparison.baselines import baseline_of
from mgstudy.report.numbers import duration
from mgstudy.study.results.summary import CellSummary, StudySummary
from mgstudy.study.search.events import State
from mgstudy.study.search.spending import GPU_SECONDS

FEWEST_TRIALS_FOR_IMPORTANCE = 8
_EVALUATOR_SEED = 0


@dataclass(frozen=True)
class Table:
    """A table of texts.

    Attributes:
        caption: What it shows.
        titles: Its columns.
        rows: Its cells, as wide as ``titles``.
        texts: Places of the columns that hold text; the others hold numbers.
        strong: Row and column of the cells that stand out.
        shades: Row and column to a share from 0 to 1 that the cell's background shows.
    """

    caption: str
    titles: Sequence[str]
    rows: Sequence[Sequence[str]]
    texts: Collection[int]
    strong: frozenset[tuple[int, int]] = frozenset()
    shades: Mapping[tuple[int, int], float] = field(default_factory=dict)


def outcomes(summary: StudySummary) -> Table:
    """Trials of every cell by how they ended."""
    factors = summary.varying_factors() or ["model"]
    rows = []
    for cell in summary.cells:
        counts = cell.counts
        ended = counts["complete"] + counts["pruned"] + counts["failed"]
        share = f"{counts['pruned'] / ended:.0%}" if ended else ""
        shown = ("complete", "pruned", "failed", "running", "waiting")
        rows.append(
            [
                *(cell.levels[name] for name in factors),
                str(cell.budget),
                *(str(counts[state]) for state in shown),
                share,
            ]
        )
    return Table(
        "Trials of every cell by how they ended. Every cell has the same budget, except where "
        "nothing is searched. Pruned trials were stopped early because they did worse than "
        "others of their cell at the same epoch.",
        [*factors, "budget", "complete", "pruned", "failed", "running", "waiting", "pruned share"],
        rows,
        range(len(factors)),
    )


def failures(summary: StudySummary) -> Table | None:
    """Why trials failed, equal reasons of a cell together; ``None`` if none failed."""
    factors = summary.varying_factors() or ["model"]
    rows = []
    for cell in summary.cells:
        failed = [trial for trial in cell.trials if trial.state is State.FAILED]
        reasons = Counter(str(trial.outcome.get("reason", "unknown")) for trial in failed)
        for reason, count in reasons.items():
            numbers = [
                str(trial.number)
                for trial in failed
                if str(trial.outcome.get("reason", "unknown")) == reason
            ]
            rows.append(
                [*(cell.levels[name] for name in factors), reason, ", ".join(numbers), str(count)]
            )
    if not rows:
        return None
    return Table(
        "Failed trials and their reasons.",
        [*factors, "reason", "trials", "count"],
        rows,
        range(len(factors) + 2),
    )


def endings(summary: StudySummary) -> Table:
    """Why completed trainings ended, over all cells."""
    counted = Counter(
        str(trial.outcome.get("reason", "unknown"))
        for cell in summary.cells
        for trial in cell.trials
        if trial.state is State.COMPLETE
    )
    return Table(
        "Why completed trainings ended.",
        ["reason", "trials"],
        [[reason, str(count)] for reason, count in counted.most_common()],
        range(1),
    )


def left_out(summary: StudySummary) -> Table | None:
    """Combinations of levels that cannot be trained; ``None`` if there are none."""
    if not summary.left_out:
        return None
    reasons = Counter(str(entry["reason"]) for entry in summary.left_out)
    return Table(
        "Combinations that were left out of the study before it began.",
        ["reason", "combinations"],
        [[reason, str(count)] for reason, count in reasons.items()],
        range(1),
    )


def importances(
    summary: StudySummary, studies: Mapping[str, str], storage: BaseStorage
) -> Table | None:
    """How much of the scores' variance each searched parameter explains, per cell.

    Computed by Optuna's fANOVA (Hutter et al., ICML 2014) over the completed trials.

    Args:
        summary: The study.
        studies: Key of a cell to the name of its Optuna study.
        storage: Where those are.

    Returns:
        ``None`` if no cell has enough completed trials.
    """
    factors = summary.varying_factors() or ["model"]
    found: list[tuple[CellSummary, dict[str, float]]] = []
    for cell in summary.cells:
        if _can_be_explained(cell):
            study = optuna.load_study(study_name=studies[cell.key], storage=storage)
            evaluator = FanovaImportanceEvaluator(seed=_EVALUATOR_SEED)
            shares = get_param_importances(study, evaluator=evaluator)
            found.append((cell, {_short(name): share for name, share in shares.items()}))
    if not found:
        return None
    names = sorted({name for _, shares in found for name in shares})
    first = len(factors)
    rows: list[list[str]] = []
    shades: dict[tuple[int, int], float] = {}
    for number, (cell, shares) in enumerate(found):
        rows.append(
            [
                *(cell.levels[name] for name in factors),
                *(f"{shares[name]:.0%}" if name in shares else "" for name in names),
            ]
        )
        shades |= {
            (number, first + place): shares[name]
            for place, name in enumerate(names)
            if name in shares
        }
    skipped = len(summary.cells) - len(found)
    note = (
        f" {skipped} cells are missing: they search nothing, or have fewer than "
        f"{FEWEST_TRIALS_FOR_IMPORTANCE} completed trials, or equal scores."
        if skipped
        else ""
    )
    return Table(
        "Share of the variance of the completed trials' scores that each searched parameter "
        "explains (fANOVA, as computed by Optuna). A parameter with a small share hardly mattered "
        f"within its range.{note}",
        [*factors, *names],
        rows,
        range(first),
        shades=shades,
    )


def costs(summary: StudySummary, baseline: Mapping[str, str], processors: float) -> Table:
    """What the trials of every cell took.

    Args:
        summary: The study.
        baseline: Levels that make a cell a baseline.
        processors: Processors that one trial has.
    """
    factors = summary.varying_factors() or ["model"]
    has_gpus = any(cell.spent(GPU_SECONDS) for cell in summary.cells)
    rows = []
    for cell in summary.cells:
        computations = _per_epoch(cell)
        other = baseline_of(cell, summary.cells, baseline)
        reference = _per_epoch(other) if other is not None else None
        ratio = f"× {computations / reference:.2f}" if computations and reference else ""
        rows.append(
            [
                *(cell.levels[name] for name in factors),
                *(
                    duration(_total(cell, f"seconds_{part}"))
                    for part in ("setup", "training", "evaluation")
                ),
                f"{cell.seconds() / 3600 * processors:.2f}",
                *([f"{cell.spent(GPU_SECONDS) / 3600:.2f}"] if has_gpus else ()),
                f"{_total(cell, 'epochs'):,.0f}",
                f"{_total(cell, 'gradient_computations'):,.0f}",
                ratio,
            ]
        )
    return Table(
        "What all ended trials of a cell took together. Hours of processors and GPUs are those "
        "that were held, however busy. A gradient computation is one forward and backward pass "
        "over a batch; the last column is how many an epoch needs, over what the baseline's needs.",
        [
            *factors,
            "set-up",
            "training",
            "evaluation",
            "processor hours",
            *(["GPU hours"] if has_gpus else ()),
            "epochs",
            "gradient computations",
            "per epoch vs baseline",
        ],
        rows,
        range(len(factors)),
    )


def _total(cell: CellSummary, name: str) -> float:
    return sum(float(trial.outcome.get(name) or 0.0) for trial in cell.trials)


def _per_epoch(cell: CellSummary) -> float | None:
    epochs = _total(cell, "epochs")
    return _total(cell, "gradient_computations") / epochs if epochs else None


def _can_be_explained(cell: CellSummary) -> bool:
    values = [trial.value for trial in cell.trials if trial.value is not None]
    return (
        bool(cell.searched) and len(values) >= FEWEST_TRIALS_FOR_IMPORTANCE and len(set(values)) > 1
    )


def _short(name: str) -> str:
    return name.rpartition(".")[2]
