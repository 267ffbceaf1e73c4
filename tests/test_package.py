"""What is published is whole: the wheel brings every module and file that the package reads."""

from __future__ import annotations

import sys
import venv
import zipfile
from pathlib import Path

import pytest
from programs import finished

import mgstudy
from mgstudy.cli.quickstart import PIPELINE, STUDY

pytestmark = pytest.mark.integration

ROOT = Path(__file__).parents[1]
READ = """
import sys
from pathlib import Path
import mgstudy
from mgstudy.cli.quickstart import PIPELINE, STUDY, shipped
assert Path(sys.prefix) in Path(mgstudy.__file__).parents
for file in (PIPELINE, STUDY):
    sys.stdout.buffer.write(shipped(file))
"""


def test_a_wheel_has_the_package_and_the_files_of_the_quickstart(tmp_path: Path) -> None:
    finished(
        sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", tmp_path, ROOT
    )
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as content:
        names = set(content.namelist())
    package = Path(mgstudy.__file__).parent
    ours = {f for f in package.rglob("*") if f.is_file() and f.suffix != ".pyc"}
    assert {f.relative_to(package.parent).as_posix() for f in ours} <= names

    alone = tmp_path / "alone"
    venv.create(alone)
    python = alone / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python)
    finished(*pip, "install", "--quiet", "--no-deps", wheel)
    (site,) = alone.glob("lib/python3.*/site-packages")
    # What it depends on is here already; of mgstudy, its own is found first.
    (site / "here.pth").write_text(str(Path(pytest.__file__).parents[1]))
    read = finished(python, "-c", READ, cwd=tmp_path).stdout
    assert read == (ROOT / PIPELINE).read_text("utf-8") + (ROOT / STUDY).read_text("utf-8")
