"""What a command may import: nobody waits for what he does not use."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from programs import finished

HEAVY = {"matplotlib", "mlflow", "optuna", "pandas", "pyarrow", "ray", "scipy", "torch"}
TYPE = """
import json, sys
from mgstudy import cli
sys.argv = ["mgstudy", *json.loads(sys.argv[1])]
try:
    cli.main()
finally:
    print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})), file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("command", "used", "code"),
    [
        ("--help", set(), 0),
        ("status no-such-study", {"optuna"}, 2),
        ("ls", {"optuna"}, 0),
        ("cache ls", {"pyarrow"}, 0),
        ("compare no-such-study", {"optuna", "pandas", "pyarrow", "scipy", "torch"}, 2),
    ],
)
def test_a_command_imports_only_what_it_uses(
    command: str, used: set[str], code: int, tmp_path: Path
) -> None:
    environment = {"MGSTUDY_HOME": tmp_path}
    arguments = json.dumps(command.split())
    ended = finished(sys.executable, "-c", TYPE, arguments, code=code, environment=environment)
    imported = next(line for line in ended.stderr.splitlines() if line.startswith("["))
    assert HEAVY & set(json.loads(imported)) <= used
