"""How the server is opened."""

from __future__ import annotations

import socket
from pathlib import Path

import msgspec
import pytest

from baimo.errors import ConfigError
from baimo.server.run import checked_tls, listener, readable
from baimo.settings import ServeSettings
from baimo.workspace.workspace import Workspace
from tests.server.certificates import certificate
from tests.server.served import served


def test_who_is_told_the_address_may_call_before_the_server_has_started() -> None:
    settings = msgspec.structs.replace(ServeSettings(), host="127.0.0.1", port=0)
    with listener(settings) as listening, socket.create_connection(listening.getsockname(), 5) as caller:
        caller.sendall(b"GET /healthz HTTP/1.1\r\n\r\n")
        taken, _ = listening.accept()
        with taken:
            assert taken.recv(64).startswith(b"GET /healthz")


def test_nobody_else_may_read_a_workspace_that_is_made_and_of_an_old_one_it_is_said(tmp_path: Path) -> None:
    with Workspace(tmp_path) as workspace:
        assert not workspace.accounts.any_key()
        assert workspace.path.stat().st_mode & 0o777 == 0o700
        files = list(workspace.path.glob("baimo.db*"))
        assert files and {file.stat().st_mode & 0o777 for file in files} == {0o600}
        assert readable(workspace) == []
        database = workspace.path / "baimo.db"
        database.chmod(0o644)
        assert readable(workspace) == []  # nobody comes through the folder
        workspace.path.chmod(0o755)
        assert readable(workspace) == [database]


def test_the_folders_of_a_running_server_are_its_users_alone(tmp_path: Path) -> None:
    with served(tmp_path) as house:
        folder = house.workspace.path
        made = [folder, folder / "journal", *(folder / "journal").iterdir(), folder / "run"]
        assert {path.stat().st_mode & 0o777 for path in made if path.is_dir()} == {0o700}


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
