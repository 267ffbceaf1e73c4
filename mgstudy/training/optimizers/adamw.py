"""AdamW."""

from __future__ import annotations

import torch

from mgstudy.training.optimizers.adam import Adam


class AdamW(Adam):
    """Adam with decoupled weight decay (Loshchilov & Hutter, ICLR 2019)."""

    name = "adamw"
    implementation = torch.optim.AdamW
