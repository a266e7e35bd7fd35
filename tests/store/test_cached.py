from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from sqlite3 import dbapi2
from typing import Any

import pytest
from sqlalchemy import insert

from baimo.store import tables
from baimo.store.cached import Cached
from baimo.store.engine import Database


@pytest.fixture
def cached(database_url: str) -> Iterator[Cached]:
    database = Database(database_url)
    yield Cached(database)
    database.close()


def test_each_tenant_has_its_own_answers(cached: Cached) -> None:
    cached.put("a", "key", 10, b"for a", 0)
    cached.put("b", "key", 10, b"for b", 0)
    assert cached.get("a", "key", 0).data == b"for a"
    assert cached.get("b", "key", 0).data == b"for b"
    assert cached.get("", "key", 0).data is None
    assert cached.forget("a") == 1
    assert (cached.get("a", "key", 0).data, cached.get("b", "key", 0).data) == (None, b"for b")


def test_answers_grow_old_and_newer_ones_take_their_place(cached: Cached) -> None:
    cached.put("a", "key", 10, b"old", 0)
    assert (cached.get("a", "key", 10).data, cached.get("a", "key", 11).data) == (b"old", None)
    cached.put("a", "key", 20, b"new" * 1000, 0)
    assert cached.get("a", "key", 11).data == b"new" * 1000
    cached.put("a", "other", 5, b"x", 0)
    assert cached.expire(20) == 1
    assert cached.get("a", "other", 0).data is None


@pytest.mark.parametrize("whose", ["a", None])
def test_an_answer_that_was_under_way_when_its_tenant_was_forgotten_is_not_kept(
    cached: Cached, whose: str | None
) -> None:
    cached.put("a", "key", 10, b"before", 0)
    times = cached.get("a", "other", 0).times
    assert cached.forget(whose) == 1
    cached.put("a", "other", 20, b"too late", times)
    found = cached.get("a", "other", 0)
    assert found.data is None
    cached.put("a", "other", 30, b"afterwards", found.times)
    assert cached.get("a", "other", 0).data == b"afterwards"
    kept = cached.get("b", "other", 0)
    cached.put("b", "other", 30, b"another's", kept.times)
    assert cached.get("b", "other", 0).data == b"another's"


def test_what_is_deleted_is_gone_from_the_file_whatever_sqlite_was_built_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = dbapi2.connect

    def built_otherwise(*args: Any, **options: Any) -> dbapi2.Connection:
        made = connect(*args, **options)
        made.execute("PRAGMA secure_delete=OFF").close()
        return made

    monkeypatch.setattr(dbapi2, "connect", built_otherwise)
    database = Database(str(tmp_path / "baimo.db"))
    with database.writing() as connection:
        row = {"tenant": "a", "hash": "h", "at_ms": 1, "data": b"CANARY-" * 2000}
        connection.execute(insert(tables.cache).values(row))
    assert Cached(database).expire(2) == 1
    database.close()
    assert not [one for one in tmp_path.iterdir() if b"CANARY-CANARY" in one.read_bytes()]
