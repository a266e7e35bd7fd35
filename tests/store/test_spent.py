from __future__ import annotations

from contextlib import closing

from sqlalchemy import insert

from baimo.core.rights import limit
from baimo.store import tables
from baimo.store.engine import Database
from baimo.store.spent import spent, spent_by_all

NOW = 1_793_923_200_000 + 3_600_000
"""2026-11-06T01:00:00Z."""


def test_only_the_present_window_of_each_limit_counts(database_url: str) -> None:
    limits = [limit("cost=20/month"), limit("requests=5/day"), limit("concurrency=8"), limit("tokens=9")]
    with closing(Database(database_url)) as database:
        with database.writing() as connection:
            for bucket, used in (
                ("key:k:cost:month:2026-11", 5),
                ("key:k:cost:month:2026-10", 1000),
                ("key:k:requests:day:2026-11-05", 1000),
                ("key:other:tokens:total:", 1000),
            ):
                connection.execute(insert(tables.meters).values(bucket=bucket, used=used, base=0, wanted=0))
            for holder in ("a", "b"):
                row = {"bucket": "key:k:concurrency:total:", "holder": holder, "amount": 3}
                connection.execute(insert(tables.leases).values(row))
        found = spent(database, "key", "k", limits, NOW)
        assert spent(database, "key", "k", [], NOW) == []
        whose = [("key", "other", limits[3:]), ("key", "k", limits), ("key", "x", [])]
        several = spent_by_all(database, whose, NOW)
        assert [one.used for one in several[0]] == [1000] and several[1:] == [found, []]
    assert [(one.limit, one.used, one.held) for one in found] == [
        (limits[0], 5, 0),
        (limits[1], 0, 0),
        (limits[2], 0, 6),
        (limits[3], 0, 0),
    ]
    assert [one.ends_ms for one in found[:2]] == [1_796_083_200_000, 1_794_009_600_000]
