"""One database behind everything: SQLite (WAL) by default, PostgreSQL by URL, the same statements on both.

Prevents three failures: a driver's traceback where a person needs to hear "the disk is full", a second process that
finds the database locked: writers queue for up to half a minute instead, and machines that wait for hours for one that
lost its power in the middle of a transaction, or for a server that is gone.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import URL, Connection, Engine, ExceptionContext, create_engine, event, make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from baimo.core.registry import require
from baimo.errors import ConfigError, StoreError
from baimo.store.migrations import is_current, migrate

BUSY_TIMEOUT_MS = 30_000
HELD_MS = 60_000
"""PostgreSQL gives up a transaction in which nothing is said for so long: its machine is gone, and it may hold locks
that all others wait for."""
LINK = {
    "connect_timeout": 10,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 4,
    "tcp_user_timeout": 30_000,
}
"""How long PostgreSQL's machine may say nothing (seconds; the last: milliseconds), unless the address says otherwise.
See "Database Connection Control Functions" in its documentation."""
KINDS = ("sqlite", "postgresql")
"""Databases that the statements are written for."""


class Database:
    """An open database at the newest schema. Safe for threads; open one per process."""

    def __init__(self, url: str) -> None:
        """Open `url` and migrate it.

        Args:
            url: `sqlite:///path`, `postgresql://user:password@host/name`, or a bare path.

        Raises:
            StoreError: it cannot be opened, read or written.
            ConfigError: `url` is no address, or of a database that is not supported.
            MissingExtra: PostgreSQL without its driver.
        """
        try:
            self.url = make_url(url if "://" in url else f"sqlite:///{url}")
            kind = self.url.get_backend_name()
        except (SQLAlchemyError, ValueError):
            # `from None`: the error quotes the address, which may hold a password
            raise ConfigError("store.bad_address", known=", ".join(KINDS)) from None
        self.where = self.url.render_as_string(hide_password=True)
        if kind not in KINDS:
            raise ConfigError("store.unknown_kind", where=self.where, known=", ".join(KINDS))
        if kind == "postgresql":
            require("psycopg", "postgres", "store.purpose_postgres")
            self._engine = _postgres(self.url)
        else:
            self._engine = _sqlite(Path(self.url.database or ":memory:"), self.where)
        try:
            with self.reading() as connection:
                current = is_current(connection)
            if not current:
                with self.writing() as connection:
                    migrate(connection)
        except BaseException:
            self.close()
            raise

    @property
    def dialect(self) -> str:
        """sqlite or postgresql."""
        return self._engine.dialect.name

    @contextmanager
    def reading(self) -> Generator[Connection]:
        """A connection for queries; sees a consistent state."""
        with self._translated(), self._engine.connect() as connection:
            yield connection

    @contextmanager
    def writing(self, *, wait_ms: int = BUSY_TIMEOUT_MS) -> Generator[Connection]:
        """A transaction: everything in it is on disk when it ends, or nothing is.

        Args:
            wait_ms: longest wait for other writers, milliseconds.
        """
        with self._translated(), self._engine.connect() as connection:
            if self.dialect == "sqlite":
                if wait_ms != BUSY_TIMEOUT_MS:
                    connection.exec_driver_sql(f"PRAGMA busy_timeout = {wait_ms}")
                # take the write lock at once: upgrading a read lock can fail although nobody waits for us
                try:
                    connection.exec_driver_sql("BEGIN IMMEDIATE")
                finally:
                    if wait_ms != BUSY_TIMEOUT_MS:
                        connection.exec_driver_sql(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
                try:
                    yield connection
                except BaseException:
                    driver: Any = connection.connection.dbapi_connection
                    if driver.in_transaction:  # a full disk has rolled it back already
                        connection.exec_driver_sql("ROLLBACK")
                    raise
                connection.exec_driver_sql("COMMIT")
            else:
                with connection.begin():
                    if wait_ms != BUSY_TIMEOUT_MS:
                        connection.exec_driver_sql(f"SET LOCAL lock_timeout = {wait_ms}")
                    yield connection

    @contextmanager
    def snapshot(self) -> Generator[Connection]:
        """A connection whose queries all see one and the same state."""
        with self.reading() as connection:
            if self.dialect == "sqlite":
                connection.exec_driver_sql("BEGIN")
                try:
                    yield connection
                finally:
                    connection.exec_driver_sql("ROLLBACK")
            else:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
                yield connection

    def sync(self) -> None:
        """Wait until everything committed so far would survive a power failure.

        SQLite in WAL mode leaves that to its checkpoints; PostgreSQL does it with every commit.
        """
        if self.dialect != "sqlite" or not self.url.database:
            return
        for path in (f"{self.url.database}-wal", self.url.database):
            with suppress(FileNotFoundError), Path(path).open("rb") as file:
                os.fsync(file.fileno())

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    @contextmanager
    def _translated(self) -> Generator[None]:
        driver: Any = self._engine.dialect.loaded_dbapi
        try:
            yield
        except DBAPIError as error:
            raise _store_error(error.orig, self.where) from error
        except driver.Error as error:  # bulk loads go past SQLAlchemy
            raise _store_error(error, self.where) from error
        except SQLAlchemyError as error:
            raise StoreError("store.failed", where=self.where, problem=error) from error


def _postgres(url: URL) -> Engine:
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_pre_ping=True,
        pool_size=4,
        max_overflow=8,
        connect_args={name: value for name, value in LINK.items() if name not in url.query},
    )

    def prepared(connection: Any, _: Any) -> None:
        connection.autocommit = True  # else it would hold for the first transaction
        connection.execute(f"SET lock_timeout = {BUSY_TIMEOUT_MS}")
        connection.execute(f"SET idle_in_transaction_session_timeout = {HELD_MS}")
        connection.autocommit = False

    def failed(context: ExceptionContext) -> None:
        # the server has become a copy of another one: a new connection may lead there
        if getattr(context.original_exception, "sqlstate", None) == _READ_ONLY:
            context.is_disconnect = True

    event.listen(engine, "connect", prepared)
    event.listen(engine, "handle_error", failed)
    return engine


def _sqlite(path: Path, where: str) -> Engine:
    if str(path) != ":memory:":
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError("store.cannot_create", where=path.parent, problem=error.strerror) from error
        with suppress(
            OSError
        ):  # there already, or SQLite says what is wrong; its other files have the same rights
            os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
    # AUTOCOMMIT: transactions are begun by us, in the mode that we need
    engine = create_engine(
        f"sqlite:///{path}",
        isolation_level="AUTOCOMMIT",
        connect_args={"timeout": BUSY_TIMEOUT_MS / 1000, "check_same_thread": False},
    )

    def prepared(connection: sqlite3.Connection, _: Any) -> None:
        # what is deleted is overwritten: some builds of SQLite do so by themselves, others leave it in the file
        for pragma in ("journal_mode=WAL", "synchronous=NORMAL", "foreign_keys=ON", "secure_delete=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    event.listen(engine, "connect", prepared)
    return engine


_READ_ONLY = "25006"
_STATES = {
    _READ_ONLY: "read_only",
    "53100": "full",
    "55P03": "locked",
    "40P01": "locked",
    **dict.fromkeys(("57P01", "57P02", "57P03", "25P03", "08000", "08003", "08006"), "unreachable"),
}
"""PostgreSQL's codes: its messages are in the language of the server."""
_PROBLEMS = (
    ("full", ("disk is full", "No space left", "DiskFull")),
    ("read_only", ("readonly database", "read-only", "unable to open database file")),
    ("corrupt", ("not a database", "malformed")),
    ("locked", ("database is locked",)),
    (
        "unreachable",
        (
            *("connection failed", "Connection refused", "could not translate host", "connection to server"),
            *("server closed the connection", "connection is lost", "connection timeout"),
        ),
    ),
)


def _store_error(error: BaseException | None, where: str) -> StoreError:
    problem, state = str(error), getattr(error, "sqlstate", None)
    if state in _STATES:
        return StoreError(f"store.{_STATES[state]}", where=where, problem=problem)
    for kind, signs in _PROBLEMS:
        if any(sign in problem for sign in signs):
            return StoreError(f"store.{kind}", where=where, problem=problem)
    return StoreError("store.failed", where=where, problem=problem)
