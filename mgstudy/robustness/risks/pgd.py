"""The multi-step gradient attack."""

from __future__ import annotations

from mgstudy.config.parameters import parameter
from mgstudy.robustness.attack import FeatureAttack
from mgstudy.robustness.risks.base import Seeds, Tables
from mgstudy.robustness.risks.fgsm import FGSM


class PGD(FGSM):
    """Projected gradient descent (Madry et al., ICLR 2018), on features.

    From a random start within epsilon = ``severity`` · s_m of the features x, ``steps`` times::

        x' ← clip(x' + step_size · epsilon · sign(∂L/∂x'), x − epsilon, x + epsilon)

    with s_m and L as in ``fgsm``. It finds a higher L than one step does; what is measured is the
    metric on held-out items, which need not fall further than under ``fgsm``.
    """

    name = "pgd"

    class Parameters(FGSM.Parameters):
        """How far, in how many steps."""

        seeds: Seeds = parameter((0,), "of the random start and the negatives in the loss")
        steps: int = parameter(5, "gradient steps", ge=1)
        step_size: float = parameter(0.5, "length of a step over epsilon", gt=0)

    parameters: Parameters

    def moved(self, attack: FeatureAttack, severity: float) -> Tables:
        return attack.projected(severity, self.parameters.steps, self.parameters.step_size)
