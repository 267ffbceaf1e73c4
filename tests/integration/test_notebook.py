"""Studies in notebooks: launching one, and the notebook in the documentation on its results."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[2]
STATE = """\
import json, logging, os, signal, sys, threading
import mlflow, optuna, ray, torch
import ray.tune
import mgstudy

def state():
    known = logging.root.manager.loggerDict.items()
    loggers = {name: logger for name, logger in known if isinstance(logger, logging.Logger)}
    return {
        "environment": dict(os.environ),
        "levels": {name: logger.level for name, logger in loggers.items()},
        "handlers": {name: list(map(str, logger.handlers)) for name, logger in loggers.items()},
        "root logger": [logging.root.level, list(map(str, logging.root.handlers))],
        "Optuna's verbosity": optuna.logging.get_verbosity(),
        "signals": {
            name.name: str(signal.getsignal(name)) for name in (signal.SIGINT, signal.SIGTERM)
        },
        "torch's threads": [torch.get_num_threads(), torch.get_num_interop_threads()],
        "threads": sorted(thread.name for thread in threading.enumerate()),
        "MLflow's store": mlflow.get_tracking_uri(),
        "Ray runs": ray.is_initialized(),
        "hooks": [str(sys.excepthook), str(threading.excepthook)],
        "folder": os.getcwd(),
    }
"""
LAUNCH = f"""\
small = ["source.users=300", "source.items=150"]
mgstudy.prepare({str(ROOT / "pipelines" / "synthetic.yaml")!r}, small)
short = ["trials=2", "training.epochs=3", "training.early_stopping=null"]
short += ["resources.max_concurrent=1"]
study = mgstudy.read_study({str(ROOT / "search_spaces" / "quickstart.yaml")!r}, short)
launch = mgstudy.launch  # Importing scikit-learn sets variables for OpenMP.
before = state()
launched = launch(study)
after = state()
"""
TELL = """\
from IPython.display import display
display({"application/json": {"before": before, "after": after}}, raw=True)
"""


def executed(notebook: NotebookNode, home: Path) -> list[NotebookNode]:
    """Run a notebook in a kernel that inherits ``MGSTUDY_HOME``; what its cells put out."""
    NotebookClient(notebook, timeout=600, kernel_name="python3").execute(cwd=str(home))
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [output for cell in cells for output in cell.outputs]


@pytest.fixture(scope="module")
def states(home: Path) -> dict[str, dict[str, Any]]:
    """What a process is like before and after it launches the study of the documentation's
    notebook, made small."""
    cells = [nbformat.v4.new_code_cell(source) for source in (STATE, LAUNCH, TELL)]
    told = executed(nbformat.v4.new_notebook(cells=cells), home)[-1]
    found: dict[str, dict[str, Any]] = json.loads(json.dumps(told.data["application/json"]))
    return found


def test_a_launch_leaves_the_process_as_it_found_it(states: dict[str, dict[str, Any]]) -> None:
    changed = {}
    for part, before in states["before"].items():
        after = states["after"][part]
        if part in ("levels", "handlers"):  # Loggers that are new were nobody's.
            after = {logger: after[logger] for logger in before}
        if part in ("levels", "handlers", "environment", "signals"):
            names = {name for name in before | after if before.get(name) != after.get(name)}
            changed |= {f"{part}: {name}": (before.get(name), after.get(name)) for name in names}
        elif after != before:
            changed[part] = (before, after)
    assert changed == {}


def test_the_notebook_of_results_runs(states: dict[str, dict[str, Any]], home: Path) -> None:
    notebook = nbformat.read(ROOT / "docs" / "results_as_tables.ipynb", as_version=4)
    outputs = executed(notebook, home)
    shown = "".join(
        str(output)
        for output in outputs
        if output.output_type != "stream" or output.name != "stderr"
    )
    assert "too few seeds" not in shown
    assert "baseline" in shown
    assert "image/png" in shown
