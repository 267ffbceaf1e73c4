"""BSAM: sharpness-aware minimization on the rows that a batch touches, and its mixed loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.training.gradient.sam import TINY, SharpnessAwareStrategy


class BSAM(SharpnessAwareStrategy):
    """Batch sharpness-aware minimization, after BSAM and BSAM+ (Xu et al., IEEE TKDE 2025).

    Only the abstract is public: "a sharpness-aware minimization strategy focused on batch data"
    that needs no "extensive hyper-parameter tuning", and "a mixed loss variant strategy (BSAM+),
    which accelerates convergence". What follows is our reading of it, not the published algorithm:

    * *Focused on batch data*: each row of a parameter is displaced by itself. A user or an item
      that the batch holds moves as far as any other, and one that it does not reach stays.
    * *Without tuning*: a row moves in proportion to its own length, so that one ``rho`` fits models
      whose embeddings differ in scale. For every row r of θ with gradient g::

          ε_r = rho · ||θ_r|| · g_r / ||g_r||

      A parameter of one dimension (a bias) is one row.
    * *Mixed loss* (BSAM+): the optimizer steps on (1 − mixing) L(θ) + mixing L(θ + ε), with ε held
      constant. ``mixing = 1``, the default, is BSAM.

    With ``rho = 0`` or ``mixing = 0`` it is ``plain``, at plain's cost.

    Cost: 2 forward-and-backward passes and 1 optimizer step per batch.
    """

    name = "bsam"

    class Parameters(ParameterSet):
        """BSAM's settings; the published ones are not known."""

        rho: float = parameter(
            0.05,
            "how far a row moves to its worst point nearby, relative to its length",
            ge=0,
            space=(0.01, 0.05, 0.1),
        )
        mixing: float = parameter(
            1.0,
            "share of the loss at the worst point: 1 for BSAM, less for the mixed loss of BSAM+",
            ge=0,
            le=1,
            space=(0.5, 1.0),
        )

    parameters: Parameters

    @torch.no_grad()
    def find_worst(self, out: Sequence[Tensor]) -> None:
        for weight, worst in zip(self.trained, out, strict=True):
            if weight.grad is None:
                worst.copy_(weight)
                continue
            dimensions = tuple(range(1, weight.dim())) or None
            length = torch.linalg.vector_norm(weight, dim=dimensions, keepdim=True)
            slope = torch.linalg.vector_norm(weight.grad, dim=dimensions, keepdim=True)
            torch.addcmul(
                weight, weight.grad, self.parameters.rho * length / (slope + TINY), out=worst
            )

    @property
    def share(self) -> float:
        return self.parameters.mixing

    @classmethod
    def neutral(cls, parameters: ParameterSet) -> bool:
        assert isinstance(parameters, BSAM.Parameters)
        return parameters.rho == 0 or parameters.mixing == 0
