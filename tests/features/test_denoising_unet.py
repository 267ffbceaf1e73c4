"""The U-Net against the numbers of the published code (specification of MoDiCF, section 1.12)."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from published_values import fill
from torch import Tensor

from mgstudy.features.denoising_unet import CrossAttention, DenoisingUNet


def waves(shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    flat = torch.arange(int(np.prod(shape)), dtype=torch.float64)
    return torch.sin(0.1 * flat + 0.2).view(shape), torch.cos(0.13 * flat).view(shape)


def unet() -> DenoisingUNet:
    net = DenoisingUNet((16, 32, 64, 128)).double()
    net.frequencies = 0.001 * torch.arange(1, 9, dtype=torch.float64)
    fill(net, first=1)
    return net


def test_attention_agrees_with_the_published_code() -> None:
    attention = CrossAttention(16).double()
    fill(attention)
    queries, keys = (of.permute(1, 2, 0) for of in waves((4, 2, 16)))
    out = attention(queries, keys).permute(2, 0, 1)
    assert out.mean().item() == pytest.approx(0.004480, abs=1e-6)
    assert out.square().mean().sqrt().item() == pytest.approx(0.990761, abs=1e-6)
    assert out[0, 0, :3].tolist() == pytest.approx([-1.240542, -1.562647, -1.472157], abs=1e-6)
    assert out[3, 1, 15].item() == pytest.approx(1.734438, abs=1e-6)


def test_the_network_agrees_with_the_published_code() -> None:
    latent, condition = waves((3, 16, 32))
    steps = torch.tensor([0, 500, 999])
    out = unet()(latent, steps, condition)
    assert out.mean().item() == pytest.approx(-0.002433, abs=1e-6)
    assert out.square().mean().sqrt().item() == pytest.approx(1.642792, abs=1e-6)
    assert out[0, 0, :3].tolist() == pytest.approx([2.327224, 2.713358, 2.438308], abs=2e-6)
    assert out[1, 7, 10].item() == pytest.approx(-0.763294, abs=2e-6)
    assert out[2, 15, 31].item() == pytest.approx(0.306268, abs=2e-6)
    alone = unet()(latent, steps, None)
    assert alone.mean().item() == pytest.approx(-0.008185, abs=1e-6)
    assert alone.square().mean().sqrt().item() == pytest.approx(0.629705, abs=1e-6)


def test_the_published_size_has_its_weights() -> None:
    count = sum(weight.numel() for weight in DenoisingUNet((16, 32, 64, 128)).parameters())
    assert count == pytest.approx(0.81e6, rel=0.01)


def test_channels_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="multiples of 8, then of 32"):
        DenoisingUNet((12, 32, 64, 128))
