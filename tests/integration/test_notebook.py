"""The notebook in the documentation runs, on a small launch of the study it speaks of."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from mgstudy import api

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("two_slots")]

ROOT = Path(__file__).parents[2]
SMALL = ["trials=2", "training.epochs=3", "training.early_stopping=null"]


def test_the_notebook_of_results_runs(home: Path) -> None:
    api.prepare(ROOT / "pipelines" / "synthetic.yaml", ["source.users=300", "source.items=150"])
    api.launch(api.read_study(ROOT / "search_spaces" / "quickstart.yaml", SMALL))
    notebook = nbformat.read(ROOT / "docs" / "results_as_tables.ipynb", as_version=4)
    # The kernel inherits MGSTUDY_HOME.
    NotebookClient(notebook, timeout=300, kernel_name="python3").execute(cwd=str(home))
    outputs = [
        output
        for cell in notebook.cells
        if cell.cell_type == "code"
        for output in cell.outputs
        if output.output_type != "stream" or output.name != "stderr"
    ]
    shown = "".join(str(output) for output in outputs)
    assert "too few seeds" not in shown
    assert "baseline" in shown
    assert "image/png" in shown
