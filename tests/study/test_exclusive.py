"""One driver per study, whatever machine it is on, held by a real PostgreSQL server."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.exclusive import only_driver, refuse_local_file

pytestmark = pytest.mark.integration

HOLDER = """
import sys
from mgstudy.study.exclusive import only_driver
with only_driver(sys.argv[1], sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(scope="module")
def database(postgresql: Any) -> str:
    return str(postgresql.new_database("exclusive"))


def test_a_study_is_driven_once_until_its_driver_dies(database: str) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, database, "tiktok"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "held\n"
        with (
            pytest.raises(MgstudyError, match="'tiktok' is already being driven, perhaps on an"),
            only_driver(database, "tiktok"),
        ):
            pass
        with only_driver(database, "another"):
            pass
        other.kill()
    with (
        only_driver(database, "tiktok"),
        pytest.raises(MgstudyError, match="already being driven"),
        only_driver(database, "tiktok"),
    ):
        pass
    with only_driver(database, "tiktok"):
        pass


def test_what_goes_wrong_inside_is_not_taken_for_the_lock(database: str) -> None:
    with pytest.raises(KeyError, match="a bug"), only_driver(database, "tiktok"):
        raise KeyError("a bug")


def test_a_database_that_does_not_answer_is_named_without_its_password() -> None:
    url = "postgresql://me:word@127.0.0.1:9/database"
    with (
        pytest.raises(MgstudyError, match=r"me:\*\*\*@127.0.0.1:9.*cannot be reached"),
        only_driver(url, "tiktok"),
    ):
        pass


def test_a_sqlite_file_is_refused_on_several_nodes_only() -> None:
    refuse_local_file("sqlite:////tmp/x.db", 1)
    refuse_local_file("postgresql://host/database", 2)
    with pytest.raises(InputError, match=r"has 2 nodes.*SQLite.*postgresql://"):
        refuse_local_file("sqlite:////tmp/x.db", 2)
