"""Generates an item's modality from its other modalities, by diffusion in a latent space.

After MoDiCF (Li et al., WWW 2025), from the equations of its published code.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from mgstudy.features.denoising_unet import DenoisingUNet

STEPS = 1000
"""Steps from a latent to noise."""
_SIGMOID_START, _SIGMOID_END = -3.0, 3.0
_LARGEST_BETA = 0.999

Draw: TypeAlias = Callable[[Tensor], Tensor]
"""Standard normal numbers like a tensor."""
Predict: TypeAlias = Callable[[Tensor, Tensor, Tensor], Tensor]
"""The noise in a latent, given latent, steps and condition."""


def signal_shares() -> Tensor:
    """ᾱ of every step, float64 ``[STEPS]``: how much of a latent's variance is still its own.

    The sigmoid schedule of Jabri et al. (arXiv 2212.11972) from -3 to 3 with temperature 1.
    """
    at = np.linspace(0, 1, STEPS + 1) * (_SIGMOID_END - _SIGMOID_START) + _SIGMOID_START
    sigmoids = 1 / (1 + np.exp(-at))
    g = (sigmoids[-1] - sigmoids) / (sigmoids[-1] - sigmoids[0])
    betas = np.minimum(_LARGEST_BETA, 1 - g[1:] / g[:-1])
    return torch.from_numpy(np.cumprod(1 - betas))


class LatentCoder(nn.Module):
    """A row of features to a latent and back.

    Args:
        width: Columns of the features.
        channels: Of the latent.
        positions: Of the latent.
    """

    def __init__(self, width: int, channels: int, positions: int) -> None:
        super().__init__()
        hidden = max(1, min(width // 2, positions))
        self.narrow = nn.Linear(width, hidden)
        self.to_positions = nn.Linear(hidden, positions)
        self.lift = nn.Conv1d(1, channels, 1)
        self.merge = nn.Conv1d(channels, 1, 1)
        self.from_positions = nn.Linear(positions, hidden)
        self.widen = nn.Linear(hidden, width)

    def encoded(self, rows: Tensor) -> Tensor:
        """Shape ``[items, channels, positions]``."""
        lifted: Tensor = self.lift(torch.relu(self.to_positions(self.narrow(rows)))[:, None])
        return lifted

    def decoded(self, latent: Tensor) -> Tensor:
        """Shape ``[items, width]``."""
        merged = torch.relu(self.merge(latent))[:, 0]
        rows: Tensor = self.widen(self.from_positions(merged))
        return rows


class ModalityGenerator(nn.Module):
    """Learns to generate each modality of an item from its others.

    Quirks of the published code that are kept: a latent and its condition get the same noise in
    training and noise of their own in sampling; what is sampled is clipped to [0, 1], as features
    are, though it is a latent.

    Args:
        widths: Modality to the columns of its table, in order; two or more.
        channels: Of the latent, and of each of three halvings; see ``DenoisingUNet``.
        positions: Of the latent, divisible by 8.
        sampling_steps: Steps from noise to a latent.
    """

    shares: Tensor

    def __init__(
        self,
        widths: Mapping[str, int],
        channels: Sequence[int],
        positions: int,
        sampling_steps: int = 10,
    ) -> None:
        super().__init__()
        first = channels[0]
        self.sampling_steps = sampling_steps
        self.shape = (first, positions)
        self.coders = nn.ModuleDict(
            {name: LatentCoder(width, first, positions) for name, width in widths.items()}
        )
        self.conditions = nn.ModuleDict(
            {name: nn.Conv1d((len(widths) - 1) * first, first, 1) for name in widths}
        )
        self.unets = nn.ModuleDict({name: DenoisingUNet(channels) for name in widths})
        self.register_buffer("shares", signal_shares(), persistent=False)

    def losses(
        self,
        tables: Mapping[str, Tensor],
        observed: Mapping[str, Tensor],
        steps: Callable[[str, int], Tensor] | None = None,
        noise: Callable[[str, Tensor], Tensor] | None = None,
    ) -> tuple[Tensor, Tensor]:
        """What diffusion and what reconstruction lose on some items, each a sum over modalities.

        A modality counts where it is observed; the others condition it, observed or generated.

        Args:
            tables: Modality to rows, shape ``[items, width]``.
            observed: Modality to whether each row is there, bool ``[items]``.
            steps: The step of each row, given modality and count; uniform when not given.
            noise: Standard normal numbers like a tensor, given the modality.
        """
        latents = {name: self._encoded(name, rows) for name, rows in tables.items()}
        diffusion = reconstruction = next(iter(latents.values())).new_zeros(())
        for name, rows in tables.items():
            known = observed[name]
            if not known.any():
                continue
            latent = latents[name][known]
            condition = self._condition(name, latents)[known]
            count = len(latent)
            at = (
                torch.randint(STEPS, (count,), device=latent.device)
                if steps is None
                else steps(name, count)
            )
            drawn = torch.randn_like(latent) if noise is None else noise(name, latent)
            own, other = self._amounts(at, latent)
            predicted = self.unets[name](
                own * latent + other * drawn, at, own * condition + other * drawn
            )
            diffusion = diffusion + (predicted - drawn).square().mean()
            again = self._coder(name).decoded(latent)
            reconstruction = reconstruction + (again - rows[known]).square().mean()
        return diffusion, reconstruction

    @torch.no_grad()
    def generated(
        self,
        name: str,
        tables: Mapping[str, Tensor],
        start: Draw = torch.randn_like,
        noise: Draw = torch.randn_like,
    ) -> Tensor:
        """One modality's rows, generated from the others, shape ``[items, width]``.

        Args:
            name: The modality.
            tables: Modality to rows of the same items; that of ``name`` is not looked at.
            start: What sampling starts from.
            noise: What it adds to the condition, step by step.
        """
        others = {of: self._encoded(of, tables[of]) for of in self.coders if of != name}
        condition = self._condition(name, others)
        first = start(condition.new_empty(len(condition), *self.shape))
        latent = sampled(
            self.unets[name], condition, first, self.shares, self.sampling_steps, noise
        )
        return self._coder(name).decoded(latent)

    def _coder(self, name: str) -> LatentCoder:
        coder = self.coders[name]
        assert isinstance(coder, LatentCoder)
        return coder

    def _encoded(self, name: str, rows: Tensor) -> Tensor:
        return self._coder(name).encoded(rows)

    def _condition(self, name: str, latents: Mapping[str, Tensor]) -> Tensor:
        others = [latents[other] for other in self.coders if other != name]
        condition: Tensor = self.conditions[name](torch.cat(others, dim=1))
        return condition

    def _amounts(self, steps: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ and √(1−ᾱ) of each item's step, to be multiplied with latents."""
        share = self.shares[steps][:, None, None]
        return share.sqrt().to(like.dtype), (1 - share).sqrt().to(like.dtype)


def sampled(
    predict: Predict,
    condition: Tensor,
    start: Tensor,
    shares: Tensor,
    step_count: int,
    noise: Draw,
) -> Tensor:
    """From noise to a latent in a few steps (DDIM with η = 0; Song et al., ICLR 2021).

    Args:
        predict: Predicts the noise.
        condition: Shape ``[items, channels, positions]``.
        start: Noise of the same shape.
        shares: As ``signal_shares`` gives them.
        step_count: Steps.
        noise: Standard normal numbers, drawn anew for the condition in every step.
    """
    times = np.linspace(-1, STEPS - 1, step_count + 1).astype(np.int64)[::-1]
    x = start
    for time, following in itertools.pairwise(times):
        share = float(shares[time])
        own, other = share**0.5, (1 - share) ** 0.5
        at = torch.full((len(x),), int(time), device=x.device)
        error = predict(x, at, own * condition + other * noise(condition))
        clean: Tensor = ((x - other * error) / own).clamp(0, 1)
        if following < 0:
            return clean
        error = (x - own * clean) / other
        share = float(shares[following])
        x = share**0.5 * clean + (1 - share) ** 0.5 * error
    return x
