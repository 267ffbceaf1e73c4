from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import fsspec
import pytest

from mgstudy.data.remote import Downloads
from mgstudy.errors import InputError, MgstudyError
from mgstudy.files import no_progress

SECRET = "hunter-two"


class _Guarded(BaseHTTPRequestHandler):
    """Gives ``/a.csv`` to whoever has the secret, as a name, a password or a parameter."""

    def do_GET(self) -> None:
        given = base64.b64decode(self.headers.get("Authorization", "").removeprefix("Basic "))
        path, _, parameters = self.path.partition("?")
        is_known = SECRET.encode() in given or SECRET in parameters
        content = b"u,i\n1,2\n" if is_known and path == "/a.csv" else b""
        self.send_response(200 if content else 404 if is_known else 403)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@contextmanager
def serving(handler: Callable[..., BaseHTTPRequestHandler]) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join(timeout=60)
    server.server_close()


@pytest.fixture
def host() -> Iterator[str]:
    with serving(_Guarded) as host:
        yield host


@pytest.mark.parametrize(
    "url",
    [
        f"http://{SECRET}@HOST/a.csv",
        f"http://me:{SECRET}@HOST/a.csv",
        f"http://HOST/a.csv?token={SECRET}",
        "http://${DATA_TOKEN}@HOST/a.csv",
    ],
)
def test_what_opens_a_url_is_neither_told_nor_kept(
    url: str, host: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATA_TOKEN", SECRET)
    url = url.replace("HOST", host)
    told: list[str] = []
    downloads = Downloads(tmp_path, lambda activity, done, total: told.append(activity))
    path = downloads.fetch(url)
    assert path.read_text() == "u,i\n1,2\n"
    settings = downloads.restored({"path": downloads._local(url)})
    for shown in (*told, settings["path"], *map(str, tmp_path.rglob("*"))):
        assert SECRET not in shown
    assert host in settings["path"]
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or SECRET not in file.read_text()
    with pytest.raises(InputError) as missing:
        downloads.fetch(url.replace("a.csv", "b.csv"))
    assert "no such file" in str(missing.value)
    assert SECRET not in str(missing.value)


def test_a_server_that_is_away_is_said_without_what_opens_it(tmp_path: Path) -> None:
    with pytest.raises(MgstudyError) as raised:
        Downloads(tmp_path, no_progress).fetch(f"http://{SECRET}@127.0.0.1:9/a.csv")
    assert str(raised.value).startswith("http://***@127.0.0.1:9/a.csv: cannot be reached: ")
    assert SECRET not in str(raised.value)


@pytest.mark.parametrize("noted", ["", "{", "[]", "null"])
def test_what_is_not_noted_to_be_of_now_is_fetched_again(
    noted: str, host: str, tmp_path: Path
) -> None:
    downloads = Downloads(tmp_path, no_progress)
    path = downloads.fetch(f"http://{SECRET}@{host}/a.csv")
    path.write_text("of before")
    path.with_name(".a.csv.version").write_text(noted)
    assert downloads.fetch(f"http://{SECRET}@{host}/a.csv").read_text() == "u,i\n1,2\n"


class _Served(SimpleHTTPRequestHandler):
    """Gives what lies in a folder, without the headers that are in ``hidden``."""

    hidden: ClassVar[set[str]] = set()

    def send_header(self, keyword: str, value: str) -> None:
        if keyword not in self.hidden:
            super().send_header(keyword, value)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


@pytest.mark.parametrize("hidden", [set(), {"Last-Modified"}])
def test_a_file_that_has_changed_but_for_its_size_is_fetched_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, hidden: set[str]
) -> None:
    monkeypatch.setattr(_Served, "hidden", hidden)
    (tmp_path / "there").mkdir()
    told: list[str] = []
    downloads = Downloads(tmp_path / "here", lambda activity, done, total: told.append(activity))
    with serving(partial(_Served, directory=str(tmp_path / "there"))) as host:
        for seconds, content in enumerate((b"first", b"other")):
            (tmp_path / "there" / "a.csv").write_bytes(content)
            os.utime(tmp_path / "there" / "a.csv", (seconds, seconds))
            assert downloads.fetch(f"http://{host}/a.csv").read_bytes() == content
            told.clear()
            downloads.fetch(f"http://{host}/a.csv")
            # Of which only the size is known it may be another one.
            assert bool(told) == bool(hidden)


def test_what_is_no_longer_in_a_folder_is_removed_here_too(tmp_path: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name in ("a", "b"):
        memory.pipe(f"/folder/{name}", b"1")
    downloads = Downloads(tmp_path)
    folder = downloads.fetch("memory://folder")
    memory.rm("/folder/a")
    memory.pipe("/folder/c", b"2")
    assert downloads.fetch("memory://folder") == folder
    shown = sorted(path.name for path in folder.iterdir() if path.suffix != ".lock")
    assert shown == [".b.version", ".c.version", "b", "c"]
