"""A whole endpoint on loopback: the application that `baimo serve` runs, in a thread, with its own workspace."""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
from starlette.applications import Starlette

from baimo.config import settings
from baimo.core.tenant import Key, Tenant
from baimo.server.app import application
from baimo.server.lane import Lane
from baimo.workspace.workspace import Workspace
from tests.waiting import PATIENCE_S

TOML = """
[providers.acme]
protocol = "fake"
inside = true
[providers.acme.options]
constant = "It is noon."
[models."acme/small"]
input_per_million = 1.0
output_per_million = 2.0
[routes.fast]
models = ["acme/small"]
"""


class Said(NamedTuple):
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def data(self) -> Any:
        return json.loads(self.body)


class Served:
    """The endpoint, and the workspace behind it as another process would see it."""

    def __init__(self, folder: Path, port: int, server: uvicorn.Server, app: Starlette) -> None:
        self.folder = folder
        self.app = app
        self.port = port
        self.server = server
        self.workspace = Workspace(folder)

    def call(
        self,
        method: str,
        path: str,
        key: str | None = None,
        body: Any = None,
        headers: Mapping[str, str] = {},
    ) -> Said:
        """One request."""
        sent = dict(headers)
        if key is not None:
            sent["authorization"] = f"Bearer {key}"
        if body is not None and not isinstance(body, bytes):
            body = json.dumps(body).encode()
            sent.setdefault("content-type", "application/json")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            return Said(answer.status, {n.lower(): v for n, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def raw(self, data: bytes) -> bytes:
        """Exactly these bytes, and everything that comes back until the server closes or is silent."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as line:
            line.sendall(data)
            line.settimeout(2)
            pieces: list[bytes] = []
            with contextlib.suppress(TimeoutError):
                while piece := line.recv(65536):
                    pieces.append(piece)
            return b"".join(pieces)

    def tenant(self, id: str, **facts: Any) -> Tenant:
        """A new tenant."""
        return self.workspace.accounts.create_tenant(Tenant(id=id, **facts))

    def key(self, **rights: Any) -> str:
        """The credential of a new key, which the server knows when this returns."""
        credential = self.workspace.accounts.create_key(Key(**rights)).credential.written()
        self.settled()
        return credential

    def settled(self) -> None:
        """Wait until the server has heard of every key there is."""
        service = self.state["service"]
        until = time.monotonic() + PATIENCE_S
        while service.keyring._revision != self.workspace.accounts.revision():
            assert time.monotonic() < until
            service.keyring.refresh()

    def chat(self, key: str, text: str = "What time is it?", model: str = "acme/small") -> Said:
        """One call of a model."""
        body = {"model": model, "messages": [{"role": "user", "content": text}]}
        return self.call("POST", "/v1/chat/completions", key, body)

    @property
    def state(self) -> Any:
        """What the application's lifespan made: `service` and `hot`."""
        return self.server.lifespan.state

    @property
    def records(self) -> int:
        """How many Records are in the ledger, once everything that has ended is there."""
        self.state["service"].books.flush()
        return self.workspace.bookkeeping._ledger.count()

    def recorded(self, count: int) -> None:
        """Wait until so many Records are in the ledger."""
        until = time.monotonic() + PATIENCE_S
        while self.records < count:
            assert time.monotonic() < until
            time.sleep(0.01)


@contextlib.contextmanager
def served(folder: Path, toml: str = TOML) -> Iterator[Served]:
    """The endpoint until the end of the block; then it drains as after a signal."""
    (folder / "baimo.toml").write_text(toml, encoding="utf-8")
    app = application(Workspace(folder), partial(settings, folder))
    config = uvicorn.Config(
        app,
        http=Lane,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        date_header=False,
        timeout_graceful_shutdown=5,
    )
    listening = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + PATIENCE_S
    while not server.started:
        assert thread.is_alive()
        assert time.monotonic() < until
        time.sleep(0.005)
    house = Served(folder, listening.getsockname()[1], server, app)
    try:
        yield house
    finally:
        house.workspace.close()
        server.should_exit = True
        thread.join(PATIENCE_S)
        listening.close()
        assert not thread.is_alive()
