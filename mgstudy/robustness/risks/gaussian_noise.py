"""Gaussian noise on every feature."""

from __future__ import annotations

import numpy as np

from mgstudy.config.parameters import parameter
from mgstudy.robustness.risks.base import RiskParameters, Severities, Table, TableRisk, spread


class GaussianNoise(TableRisk):
    """Inherent noise: features are measured, encoded and compressed inexactly.

    Every feature becomes ``x + severity · s_m · n`` with n from N(0, 1) and s_m the standard
    deviation of all entries of modality m's table (Bishop 1995; the noise model of Hendrycks &
    Dietterich, ICLR 2019, on features).
    """

    name = "gaussian_noise"
    severity = "standard deviation of the noise over that of the features"

    class Parameters(RiskParameters):
        """How much noise."""

        severities: Severities = parameter(
            (0.25, 0.5, 1.0, 2.0), "standard deviation of the noise over that of the features"
        )

    def changed_table(self, table: Table, severity: float, random: np.random.Generator) -> Table:
        noise = random.standard_normal(table.shape, dtype=np.float32)
        return table + np.float32(severity * spread(table)) * noise
