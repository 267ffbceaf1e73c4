"""The generator against the numbers of the published code (specification of MoDiCF, 1.4, 1.12)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from published_values import fill
from torch import Tensor

from mgstudy.config.factors import MissingModalities
from mgstudy.data.dataset import Dataset, Interactions
from mgstudy.data.missing import taken
from mgstudy.features.latent_diffusion import ModalityGenerator, sampled, signal_shares


def sine(like: Tensor, shift: float) -> Tensor:
    flat = torch.arange(like.numel(), dtype=torch.float64)
    return torch.sin(0.7 * flat + shift).view(like.shape)


@pytest.fixture(scope="module")
def toy() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The toy problem's features with the gaps of seed 0 and rate 0.4 as zeros, and what is there;
    the true rows under names of their own."""
    i = np.arange(24)[:, None]
    visual, textual = np.arange(10)[None], np.arange(6)[None]
    tables = {
        "image": np.sin(0.9 * i + 1.3 * visual + 0.2 * i * visual) + 0.3,
        "text": np.cos(0.7 * i - 0.5 * textual + 0.31 * i * textual),
    }
    none = Interactions(np.array([0]), np.array([0]))
    dataset = Dataset.from_arrays("toy", 1, 24, none, none, none, tables)
    masks = taken(dataset, MissingModalities(pattern="protected", rate=0.4))
    known = {name: torch.from_numpy(~mask) for name, mask in masks.items()}
    return {name: torch.from_numpy(table) for name, table in tables.items()}, known


@pytest.fixture(scope="module")
def generator() -> ModalityGenerator:
    made = ModalityGenerator({"image": 10, "text": 6}, (16, 32, 64, 128), 32).double()
    for first, name in ((5, "image"), (17, "text")):
        fill(made.coders[name], first)
    for first, name in ((29, "image"), (31, "text")):
        fill(made.conditions[name], first)
    for unet in made.unets.values():
        unet.frequencies = 0.001 * torch.arange(1, 9, dtype=torch.float64)
        fill(unet, 1)
    return made


def test_the_schedule_is_the_published_one() -> None:
    shares = signal_shares()
    expected = {0: 0.99969971, 99: 0.96050721, 499: 0.5, 899: 0.03949278}
    for step, share in expected.items():
        assert shares[step].item() == pytest.approx(share, abs=2e-8)
    assert shares[999].item() == pytest.approx(3.0e-7, rel=0.02)


def test_sampling_agrees_with_the_published_code() -> None:
    condition = torch.full((1, 2, 4), 0.5, dtype=torch.float64)
    start = sine(condition, 0.3)
    found = sampled(
        lambda x, at, c: 0.97 * x + 0.2 * c, condition, start, signal_shares(), 10, torch.zeros_like
    )
    expected = [0.155773, 0.428266, 0.503230, 0.345409, 0.037709, 0, 0, 0]
    assert found.flatten().tolist() == pytest.approx(expected, abs=1e-6)


def test_losses_and_gradients_agree_with_the_published_code(toy, generator) -> None:
    tables, known = toy
    filled = {name: table * known[name][:, None] for name, table in tables.items()}
    shifts = {"image": 0.3, "text": 2.2}
    diffusion, reconstruction = generator.losses(
        filled,
        known,
        steps=lambda name, count: (37 * torch.arange(count) + 11) % 1000,
        noise=lambda name, like: sine(like, shifts[name]),
    )
    assert diffusion.item() == pytest.approx(7.243555, abs=1e-6)
    assert reconstruction.item() == pytest.approx(1.100997, abs=1e-6)
    generator.zero_grad()
    (diffusion + reconstruction).backward()
    image, text = generator.coders["image"], generator.coders["text"]
    norms = {
        0.053409: image.narrow.weight,
        0.042561: text.narrow.weight,
        2.8303e-4: image.merge.weight,
        0.0044168: text.widen.weight,
        0.017386: generator.conditions["image"].weight,
        0.015025: generator.conditions["text"].weight,
        2.4864: generator.unets["image"].first.weight,
        0.067709: generator.unets["image"].first_block.attention.layers[0].map_in.weight,
        2.7713: generator.unets["text"].last.weight,
    }
    for expected, weight in norms.items():
        assert weight.grad.norm().item() == pytest.approx(expected, rel=1e-4)


def test_completion_agrees_with_the_published_code(toy, generator) -> None:
    tables, known = toy
    filled = {name: table * known[name][:, None] for name, table in tables.items()}
    errors = {True: 0.0, False: 0.0}
    for name, table in tables.items():
        # The published code draws once more in every step but the last.
        calls = iter(range(0 if name == "image" else 19, 100, 2))
        made = generator.generated(
            name,
            filled,
            start=lambda like: sine(like, 0.3),
            noise=lambda like, calls=calls: sine(like, 1.9 * next(calls) + 0.3),
        )
        for there in errors:
            rows = known[name] == there
            errors[there] += (made - table)[rows].square().mean().item()
    assert errors[True] == pytest.approx(1.106904, abs=1e-5)
    assert errors[False] == pytest.approx(1.097624, abs=1e-5)


def test_a_modality_that_no_row_has_is_left_out(toy, generator) -> None:
    tables, known = toy
    nothing = torch.zeros(24, dtype=torch.bool)
    torch.manual_seed(0)
    both = generator.losses(tables, {"image": known["image"], "text": nothing})
    torch.manual_seed(0)
    alone = generator.losses({**tables, "text": tables["text"]}, {**known, "text": nothing})
    assert torch.equal(both[0], alone[0])
