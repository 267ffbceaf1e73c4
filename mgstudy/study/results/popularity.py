"""How ranking by popularity alone scores on a study's datasets: what every cell has to beat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from pydantic import BaseModel, TypeAdapter

from mgstudy.config.training import TrainingSettings
from mgstudy.errors import MgstudyError
from mgstudy.files import content_of, written_whole
from mgstudy.study.storage.layout import StudyFolder

if TYPE_CHECKING:
    from mgstudy.data.dataset import Dataset

Scores = Mapping[str, Mapping[str, Mapping[str, float]]]
"""By dataset, split (``validation`` or ``test``) and metric."""
SPLITS: Final = ("validation", "test")
Datasets = Mapping[str, "Dataset"]
"""By the label of their level."""


def popularity_scores(datasets: Datasets, settings: TrainingSettings) -> Scores:
    """The scores on these datasets.

    Nothing is chosen by them: popularity has neither parameters nor seeds, so that its test score
    may be known before any winner.
    """
    # Whoever only reads scores waits for no model to be imported.
    from mgstudy.models.popularity import Popularity  # noqa: PLC0415
    from mgstudy.training.evaluation import Evaluator  # noqa: PLC0415

    scores: dict[str, dict[str, Mapping[str, float]]] = {}
    for name, dataset in datasets.items():
        scorer = Popularity(dataset, Popularity.Parameters()).scorer()
        for split in SPLITS:
            evaluator = Evaluator(
                dataset,
                split,
                settings.metrics,
                block_size=settings.evaluation_block_size,
                exclude_validation=split == "test" and settings.mask_validation_in_test,
            )
            scores.setdefault(name, {})[split] = evaluator.evaluate(scorer)
    return scores


def ensure_popularity(
    folder: StudyFolder, datasets: Datasets, settings: TrainingSettings
) -> Scores:
    """The scores on these datasets, from the study's folder or else computed and kept there.

    Args:
        folder: The study's folder.
        datasets: The datasets.
        settings: What is measured.
    """
    kept = _kept(folder)
    metrics = [str(metric) for metric in settings.metrics]
    current = {
        name: _Measured(
            interactions=dataset.fingerprint,
            metrics=metrics,
            lacking=dataset.observed_fingerprint,
        )
        for name, dataset in datasets.items()
    }
    missing = {
        name: datasets[name]
        for name, measured in current.items()
        if name not in kept or kept[name].measured != measured
    }
    if missing:
        for name, scores in popularity_scores(missing, settings).items():
            kept[name] = _Kept(measured=current[name], scores=scores)
        with written_whole(folder.popularity) as file:
            file.write(_FILE.dump_json(kept, indent=2) + b"\n")
        folder.publish(folder.popularity)
    return {name: entry.scores for name, entry in kept.items()}


def read_popularity(folder: StudyFolder) -> Scores:
    """What ``ensure_popularity`` has kept, by dataset; empty before that."""
    return {name: entry.scores for name, entry in _kept(folder).items()}


class _Measured(BaseModel):
    """What scores are of: the fingerprint of the interactions, the metrics, and the fingerprint of
    which items lack which modality."""

    interactions: str
    metrics: list[str]
    lacking: str | None = None


class _Kept(BaseModel):
    measured: _Measured
    scores: Mapping[str, Mapping[str, float]]


_FILE = TypeAdapter(dict[str, _Kept])


def _kept(folder: StudyFolder) -> dict[str, _Kept]:
    """What the file has; nothing of one that is missing or damaged, for it is computed again."""
    try:
        return _FILE.validate_json(content_of(folder.popularity) or b"")
    except (MgstudyError, ValueError):
        return {}
