from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from mgstudy.cluster.jobs import Submission
from mgstudy.cluster.package import Package


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({}, []),
        ({"home": "s3://a b"}, ["--home", "s3://a b"]),
        ({"overrides": ("trials=3",)}, ["--set=trials=3"]),
        ({"retry_failed": True}, ["--retry-failed"]),
    ],
)
def test_a_job_launches_the_study_as_it_was_asked(
    asked: dict[str, object], words: list[str]
) -> None:
    submission = Submission("s", "folder/s.yaml", Package(Path(), (), 0), **asked)  # type: ignore[arg-type]
    launch = ["exec", "python", "-m", "mgstudy.cli", "launch", "folder/s.yaml"]
    assert shlex.split(submission.entrypoint()) == [*launch, *words]
