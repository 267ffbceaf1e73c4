"""The tables of a study's report: how trials ended, what mattered, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from mgstudy.data.manifest import Manifest
from mgstudy.report.comparison.studies import Comparison
from mgstudy.report.comparison.verdict import gain
from mgstudy.report.importance import FEWEST_TRIALS_FOR_IMPORTANCE, importance
from mgstudy.report.table import Table
from mgstudy.report.texts import duration, parameter_names, score
from mgstudy.study.results.summary import StudySummary
from mgstudy.study.search.rounds import baseline_of
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import GPU_SECONDS, State

_COUNTS = ("users", "items", "train", "validation", "test")


def every_metric(comparison: Comparison) -> Table:
    """The score of every cell by every metric."""
    factors = comparison.varying_factors()
    by_metric = {name: comparison.of(name) for name in comparison.metrics}
    levels = comparison.of(comparison.objective)[factors].astype(str).to_numpy().tolist()
    scores = zip(
        *(map(score, frame["mean"].astype(float)) for frame in by_metric.values()), strict=True
    )
    return Table(
        [*factors, *by_metric],
        [[*names, *row] for names, row in zip(levels, scores, strict=True)],
        factors,
        f"Every metric on the {comparison.split} split; the best of each column is bold.",
        strong={
            (int(gain(name, frame["mean"]).argmax()), name)
            for name, frame in by_metric.items()
            if frame["mean"].notna().any()
        },
    )


def outcomes(summary: StudySummary) -> Table:
    """Trials of every cell by how they ended."""
    states = ("complete", "pruned", "failed", "running", "waiting")
    rows = []
    for cell in summary.cells:
        counts = cell.counts
        share = f"{counts['pruned'] / cell.ended:.0%}" if cell.ended else ""
        rows.append((cell.levels, [str(cell.budget), *(str(counts[s]) for s in states), share]))
    return Table.of_cells(
        rows,
        ["budget", *states, "pruned share"],
        caption="Trials of every cell by how they ended. Every cell has the same budget, except "
        "where nothing is searched. Pruned trials were stopped early because they did worse than "
        "others of their cell at the same epoch.",
    )


def failures(summary: StudySummary) -> Table | None:
    """Why trials failed, equal reasons of a cell together; ``None`` if none failed."""
    rows = []
    for cell in summary.cells:
        by_reason: dict[str, list[str]] = {}
        for trial in cell.trials:
            if trial.state is State.FAILED:
                by_reason.setdefault(trial.reason, []).append(str(trial.number))
        for reason, numbers in by_reason.items():
            rows.append((cell.levels, [reason, ", ".join(numbers), str(len(numbers))]))
    if not rows:
        return None
    return Table.of_cells(
        rows,
        ["reason", "trials", "count"],
        texts=("reason", "trials"),
        among=[cell.levels for cell in summary.cells],
        caption="Failed trials and their reasons.",
    )


def endings(summary: StudySummary) -> Table:
    """Why completed trainings ended, over all cells."""
    counted = Counter(
        trial.reason
        for cell in summary.cells
        for trial in cell.trials
        if trial.state is State.COMPLETE
    )
    return _counts_table("trials", counted, "Why completed trainings ended.")


def left_out(summary: StudySummary) -> Table | None:
    """Combinations of levels that cannot be trained; ``None`` if there are none."""
    counted = Counter(entry.reason for entry in summary.left_out)
    said = "Combinations that were left out of the study before it began."
    return _counts_table("combinations", counted, said) if counted else None


def importances(summary: StudySummary) -> Table | None:
    """How much of the scores' variance each searched parameter explains, per cell, see
    ``importance``.

    Returns:
        ``None`` if no cell has enough completed trials.
    """
    called = parameter_names(cell.searched for cell in summary.cells)
    found = [
        (cell, {called[name]: share for name, share in shares.items()})
        for cell in summary.cells
        if (shares := importance(cell))
    ]
    if not found:
        return None
    names = sorted({name for _, shares in found for name in shares})
    skipped = len(summary.cells) - len(found)
    note = (
        f" {skipped} cells are missing: they search nothing, or have fewer than "
        f"{FEWEST_TRIALS_FOR_IMPORTANCE} completed trials, or equal scores."
        if skipped
        else ""
    )
    return Table.of_cells(
        [
            (cell.levels, [f"{shares[name]:.0%}" if name in shares else "" for name in names])
            for cell, shares in found
        ],
        names,
        among=[cell.levels for cell in summary.cells],
        caption="Share of the variance of the completed trials' scores that each searched "
        "parameter explains (fANOVA, as computed by Optuna). A parameter with a small share "
        f"hardly mattered within its range.{note}",
        shades={
            (row, name): share
            for row, (_, shares) in enumerate(found)
            for name, share in shares.items()
        },
    )


def costs(summary: StudySummary, processors: float) -> Table:
    """What the trials of every cell took.

    Args:
        summary: The study.
        processors: Processors that one trial has.
    """
    has_gpus = any(cell.spent(GPU_SECONDS) for cell in summary.cells)
    rows = []
    for cell in summary.cells:
        computations = _per_epoch(cell)
        other = baseline_of(cell, summary.cells, summary.baselines[0])
        reference = _per_epoch(other) if other is not None else None
        parts = (cell.spent(f"seconds_{part}") for part in ("setup", "training", "evaluation"))
        row = [
            *(duration(seconds) for seconds in parts),
            duration(cell.seconds() * processors),
            *([duration(cell.spent(GPU_SECONDS))] if has_gpus else ()),
            f"{cell.spent('epochs'):,.0f}",
            f"{cell.spent('gradient_computations'):,.0f}",
            f"× {computations / reference:.2f}" if computations and reference else "",
        ]
        rows.append((cell.levels, row))
    titles = ["set-up", "training", "evaluation", "processor time"]
    titles += ["GPU time"] if has_gpus else []
    return Table.of_cells(
        rows,
        [*titles, "epochs", "gradient computations", "per epoch vs baseline"],
        caption="What all ended trials of a cell took together. The time of processors and GPUs is "
        "that for which they were held, however busy. A gradient computation is one forward and "
        "backward pass over a batch; the last column is how many an epoch needs, over what the "
        "baseline's needs.",
    )


def winners(summary: StudySummary) -> Table | None:
    """The best trial of every cell with the parameters that were searched; ``None`` without one."""
    found = [(cell, cell.best) for cell in summary.cells if cell.best is not None]
    called = parameter_names(cell.searched for cell in summary.cells)
    searched = sorted({called[name] for cell, _ in found for name in cell.searched})
    if not searched:
        return None
    rows = []
    for cell, best in found:
        own = {called[name]: best.parameters[name] for name in cell.searched}
        values = (_value(own[name]) if name in own else "" for name in searched)
        rows.append((cell.levels, [str(best.number), score(best.value), *values]))
    return Table.of_cells(
        rows,
        ["trial", summary.objective, *searched],
        among=[cell.levels for cell in summary.cells],
        caption="The trial with which every cell won its search, its score on the validation "
        "split, and the searched parameters that it had; all others are in the configuration.",
    )


def datasets(manifests: Mapping[str, Manifest]) -> Table | None:
    """How large the datasets are, and what is known of their items.

    Args:
        manifests: Each dataset's level to its manifest.
    """
    rows = [
        [
            label,
            *(f"{getattr(of.counts, name):,}" for name in _COUNTS),
            f"{of.counts.sparsity:.2%}",
            ", ".join(f"{name} {table.shape[1]}" for name, table in of.features.items()) or "none",
        ]
        for label, of in manifests.items()
    ]
    if not rows:
        return None
    return Table(
        ["dataset", *_COUNTS, "sparsity", "modalities"],
        rows,
        ("dataset", "modalities"),
        "The datasets after their pipelines: users and items over all splits, interactions in each "
        "split, the share of user-item pairs without an interaction, and the modalities with the "
        "width of their features.",
    )


def _value(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _counts_table(counted_thing: str, counted: Counter[str], caption: str) -> Table:
    rows = [[reason, str(count)] for reason, count in counted.most_common()]
    return Table(["reason", counted_thing], rows, ("reason",), caption)


def _per_epoch(cell: CellState) -> float | None:
    epochs = cell.spent("epochs")
    return cell.spent("gradient_computations") / epochs if epochs else None
