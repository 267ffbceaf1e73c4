"""Trained models to be measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Recommender, models
from mgstudy.robustness.trained_model import TrainedModel
from mgstudy.testing.datasets import with_two_domains
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.run import build_trainer

Train = Callable[..., TrainedModel]


@pytest.fixture(autouse=True)
def measured_in_one_thread(one_thread: None) -> None:
    """All models here are small."""


_trained: dict[tuple[Any, ...], dict[str, Any]] = {}


@pytest.fixture
def train(small_dataset: Dataset) -> Train:
    """Train a model by name for some epochs, once, and make it ready to be measured."""

    def train_model(name: str, epochs: int = 5, **parameters: Any) -> TrainedModel:
        settings = TrainingSettings(epochs=epochs, batch_size=64, early_stopping=None)

        def build(dataset: Dataset) -> Recommender:
            trainer = build_trainer(
                dataset,
                model=name,
                model_parameters={**models.get(name).tried_with, **parameters},
                optimizer_parameters={"learning_rate": 0.02},
                settings=settings,
            )
            key = (name, epochs, *parameters.items())
            if key not in _trained:
                for _ in trainer.epochs():
                    pass
                _trained[key] = trainer.model.state_dict()
            trainer.model.load_state_dict(_trained[key])
            return trainer.model

        dataset = small_dataset
        if models.get(name).refusal(dataset) is not None:
            dataset = with_two_domains(dataset)
        build(dataset)
        evaluator = Evaluator(dataset, "test", ["recall@5", "ndcg@10"])
        return TrainedModel(build, dataset, evaluator)

    return train_model
