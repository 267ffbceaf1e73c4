"""AMR: train against an adversary that changes item features, where that raises the loss most."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from torch.nn import functional

from mgstudy.config.parameters import ParameterSet, parameter
from mgstudy.models.item_features import ItemFeatures
from mgstudy.models.rows import gather_rows, sum_rows
from mgstudy.models.signals import signals_unnoted
from mgstudy.training.gradient.base import LossClosure
from mgstudy.training.robust.base import BatchContext, RobustMethod
from mgstudy.training.robust.reach import Reach


class AdversarialTraining(RobustMethod):
    """What AMR and APR share: after a warm-up of ordinary training, an adversary adds its loss."""

    class Parameters(ParameterSet):
        """What an adversary may do, how it weighs, and when it begins."""

        epsilon: float = parameter(0.1, "length of the change", ge=0)
        weight: float = parameter(1.0, "weight of the loss at the change", ge=0)
        warmup_epochs: int = parameter(10, "epochs of ordinary training first", ge=0)

    parameters: Parameters

    @abstractmethod
    def with_adversary(self, loss: LossClosure) -> Tensor:
        """The loss and, times ``weight``, the one at the worst change of length ``epsilon``."""

    def wrap(self, loss: LossClosure, context: BatchContext) -> LossClosure:
        if self._neutral(self.parameters) or context.epoch < self.parameters.warmup_epochs:
            return loss
        return lambda: self.with_adversary(loss)

    @classmethod
    def computations_per_loss(cls, parameters: ParameterSet) -> float:
        assert isinstance(parameters, AdversarialTraining.Parameters)
        return 1.0 if cls._neutral(parameters) else 3.0

    @staticmethod
    def _neutral(parameters: Parameters) -> bool:
        return parameters.epsilon == 0 or parameters.weight == 0


class AdversarialFeatures(AdversarialTraining):
    """Adversarial multimedia recommendation (AMR; Tang et al., IEEE TKDE 2020, eq. 6 to 8).

    After a warm-up of ordinary training, the loss on a batch becomes::

        L(x) + weight · L(x + Δ),   Δ_i = epsilon · g_i / ||g_i||,   g = ∇_x L(x)

    with x the features of the batch's items and Δ, per item and modality, the fast-gradient
    direction, held constant. L is the model's whole loss, regulariser included. ``epsilon`` is in
    the units of the features: look at a modality's row norms to choose it. With ``epsilon = 0`` or
    ``weight = 0``, and on a batch whose loss reads no features, the loss is left as it is (the
    formula would count it 1 + weight times).

    Each of the three losses draws its own dropout. A strategy that asks for the loss twice meets
    two adversaries, each made for the weights of that moment.

    Cost: 3 forward-and-backward passes per loss after the warm-up, 1 before; the adversary's
    backward pass goes only as far as the features.
    """

    name = "adversarial_features"
    needs = (Reach.FEATURES,)

    class Parameters(AdversarialTraining.Parameters):
        """AMR's settings; published implementations set ``weight`` from 0.001 to 1."""

        epsilon: float = parameter(
            0.1,
            "length of the change of an item's features, in each modality",
            ge=0,
            space=(0.05, 0.1, 0.5, 1.0),
        )
        weight: float = parameter(
            1.0, "weight of the loss on the changed features", ge=0, space=(0.001, 0.01, 0.1, 1.0)
        )

    parameters: Parameters

    def with_adversary(self, loss: LossClosure) -> Tensor:
        adversary = fast_gradient(self.model.features, loss, self.parameters.epsilon)
        if adversary is None:
            return loss()
        with self.model.features.transformed(adversary):
            adversarial = loss()
        return loss() + self.parameters.weight * adversarial


class ItemDisplacements:
    """Moves the features of certain items, the same way wherever a model reads them.

    A ``FeatureTransform``.

    Args:
        displacements: Modality to the ids of the items that move, int64 of shape ``[moved]``, and
            how far each does, shape ``[moved, width]``.
        item_count: Number of all items.
    """

    def __init__(self, displacements: dict[str, tuple[Tensor, Tensor]], item_count: int) -> None:
        self._displacements = {}
        for modality, (items, moves) in displacements.items():
            # Items that do not move share an extra row of zeros.
            row_of = torch.full((item_count,), len(items), device=items.device)
            row_of[items] = torch.arange(len(items), device=items.device)
            self._displacements[modality] = (row_of, functional.pad(moves, (0, 0, 0, 1)))

    def __call__(self, modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
        if modality not in self._displacements:
            return rows
        row_of, moves = self._displacements[modality]
        return rows + gather_rows(moves, row_of if items is None else row_of[items])


def fast_gradient(
    features: ItemFeatures, loss: LossClosure, epsilon: float
) -> ItemDisplacements | None:
    """The displacement of length ``epsilon``, of each item in each modality, along the gradient.

    Fast gradient method in the L2 norm (Goodfellow et al., ICLR 2015; Miyato et al., ICLR 2017):
    ``epsilon · g / ||g||`` with g the gradient of ``feature_gradients``. An item that the loss does
    not depend on does not move.

    Args:
        features: What to displace.
        loss: Reads ``features`` when called; called once.
        epsilon: Length, in the units of the features.

    Returns:
        ``None`` where the loss reads none, so that nothing could move.
    """
    gradients = feature_gradients(features, loss)
    if not gradients:
        return None
    item_count = len(features.table(features.modalities[0]))
    return ItemDisplacements(
        {
            modality: (items, epsilon * functional.normalize(gradient, eps=1e-20))
            for modality, (items, gradient) in gradients.items()
        },
        item_count,
    )


def feature_gradients(
    features: ItemFeatures, loss: LossClosure
) -> dict[str, tuple[Tensor, Tensor]]:
    """The gradient of a loss in each item's features, summed over all places that read them.

    Args:
        features: What the loss reads, as its transforms leave it.
        loss: Called once.

    Returns:
        For every modality that was read, the items, int64 of shape ``[n]``, and their gradients,
        shape ``[n, width]``.
    """
    read: list[tuple[str, Tensor | None, Tensor]] = []

    def note(modality: str, rows: Tensor, items: Tensor | None) -> Tensor:
        leaf = rows.detach().requires_grad_()
        read.append((modality, items, leaf))
        return leaf

    with torch.enable_grad(), signals_unnoted(), features.transformed(note):
        value = loss()
    if not read:
        return {}
    leaves = [leaf for _, _, leaf in read]
    gradients = torch.autograd.grad(value, leaves, allow_unused=True, materialize_grads=True)
    found = {}
    for modality in {modality: None for modality, _, _ in read}:
        # Torch's zeros, where there was none, ask for gradients themselves in torch 2.9.
        own = [
            (_all_items(leaf) if items is None else items, gradient.detach())
            for (of, items, leaf), gradient in zip(read, gradients, strict=True)
            if of == modality
        ]
        found[modality] = _summed_by_item(own)
    return found


def _all_items(rows: Tensor) -> Tensor:
    return torch.arange(len(rows), device=rows.device)


def _summed_by_item(parts: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    items, rows = torch.unique(torch.cat([items for items, _ in parts]), return_inverse=True)
    gradients = torch.cat([gradient for _, gradient in parts])
    return items, sum_rows(gradients, rows, len(items))
