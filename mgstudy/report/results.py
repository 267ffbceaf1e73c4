"""What a study has come to, as pandas tables: everything that the command line prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from io import BytesIO
from typing import Any

import pandas as pd

from mgstudy.config.robustness import ItemGraph
from mgstudy.data.dataset import Dataset
from mgstudy.data.loading import load_dataset
from mgstudy.errors import InputError, MgstudyError
from mgstudy.report.comparison.studies import compare_studies
from mgstudy.report.console.status import ended_and_total, state_of
from mgstudy.report.importance import importance
from mgstudy.report.robustness.comparison import main_split
from mgstudy.study.results.popularity import Scores, ensure_popularity
from mgstudy.study.results.summary import StudySummary, summarize
from mgstudy.study.search.state import CellState
from mgstudy.study.search.trials import RecordedTrial
from mgstudy.workspace import Workspace

_SHOWN_ROWS = 20


@dataclass(frozen=True)
class StudyResults:
    """A study as it stood when it was loaded.

    Attributes:
        summary: The study as it was read from its storage.
    """

    summary: StudySummary

    def __repr__(self) -> str:
        """What the study is and how far it is, on a line."""
        done, total = ended_and_total(self.summary.cells)
        state = state_of(self.summary)
        cells = len(self.summary.cells)
        return f"StudyResults {self.summary.name}: {state}; {cells} cells, {done} of {total} trials"

    def _repr_html_(self) -> str:
        """The same in a notebook, with a row for each cell."""
        columns = [*self.summary.varying_factors(), self.summary.objective, "confirmed"]
        table = self.cells()[columns].to_html(index=False, border=0, max_rows=_SHOWN_ROWS)
        return f"<p>{escape(repr(self))}</p>{table}"

    @classmethod
    def load(cls, workspace: Workspace, name: str) -> StudyResults:
        """Read a study, and score popularity on its datasets if nobody has yet.

        Raises:
            InputError: If the workspace has no study of that name.
            MgstudyError: If its manifest or storage cannot be read.
        """
        return cls.of(summarize(workspace, name), workspace)

    @classmethod
    def of(
        cls,
        summary: StudySummary,
        workspace: Workspace,
        datasets: Mapping[str, Dataset] | None = None,
    ) -> StudyResults:
        """The results of a study that was read.

        Args:
            summary: The study.
            workspace: The workspace.
            datasets: Its datasets by their level's label; loaded when not given.
        """
        for cell in summary.cells:
            for replicate in cell.confirmations:
                if replicate.test_metrics:
                    workspace.fetch(replicate.test_users)
        scores = _popularity(workspace, summary, datasets)
        return cls(replace(summary, popularity=scores))

    def cells(self) -> pd.DataFrame:
        """A row for each cell: levels, trials by state, the best trial with its epoch and score,
        replicates by state, and what the search has spent."""
        rows = [
            {
                "cell": cell.key,
                **cell.levels,
                "budget": cell.budget,
                **cell.counts,
                "best_trial": cell.best.number if cell.best else None,
                "best_epoch": cell.best.outcome.get("best_epoch") if cell.best else None,
                self.summary.objective: cell.best.value if cell.best else None,
                "seeds": cell.seeds,
                "confirmed": cell.confirmation_counts["complete"],
                "confirmations_failed": cell.confirmation_counts["failed"],
                "gradient_computations": cell.spent("gradient_computations"),
                "seconds_training": cell.spent("seconds_training"),
                "seconds": cell.seconds(),
            }
            for cell in self.summary.cells
        ]
        return pd.DataFrame(rows).astype({"best_trial": "Int64", "best_epoch": "Int64"})

    def trials(self) -> pd.DataFrame:
        """A row for each trial of the search: cell and levels, number, state, ``value`` (the best
        validation score), every parameter, the metrics of the best epoch, reason and costs."""
        return pd.DataFrame(
            [
                _trial_row(cell, trial, trial.outcome.get("best_metrics", {}))
                for cell in self.summary.cells
                for trial in cell.trials
            ]
        )

    def confirmations(self) -> pd.DataFrame:
        """A row for each replicate of a winner: as ``trials``, with the training ``seed``, the
        test scores under the metrics' names, and the paths of weights and users' scores."""
        return pd.DataFrame(
            [
                {
                    **_trial_row(cell, replicate, replicate.test_metrics),
                    "seed": replicate.seed,
                    "weights": str(replicate.weights),
                    "test_users": str(replicate.test_users),
                }
                for cell in self.summary.cells
                for replicate in cell.confirmations
            ]
        )

    def curves(self) -> pd.DataFrame:
        """The objective on the validation split after each epoch, counted from 1: columns of the
        cell and its levels, ``stage`` (search or confirmation), ``trial``, ``epoch``, ``value``."""
        return pd.DataFrame(
            [
                {
                    "cell": cell.key,
                    **cell.levels,
                    "stage": trial.stage.value,
                    "trial": trial.number,
                    "epoch": epoch,
                    "value": value,
                }
                for cell in self.summary.cells
                for trial in (*cell.trials, *cell.confirmations)
                for epoch, value in sorted(trial.values.items())
            ]
        )

    def importance(self) -> pd.DataFrame:
        """The share of the scores' variance that each searched parameter explains, see
        ``mgstudy.report.importance``: columns of the cell and its levels, ``parameter``,
        ``importance``, the largest first; no rows of a cell with fewer than 8 completed trials."""
        factors = list(dict.fromkeys(name for cell in self.summary.cells for name in cell.levels))
        rows = [
            (cell.key, *(cell.levels.get(name, "") for name in factors), parameter, share)
            for cell in self.summary.cells
            for parameter, share in importance(cell).items()
        ]
        return pd.DataFrame(rows, columns=["cell", *factors, "parameter", "importance"])

    def comparison(
        self,
        *others: StudyResults,
        baseline: Mapping[str, str] | None = None,
        metrics: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Every cell beside its baseline, a row for each metric and cell; the columns are those of
        ``mgstudy.report.comparison.studies.compare_studies``.

        Args:
            others: Studies that stand in the same table.
            baseline: Levels that make a cell a baseline; those of the study's first question when
                not given.
            metrics: What to compare; everything that was measured when not given.

        Raises:
            InputError: If the studies have different objectives, or a metric is not known.
        """
        summaries = [self.summary, *(other.summary for other in others)]
        return compare_studies(summaries, baseline, metrics).table

    def robustness(self) -> pd.DataFrame:
        """Accuracy against robustness, a row per cell, as ``mgstudy robustness`` last wrote it.

        Returns:
            A frame with a column per factor (the cell's levels), ``cell`` (its key), ``clean`` (the
            objective on clean features), ``drop`` and ``area`` (means over the risks of the
            relative drop at the highest severity, and of the area under the drop curve),
            ``drop/RISK`` and ``area/RISK`` for each risk, and the mean over replicates of each
            measure of flatness as ``flatness/MEASURE``. For models with item graphs it is the
            rebuilt graph's. All of one ``split``: once a cell is confirmed, those that are not are
            left out. Empty when nothing was measured yet.
        """
        folder = self.summary.folder
        drops = folder.content(folder.robustness / "summary.csv")
        flat = folder.content(folder.robustness / "flatness.csv")
        if drops is None or flat is None:
            return pd.DataFrame()
        summary, flatness = _read_csv(drops), _read_csv(flat)
        if summary.empty or "split" not in summary:
            return pd.DataFrame()
        summary = summary[summary["split"] == main_split(summary)]
        factors = list(summary.columns[: summary.columns.get_loc("cell")])
        summary = summary[summary["graph"] != ItemGraph.FROZEN.value]
        table = summary.groupby("cell", sort=False)[[*factors, "split", "clean"]].first()
        for column in ("drop", "area"):
            wide = summary.pivot_table(
                index="cell", columns="risk", values=column, sort=False, dropna=False
            )
            table[column] = wide.mean(axis=1)
            table = table.join(wide.add_prefix(f"{column}/"))
        if not flatness.empty:
            wide = flatness.pivot_table(index="cell", columns="measure", values="mean", sort=False)
            table = table.join(wide.add_prefix("flatness/"))
        others = [name for name in table.columns if name not in factors]
        return table.reset_index()[[*factors, "cell", *others]]


def _trial_row(
    cell: CellState, trial: RecordedTrial, metrics: Mapping[str, float]
) -> dict[str, Any]:
    outcome = trial.outcome
    costs = ("epochs", "best_epoch", "gradient_computations")
    return {
        "cell": cell.key,
        **cell.levels,
        "trial": trial.number,
        "state": trial.state.value,
        "value": trial.value,
        **trial.parameters,
        **metrics,
        "reason": outcome.get("reason"),
        **{name: outcome.get(name) for name in costs},
        **{name: value for name, value in outcome.items() if name.startswith("seconds_")},
    }


def _read_csv(content: bytes) -> pd.DataFrame:
    try:
        # A level may be called "none", which is no missing value.
        return pd.read_csv(BytesIO(content), keep_default_na=False, na_values=[""])
    except pd.errors.EmptyDataError:
        return pd.DataFrame()


def _popularity(
    workspace: Workspace, summary: StudySummary, datasets: Mapping[str, Dataset] | None
) -> Scores:
    """Kept scores, or computed ones; none of a dataset that is no longer there."""
    missing = {cell.levels["dataset"] for cell in summary.cells if not cell.is_hidden}
    missing -= set(summary.popularity)
    if not missing:
        return summary.popularity
    known, prepared = summary.manifest.datasets, summary.changed_datasets
    try:
        found = datasets or {
            name: load_dataset(workspace, prepared.get(name, name)) for name in missing
        }
        if any(found[name].fingerprint != known[name].interactions for name in missing):
            return summary.popularity
        settings = summary.manifest.config.training
        return ensure_popularity(summary.folder, {name: found[name] for name in missing}, settings)
    except (InputError, MgstudyError):
        return summary.popularity
