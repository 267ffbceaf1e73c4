"""What a command may import: nobody waits for what he does not use."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from driven import Driven
from programs import finished

from mgstudy import prepare

HEAVY = {
    "alembic", "matplotlib", "mlflow", "optuna", "pandas", "plotly", "pyarrow", "ray", "ray.tune",
    "scipy", "scipy.stats", "sklearn", "sqlalchemy", "statsmodels", "torch",
}  # fmt: skip
STORED = {"optuna", "sqlalchemy"}
TYPE = """
import json, sys
from mgstudy import cli
sys.argv = ["mgstudy", *json.loads(sys.argv[1])]
try:
    cli.main()
finally:
    print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""
SHOW = """
import json, sys
from mgstudy.report.table import Table
print(Table(["model"], [["BPR"], ["BPR_small"], ["my.package:Model"]]).markdown())
print(json.dumps(sorted(sys.modules)), file=sys.stderr)
"""


def heavy(program: str, *arguments: str, home: Path, code: int = 0) -> set[str]:
    """What a program has imported when it ends."""
    command = (sys.executable, "-c", program, *arguments)
    ended = finished(*command, code=code, environment={"MGSTUDY_HOME": home})
    imported = next(line for line in ended.stderr.splitlines() if line.startswith("["))
    return HEAVY & set(json.loads(imported))


@pytest.mark.parametrize(
    ("command", "used", "code"),
    [
        ("--help", set(), 0),
        ("status no-such-study", STORED, 2),
        ("ls", STORED, 0),
        ("cache ls", {"pyarrow"}, 0),
        ("jobs --address http://127.0.0.1:9", {"ray"}, 1),
        ("models", {"pyarrow", "scipy", "torch"}, 0),
        ("compare no-such-study", STORED | {"pandas", "pyarrow", "scipy", "scipy.stats"}, 2),
    ],
)
def test_a_command_imports_only_what_it_uses(
    command: str, used: set[str], code: int, tmp_path: Path
) -> None:
    assert heavy(TYPE, json.dumps(command.split()), home=tmp_path, code=code) <= used


@pytest.mark.parametrize("command", ["ls", "status s", "compare s", "compare s --json"])
def test_what_a_study_computed_is_not_imported_to_show_it(command: str, tmp_path: Path) -> None:
    """Metrics beyond the usual ones are known to be there only once their files are imported, and
    torch with them: that was asked when the study was launched."""
    study = Driven(tmp_path, "s")
    names = ("recall@20", "novelty@20", "auc@20", "recall-tail@20")
    study.complete(study.begin(), best_metrics=dict.fromkeys(names, 0.5))
    measured = study.config.training.model_copy(update={"measures": ("recall", "novelty", "auc")})
    config = study.config.model_copy(update={"training": measured})
    study.manifest.model_copy(update={"config": config}).write(study.folder)
    used = heavy(TYPE, json.dumps(command.split()), home=tmp_path)
    assert "optuna" in used
    assert "torch" not in used


def test_a_plan_imports_only_what_it_uses(pytestconfig: pytest.Config, tmp_path: Path) -> None:
    prepare(pytestconfig.rootpath / "pipelines/synthetic.yaml", home=tmp_path)
    command = ["plan", str(pytestconfig.rootpath / "search_spaces/quickstart.yaml")]
    # Reading the dataset imports pandas, though nothing here does.
    used = STORED | {"pandas", "pyarrow", "ray", "scipy", "torch"}
    assert heavy(TYPE, json.dumps(command), home=tmp_path) <= used


def test_a_table_imports_no_model_that_is_no_reconstruction(tmp_path: Path) -> None:
    assert heavy(SHOW, home=tmp_path) == set()
