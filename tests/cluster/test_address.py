"""Finding the job server and the token, without a cluster."""

from __future__ import annotations

import re
import socket
import socketserver
import threading
from pathlib import Path

import pytest
from waiting import free_port

from mgstudy.cluster.address import Cluster, connect, find_token, is_loopback
from mgstudy.errors import InputError, MgstudyError


@pytest.mark.parametrize(
    ("host", "only_here"),
    [
        ("127.0.0.1", True),
        ("localhost", True),
        ("::1", True),
        ("fe80::1%eth0", False),
        ("127.8.9.1", True),
        ("10.0.0.1", False),
        ("ray.example.org", False),
    ],
)
def test_loopback(host: str, only_here: bool) -> None:
    assert is_loopback(host) is only_here


def test_only_an_open_cluster_that_others_reach_is_warned_about() -> None:
    def warning(address: str, asks: bool) -> str | None:
        return Cluster(address, None, asks).warning

    assert warning("http://127.0.0.1:8265", False) is None
    assert warning("http://10.0.0.1:8265", True) is None
    line = warning("http://10.0.0.1:8265", False)
    assert line is not None
    assert "asks for no token" in line
    assert "ray get-auth-token --generate" in line


def test_the_token_is_looked_for_where_ray_looks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("RAY_AUTH_TOKEN", raising=False)
    monkeypatch.delenv("RAY_AUTH_TOKEN_PATH", raising=False)
    assert find_token() is None
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("at home\n")
    assert find_token() == "at home"
    (tmp_path / "elsewhere").write_text("elsewhere")
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", str(tmp_path / "elsewhere"))
    assert find_token() == "elsewhere"
    monkeypatch.setenv("RAY_AUTH_TOKEN_PATH", "/dev/zero")
    with pytest.raises(InputError, match="/dev/zero: is a pipe, socket or device"):
        find_token()
    monkeypatch.setenv("RAY_AUTH_TOKEN", "given")
    assert find_token() == "given"


def test_an_address_where_nothing_listens_is_said_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(
        MgstudyError, match=rf"no cluster answers at http://127.0.0.1:{port}.*--addr"
    ):
        connect(f"http://127.0.0.1:{port}")


@pytest.mark.parametrize("address", ["http://:8265", "http://[::1", "http://head:8265x"])
def test_an_address_that_cannot_be_one_is_refused(address: str) -> None:
    with pytest.raises(InputError, match=r"names no host, or no port; write http://HEAD:8265$"):
        connect(address)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "answers something, which Ray's"),
        (b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", "answers 404 Not Found, which"),
        (b"SSH-2.0-OpenSSH_9.2\r\n", "no cluster answers at"),
    ],
)
def test_a_server_that_is_no_dashboard_is_one_line(answer: bytes, said: str) -> None:
    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.recv(1000)
            self.request.sendall(answer)

    with socketserver.TCPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(MgstudyError, match=said) as raised:
            connect(f"http://127.0.0.1:{server.server_address[1]}")
        server.shutdown()
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("address", "said"),
    [("ray://", "it names no host"), ("ray://nowhere.invalid", "[Errno -"), ("ray://h:x", "Port ")],
)
def test_a_ray_address_that_leads_nowhere_is_said_at_once(address: str, said: str) -> None:
    with pytest.raises(
        MgstudyError, match=rf"^no cluster answers at '{address}': {re.escape(said)}"
    ):
        connect(address)


@pytest.mark.parametrize("address", ["127.0.0.1:{}", "ray://127.0.0.1:{}", "http://127.0.0.1:{}"])
def test_where_nobody_listens_no_cluster_is_waited_for(address: str) -> None:
    with pytest.raises(MgstudyError, match=r"^no cluster answers at .*Connection refused"):
        connect(address.format(free_port()))
