"""Fixtures that every room's tests share."""

from __future__ import annotations

import os
import socket
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from tests import postgres

# machines are shared: no test may fail because it was slow; on CI the same commit gets the same examples
hypothesis.settings.register_profile("here", deadline=None)
hypothesis.settings.register_profile("ci", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "here")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Public development data beside the checkout; not part of the product."""
    folder = Path(os.environ.get("BAIMO_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"development data not found in {folder}; set BAIMO_SHARED_DATA")
    return folder


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages in English unless a test asks for Chinese."""
    monkeypatch.setenv("BAIMO_LANG", "en")


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """URL of a real PostgreSQL server that lives as long as the session."""
    if postgres.binaries() is None:
        pytest.skip("PostgreSQL is not installed: apt-get install postgresql")
    pytest.importorskip("psycopg", reason="the driver is missing: pip install 'baimo[postgres]'")
    with postgres.server() as url:
        yield url


@pytest.fixture(scope="session")
def migrated(postgres_server: str) -> str:
    """Name of a PostgreSQL database with every table and no row, to be copied: a fifth of the time of making one."""
    from baimo.store.engine import Database

    url = made(postgres_server, "migrated")
    Database(url).close()
    return "migrated"


DATABASES = ["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)]
"""Each kind that baimo supports."""


@pytest.fixture(params=DATABASES)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a row."""
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    copied = request.getfixturevalue("migrated")
    return made(request.getfixturevalue("postgres_server"), f"t{uuid.uuid4().hex}", f"TEMPLATE {copied}")


@pytest.fixture(params=DATABASES)
def empty_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A database without a table."""
    if request.param == "sqlite":
        return sqlite_in(tmp_path)
    return made(request.getfixturevalue("postgres_server"), f"t{uuid.uuid4().hex}")


def sqlite_in(folder: Path) -> str:
    """URL of a SQLite database that is still to be made."""
    return f"sqlite:///{folder / 'baimo.db'}"


def made(server: str, name: str, how: str = "") -> str:
    """Make a PostgreSQL database; returns its URL."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} STRATEGY FILE_COPY {how}")  # type: ignore[arg-type]
    return f"{server.rpartition('/')[0]}/{name}"


@pytest.fixture
def unused_port() -> int:
    """A port of 127.0.0.1 that nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
