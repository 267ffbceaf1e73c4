"""The views that MLflow's UI opens with on a study.

MLflow keeps a saved view as a tag of the experiment. Its runs page lists them under "Saved views",
and opens one straight away when the address ends in ``?viewStateShareKey=KEY``. What a view holds
is the page's own state: filter, order, columns, grouping and charts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from mgstudy.config.factors import varying_factors
from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.epoch_metrics import recorded_name

NOTE_TAG = "mlflow.note.content"
_MILLISECONDS_NEVER_CHANGING = 1_700_000_000_000
_RUNS_IN_A_CHART = 20


@dataclass(frozen=True)
class View:
    """One saved view.

    Attributes:
        key: What its address ends in.
        title: How MLflow's list of saved views calls it.
        state: The page's state.
        charts: Whether it shows charts beside the runs rather than a table of them.
    """

    key: str
    title: str
    state: Mapping[str, Any]
    charts: bool = False

    def address(self, server: str, experiment_id: str) -> str:
        """Where a browser finds it.

        Args:
            server: The server's address, without a slash at its end.
            experiment_id: The experiment.
        """
        query = {"viewStateShareKey": self.key, "workflowType": "machine_learning"}
        if self.charts:
            query["compareRunsMode"] = "CHART"
        return f"{server}/#/experiments/{experiment_id}/runs?{urlencode(query)}"


def study_views(manifest: StudyManifest) -> list[View]:
    """The views of a study: its trials, its cells, the best run of each cell compared, and the
    confirmed winners on the test split.

    The table of trials has a column for every parameter that any cell searches. Parallel
    coordinates have an axis only for those that every cell does: MLflow leaves out of that chart
    each run that lacks one of its parameters, which is the baseline when the axis is a strength.

    Args:
        manifest: What the study's last launch wrote down.
    """
    study, objective = manifest.name, manifest.config.training.objective
    factors = manifest.varying_factors or ["model"]
    by_cell = [{"mode": "param", "groupByData": factor} for factor in factors]
    of_cells = [[name for name in c.spaces if name in c.searched] for c in manifest.cells]
    searched = list(dict.fromkeys(name for names in of_cells for name in names))
    shared = [name for name in searched if all(name in names for names in of_cells)]
    shown = dict.fromkeys((objective, f"ndcg@{objective.partition('@')[2]}"))
    best, validation, test = (
        recorded_name(group, objective) for group in ("best", "validation", "test")
    )
    scores, test_scores = (
        [_column("metrics", recorded_name(group, metric)) for metric in shown]
        for group in ("best", "test")
    )
    levels = [_column("params", name) for name in factors]
    parameters = [_column("params", name) for name in searched]
    cost = [_column("metrics", f"cost/{name}") for name in ("epochs", "gradient_computations")]
    outcome = [_column("tags", "mgstudy.state"), _column("tags", "mgstudy.reason")]
    of_study = f"tags.`mgstudy.study` = '{study}'"
    trials = f"{of_study} and tags.`mgstudy.role` = 'trial'"
    views = [
        View(
            f"{study}-trials",
            f"{study}: trials, best first",
            _state(trials, best, [*levels, *scores, *outcome, *parameters, *cost]),
        ),
        View(
            f"{study}-cells",
            f"{study}: grouped by cell",
            _state(trials, best, [*scores, *cost])
            | {"groupBy": {"aggregateFunction": "max", "groupByKeys": by_cell}},
        ),
        View(
            f"{study}-best",
            f"{study}: best run of each cell",
            _state(
                f"{trials} and tags.`mgstudy.best_of_cell` = 'true'",
                best,
                [*levels, *scores, *parameters, *cost],
            )
            | _charts(
                study,
                _LINE | {"metricKey": validation, "selectedMetricKeys": [validation]},
                {"type": "BAR", "metricKey": best},
                {
                    "type": "PARALLEL",
                    "selectedParams": [*factors, *shared],
                    "selectedMetrics": [best],
                    "showAllRuns": True,
                },
            ),
            charts=True,
        ),
    ]
    if manifest.config.confirmation.seeds > 0:
        confirmations = _state(
            f"{of_study} and tags.`mgstudy.role` = 'confirmation'",
            test,
            [*test_scores, _column("tags", "mgstudy.seed"), *outcome, *cost],
        ) | {"groupBy": {"aggregateFunction": "average", "groupByKeys": by_cell}}
        title = f"{study}: confirmed winners on the test split, mean over seeds"
        views.append(View(f"{study}-confirmations", title, confirmations))
    return views


def cell_titles(cells: Sequence[Mapping[str, str]]) -> Callable[[Mapping[str, str]], str]:
    """Gives the short name that a cell's runs bear, which tells it from the others: ``FREEDOM MG
    +feature_noise`` for FREEDOM with Mirror Gradient and that robust training.

    Args:
        cells: The levels of all cells.
    """
    varying = varying_factors(cells) or ["model"]

    def short(levels: Mapping[str, str]) -> str:
        named = {factor: levels[factor] for factor in varying}
        if named.get("gradient") == "mirror_gradient":
            named["gradient"] = "MG"
        robust = named.pop("robust", "none")
        return " ".join([*named.values(), *([] if robust == "none" else [f"+{robust}"])])

    shorts = {short(levels) for levels in cells}
    if len(shorts) == len(cells) and "" not in shorts:
        return short
    return lambda levels: " ".join(levels[factor] for factor in varying)


def experiment_tags(manifest: StudyManifest) -> dict[str, str]:
    """Tags that make MLflow's UI open on training runs, know the objective and offer the views.

    Args:
        manifest: As for ``study_views``.
    """
    config = manifest.config
    tags = {
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": recorded_name(
            "validation", config.training.objective
        ),
        "mlflow.experiment.primaryMetric.greaterIsBetter": "true",
        **({NOTE_TAG: config.question} if config.question else {}),
    }
    for view in study_views(manifest):
        content = {
            "name": view.title,
            "createdAt": _MILLISECONDS_NEVER_CHANGING,
            "updatedAt": _MILLISECONDS_NEVER_CHANGING,
            "state": json.dumps(view.state, separators=(",", ":")),
        }
        tags[f"mlflow.sharedViewState.{view.key}"] = json.dumps(content, separators=(",", ":"))
    return tags


def _state(run_filter: str, ordered_by: str, columns: Sequence[str]) -> dict[str, Any]:
    return {
        "searchFilter": run_filter,
        "orderByKey": _column("metrics", ordered_by),
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "selectedColumns": list(columns),
        "columnOrder": [],
        "runsHiddenMode": "FIRST_20_RUNS",
        "hideEmptyCharts": True,
    }


def _charts(study: str, *charts: Mapping[str, Any]) -> dict[str, Any]:
    section = f"{study}-charts"
    common = {"isGenerated": False, "deleted": False}
    return {
        # Else the page sorts this section among those it makes of every other metric.
        "isAccordionReordered": True,
        "compareRunSections": [
            {"uuid": section, "name": study, "display": True, "isReordered": False, **common}
        ],
        "compareRunCharts": [
            {
                "uuid": f"{section}-{number}",
                "metricSectionId": section,
                "runsCountToCompare": _RUNS_IN_A_CHART,
                **common,
                **chart,
            }
            for number, chart in enumerate(charts)
        ],
    }


_LINE: dict[str, Any] = {
    "type": "LINE",
    "lineSmoothness": 0,
    "xAxisScaleType": "linear",
    "scaleType": "linear",
    "range": {},
    "xAxisKey": "step",
    "selectedXAxisMetricKey": "",
    "yAxisKey": "metric",
    "yAxisExpressions": [],
    "ignoreOutliers": False,
    "useGlobalXaxisKey": True,
    "useGlobalLineSmoothing": True,
}


def _column(kind: str, name: str) -> str:
    return f"{kind}.`{name}`"
