"""What a job runs, and which files go along."""

from __future__ import annotations

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from mgstudy.cluster import submission
from mgstudy.cluster.submission import Submission, collect
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
    return {file.as_posix() for file in collect(root, root / "study.yaml")}


def test_code_and_study_files_go_along_and_data_stores_and_secrets_do_not(tmp_path: Path) -> None:
    write(tmp_path, *SENT, *LEFT_OUT)
    assert names(tmp_path) == set(SENT)


def test_what_git_ignores_stays_and_what_it_does_not_know_yet_goes(tmp_path: Path) -> None:
    write(tmp_path, *SENT, *LEFT_OUT, "scratch/try.py")
    (tmp_path / ".gitignore").write_text("scratch/\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, timeout=60)
    assert names(tmp_path) == {*SENT, ".gitignore"}


def test_git_is_asked_so_that_rules_above_the_folder_count(tmp_path: Path) -> None:
    folder = tmp_path / "studies"
    write(folder, *SENT, "secret.yaml", "scratch/try.py")
    (tmp_path / ".gitignore").write_text("secret.yaml\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, timeout=60)
    (tmp_path / ".git" / "info" / "exclude").write_text("scratch/\n")
    assert names(folder) == set(SENT)


def test_what_rays_own_file_names_stays_in_every_folder(tmp_path: Path) -> None:
    write(tmp_path, *SENT, "code/large.bin", "notes/a.txt")
    (tmp_path / ".rayignore").write_text("notes/\nnotes.txt\n")
    (tmp_path / "code" / ".rayignore").write_text("large.*\n")
    ours = {".rayignore", "code/.rayignore"}
    assert names(tmp_path) == {*SENT, *ours} - {"notes.txt"}


def test_the_archive_holds_exactly_the_files(tmp_path: Path) -> None:
    write(tmp_path, *SENT, *LEFT_OUT)
    sent = Submission(tmp_path / "study.yaml", tmp_path)
    assert set(sent.files.values()) == {10}
    with sent.packed() as archive, zipfile.ZipFile(archive) as packed:
        assert set(packed.namelist()) == set(SENT)
        assert packed.read("study.yaml") == b"0123456789"
    assert not Path(archive).exists()


@pytest.mark.parametrize("rules", [".gitignore", ".rayignore"])
def test_a_study_file_that_is_ignored_goes_along_all_the_same(rules: str, tmp_path: Path) -> None:
    write(tmp_path, "study.yaml")
    (tmp_path / rules).write_text("study.yaml\n")
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True, timeout=60)
    assert "study.yaml" in names(tmp_path)


def test_links_are_not_gone_round_in_and_other_things_than_files_stay(tmp_path: Path) -> None:
    write(tmp_path, *SENT)
    (tmp_path / "code" / "again").symlink_to(tmp_path)
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    assert names(tmp_path) == set(SENT)


def test_a_package_that_is_too_large_names_its_largest_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, *SENT)
    (tmp_path / "huge.csv").write_bytes(bytes(3 * 2**20))
    monkeypatch.setattr(submission, "LARGEST_PACKAGE", 2**20)
    with pytest.raises(InputError, match=r"sent as 3\.0 MB.*largest files: huge\.csv \(3\.0 MB\)"):
        collect(tmp_path, tmp_path / "study.yaml")


def test_a_study_file_elsewhere_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "here/code.py", "there/study.yaml")
    with pytest.raises(InputError, match="lies outside the working directory"):
        collect(tmp_path / "here", tmp_path / "there" / "study.yaml")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, []),
        ({"home": "s3://a b"}, ["--home", "s3://a b"]),
        ({"overrides": ("trials=3",)}, ["--set=trials=3"]),
        ({"retry_failed": True}, ["--retry-failed"]),
        ({"within": "90m"}, ["--for", "90m"]),
    ],
)
def test_a_job_launches_the_study_as_it_was_asked(
    asked: dict[str, object], words: list[str]
) -> None:
    sent = Submission(Path("folder/s.yaml"), **asked)  # type: ignore[arg-type]
    assert sent.words() == ["-m", "mgstudy.cli", "launch", "folder/s.yaml", *words]
