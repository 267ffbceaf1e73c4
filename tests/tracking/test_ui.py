from __future__ import annotations

import socket

import pytest

from mgstudy.config.study import StudyConfig
from mgstudy.errors import MgstudyError
from mgstudy.study.definition.manifest import CellEntry, Place, StudyManifest
from mgstudy.tracking.ui import free_port, refuse_taken_port
from mgstudy.tracking.views import study_views

RATE, INTERVAL = "optimizer.learning_rate", "gradient.mirror_gradient.interval"


def cell(gradient: str, optimizer: str, spaces: list[str], **fixed: float) -> CellEntry:
    levels = {"model": "BPR", "gradient": gradient, "optimizer": optimizer}
    spaced = {name: {} for name in [*spaces, *fixed]}
    return CellEntry(key="/".join(levels.values()), levels=levels, study="s", budget=1, fixed=fixed,
                     spaces=spaced)  # fmt: skip


def selected(*cells: CellEntry) -> tuple[list[str], list[str]]:
    """The parameters of the parallel coordinates, and the columns of the trials."""
    config = StudyConfig.model_validate(
        {
            "name": "s",
            "factors": {"dataset": ["a"], "model": ["BPR"]},
            "trials": 1,
            "training": {"objective": "ndcg@5", "cutoffs": [5]},
            "confirmation": {"seeds": 2},
        }
    )
    place = Place(uri="sqlite:///m.db", experiment="s")
    manifest = StudyManifest(name="s", config=config, tracking=place, cells=cells, launched="")
    views = {view.key: view.state for view in study_views(manifest)}
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


def test_a_port_where_another_server_listens_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        told = rf"^port {port} on 127\.0\.0\.1 is taken; --port chooses another$"
        with pytest.raises(MgstudyError, match=told):
            refuse_taken_port("127.0.0.1", port, "--port")
        assert port < free_port("127.0.0.1", port) < port + 100
    refuse_taken_port("127.0.0.1", port, "--port")
    with pytest.raises(MgstudyError, match=r"nothing can listen on 192\.0\.2\.1:"):
        refuse_taken_port("192.0.2.1", port, "--port")
