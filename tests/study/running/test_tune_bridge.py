from __future__ import annotations

import json
import math
import pickle
from pathlib import Path

from mgstudy.study.running.tune_bridge import Heartbeat
from mgstudy.study.storage.lease import lease


def test_a_round_of_the_loop_says_that_the_driver_moves(tmp_path: Path) -> None:
    sign = tmp_path / "driver.json"
    with lease(tmp_path, "sqlite:////nowhere/optuna.db", "s") as held:
        heartbeat = Heartbeat(held)
        # Ray pickles what it is given, for a restore that we never make.
        pickle.dumps(heartbeat)
        first = json.loads(sign.read_text())["moved"]
        heartbeat.on_step_begin(1, [])
        assert json.loads(sign.read_text())["moved"] == first
        held._moved = -math.inf
        heartbeat.on_step_begin(2, [])
        assert json.loads(sign.read_text())["moved"] > first
