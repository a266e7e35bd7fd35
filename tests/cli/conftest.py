"""An empty folder to run commands in, and servers on loopback that misbehave."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.waiting import PATIENCE_S


@pytest.fixture(params=["en", "zh"])
def lang(request: pytest.FixtureRequest, english: None, monkeypatch: pytest.MonkeyPatch) -> str:
    """Every test that asks for it runs in both languages."""
    del english
    monkeypatch.setenv("BAIMO_LANG", request.param)
    return request.param


@pytest.fixture
def folder(tmp_path: Path, english: None, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder of the command: empty, and no variable of this machine has a say."""
    del english
    for name in list(os.environ):
        foreign = name.endswith("_API_KEY") or name.lower().endswith("_proxy")
        if foreign or (name.startswith("BAIMO_") and name != "BAIMO_LANG"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    place = tmp_path / "here"
    place.mkdir()
    monkeypatch.chdir(place)
    return place


@pytest.fixture
def http_server() -> Iterator[Callable[[int, bytes], str]]:
    """Starts servers that answer every POST with one status and body; gives their address."""
    running: list[ThreadingHTTPServer] = []

    def serve(status: int, body: bytes) -> str:
        class Answer(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:
                """Nobody reads it."""

        server = ThreadingHTTPServer(("127.0.0.1", 0), Answer)
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        running.append(server)
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield serve
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.fixture
def other_server() -> Iterator[str]:
    """The address of a server that speaks another protocol than HTTP."""
    listener = socket.create_server(("127.0.0.1", 0))

    def greet() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")
                connection.recv(65536)

    thread = threading.Thread(target=greet, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(PATIENCE_S)


@pytest.fixture
def closed_port() -> str:
    """An address where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
