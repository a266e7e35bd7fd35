"""Batches: one process at a time, changes that see each other, tenants that do not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from sqlalchemy import delete, insert

from baimo.store import tables
from baimo.store.batches import Batch, Batches, LineError
from baimo.store.engine import Database
from tests.store.test_responses import Clock


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def batches(database: Database) -> Batches:
    return Batches(database, Clock())


def ordered(batches: Batches, tenant: str = "acme") -> Batch:
    made = Batch(
        id=batches.new_id(),
        tenant=tenant,
        key="k",
        endpoint="/v1/chat/completions",
        input_file="file-1",
        created_ms=batches.now_ms(),
        expires_ms=batches.now_ms() + 86_400_000,
    )
    batches.add(made)
    return made


def alive(database: Database, holder: str) -> None:
    row = {"id": holder, "host": "h", "pid": 1, "started": "s", "beat_ms": 0}
    with database.writing() as connection:
        connection.execute(insert(tables.holders).values(row))


def test_a_batch_comes_back_as_it_was_kept(batches: Batches) -> None:
    made = ordered(batches)
    errors = (LineError(code="invalid_json_line", message="m", line=3, param=None),)
    after = batches.change("acme", made.id, lambda one: replace(one, errors=errors, metadata={"a": "b"}))
    assert after == batches.get("acme", made.id) == replace(made, errors=errors, metadata={"a": "b"})
    assert batches.get("other", made.id) is None
    assert batches.change("other", made.id, lambda one: replace(one, total=1)) is None


def test_only_one_living_process_works_on_a_batch(database: Database, batches: Batches) -> None:
    made = ordered(batches)
    alive(database, "one")
    alive(database, "two")
    assert batches.claim("one", lambda _: False) is None
    claimed = batches.claim("one", lambda _: True)
    assert claimed is not None and claimed.id == made.id
    assert batches.claim("two", lambda _: True) is None
    assert batches.change("acme", made.id, lambda one: replace(one, total=1), holder="two") is None


def test_a_batch_goes_to_the_next_process_when_its_own_is_gone_or_lets_go(
    database: Database, batches: Batches
) -> None:
    made = ordered(batches)
    alive(database, "one")
    alive(database, "two")
    batches.claim("one", lambda _: True)
    with database.writing() as connection:
        connection.execute(delete(tables.holders).where(tables.holders.c.id == "one"))
    assert batches.claim("two", lambda _: True) is not None
    batches.release("one", made)  # too late: it is not its own any more
    alive(database, "one")
    assert batches.claim("one", lambda _: True) is None
    batches.release("two", made)
    assert batches.claim("one", lambda _: True) is not None


def test_a_batch_that_has_ended_is_never_taken_again(database: Database, batches: Batches) -> None:
    made = ordered(batches)
    alive(database, "one")
    batches.change("acme", made.id, lambda one: replace(one, status="completed"))
    assert batches.claim("one", lambda _: True) is None


def test_pages_hold_one_tenants_batches_of_one_api_newest_first(batches: Batches) -> None:
    made = sorted((ordered(batches).id for _ in range(4)), reverse=True)
    ordered(batches, "other")
    assert [one.id for one in batches.page("acme", surface="batches", limit=3)] == made[:3]
    assert [one.id for one in batches.page("acme", surface="batches", limit=3, after=made[2])] == made[3:]
    assert [one.id for one in batches.page("acme", surface="batches", limit=2, before=made[3])] == made[1:3]
    assert batches.page("acme", surface="message_batches", limit=3) == []


def test_a_file_is_in_use_as_long_as_a_batch_needs_it(batches: Batches) -> None:
    made = ordered(batches)
    assert batches.using("acme", "file-1") == made and batches.using("acme", "file-2") is None
    assert batches.using("other", "file-1") is None
    batches.change("acme", made.id, lambda one: replace(one, status="cancelled"))
    assert batches.using("acme", "file-1") is None


def test_only_what_has_ended_can_be_forgotten(batches: Batches) -> None:
    made = ordered(batches)
    batches.delete("acme", made.id)
    assert batches.get("acme", made.id) is not None
    batches.change("acme", made.id, lambda one: replace(one, status="completed"))
    batches.delete("acme", made.id)
    assert batches.get("acme", made.id) is None
