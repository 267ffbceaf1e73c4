"""The flatness of real models: repeatable, and the same batches for all."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch

from mgstudy.config.robustness import FLATNESS_MEASURES, FlatnessSettings
from mgstudy.models.base import models
from mgstudy.robustness.flatness.loss_surface import LossSurface
from mgstudy.robustness.flatness.measures import (
    batch_losses,
    measure_flatness,
    measure_landscape,
)
from mgstudy.robustness.trained_model import TrainedModel

Train = Callable[..., TrainedModel]
QUICK = FlatnessSettings(
    batches=2, noise_draws=2, trace_probes=2, landscape_points=3, landscape_grid=3
)


@pytest.mark.parametrize("name", [model.name for model in models if model.trainable])
def test_every_model_has_a_repeatable_loss_and_its_curvature(name: str, train: Train) -> None:
    model = train(name, epochs=1).model
    weights = [parameter for parameter in model.parameters() if parameter.requires_grad]
    surface = LossSurface(weights, batch_losses(model, QUICK, batch_size=64))
    before = surface.weights()
    value = surface.value()
    direction = surface.gradient()
    assert surface.value_at(0.01 * direction) != value
    assert surface.value() == value
    torch.testing.assert_close(surface.weights(), before, rtol=0, atol=0)
    product = surface.hessian_product(direction)
    assert torch.isfinite(product).all()
    # They multiply by graphs whose entries they learn, or contrast by a gradient written out.
    if name in {"LATTICE", "GRCN", "MGCN", "SMORE", "SLMRec"}:
        assert surface.curvature == "finite_differences"
    if name in {"BPR", "VBPR", "BM3", "FREEDOM", "LightGCN", "MMGCF"}:
        assert surface.curvature == "double_backward"
    if name in {"BPR", "VBPR", "LightGCN", "FREEDOM"}:  # Smooth: both ways to the same number.
        by_differences = surface._finite_difference(direction)
        expected = float(direction @ by_differences)
        assert float(direction @ product) == pytest.approx(expected, rel=0.05)


def test_lattice_rebuilds_its_graph_at_every_weight(train: Train) -> None:
    """Its loss keeps a graph between batches, which must not be taken for that of other weights."""
    model = train("LATTICE", epochs=1).model
    losses = batch_losses(model, QUICK, batch_size=64)
    surface = LossSurface(list(model.projections["image"].parameters()), losses)
    assert float(surface.gradient().norm()) > 0
    direction = surface.gradient()
    step = 1e-2 / float(direction.norm())
    slope = (surface.value_at(step * direction) - surface.value_at(-step * direction)) / (2 * step)
    assert slope == pytest.approx(float(direction @ direction), rel=0.05)


def test_everything_is_measured_and_repeats_to_the_bit(train: Train) -> None:
    model = train("VBPR", epochs=2).model
    found = measure_flatness(model, QUICK, batch_size=64)
    assert found == measure_flatness(model, QUICK, batch_size=64)
    assert set(found) == {
        *FLATNESS_MEASURES,
        "weight_noise_rises",
        "hessian_trace_error",
        "curvature",
    }
    assert all(math.isfinite(found[name]) for name in FLATNESS_MEASURES)
    assert found["curvature"] == "double_backward"
    assert len(found["weight_noise_rises"]) == 2
    less = QUICK.model_copy(update={"eigenvalue": False, "trace_probes": 0})
    missing = {"top_eigenvalue", "hessian_trace", "hessian_trace_error", "curvature"}
    assert set(measure_flatness(model, less, batch_size=64)) == set(found) - missing
    slices = measure_landscape(model, QUICK, batch_size=64)
    assert slices["line"]["losses"][1] == found["loss"]
    assert len(slices["square"]["losses"]) == len(slices["square"]["losses"][0]) == 3
    none = QUICK.model_copy(update={"landscape_points": 0, "landscape_grid": 0})
    assert measure_landscape(model, none, batch_size=64) == {}
