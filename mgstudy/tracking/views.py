"""How MLflow's UI opens on a study: saved views of its runs table and charts.

MLflow keeps a saved view as a tag of the experiment. Its runs page lists them under "Saved views",
and opens one straight away when the address ends in ``?viewStateShareKey=KEY``. What a view holds
is the page's own state: filter, order, columns, grouping and charts.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from mgstudy.study.definition.manifest import StudyManifest
from mgstudy.study.storage.epoch_metrics import recorded_name

VIEW_TAG_PREFIX = "mlflow.sharedViewState."
KIND_TAG = "mlflow.experimentKind"
NOTE_TAG = "mlflow.note.content"
PRIMARY_METRIC_TAG = "mlflow.experiment.primaryMetric.name"
LARGER_IS_BETTER_TAG = "mlflow.experiment.primaryMetric.greaterIsBetter"
MODEL_DEVELOPMENT = "custom_model_development"
_MILLISECONDS_NEVER_CHANGING = 1_700_000_000_000
_RUNS_IN_A_CHART = 20


@dataclass(frozen=True)
class View:
    """One saved view.

    Attributes:
        key: What its address ends in.
        title: How MLflow's list of saved views calls it.
        charts: Whether it shows charts beside the runs rather than a table of them.
        state: The page's state.
    """

    key: str
    title: str
    charts: bool
    state: Mapping[str, Any]

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


def study_views(manifest: StudyManifest) -> tuple[View, ...]:
    """The views of a study: its trials, its cells, the best run of each cell compared, and the
    confirmed winners on the test split.

    The table of trials has a column for every parameter that any cell searches. Parallel
    coordinates have an axis only for those that every cell does: MLflow leaves out of that chart
    each run that lacks one of its parameters, which is the baseline when the axis is a strength.

    Args:
        manifest: What the study's last launch wrote down.
    """
    study, config, cells = manifest.name, manifest.config, manifest.cells
    objective = config.training.objective
    factors = manifest.varying_factors or ["model"]
    by_cell_searched = [[name for name in cell.spaces if name in cell.searched] for cell in cells]
    searched = list(dict.fromkeys(name for names in by_cell_searched for name in names))
    shared = [name for name in searched if all(name in names for names in by_cell_searched)]
    confirms = config.confirmation.seeds > 0
    best, validation = recorded_name("best", objective), recorded_name("validation", objective)
    shown = dict.fromkeys((objective, f"ndcg@{objective.partition('@')[2]}"))
    scores, test_scores = (
        [_column("metrics", recorded_name(split, metric)) for metric in shown]
        for split in ("best", "test")
    )
    test = recorded_name("test", objective)
    levels = [_column("params", name) for name in factors]
    cost = [_column("metrics", f"cost/{name}") for name in ("epochs", "gradient_computations")]
    outcome = [_column("tags", "mgstudy.state"), _column("tags", "mgstudy.reason")]
    parameters = [_column("params", name) for name in searched]
    of_study = f"tags.`mgstudy.study` = '{study}'"
    trials = f"{of_study} and tags.`mgstudy.role` = 'trial'"
    by_cell = [{"mode": "param", "groupByData": factor} for factor in factors]
    curves = _charts(
        study,
        {"type": "LINE", "metricKey": validation, "selectedMetricKeys": [validation]},
        {"type": "BAR", "metricKey": best},
        {
            "type": "PARALLEL",
            "selectedParams": [*factors, *shared],
            "selectedMetrics": [best],
            "showAllRuns": True,
        },
    )
    columns = [*levels, *scores]
    confirmations = View(
        f"{study}-confirmations",
        f"{study}: confirmed winners on the test split, mean over seeds",
        False,
        _state(
            f"{of_study} and tags.`mgstudy.role` = 'confirmation'",
            test,
            [*test_scores, _column("tags", "mgstudy.seed"), *outcome, *cost],
        )
        | {"groupBy": {"aggregateFunction": "average", "groupByKeys": by_cell}},
    )
    return (
        View(
            f"{study}-trials",
            f"{study}: trials, best first",
            False,
            _state(trials, best, [*columns, *outcome, *parameters, *cost]),
        ),
        View(
            f"{study}-cells",
            f"{study}: grouped by cell",
            False,
            _state(trials, best, [*scores, *cost])
            | {"groupBy": {"aggregateFunction": "max", "groupByKeys": by_cell}},
        ),
        View(
            f"{study}-best",
            f"{study}: best run of each cell",
            True,
            _state(
                f"{trials} and tags.`mgstudy.best_of_cell` = 'true'",
                best,
                [*columns, *parameters, *cost],
            )
            | curves,
        ),
        *([confirmations] if confirms else []),
    )


def experiment_tags(manifest: StudyManifest) -> dict[str, str]:
    """Tags that make MLflow's UI open on training runs, know the objective and offer the views.

    Args:
        manifest: As for ``study_views``.
    """
    config = manifest.config
    tags = {
        KIND_TAG: MODEL_DEVELOPMENT,
        PRIMARY_METRIC_TAG: recorded_name("validation", config.training.objective),
        LARGER_IS_BETTER_TAG: "true",
    }
    if config.question:
        tags[NOTE_TAG] = config.question
    for view in study_views(manifest):
        content = {
            "name": view.title,
            "createdAt": _MILLISECONDS_NEVER_CHANGING,
            "updatedAt": _MILLISECONDS_NEVER_CHANGING,
            "state": json.dumps(view.state, separators=(",", ":")),
        }
        tags[f"{VIEW_TAG_PREFIX}{view.key}"] = json.dumps(content, separators=(",", ":"))
    return tags


def comparison_address(server: str, experiment_id: str, runs: Sequence[str]) -> str:
    """Where a browser finds MLflow's comparison of these runs, by their ids."""
    chosen = quote(json.dumps(list(runs)))
    return f"{server}/#/compare-runs?runs={chosen}&experiments={quote(json.dumps([experiment_id]))}"


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
    return {
        # Else the page sorts this section among those it makes of every other metric.
        "isAccordionReordered": True,
        "compareRunSections": [
            {
                "uuid": section,
                "name": study,
                "display": True,
                "isReordered": False,
                "deleted": False,
                "isGenerated": False,
            }
        ],
        "compareRunCharts": [
            {
                "uuid": f"{section}-{number}",
                "metricSectionId": section,
                "runsCountToCompare": _RUNS_IN_A_CHART,
                "deleted": False,
                "isGenerated": False,
                **(_LINE_DEFAULTS if chart["type"] == "LINE" else {}),
                **chart,
            }
            for number, chart in enumerate(charts)
        ],
    }


_LINE_DEFAULTS: dict[str, Any] = {
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
