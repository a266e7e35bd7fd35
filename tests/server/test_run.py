"""How the server is opened."""

from __future__ import annotations

import socket
import subprocess
import sys

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


def test_a_server_begins_without_what_only_comparisons_and_tuning_need() -> None:
    program = (
        "import sys, baimo.server.run, baimo.server.app;"
        "print([name for name in ('numpy', 'rapidfuzz', 'tomlkit', 'jsonschema', 'openvino', 'torch')"
        " if name in sys.modules])"
    )
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert found.stdout.strip() == "[]"
