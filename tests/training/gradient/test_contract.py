"""Every installed gradient strategy is held to what a strategy owes."""

from __future__ import annotations

from typing import Any

import pytest

from mgstudy.testing import GradientStrategyContract
from mgstudy.training.gradient.base import gradient_strategies

MIRRORED: dict[str, Any] = {"alpha1": 1.2, "alpha2": 0.3, "interval": 4}
UPDATE_SCALED = {"variant": "update_scaled"}
VARIANTS = [MIRRORED, {**MIRRORED, **UPDATE_SCALED, "counted": "whole_run"}]
SETTINGS: dict[str, list[dict[str, Any]]] = {
    "asam": [{"rho": 0.3, "eta": 0.05}],
    "bsam": [{"rho": 0.3, "mixing": 0.6}],
    "double_step": VARIANTS,
    "ema": [{"decay": 0.8}],
    "extra_epochs": [{"interval": 2}],
    "gradient_norm_penalty": [{"radius": 0.3, "balance": 0.6}],
    "mirror_gradient": VARIANTS,
    "plain": [],
    "rate_matched": VARIANTS,
    "sam": [{"rho": 0.3}],
    "sharpness_aware_mirror": [{**settings, "rho": 0.3} for settings in VARIANTS],
    "swa": [{"start": 0}],
}
# Those that step twice are not among them: even with alpha2 = 0 a stateful optimizer's state
# advances twice, weight decay acts twice (if the losses are scaled) and dropout is drawn twice.
NEUTRAL: dict[str, list[dict[str, Any]]] = {
    "asam": [{"rho": 0.0}],
    "bsam": [{"rho": 0.0}, {"mixing": 0.0}],
    "ema": [{"decay": 0.0}],
    "extra_epochs": [{}],
    "gradient_norm_penalty": [{"radius": 0.0}, {"balance": 0.0}],
    "plain": [{}],
    "rate_matched": [
        {"alpha1": 1.0, "alpha2": 0.0},
        {"alpha1": 1.0, "alpha2": 0.0, **UPDATE_SCALED},
    ],
    "sam": [{"rho": 0.0}],
    "swa": [{"start": 0}],
}

for strategy in gradient_strategies:
    name = f"Test{strategy.__name__}"
    globals()[name] = type(
        name,
        (GradientStrategyContract,),
        {
            "strategy": strategy,
            "settings": SETTINGS.get(strategy.name, []),
            "neutral": NEUTRAL.get(strategy.name, []),
        },
    )


def test_every_strategy_is_tried_beyond_its_defaults() -> None:
    assert set(SETTINGS) == set(gradient_strategies.names())


@pytest.mark.parametrize("kind", list(gradient_strategies), ids=lambda kind: kind.name)
def test_only_what_steps_twice_has_no_neutral_setting(kind: Any) -> None:
    steps_twice = kind.name in ("double_step", "mirror_gradient", "sharpness_aware_mirror")
    assert (kind.name in NEUTRAL) is not steps_twice
