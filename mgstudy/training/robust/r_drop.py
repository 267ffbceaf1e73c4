"""R-Drop: two passes with different dropout must predict the same."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.models.signals import Signal, signals_noted, signals_transformed
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod
from mgstudy.training.robust.reach import Reach


class RDrop(RobustMethod):
    """Regularized dropout (Liang et al., NeurIPS 2021, eq. 2 to 4, divided by two).

    The loss is computed twice on the batch, with different dropout, and becomes::

        ½ (L₁ + L₂) + weight · ½ (KL(P₁ || P₂) + KL(P₂ || P₁))

    with P the model's predictions: for a pairwise ranking loss the probability that the positive
    item is preferred, for an in-batch contrast the distribution over the batch; averaged over the
    rows, and over the places where the loss predicts. Few recommenders have dropout of their
    own, so it is applied here, to the representations that the loss compares. With ``weight = 0``
    the loss is left as it is.

    Cost: 2 forward-and-backward passes per loss.
    """

    name = "r_drop"
    needs = (Reach.PREDICTIONS, Reach.REPRESENTATIONS)

    class Parameters(ParameterSet):
        """R-Drop's settings."""

        weight: float = parameter(
            1.0, "weight of the divergence between the two predictions", ge=0, space=(0.1, 1.0, 5.0)
        )
        dropout: float = parameter(
            0.1,
            "share of a representation's entries set to zero",
            ge=0,
            lt=1,
            space=(0.1, 0.2, 0.3),
        )

    parameters: Parameters

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        if self.parameters.weight == 0:
            return loss

        def twice() -> Tensor:
            first, first_logits = self._with_dropout(loss)
            second, second_logits = self._with_dropout(loss)
            divergence = torch.stack(
                [
                    symmetric_divergence(one, other)
                    for one, other in zip(first_logits, second_logits, strict=True)
                ]
            ).mean()
            return 0.5 * (first + second) + self.parameters.weight * divergence

        return twice

    def _with_dropout(self, loss: LossClosure) -> tuple[Tensor, list[Tensor]]:
        dropped: dict[Tensor, Tensor] = {}

        def drop(representation: Tensor) -> Tensor:
            # A user compared with two items is the same user both times.
            if representation not in dropped:
                dropped[representation] = functional.dropout(
                    representation, self.parameters.dropout
                )
            return dropped[representation]

        with (
            signals_transformed(Signal.REPRESENTATION, drop),
            signals_noted(Signal.LOGITS) as logits,
        ):
            return loss(), logits

    @classmethod
    def computations_per_loss(cls, parameters: ParameterSet) -> float:
        assert isinstance(parameters, RDrop.Parameters)
        return 1.0 if parameters.weight == 0 else 2.0


def symmetric_divergence(one: Tensor, other: Tensor) -> Tensor:
    """Mean over the rows of ½ (KL(P || Q) + KL(Q || P)), which is ½ Σ (p − q)(log p − log q).

    Args:
        one: Logits of P: ``[rows]``, log-odds of one outcome, or ``[rows, classes]``.
        other: Logits of Q, of the same shape.
    """
    if one.dim() == 1:
        products = (one.sigmoid() - other.sigmoid()) * (one - other)
    else:
        log_p, log_q = one.log_softmax(dim=-1), other.log_softmax(dim=-1)
        products = ((log_p.exp() - log_q.exp()) * (log_p - log_q)).sum(dim=-1)
    return 0.5 * products.mean()
