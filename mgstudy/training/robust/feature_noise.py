"""Feature noise: Gaussian noise on every feature that the model reads while it trains."""

from __future__ import annotations

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.models.base import Recommender
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod
from mgstudy.training.robust.reach import Reach

_RESERVOIR = 1 << 20
"""Standard normal numbers kept at a time: 4 MiB."""


class FeatureNoise(RobustMethod):
    """Gaussian noise on the item features (noise injection; Bishop, Neural Computation 1995).

    Every row that the model reads while a loss is computed becomes::

        x + scale · s_m · n,   n ~ N(0, I)

    with s_m the standard deviation of all entries of modality m's table, as it was at the start of
    training. Every reading draws its own noise, also of the same item. With ``scale = 0`` the loss
    is left as it is.

    Drawing a normal number costs several times as much as using it, so 2^20 are drawn at the start
    of an epoch and each reading takes a run of them from a random place. Within an epoch the same
    number thus serves several readings, in other rows and columns.

    Cost: 1 forward-and-backward pass per loss.
    """

    name = "feature_noise"
    needs = (Reach.FEATURES,)

    class Parameters(ParameterSet):
        """The noise's only setting."""

        scale: float = parameter(
            0.1,
            "standard deviation of the noise over that of the modality's features",
            ge=0,
            space=(0.05, 0.1, 0.25, 0.5),
        )

    parameters: Parameters

    def __init__(self, model: Recommender, parameters: ParameterSet | None = None) -> None:
        super().__init__(model, parameters)
        features = model.features
        self._deviations = {
            modality: self.parameters.scale * features.table(modality).detach().std().item()
            for modality in features.modalities
        }
        self._normal: Tensor | None = None
        self._drawn_in: int | None = None

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        if self.parameters.scale == 0:
            return loss

        def with_noise() -> Tensor:
            if self._drawn_in != context.epoch:
                self._normal, self._drawn_in = None, context.epoch
            with self.model.features.transformed(self._noised):
                return loss()

        return with_noise

    def _noised(self, modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
        if self._normal is None:
            self._normal = torch.randn(_RESERVOIR, device=rows.device)
        noise = _runs_of(self._normal, rows.numel()).view_as(rows)
        return rows.add(noise, alpha=self._deviations[modality])


def _runs_of(numbers: Tensor, count: int) -> Tensor:
    """``count`` of the numbers, in runs of at most half of them from random places."""
    longest = len(numbers) // 2
    lengths = [min(longest, count - start) for start in range(0, count, longest)]
    places = torch.randint(len(numbers) - longest + 1, (len(lengths),)).tolist()
    runs = [numbers[place : place + length] for place, length in zip(places, lengths, strict=True)]
    return runs[0] if len(runs) == 1 else torch.cat(runs)
