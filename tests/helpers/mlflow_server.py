"""An MLflow server of our own, and a proxy before it that is slow, away, or kills who asks."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from waiting import WITHOUT_JOBS, answers, free_port, wait_until


class MlflowServer:
    """A tracking server on this machine.

    Args:
        folder: Where its database and its artifacts lie; it is made.
        empty_store: What its database is to begin with.
    """

    def __init__(self, folder: Path, empty_store: Path) -> None:
        self.folder = folder
        folder.mkdir()
        shutil.copy(empty_store, folder / "mlflow.db")
        self.port = free_port()
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1",
             "--port", str(self.port), "--workers", "1",
             "--backend-store-uri", f"sqlite:///{self.folder}/mlflow.db",
             "--artifacts-destination", str(self.folder / "artifacts")],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
            env={**os.environ, **WITHOUT_JOBS},
        )  # fmt: skip
        wait_until(lambda: answers(f"{self.uri}/health"), process=self.process)

    def kill(self) -> None:
        """End it at once, if it runs."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(timeout=60)
            self.process = None


class Proxy:
    """Forwards requests to a server; a context manager.

    Args:
        port: The server's.

    Attributes:
        delay: Seconds that every request takes longer.
        is_away: Whether it closes connections without an answer.
        requests: Method and path of what was asked so far.
        before: Called with a request's number, counted from 0, before it is forwarded.
        after: Called so before its answer is given, unless it says that it is not to be.
    """

    def __init__(self, port: int) -> None:
        self.port = port
        self.delay = 0.0
        self.is_away = False
        self.requests: list[str] = []
        self.before: Callable[[int], None] = lambda number: None
        self.after: Callable[[int], bool | None] = lambda number: True
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def uri(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Proxy:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(timeout=60)
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            def forward(self) -> None:
                if proxy.is_away:
                    self.close_connection = True
                    return
                with proxy._lock:
                    number = len(proxy.requests)
                    proxy.requests.append(f"{self.command} {self.path}")
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                time.sleep(proxy.delay)
                proxy.before(number)
                server = http.client.HTTPConnection("127.0.0.1", proxy.port, timeout=60)
                headers = {k: v for k, v in self.headers.items() if k.lower() != "host"}
                server.request(self.command, self.path, body, headers)
                answer = server.getresponse()
                content = answer.read()
                server.close()
                if proxy.after(number) is False:
                    self.close_connection = True
                    return
                with suppress(OSError):  # Whoever asked may be gone.
                    self.send_response(answer.status)
                    self.send_header("Content-Type", answer.getheader("Content-Type", ""))
                    self.send_header("Content-Length", str(len(content)))
                    self.end_headers()
                    self.wfile.write(content)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = forward  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nobody reads it."""

        return Handler
