"""APR: train against an adversary that changes user and item embeddings."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from mgstudy.config.parameters import parameter
from mgstudy.models.signals import signals_unnoted
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.adversarial_features import AdversarialTraining
from mgstudy.training.robust.reach import Reach, embedding_tables


class AdversarialEmbeddings(AdversarialTraining):
    """Adversarial personalized ranking (APR; He et al., SIGIR 2018, eq. 5 to 9).

    After a warm-up of ordinary training, the loss on a batch becomes::

        L(θ) + weight · L(θ + Δ),   Δ_r = epsilon · g_r / ||g_r||,   g = ∇_θ L(θ)

    with θ the embedding tables (every trained table with a row per user or item) and Δ, for each
    of their rows, the fast-gradient direction, held constant. Other parameters stay as they are.
    L is the model's whole loss, regulariser included. With ``epsilon = 0`` or ``weight = 0`` the
    loss is left as it is (the formula would count it 1 + weight times).

    Each of the three losses draws its own dropout. A strategy that asks for the loss twice meets
    two adversaries, each made for the weights of that moment.

    Cost: 3 forward-and-backward passes per loss after the warm-up, 1 before.
    """

    name = "adversarial_embeddings"
    needs = (Reach.EMBEDDINGS,)

    class Parameters(AdversarialTraining.Parameters):
        """APR's settings, with the published defaults."""

        epsilon: float = parameter(
            0.5,
            "length of the change of a user's or an item's embedding",
            ge=0,
            space=(0.1, 0.5, 1.0),
        )
        weight: float = parameter(
            1.0, "weight of the loss at the changed embeddings", ge=0, space=(0.01, 0.1, 1.0)
        )

    parameters: Parameters

    def with_adversary(self, loss: LossClosure) -> Tensor:
        tables = embedding_tables(self.model)
        with torch.enable_grad(), signals_unnoted():
            gradients = torch.autograd.grad(
                loss(), list(tables.values()), allow_unused=True, materialize_grads=True
            )
        changed = {
            name: table + self.parameters.epsilon * functional.normalize(gradient, eps=1e-20)
            for (name, table), gradient in zip(tables.items(), gradients, strict=True)
        }
        return loss() + self.parameters.weight * _with_parameters(self.model, changed, loss)


class _LossOfModel(nn.Module):
    """A loss closure as a module, so that torch can call it with other parameters in the model."""

    def __init__(self, model: nn.Module, loss: LossClosure) -> None:
        super().__init__()
        self.model = model
        self.loss = loss

    def forward(self) -> Tensor:
        return self.loss()


def _with_parameters(model: nn.Module, values: dict[str, Tensor], loss: LossClosure) -> Tensor:
    """The loss with some of the model's parameters replaced; gradients flow to the values."""
    named = {f"model.{name}": value for name, value in values.items()}
    result: Tensor = functional_call(_LossOfModel(model, loss), named, ())
    return result
