"""How ranking by popularity alone scores on a study's datasets: what every cell has to beat."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.files import written_whole
from mgstudy.models.popularity import Popularity
from mgstudy.study.storage.layout import StudyFolder
from mgstudy.training.trainer import Trainer

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By dataset, split (``validation`` or ``test``) and metric."""


def ensure_popularity(
    folder: StudyFolder, datasets: Mapping[str, Dataset], settings: TrainingSettings
) -> Scores:
    """The scores on these datasets, from the study's folder or else computed and kept there.

    Nothing is chosen by them: popularity has neither parameters nor seeds, so that its test score
    may be known before any winner.
    """
    stored = _stored(folder)
    measured = [str(metric) for metric in settings.metrics]
    current = {
        name: {"interactions": dataset.fingerprint, "metrics": measured}
        for name, dataset in datasets.items()
    }
    for name, dataset in datasets.items():
        if stored.get(name, {}).get("measured") != current[name]:
            stored[name] = {"measured": current[name], "scores": _score(dataset, settings)}
    content = json.dumps(stored, indent=2).encode() + b"\n"
    if not folder.popularity.exists() or folder.popularity.read_bytes() != content:
        with written_whole(folder.popularity) as file:
            file.write(content)
    return {name: entry["scores"] for name, entry in stored.items()}


def read_popularity(folder: StudyFolder) -> Scores:
    """What ``ensure_popularity`` has kept, by dataset; empty before that."""
    return {name: entry["scores"] for name, entry in _stored(folder).items()}


def _score(dataset: Dataset, settings: TrainingSettings) -> dict[str, dict[str, float]]:
    trainer = Trainer(
        Popularity(dataset, Popularity.Parameters()), dataset, gradient=None, settings=settings
    )
    (result,) = trainer.epochs()
    return {"validation": dict(result.metrics or {}), "test": trainer.test_metrics()}


def _stored(folder: StudyFolder) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads(folder.popularity.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content
