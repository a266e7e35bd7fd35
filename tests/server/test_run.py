"""How the server is opened."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from baimo.errors import ConfigError
from baimo.server.run import checked_tls, listener
from baimo.settings import ServeSettings
from tests.server.certificates import certificate


def test_who_is_told_the_address_may_call_before_the_server_has_started() -> None:
    settings = msgspec.structs.replace(ServeSettings(), host="127.0.0.1", port=0)
    with listener(settings) as listening, socket.create_connection(listening.getsockname(), 5) as caller:
        caller.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        taken, _ = listening.accept()
        with taken:
            assert taken.recv(64).startswith(b"GET /healthz")


def test_tls_files_that_cannot_be_served_with_are_told_by_the_name_of_the_setting(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (cert, key), (_, other) = certificate(tmp_path), certificate(tmp_path / "other")

    def said(certificate: Path | str, key: Path | str) -> str:
        with pytest.raises(ConfigError) as caught:
            checked_tls(ServeSettings(tls_certificate=str(certificate), tls_key=str(key)))
        return str(caught.value)

    gone = tmp_path / "gone.pem"
    assert said(gone, key).startswith(f"serve.tls_certificate: {gone}")
    assert said(cert, gone).startswith(f"serve.tls_key: {gone}")
    assert "no serve.tls_certificate" in said("", key)
    for wrong in ("", other, cert):
        assert "no certificate with its key" in said(cert, wrong)
    checked_tls(ServeSettings(tls_certificate=str(cert), tls_key=str(key)))
    both = tmp_path / "both.pem"
    both.write_bytes(cert.read_bytes() + key.read_bytes())
    checked_tls(ServeSettings(tls_certificate=str(both)))
    checked_tls(ServeSettings())
