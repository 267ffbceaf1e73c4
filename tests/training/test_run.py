import ctypes
import resource
from typing import Any

import pytest
import torch

from mgstudy.config.parameters import Fixed
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.errors import InputError
from mgstudy.models.base import models
from mgstudy.training.results import EpochResult
from mgstudy.training.run import build_model, build_trainer, train

SETTINGS = TrainingSettings(epochs=6, batch_size=64, objective="ndcg@10", cutoffs=(10,))


def test_trains_by_name_and_returns_the_best(small_dataset: Dataset) -> None:
    seen: list[EpochResult] = []
    run = train(
        small_dataset,
        model="VBPR",
        model_parameters={"embedding_size": 4},
        gradient="mirror_gradient",
        gradient_parameters={"alpha2": 0.1},
        optimizer="adam",
        optimizer_parameters={"learning_rate": 0.05},
        settings=SETTINGS,
        on_epoch=seen.append,
    )
    assert seen == list(run.results) and len(seen) == 6
    assert run.best.metrics == run.trainer.best_metrics
    assert run.best.metrics is not None
    assert run.best.metrics["ndcg@10"] == max(
        result.metrics["ndcg@10"] for result in seen if result.metrics
    )
    assert run.model is run.trainer.model


def test_epochs_objective_and_threads_can_be_said_by_themselves(small_dataset: Dataset) -> None:
    threads = torch.get_num_threads()
    run = train(
        small_dataset, model="BPR", epochs=2, objective="ndcg@5", threads=threads + 1,
        settings=TrainingSettings(batch_size=64),
    )  # fmt: skip
    assert len(run.results) == 2 and run.best.best_value == run.best.metrics["ndcg@5"]  # type: ignore[index]
    assert run.trainer.settings.batch_size == 64 and torch.get_num_threads() == threads
    refused: list[tuple[dict[str, Any], str]] = [
        ({"epochs": 0}, "train: epochs: input should be greater than or equal to 1, got 0"),
        ({"objective": "recal@20"}, r"train: objective: .*did you mean 'recall'\?"),
        ({"threads": 0}, "train: threads: expected at least 1, got 0"),
    ]
    for wrong, told in refused:
        with pytest.raises(InputError, match=told):
            train(small_dataset, **wrong)


def test_a_model_built_alone_scores_as_the_one_whose_weights_it_is_given(
    small_dataset: Dataset,
) -> None:
    parts: dict[str, Any] = {
        "model": "VBPR",
        "model_parameters": {"embedding_size": 4},
        "robust": [("denoise", {}), ("feature_noise", {})],
    }
    trained = train(small_dataset, settings=SETTINGS, **parts).model
    alone = build_model(small_dataset, **parts)
    alone.load_state_dict(trained.state_dict())
    users = torch.arange(small_dataset.user_count)
    with torch.no_grad():
        scores = [model.eval().scorer()(users) for model in (trained, alone)]
    assert torch.equal(*scores)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": "VBRP"}, r"unknown model 'VBRP'; did you mean 'VBPR'\?"),
        ({"gradient": "mirror"}, "unknown gradient strategy 'mirror'"),
        ({"optimizer": "adan"}, r"unknown optimizer 'adan'; did you mean 'adam'\?"),
        ({"robust": [("no_such", {})]}, "unknown robust method 'no_such'"),
        (
            {"optimizer_parameters": {"learning_rate": 0}},
            "optimizer adam: learning_rate: input should be greater than 0, got 0",
        ),
        (
            {"gradient": "mirror_gradient", "gradient_parameters": {"alpha2": 2}},
            r"gradient strategy mirror_gradient: alpha2 \(2\) must be below alpha1 \(1\)",
        ),
        (
            {"model_parameters": {"dropuot": 0.1}},
            "model BPR: dropuot: unknown key; known: embedding_size, regularization",
        ),
        (
            {"settings": TrainingSettings(objective="fairness@20")},
            "objective fairness@20: fairness means nothing: no item of small lacks a modality",
        ),
        (
            {"settings": TrainingSettings(further_objectives=("recall-cold@20",))},
            "objective recall-cold@20: recall-cold means nothing: no validation interaction",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    small_dataset: Dataset, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as raised:
        build_trainer(small_dataset, **{"model": "BPR", **arguments})
    assert "\n" not in str(raised.value)


def test_optimizer_settings_fixed_by_the_authors_are_the_default(small_dataset: Dataset) -> None:
    model = next(
        model
        for model in models
        if isinstance(model.optimizer_spaces.get("learning_rate_decay"), Fixed)
    )
    assert build_trainer(small_dataset, model=model.name).learning_rate_decay == 0.96
    overridden = build_trainer(
        small_dataset, model=model.name, optimizer_parameters={"learning_rate_decay": 1.0}
    )
    assert overridden.learning_rate_decay == 1.0


def test_memory_that_a_step_frees_is_there_for_the_next(small_dataset: Dataset) -> None:
    if not hasattr(ctypes.CDLL(None), "mallopt"):
        pytest.skip("glibc does not allocate here")
    build_trainer(small_dataset, model="BPR")
    torch.ones(6 * 2**20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        torch.ones(6 * 2**20)
    # Each has 6,144 pages of 4 KiB, all of which would be asked for ten times; where a heap is in
    # pieces, one of the ten may find no room.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before < 3 * 6144
