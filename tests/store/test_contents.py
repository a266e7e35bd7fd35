"""Prompts and answers that are kept beside the ledger, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Table, insert, select

from baimo.core.record import Record
from baimo.store import audit, rollups, tables
from baimo.store.audit import Actor
from baimo.store.contents import KEPT, Contents, Kept, opened, put, sealed
from baimo.store.engine import Database
from baimo.store.ledger import Ledger
from baimo.store.store import Store

DAY_MS = 86_400_000
NOW = 1_800_000_000_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def keep(database: Database, record: str, tenant: str, content: bytes, at_ms: int = NOW) -> None:
    """A Record with its content, as the books write both."""
    kept = sealed(content)
    Store(database).settle(
        Record(id=record, at_ms=at_ms, surface="chat", model="v/m", tenant=tenant, content_hash=kept.hash)
    )
    with database.writing() as connection:
        put(connection, [Kept(record, tenant, at_ms, kept.hash, kept.stored)])


@given(st.binary(max_size=2000))
def test_a_content_is_opened_as_it_was_sealed_and_never_sealed_alike(content: bytes) -> None:
    one, two = sealed(content), sealed(content)
    assert opened(one.stored) == content
    assert one.hash == hashlib.sha256(one.stored).hexdigest()
    assert one.hash != two.hash  # the same answer twice does not show in the ledger


def test_a_content_is_read_by_its_tenant_and_by_nobody_else(database: Database) -> None:
    keep(database, "rec_1", "acme", b"secret plan")
    contents = Contents(database)
    assert contents.content("rec_1") == contents.content("rec_1", tenant="acme") == b"secret plan"
    assert contents.content("rec_1", tenant="other") is None
    assert contents.content("rec_2") is None


def test_forgetting_a_tenant_leaves_the_others_and_every_record(database: Database) -> None:
    for number, tenant in enumerate(("acme", "acme", "other")):
        keep(database, f"rec_{number}", tenant, b"content")
    contents = Contents(database, lambda: NOW)
    before = list(Store(database).records())
    assert contents.forget(tenant="acme", by=Actor("", "boss")) == 2
    assert (contents.count(), contents.count(tenant="acme")) == (1, 0)
    assert contents.content("rec_2") == b"content"
    assert list(Store(database).records()) == before
    assert all(record.content_hash for record in before)
    assert Ledger(database).verify().ok
    act = audit.acts(database)[0]
    assert (act.act, act.subject, act.key, act.facts) == (
        "contents.forget",
        "acme",
        "boss",
        {"deleted": 2},
    )


def test_what_a_forgotten_tenant_paid_stays_in_the_sums(database: Database) -> None:
    keep(database, "rec_a", "acme", b"content")
    rollups.count_in(database)
    before = Ledger(database).sums(["tenant", "key"])
    Contents(database).forget_tenant("acme")
    assert Ledger(database).sums(["tenant", "key"]) == before
    assert Ledger(database).verify().ok


def test_a_forgotten_tenant_is_gone_from_every_table_that_holds_what_it_said(database: Database) -> None:
    holding = [
        table
        for table in tables.metadata.sorted_tables
        if "tenant" in table.c and table.name not in KEPT | {"contents"}
    ]
    for tenant in ("acme", "other"):
        keep(database, f"rec_{tenant}", tenant, b"content")
        with database.writing() as connection:
            for table in reversed(holding):  # items refer to their response
                connection.execute(insert(table).values(filled(table, tenant)))
            event = {"job": f"x {tenant}", "seq": 1, "at_ms": 1, "event": "{}"}
            connection.execute(insert(tables.job_events).values(event))
            sample = {"run": f"x {tenant}", "candidate": "x", "example": "x", "position": 1}
            connection.execute(insert(tables.samples).values({**sample, "outcome": "x", "sample": "{}"}))
    gone = Contents(database).forget_tenant("acme", Actor("", "boss"), {"adapters": 2})
    beside = {"contents": 1, "job_events": 1, "samples": 1, "blobs": 0}
    assert gone == {**beside, **{table.name: 1 for table in holding}, "adapters": 3}
    with database.reading() as connection:
        assert connection.execute(select(tables.job_events.c.job)).scalars().all() == ["x other"]
        assert connection.execute(select(tables.samples.c.run)).scalars().all() == ["x other"]
        for table in (*holding, tables.contents):
            assert connection.execute(select(table.c.tenant)).scalars().all() == ["other"]
    assert {record.tenant for record in Store(database).records()} == {"acme", "other"}
    assert Ledger(database).verify().ok
    act = audit.acts(database)[0]
    assert (act.act, act.subject, act.key, act.facts) == ("tenant.forget", "acme", "boss", {"deleted": gone})


def filled(table: Table, tenant: str) -> dict[str, Any]:
    """A row with something in every column."""
    some = {"TEXT": f"x {tenant}", "BIGINT": 1, "BLOB": b"x", "DOUBLE": 1.0}
    row = {column.name: some[str(column.type).split()[0]] for column in table.columns}
    return {**row, "tenant": tenant}


def test_what_stays_of_a_tenant_says_nothing_of_what_was_said() -> None:
    assert set(tables.metadata.tables) >= KEPT
    for name in KEPT:
        assert not {"content", "request", "response", "data"} & set(tables.metadata.tables[name].c.keys())


def test_contents_are_forgotten_by_age_and_one_by_one(database: Database) -> None:
    for number in range(4):
        keep(database, f"rec_{number}", "acme", b"content", at_ms=NOW - number * DAY_MS)
    contents = Contents(database)
    assert contents.count(before_ms=NOW - DAY_MS) == 2
    assert contents.forget(before_ms=NOW - DAY_MS) == 2
    assert contents.forget(record="rec_0") == 1
    assert contents.content("rec_1") is not None
    assert contents.count() == 1


def test_each_tenant_s_contents_are_kept_for_as_long_as_it_wants(database: Database) -> None:
    for tenant in ("short", "long", "usual"):
        for days in (1, 20, 40):
            keep(database, f"rec_{tenant}_{days}", tenant, b"content", at_ms=NOW - days * DAY_MS)
    contents = Contents(database, lambda: NOW)
    assert contents.expire(30, {"short": 7, "long": 365}) == 3
    assert [contents.count(tenant=one) for one in ("short", "usual", "long")] == [1, 2, 3]
    assert contents.expire(30, {"short": 7, "long": 365}) == 0


def test_a_content_that_was_tampered_with_is_named_by_verify(database: Database) -> None:
    for number in range(3):
        keep(database, f"rec_{number}", "acme", b"content %d" % number)
    with database.writing() as connection:
        table = tables.contents
        other = sealed(b"something else").stored
        connection.execute(table.update().where(table.c.record == "rec_1").values(content=other))
    found = Ledger(database).verify().findings
    assert [(one.kind, one.place) for one in found] == [("content", "rec_1")]


def test_a_forgotten_content_is_gone_from_the_file_too(tmp_path: Path) -> None:
    path = tmp_path / "baimo.db"
    with closing(Database(str(path))) as database:
        keep(database, "rec_1", "acme", b"x" * 3)
        with database.writing() as connection:  # found as it is, were it left in a free page
            table = tables.contents
            connection.execute(table.update().values(content=b"CANARY-" * 2000))
        Contents(database).forget(tenant="acme")
        assert not [one for one in tmp_path.iterdir() if b"CANARY-CANARY" in one.read_bytes()]
