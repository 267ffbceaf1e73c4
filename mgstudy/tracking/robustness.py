"""Record what was measured of a study's models in MLflow: numbers on their runs, plots on the
study's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mgstudy.config.robustness import FLATNESS_MEASURES, ItemGraph
from mgstudy.tracking.store import STUDY_TAG, TRIAL_TAG, TrackingStore, using_mlflow

ARTIFACT_FOLDER = "robustness"
SEVERITY_STEPS = 1000
"""A severity of 1 stands at this step of a metric: MLflow counts steps in whole numbers."""


@using_mlflow()
def record_robustness(
    store: TrackingStore,
    measured: Iterable[Mapping[str, Any]],
    files: Sequence[Path],
) -> bool:
    """Write measurements to the runs of the models, and tables and plots to the study's run.

    A score under a risk is the metric ``robustness/RISK/OBJECTIVE`` (``robustness/RISK_GRAPH/...``
    where the model has item graphs), with the severity times 1000 as its step and the mean over the
    risk's seeds as its value; flatness is ``flatness/MEASURE``.

    Args:
        store: Where to record.
        measured: Measurements, as workers give them.
        files: Tables and plots.

    Returns:
        Whether the study has a run to write to.
    """
    runs = {
        run.data.tags.get(TRIAL_TAG, ""): run.info.run_id
        for run in store.runs({STUDY_TAG: store.study})
    }
    if "" not in runs:
        return False
    stamp = int(time.time() * 1000)
    for model, metrics in metrics_by_model(measured).items():
        if model in runs:
            points = [store.metric(name, x, stamp, step) for (name, step), x in metrics.items()]
            store.log(runs[model], steps=[points])
    for path in files:
        store.client.log_artifact(runs[""], str(path), ARTIFACT_FOLDER)
    return True


def metrics_by_model(
    measured: Iterable[Mapping[str, Any]],
) -> dict[str, dict[tuple[str, int], float]]:
    """Metric name and step to value, for each model; what is not finite is left out."""
    values: dict[str, dict[tuple[str, int], list[float]]] = {}
    for found in measured:
        of_model = values.setdefault(found["model"], {})
        if found["kind"] == "flatness":
            for name in FLATNESS_MEASURES:
                if name in found:
                    of_model[f"flatness/{name}", 0] = [found[name]]
        elif found["kind"] in ("clean", "risk"):
            objective = found["objective"]
            name, step = "robustness/clean", 0
            if found["kind"] == "risk":
                graph = found["graph"]
                suffix = "" if graph == ItemGraph.NONE.value else f"_{graph}"
                name = f"robustness/{found['risk']}{suffix}"
                step = round(found["severity"] * SEVERITY_STEPS)
            key = (f"{name}/{objective.replace('@', '_at_')}", step)
            of_model.setdefault(key, []).append(found["metrics"][objective])
    return {
        model: {
            key: sum(numbers) / len(numbers)
            for key, numbers in of_model.items()
            if all(math.isfinite(number) for number in numbers)
        }
        for model, of_model in values.items()
    }
