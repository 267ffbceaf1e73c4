"""The network that predicts the noise in a latent: a small U-Net along its positions.

After MoDiCF (Li et al., WWW 2025), from the equations of its published code.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

HEADS = 8
ATTENTION_LAYERS = 2
_NARROW_GROUPS, _GROUPS = 4, 32
_FREQUENCY_DEVIATION = 30.0
_LONGEST_WAVE = 1e4


class DenoisingUNet(nn.Module):
    """Predicts the noise in a latent from the latent, the step and a condition of the same shape.

    Three stages halve the positions and three double them; every block adds attention to the
    condition, which is halved and doubled along, and the step. Without a condition the attention is
    left out. One quirk is dropped: a position whose first channel is exactly 0 loses its position
    code in the published code.

    Args:
        channels: Of the latent and of each halving; the first is divisible by 8 and the others by
            32.
    """

    frequencies: Tensor

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        first = channels[0]
        if first % HEADS or any(width % _GROUPS for width in channels[1:]):
            raise ValueError(f"channels {list(channels)}: expected multiples of 8, then of 32")
        # Drawn once and not trained.
        self.register_buffer("frequencies", torch.randn(first // 2) * _FREQUENCY_DEVIATION)
        self.time = nn.Linear(first, first)
        self.first = nn.Conv1d(first, first, 3, padding=1, bias=False)
        self.first_block = _Block(first, first)
        widths = list(channels)
        self.down = nn.ModuleList(
            _Stage(nn.Conv1d, one, one, other, first) for one, other in itertools.pairwise(widths)
        )
        self.up = nn.ModuleList()
        for level in range(len(widths) - 1, 0, -1):
            # All but the first join what the way down had at this width.
            joined = widths[level] * (1 if level == len(widths) - 1 else 2)
            self.up.append(
                _Stage(nn.ConvTranspose1d, joined, widths[level], widths[level - 1], first)
            )
        self.last = nn.ConvTranspose1d(2 * first, first, 3, padding=1)
        self.last_condition = nn.ConvTranspose1d(first, first, 3, padding=1)
        self.last_attention = CrossAttention(first)

    def forward(self, latent: Tensor, steps: Tensor, condition: Tensor | None) -> Tensor:
        """The predicted noise.

        Args:
            latent: Shape ``[items, channels, positions]``; positions are divisible by 8.
            steps: Step of each item, int64, shape ``[items]``.
            condition: Shape of ``latent``.
        """
        time = functional.silu(self.time(self._waves(steps).to(latent.dtype)))
        hidden: Tensor = self.first_block(self.first(latent), time, condition)
        passed = [hidden]
        for stage in self.down:
            hidden, condition = stage(hidden, time, condition)
            passed.append(hidden)
        passed.pop()
        for position, stage in enumerate(self.up):
            if position:
                hidden = torch.cat([hidden, passed.pop()], dim=1)
            hidden, condition = stage(hidden, time, condition)
        hidden = self.last(torch.cat([hidden, passed.pop()], dim=1))
        if condition is not None:
            hidden = hidden + self.last_attention(hidden, self.last_condition(condition))
        return hidden

    def _waves(self, steps: Tensor) -> Tensor:
        """Sines and cosines of the steps; whole turns are taken off first, in double precision,
        since a single one has no digits left for the phase of step 999."""
        turns = torch.remainder(steps.double()[:, None] * self.frequencies.double()[None], 1.0)
        return torch.cat([(2 * math.pi * turns).sin(), (2 * math.pi * turns).cos()], dim=1)


class _Block(nn.Module):
    """Attention to the condition and the step, then normalisation by groups of channels."""

    def __init__(self, channels: int, time_width: int) -> None:
        super().__init__()
        self.attention = CrossAttention(channels)
        self.time = nn.Linear(time_width, channels)
        groups = _NARROW_GROUPS if channels == time_width else _GROUPS
        self.norm = nn.GroupNorm(groups, channels)

    def forward(self, hidden: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        added = hidden + self.time(time)[:, :, None]
        if condition is not None:
            added = added + self.attention(hidden, condition)
        return functional.silu(self.norm(added))


class _Stage(nn.Module):
    """Half, or twice, as many positions of the latent and of its condition, and a block."""

    def __init__(
        self,
        kind: type[nn.Conv1d] | type[nn.ConvTranspose1d],
        inputs: int,
        condition_inputs: int,
        outputs: int,
        time_width: int,
    ) -> None:
        super().__init__()
        doubling = {"output_padding": 1} if kind is nn.ConvTranspose1d else {}
        settings: Any = {"stride": 2, "padding": 1, "bias": False, **doubling}
        self.change = kind(inputs, outputs, 3, **settings)
        self.change_condition = kind(condition_inputs, outputs, 3, **settings)
        self.block = _Block(outputs, time_width)

    def forward(
        self, hidden: Tensor, time: Tensor, condition: Tensor | None
    ) -> tuple[Tensor, Tensor | None]:
        hidden = self.change(hidden)
        if condition is not None:
            condition = self.change_condition(condition)
        return self.block(hidden, time, condition), condition


class CrossAttention(nn.Module):
    """A latent's positions attend to a condition's, in two pre-norm layers.

    As published, a position attends only to itself and those before it.

    Args:
        channels: Of both, divisible by 8.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.layers = nn.ModuleList(_AttentionLayer(channels) for _ in range(ATTENTION_LAYERS))
        self.norm = nn.LayerNorm(channels)

    def forward(self, queries: Tensor, keys: Tensor) -> Tensor:
        """Shape ``[items, channels, positions]``, as both arguments."""
        places = self._places(queries)
        x = math.sqrt(self.channels) * queries.transpose(1, 2) + places
        y = math.sqrt(self.channels) * keys.transpose(1, 2) + places
        for layer in self.layers:
            x = layer(x, y)
        attended: Tensor = self.norm(x).transpose(1, 2)
        return attended

    def _places(self, like: Tensor) -> Tensor:
        """Sines and cosines of the positions, shape ``[positions, channels]``."""
        half = self.channels // 2
        at = torch.arange(1, like.shape[2] + 1, dtype=like.dtype, device=like.device)
        order = torch.arange(half, dtype=like.dtype, device=like.device)
        angles = at[:, None] * torch.exp(-order * math.log(_LONGEST_WAVE) / (half - 1))[None]
        return torch.cat([angles.sin(), angles.cos()], dim=1)


class _AttentionLayer(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.map_in = nn.Linear(channels, 3 * channels)
        self.map_out = nn.Linear(channels, channels)
        self.widen = nn.Linear(channels, 4 * channels)
        self.narrow = nn.Linear(4 * channels, channels)
        self.attention_norm = nn.LayerNorm(channels)
        self.feed_norm = nn.LayerNorm(channels)
        for layer in (self.map_in, self.map_out, self.widen, self.narrow):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        x = x + self._attended(self.attention_norm(x), self.attention_norm(y))
        fed: Tensor = self.narrow(torch.relu(self.widen(self.feed_norm(x))))
        return x + fed

    def _attended(self, queries: Tensor, keys: Tensor) -> Tensor:
        weights, biases = self.map_in.weight.chunk(3), self.map_in.bias.chunk(3)
        query, key, value = (
            functional.linear(rows, weight, bias).view(*rows.shape[:2], HEADS, -1).transpose(1, 2)
            for rows, weight, bias in zip((queries, keys, keys), weights, biases, strict=True)
        )
        attended = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        joined: Tensor = self.map_out(attended.transpose(1, 2).flatten(2))
        return joined
