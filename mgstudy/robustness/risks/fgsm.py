"""The fast gradient sign attack."""

from __future__ import annotations

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Recommender
from mgstudy.robustness.attack import FeatureAttack
from mgstudy.robustness.risks.base import Risk, RiskParameters, Seeds, Severities, Tables


class FGSM(Risk):
    """Fast gradient sign method (Goodfellow et al., ICLR 2015), on features.

    Every feature becomes ``x + severity · s_m · sign(∂L/∂x)``, s_m the standard deviation of all
    entries of modality m's table and L the loss that ``FeatureAttack`` explains: the attacker knows
    the model and the training interactions, not the test. An item that L does not depend on stays
    as it is.
    """

    name = "fgsm"
    severity = "epsilon over the standard deviation of the features"
    needs_model = True

    class Parameters(RiskParameters):
        """How far."""

        severities: Severities = parameter(
            (0.05, 0.1, 0.25, 0.5), "epsilon over the standard deviation of the features"
        )
        seeds: Seeds = parameter((0,), "of the negatives in the attacker's loss")

    def changed(
        self,
        dataset: Dataset,
        severity: float,
        random: np.random.Generator,
        model: Recommender | None,
    ) -> Tables:
        assert model is not None
        attack = FeatureAttack(model, dataset, self.chosen(dataset), random)
        return self.moved(attack, severity)

    def moved(self, attack: FeatureAttack, severity: float) -> Tables:
        """The tables that the attack makes of the clean ones."""
        return attack.steepest(severity)
