"""Every part trains on a pretended GPU, stops, goes on from its checkpoint and is measured, and a
step makes the processor wait no more often than is known."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from pretended_gpu import PretendedGpu

from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import models
from mgstudy.testing import datasets
from mgstudy.testing.datasets import with_two_domains
from mgstudy.training.checkpoint import load_checkpoint, save_checkpoint
from mgstudy.training.gradient.base import gradient_strategies
from mgstudy.training.optimizers.base import optimizers
from mgstudy.training.robust.base import robust_methods
from mgstudy.training.run import build_trainer
from mgstudy.training.trainer import Trainer


@pytest.fixture
def small_dataset() -> Dataset:
    """Of two domains, as some models need."""
    return with_two_domains(datasets.small_dataset())


pytestmark = pytest.mark.usefixtures("one_thread")

SETTINGS = TrainingSettings(
    epochs=2, batch_size=128, objective="recall@10", cutoffs=(5, 10), early_stopping=None
)
TRAINED = [model.name for model in models if model.trainable]
WAITS = {
    "DAMRS": 2,
    "HistLLM": 8,
    "LGMRec": 2,
    "MVGAE": 1,
    "SIEOUG": 2,
    "adversarial_features": 2,
}
"""How often a step waits, by model or robust method; the others never do."""
ASKS_IN_PARTS = {"HistLLM"}
"""What ranks by many small questions, and waits for each."""
UNORDERED = {"DAMRS": {"scatter_add"}}
"""What sums in no certain order, and may: no two of its numbers go to one place."""


def watch_steps(trainer: Trainer, gpu: PretendedGpu) -> list[Counter[str]]:
    """What each step from now on waits for."""
    assert trainer.gradient is not None
    seen, step = [], trainer.gradient.step

    def watched(loss: Any) -> torch.Tensor:
        before = Counter(gpu.waits)
        value = step(loss)
        seen.append(gpu.waits - before)
        return value

    trainer.gradient.step = watched  # type: ignore[method-assign]
    return seen


def check(dataset: Dataset, folder: Path, **parts: Any) -> None:
    """Train for an epoch, and on from its checkpoint for another."""

    def start() -> Trainer:
        own = models.get(parts["model"]).tried_with
        return build_trainer(
            dataset, model_parameters=own, settings=SETTINGS, seed=1, device="cuda", **parts
        )

    with PretendedGpu() as gpu:
        first = start()
        next(first.epochs())
        save_checkpoint(folder / "trainer.pt", first.state_dict())
        continued = start()
        continued.load_state_dict(load_checkpoint(folder / "trainer.pt"))
        steps = watch_steps(continued, gpu)
        *_, result = continued.epochs()
        assert result.metrics is not None
        gpu.waits.clear()
        continued._evaluate(continued.validation)
        # Whether there are ties or NaN, and what came out.
        assert gpu.waits.total() == 2 or parts["model"] in ASKS_IN_PARTS, gpu.waits
        assert continued.test_metrics().keys() == result.metrics.keys()
        weights = continued.model.state_dict()
        assert all(gpu.holds(weight) for weight in weights.values())
        assert all(gpu.holds(weight) for weight in (continued._best_weights or {}).values())
    allowed = WAITS.get(parts["model"], 0) + sum(
        WAITS.get(name, 0) for name, _ in parts.get("robust", ())
    )
    assert steps[-1].total() <= allowed, steps[-1]
    unordered = {name for name, count in gpu.unordered.items() if count}
    assert unordered <= UNORDERED.get(parts["model"], set())


@pytest.mark.parametrize("model", TRAINED)
def test_every_model_has_the_loss_and_the_gradients_that_it_has_in_memory(
    model: str, small_dataset: Dataset
) -> None:
    found = []
    for device in ("cpu", "cuda"):
        with PretendedGpu():
            trainer = build_trainer(
                small_dataset,
                model=model,
                model_parameters=models.get(model).tried_with,
                settings=SETTINGS,
                device=device,
            )
            loss = trainer.model.eval().loss(next(trainer._batches()))
            loss.backward()  # type: ignore[no-untyped-call]
            weights = dict(trainer.model.named_parameters())
            gradients = {name: w.grad.cpu() for name, w in weights.items() if w.grad is not None}
            with torch.no_grad():
                scores = trainer.model.scorer()(torch.arange(5, device=device)).cpu()
            found.append({"loss": loss.detach().cpu(), "scores": scores, **gradients})
    assert found[0].keys() == found[1].keys()
    largest = max(float(value.abs().max()) for value in found[0].values())
    for name, value in found[0].items():
        torch.testing.assert_close(found[1][name], value, rtol=1e-4, atol=1e-6 * largest)


@pytest.mark.parametrize("model", TRAINED)
def test_every_model(model: str, small_dataset: Dataset, tmp_path: Path) -> None:
    check(small_dataset, tmp_path, model=model)


@pytest.mark.parametrize("strategy", gradient_strategies.names())
def test_every_strategy(strategy: str, small_dataset: Dataset, tmp_path: Path) -> None:
    parameters = {"start": 0} if strategy == "swa" else {}
    check(small_dataset, tmp_path, model="VBPR", gradient=strategy, gradient_parameters=parameters)


@pytest.mark.parametrize(
    ("method", "parameters"),
    [
        *(
            (name, {"warmup_epochs": 0} if name.startswith("adversarial") else {})
            for name in robust_methods.names()
        ),
        ("dvib", {"compare": "scores", "form": "adaptive"}),
    ],
)
def test_every_robust_method(
    method: str, parameters: dict[str, Any], small_dataset: Dataset, tmp_path: Path
) -> None:
    check(small_dataset, tmp_path, model="SLMRec", robust=[(method, parameters)])


@pytest.mark.parametrize("optimizer", optimizers.names())
def test_every_optimizer(optimizer: str, small_dataset: Dataset, tmp_path: Path) -> None:
    check(small_dataset, tmp_path, model="BPR", optimizer=optimizer)
