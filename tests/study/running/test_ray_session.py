from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import pytest
import ray
from programs import finished

from mgstudy.errors import InputError, MgstudyError
from mgstudy.study.running import ray_session
from mgstudy.study.running.ray_session import RayDiedError, with_ray

ENDING = """
import os
from mgstudy.study.running.ray_session import _last_words

with _last_words():
    {way}
"""


@pytest.mark.parametrize(
    ("way", "code"), [("os._exit(1)", 1), ("os.kill(os.getpid(), 9)", -9), ("pass", 0)]
)
def test_an_end_without_a_word_is_told_of(way: str, code: int) -> None:
    done = finished(sys.executable, "-c", ENDING.format(way=way), code=code)
    lines = done.stderr.splitlines()
    if code == 0:
        assert lines == []
    else:
        (line,) = lines
        assert line.startswith("error: killed, from outside or by Ray")
        assert line.endswith("the same command goes on")


class Mortal:
    """A Ray that dies so many times, each time in the middle of what is done."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        self.calls = 0
        self.is_dead = False

    @contextmanager
    def session(self) -> Iterator[None]:
        self.is_dead = False
        yield

    def process(self) -> str | None:
        return "its raylet was ended by SIGKILL" if self.is_dead else None

    def act(self) -> int:
        self.calls += 1
        if self.calls <= self.deaths:
            self.is_dead = True
            raise ConnectionError("what Ray raises then")
        return self.calls


@pytest.fixture
def mortal(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Mortal:
    ray = Mortal(request.param)
    monkeypatch.setattr(ray_session, "ray_session", ray.session)
    monkeypatch.setattr(ray_session, "dead_process", ray.process)
    return ray


@pytest.mark.parametrize("mortal", [0, 1, 3], indirect=True)
def test_ray_is_started_anew_as_often_as_asked(
    mortal: Mortal, caplog: pytest.LogCaptureFixture
) -> None:
    assert with_ray(mortal.act, restarts=3) == mortal.deaths + 1
    told = "Ray has died: its raylet was ended by SIGKILL; starting Ray anew, and going on"
    assert caplog.messages == [told] * mortal.deaths


@pytest.mark.parametrize("mortal", [4], indirect=True)
def test_at_last_a_line_says_that_the_same_command_goes_on(mortal: Mortal) -> None:
    with pytest.raises(RayDiedError) as raised:
        with_ray(mortal.act, restarts=3)
    (line,) = str(raised.value).splitlines()
    assert line.startswith("Ray has died: its raylet was ended by SIGKILL; ")
    assert line.endswith("the same command goes on")
    assert mortal.calls == 4


@pytest.mark.parametrize("mortal", [1], indirect=True)
def test_a_ray_that_somebody_else_has_opened_is_not_started_anew(
    mortal: Mortal, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_session.ray, "is_initialized", lambda: True)
    with pytest.raises(RayDiedError, match="the same command goes on"):
        with_ray(mortal.act, restarts=3)
    assert mortal.calls == 1


def test_what_fails_while_ray_lives_is_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_session, "ray_session", nullcontext)
    calls = []

    def act() -> None:
        calls.append(1)
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        with_ray(act, restarts=3)
    assert len(calls) == 1


@pytest.mark.parametrize(
    "kind",
    ["of nobody", "to be written", "has one", "read only", "not there", "below a file", "secret"],
)
def test_a_token_needs_no_home(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    if kind == "of nobody":
        monkeypatch.delenv("HOME")
        monkeypatch.setattr(os, "getuid", lambda: 987_654)
    if kind == "has one":
        (home / ".ray").mkdir()
        (home / ".ray" / "auth_token").touch()
    if kind in ("has one", "read only"):  # For root, everything can be written to.
        monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    if kind == "secret":  # Somebody else's, as that of root is for a container's user.
        monkeypatch.setattr(
            os, "access", lambda path, mode: mode == os.F_OK and home not in path.parents
        )
    if kind in ("not there", "below a file"):
        monkeypatch.setenv("HOME", str(home / "me" / "too"))
    if kind == "below a file":
        (home / "me").touch()
    own = ray_session._token()
    needs_none = kind in ("to be written", "has one", "not there")
    assert own == ({} if needs_none else {"RAY_AUTH_TOKEN": ray_session._TOKEN})


def test_an_address_at_which_nothing_listens_is_said_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # Nobody listens on it.
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        for given in (address, f"ray://{address}"):
            monkeypatch.setenv("RAY_ADDRESS", given)
            with (
                pytest.raises(MgstudyError, match=f"no Ray cluster answers at RAY_ADDRESS={given}"),
                ray_session.ray_session(),
            ):
                pass
        taken.listen()
        ray_session.require_cluster(address)
    for name in ("auto", "local"):
        ray_session.require_cluster(name)
    with pytest.raises(InputError, match="RAY_ADDRESS=ray://: it names no host"):
        ray_session.require_cluster("ray://")
    with pytest.raises(MgstudyError, match="no Ray cluster answers at RAY_ADDRESS=ray:"):
        ray_session.require_cluster("ray://nowhere.invalid")


@pytest.mark.parametrize("kind", ["a file", "too long"])
def test_a_ray_that_does_not_start_is_one_line(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / ("file" if kind == "a file" else "x" * 120)
    if kind == "a file":
        folder.touch()
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(folder))
    with pytest.raises(MgstudyError) as raised, ray_session.ray_session():
        pass
    (line,) = str(raised.value).splitlines()
    assert line.startswith("Ray does not start on this machine: ")
    assert str(folder) in line
    assert not ray.is_initialized()


PAGES = Path("/sys/kernel/mm/transparent_hugepage/enabled")
FAULTS = """
import resource, torch
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
torch.zeros(2**24)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(
    not PAGES.exists() or "[madvise]" not in PAGES.read_text(),
    reason="pages of 2 MiB are not for those who ask",
)
def test_large_tensors_are_had_by_the_large_page() -> None:
    environment = ray_session._RAY_ENVIRONMENT
    faults = int(finished(sys.executable, "-c", FAULTS, environment=environment).stdout)
    assert faults < 2**26 / 4096 / 8
