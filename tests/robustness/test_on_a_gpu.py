"""Attacks, other risks and flatness measure on a pretended GPU what they measure in memory."""

from __future__ import annotations

import pytest
import torch
from pretended_gpu import PretendedGpu

from mgstudy.config.robustness import FlatnessSettings
from mgstudy.config.training import TrainingSettings
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Recommender
from mgstudy.robustness.flatness.measures import measure_flatness, measure_landscape
from mgstudy.robustness.risks.base import make_risk, risks
from mgstudy.robustness.trained_model import TrainedModel, UserMetrics
from mgstudy.training.evaluation import Evaluator
from mgstudy.training.robust.reach import reach_of
from mgstudy.training.run import build_trainer

SETTINGS = TrainingSettings(epochs=1, batch_size=512, early_stopping=None)


def trained(dataset: Dataset, model: str, device: str) -> Recommender:
    # Without training both start from the same weights, drawn in memory.
    trainer = build_trainer(dataset, model=model, settings=SETTINGS, seed=2, device=device)
    return trainer.model.eval()


def under_risks(dataset: Dataset, model: str, device: str) -> list[UserMetrics]:
    subject = TrainedModel(
        lambda changed: trained(changed, model, device),
        dataset,
        Evaluator(dataset, "test", ["recall@5"], device=device),
    )
    return [
        measured.values
        for risk in risks
        for measured in subject.under(make_risk(risk.name), severity=0.5, seed=0)
    ]


@pytest.mark.parametrize("model", ["VBPR", "FREEDOM", "ItemKNNCBF"])
def test_every_risk(model: str, small_dataset: Dataset) -> None:
    expected = under_risks(small_dataset, model, "cpu")
    with PretendedGpu():
        found = under_risks(small_dataset, model, "cuda")
    for one, other in zip(found, expected, strict=True):
        assert one["recall@5"].mean() == pytest.approx(other["recall@5"].mean(), abs=0.02)


@pytest.mark.parametrize("model", ["VBPR", "FREEDOM"])
def test_an_attack_draws_as_if_nothing_had_been_drawn(model: str, small_dataset: Dataset) -> None:
    with PretendedGpu() as gpu:
        subject = trained(small_dataset, model, "cuda")
        before = gpu.generator.get_state()
        assert reach_of.__wrapped__(type(subject))
        make_risk("fgsm").tables(small_dataset, 0.5, seed=0, model=subject)
        assert torch.equal(gpu.generator.get_state(), before)


@pytest.mark.parametrize("model", ["BPR", "LATTICE"])
def test_every_measure_of_flatness(model: str, small_dataset: Dataset) -> None:
    settings = FlatnessSettings(
        batches=1, noise_draws=1, trace_probes=1, eigenvalue=False, landscape_points=3
    )
    numbers = []
    for device in ("cpu", "cuda"):
        with PretendedGpu() as gpu:
            subject = trained(small_dataset, model, device)
            before = gpu.generator.get_state()
            found = measure_flatness(subject, settings, batch_size=512)
            found |= measure_landscape(subject, settings, batch_size=512)
            assert torch.equal(gpu.generator.get_state(), before)
        del found["weight_noise_rises"], found["hessian_trace_error"]
        numbers.append(found)
    here, there = numbers
    assert there["line"]["losses"] == pytest.approx(here["line"]["losses"], rel=1e-4)
    for name in ("loss", "weight_norm", "gradient_norm", "hessian_trace"):
        assert there[name] == pytest.approx(here[name], rel=2e-2), name
