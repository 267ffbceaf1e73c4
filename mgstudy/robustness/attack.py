"""Attacks on item features that follow the gradient of a loss."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from mgstudy.data.dataset import Dataset, as_tensor
from mgstudy.data.sampling import NegativeSampler, drawn_epoch
from mgstudy.models.base import Batch, EmbeddingRecommender, Recommender
from mgstudy.models.losses import ranking_loss
from mgstudy.robustness.risks.base import Tables, spread
from mgstudy.training.checkpoint import seeded
from mgstudy.training.robust.adversarial_features import ItemDisplacements, feature_gradients

_PAIRS_AT_ONCE = 2048
_LOSS_SEED = 0


class FeatureAttack:
    """Raises a loss by changing item features, within a box around them.

    The loss is that of ranking: over every training pair, with one negative each drawn once, the
    mean BPR loss ``−log σ(s_positive − s_negative)`` of the model's own scores. So the attacker
    knows the model and what it was trained on, and not the test.

    Some models' scores do not read features differentiably: FREEDOM knows them as an item graph
    only. There the training loss stands in for that of ranking (an attack through a surrogate), if
    it reads them; the graph is then built of the attacked features. A model whose losses read no
    features cannot be attacked this way, and its features stay as they are.

    Args:
        model: The model in evaluation mode.
        dataset: The clean dataset: what the attack starts from, in its units.
        modalities: What may be changed.
        random: Draws the negatives and the random start.
    """

    def __init__(
        self,
        model: Recommender,
        dataset: Dataset,
        modalities: Sequence[str],
        random: np.random.Generator,
    ) -> None:
        self.model = model
        self.dataset = dataset
        self.modalities = [name for name in modalities if name in model.features.modalities]
        self._random = random
        tables = [model.features.table(name) for name in model.features.modalities]
        self._device = tables[0].device if tables else torch.device("cpu")
        pairs = drawn_epoch(dataset, random, NegativeSampler(dataset))
        self._columns = [
            as_tensor(column).to(self._device) for column in pairs if column is not None
        ]

    def steepest(self, severity: float) -> Tables:
        """One step of the full length along the gradient's sign."""
        directions = self._gradient_signs({})
        return self._moved(
            {
                modality: self._epsilon(modality, severity) * direction
                for modality, direction in directions.items()
            }
        )

    def projected(self, severity: float, steps: int, step_size: float) -> Tables:
        """Many steps from a random start, each put back into the box.

        Args:
            severity: Half the side of the box over the spread of the features.
            steps: How many.
            step_size: Length of a step over half the side of the box.
        """
        if not self._gradient_signs({}):
            return {}
        moves = {
            modality: self._epsilon(modality, severity)
            * torch.from_numpy(
                self._random.uniform(-1.0, 1.0, self.dataset.features[modality].shape)
            ).to(self._device, torch.float32)
            for modality in self.modalities
        }
        for _ in range(steps):
            for modality, direction in self._gradient_signs(moves).items():
                epsilon = self._epsilon(modality, severity)
                moved = moves[modality] + step_size * epsilon * direction
                moves[modality] = moved.clamp(-epsilon, epsilon)
        return self._moved(moves)

    def loss(self) -> Tensor:
        """What the attack raises, at the features as they are now."""
        return self._training_loss() if self._needs_surrogate else self._ranking_loss()

    @cached_property
    def _needs_surrogate(self) -> bool:
        if not isinstance(self.model, EmbeddingRecommender):
            return True
        found = feature_gradients(self.model.features, self._ranking_loss)
        return not any(gradient.any() for _, gradient in found.values())

    def _ranking_loss(self) -> Tensor:
        assert isinstance(self.model, EmbeddingRecommender)
        users, positives, negatives = self._columns
        pairs = Batch(users, positives, negatives, len(users))
        return ranking_loss(*pairs.rows(*self.model.representations()))

    def _training_loss(self) -> Tensor:
        if not self.model.trainable:
            return torch.zeros((), requires_grad=True)
        columns = [torch.split(column, _PAIRS_AT_ONCE) for column in self._columns]
        losses = []
        # What a model draws in its loss is the same in every step.
        with seeded(_LOSS_SEED, self._device):
            for users, positives, negatives in zip(*columns, strict=True):
                sampled = negatives if self.model.samples_negatives else None
                losses.append(self.model.loss(Batch(users, positives, sampled, _PAIRS_AT_ONCE)))
        return torch.stack(losses).mean()

    def _gradient_signs(self, moves: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sign of the gradient in every feature, shape ``[items, width]``, by modality."""
        everything = torch.arange(self.dataset.item_count, device=self._device)
        displacements = ItemDisplacements(
            {modality: (everything, move) for modality, move in moves.items()},
            self.dataset.item_count,
        )
        with self.model.features.transformed(displacements):
            gradients = feature_gradients(self.model.features, self.loss)
        signs = {}
        for modality, (items, gradient) in gradients.items():
            if modality in self.modalities and gradient.any():
                sign = gradient.new_zeros(self.dataset.features[modality].shape)
                signs[modality] = sign.index_copy_(0, items, gradient.sign())
        return signs

    def _epsilon(self, modality: str, severity: float) -> float:
        return severity * spread(self.dataset.features[modality])

    def _moved(self, moves: dict[str, Tensor]) -> Tables:
        return {
            modality: self.dataset.features[modality] + move.cpu().numpy()
            for modality, move in moves.items()
        }
