"""Weights with which numbers of the published code of MoDiCF's diffusion were computed."""

from __future__ import annotations

import torch
from torch import Tensor, nn


def formula(size: int, index: int) -> Tensor:
    flat = torch.arange(size, dtype=torch.float64)
    first = 0.4 * torch.sin(0.37 * flat + 1.7 * index + 0.5)
    return first + 0.2 * torch.cos(1.13 * flat + 0.6 * index)


def fill(module: nn.Module, first: int = 0) -> None:
    """Give every parameter, in order, the specification's values, scaled by its shape."""
    norms = {
        id(layer.weight)
        for layer in module.modules()
        if isinstance(layer, nn.LayerNorm | nn.GroupNorm)
    }
    for index, weight in enumerate(module.parameters(), start=first):
        values = formula(weight.numel(), index).view(weight.shape)
        if weight.dim() > 1:
            values = values / (weight.numel() / weight.shape[0]) ** 0.5
        else:
            values = 0.1 * values + (1 if id(weight) in norms else 0)
        with torch.no_grad():
            weight.copy_(values)
