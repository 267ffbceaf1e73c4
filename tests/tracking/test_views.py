from __future__ import annotations

from typing import Any

from mgstudy.tracking.views import study_views

RATE, INTERVAL = "optimizer.learning_rate", "gradient.mirror_gradient.interval"


def cell(gradient: str, optimizer: str, spaces: list[str], **fixed: float) -> dict[str, Any]:
    return {
        "levels": {"model": "BPR", "gradient": gradient, "optimizer": optimizer},
        "spaces": {name: {} for name in [*spaces, *fixed]},
        "fixed": fixed,
    }


def selected(*cells: dict[str, Any]) -> tuple[list[str], list[str]]:
    """The parameters of the parallel coordinates, and the columns of the trials."""
    config = {"training": {"objective": "ndcg@5"}, "confirmation": {"seeds": 2}}
    views = {
        view.key: view.state
        for view in study_views({"name": "s", "config": config, "cells": cells})
    }
    assert list(views) == ["s-trials", "s-cells", "s-best", "s-confirmations"]
    (chart,) = (c for c in views["s-best"]["compareRunCharts"] if c["type"] == "PARALLEL")
    columns = [name for name in views["s-trials"]["selectedColumns"] if name.startswith("params")]
    return chart["selectedParams"], columns


def test_parallel_coordinates_have_only_axes_that_every_run_has() -> None:
    axes, columns = selected(
        cell("plain", "adam", [RATE], momentum=0.5),
        cell("mirror", "adam", [INTERVAL, RATE], momentum=0.5),
    )
    assert axes == ["gradient", RATE]
    # The table shows what any cell searches; nobody searches the momentum.
    assert columns == ["params.`gradient`", f"params.`{RATE}`", f"params.`{INTERVAL}`"]


def test_what_some_cell_does_not_search_is_no_axis() -> None:
    axes, _ = selected(
        cell("plain", "adam", [RATE]),
        cell("plain", "sgd", ["momentum"], **{RATE: 0.1}),
    )
    assert axes == ["optimizer"]
