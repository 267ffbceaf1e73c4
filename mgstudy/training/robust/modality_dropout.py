"""Modality dropout: now and then an item is seen without one of its modalities."""

from __future__ import annotations

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod
from mgstudy.training.robust.reach import Reach


class ModalityDropout(RobustMethod):
    """Modality dropout (ModDrop; Neverova et al., IEEE TPAMI 2016, sec. 4).

    For every loss each item independently loses, with a given ``probability``, one of its M
    modalities, drawn evenly: those features become zero, and its other ones are multiplied by
    M / (M − 1), so that a sum over modalities keeps its size. However often the loss reads an item,
    it is the same modality that is missing. With ``probability = 0`` the loss is left as it is.

    Cost: 1 forward-and-backward pass per loss.
    """

    name = "modality_dropout"
    needs = (Reach.FEATURES,)
    modalities_needed = 2

    class Parameters(ParameterSet):
        """Modality dropout's only setting."""

        probability: float = parameter(
            0.2, "share of the items that lose a modality", ge=0, le=1, space=(0.1, 0.2, 0.3, 0.5)
        )

    parameters: Parameters

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        if self.parameters.probability == 0:
            return loss

        def with_missing_modalities() -> Tensor:
            factors = self._draw_factors()

            def drop(modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
                factor = factors[modality] if items is None else factors[modality][items]
                return rows * factor

            with self.model.features.transformed(drop):
                return loss()

        return with_missing_modalities

    def _draw_factors(self) -> dict[str, Tensor]:
        """What each item's row of each modality is multiplied by, shape ``[items, 1]``."""
        features = self.model.features
        count = len(features.modalities)
        table = features.table(features.modalities[0])
        shape = (len(table), 1)
        loses = torch.rand(shape, device=table.device) < self.parameters.probability
        missing = torch.randint(count, shape, device=table.device)
        rest = torch.where(loses, count / (count - 1), 1.0)
        return {
            modality: rest.masked_fill(loses & (missing == position), 0.0)
            for position, modality in enumerate(features.modalities)
        }
