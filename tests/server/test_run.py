"""How the server is opened."""

from __future__ import annotations

import socket

import msgspec

from baimo.server.run import listener
from baimo.settings import ServeSettings


def test_who_is_told_the_address_may_call_before_the_server_has_started() -> None:
    settings = msgspec.structs.replace(ServeSettings(), host="127.0.0.1", port=0)
    with listener(settings) as listening, socket.create_connection(listening.getsockname(), 5) as caller:
        caller.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        taken, _ = listening.accept()
        with taken:
            assert taken.recv(64).startswith(b"GET /healthz")
