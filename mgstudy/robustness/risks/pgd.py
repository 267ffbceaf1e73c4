"""The multi-step gradient attack."""

from __future__ import annotations

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.data.dataset import Dataset
from mgstudy.models.base import Recommender
from mgstudy.robustness.attack import FeatureAttack
from mgstudy.robustness.risks.base import Risk, RiskParameters, Seeds, Severities, Tables


class PGD(Risk):
    """Projected gradient descent (Madry et al., ICLR 2018), on features.

    From a random start within epsilon = ``severity`` · s_m of the features x, ``steps`` times::

        x' ← clip(x' + step_size · epsilon · sign(∂L/∂x'), x − epsilon, x + epsilon)

    with s_m and L as in ``fgsm``. It finds a higher L than one step does; what is measured is the
    metric on held-out items, which need not fall further than under ``fgsm``.
    """

    name = "pgd"
    severity = "epsilon over the standard deviation of the features"
    needs_model = True

    class Parameters(RiskParameters):
        """How far, in how many steps."""

        severities: Severities = parameter(
            (0.05, 0.1, 0.25, 0.5), "epsilon over the standard deviation of the features"
        )
        seeds: Seeds = parameter((0,), "of the random start and the negatives in the loss")
        steps: int = parameter(5, "gradient steps", ge=1)
        step_size: float = parameter(0.5, "length of a step over epsilon", gt=0)

    parameters: Parameters

    def changed(
        self,
        dataset: Dataset,
        severity: float,
        random: np.random.Generator,
        model: Recommender | None,
    ) -> Tables:
        assert model is not None
        attack = FeatureAttack(model, dataset, self.chosen(dataset), random)
        return attack.projected(severity, self.parameters.steps, self.parameters.step_size)
