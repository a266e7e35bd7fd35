from __future__ import annotations

from collections.abc import Iterator

import pytest

from baimo.store.cached import Cached
from baimo.store.engine import Database


@pytest.fixture
def cached(database_url: str) -> Iterator[Cached]:
    database = Database(database_url)
    yield Cached(database)
    database.close()


def test_each_tenant_has_its_own_answers(cached: Cached) -> None:
    cached.put("a", "key", 10, b"for a")
    cached.put("b", "key", 10, b"for b")
    assert cached.get("a", "key", 0) == b"for a"
    assert cached.get("b", "key", 0) == b"for b"
    assert cached.get("", "key", 0) is None
    assert cached.forget("a") == 1
    assert (cached.get("a", "key", 0), cached.get("b", "key", 0)) == (None, b"for b")


def test_answers_grow_old_and_newer_ones_take_their_place(cached: Cached) -> None:
    cached.put("a", "key", 10, b"old")
    assert (cached.get("a", "key", 10), cached.get("a", "key", 11)) == (b"old", None)
    cached.put("a", "key", 20, b"new" * 1000)
    assert cached.get("a", "key", 11) == b"new" * 1000
    cached.put("a", "other", 5, b"x")
    assert cached.expire(20) == 1
    assert cached.get("a", "other", 0) is None
