"""Finding the job server and the token, without a cluster."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from mgstudy.cluster.address import Cluster, connect, find_token, is_loopback
from mgstudy.errors import InputError, MgstudyError


@pytest.mark.parametrize(
    ("url", "only_here"),
    [
        ("http://127.0.0.1:8265", True),
        ("http://localhost:8265", True),
        ("http://[::1]:8265", True),
        ("http://127.8.9.1:8265", True),
        ("http://10.0.0.1:8265", False),
        ("https://ray.example.org", False),
    ],
)
def test_loopback(url: str, only_here: bool) -> None:
    assert is_loopback(url) is only_here


def test_only_an_open_cluster_that_others_reach_is_warned_about() -> None:
    def warnings(address: str, asks: bool) -> list[str]:
        return Cluster(address, None, "2.60.0", asks).warnings

    assert warnings("http://127.0.0.1:8265", False) == []
    assert warnings("http://10.0.0.1:8265", True) == []
    [line] = warnings("http://10.0.0.1:8265", False)
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


def test_an_address_without_a_host_is_refused() -> None:
    with pytest.raises(InputError, match="names no host"):
        connect("http://:8265")
