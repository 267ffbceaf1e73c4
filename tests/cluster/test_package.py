"""Which files go along with a job."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mgstudy.cluster import package
from mgstudy.cluster.package import collect
from mgstudy.errors import InputError


def write(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("0123456789")


SENT = ("study.yaml", "their_parts.py", "code/data/reader.py", "notes.txt")
LEFT_OUT = (
    "data/raw.csv",
    ".mgstudy/studies/x/study.json",
    "mlruns/1/meta.yaml",
    "mlflow.db",
    "mlflow.db-wal",
    ".venv/bin/python",
    "code/__pycache__/reader.pyc",
    "weights/best.pt",
    "features.parquet",
    ".env",
)


def names(root: Path) -> set[str]:
    return {file.as_posix() for file in collect(root, root / "study.yaml").files}


def test_code_and_study_files_go_along_and_data_stores_and_secrets_do_not(tmp_path: Path) -> None:
    write(tmp_path, *SENT, *LEFT_OUT)
    assert names(tmp_path) == set(SENT)


def test_what_git_ignores_stays_and_what_it_does_not_know_yet_goes(tmp_path: Path) -> None:
    write(tmp_path, *SENT, *LEFT_OUT, "scratch/try.py")
    (tmp_path / ".gitignore").write_text("scratch/\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert names(tmp_path) == {*SENT, ".gitignore"}


def test_the_staged_folder_holds_exactly_the_files(tmp_path: Path) -> None:
    write(tmp_path, *SENT, *LEFT_OUT)
    chosen = collect(tmp_path, tmp_path / "study.yaml")
    assert chosen.size == 10 * len(SENT)
    with chosen.staged() as folder:
        staged = {f.relative_to(folder).as_posix() for f in folder.rglob("*") if f.is_file()}
        assert staged == set(SENT)
        assert (folder / "study.yaml").read_text() == "0123456789"
    assert not folder.exists()


def test_a_study_file_that_git_ignores_goes_along_all_the_same(tmp_path: Path) -> None:
    write(tmp_path, "study.yaml")
    (tmp_path / ".gitignore").write_text("study.yaml\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    assert "study.yaml" in names(tmp_path)


def test_a_package_that_is_too_large_names_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, *SENT)
    (tmp_path / "huge.csv").write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(package, "LARGEST_PACKAGE", 2**20)
    with pytest.raises(InputError, match=r"sent as 3\.0 MB.*largest files: huge\.csv \(3\.0 MB\)"):
        collect(tmp_path, tmp_path / "study.yaml")


def test_a_study_file_elsewhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "here/code.py", "there/study.yaml")
    with pytest.raises(InputError, match="lies outside the working directory"):
        collect(tmp_path / "here", tmp_path / "there" / "study.yaml")
