"""The newest lines of a question are the same, whichever way they are found."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from typing import Any

import pytest

from baimo.store import finding, rollups
from baimo.store.engine import Database
from baimo.store.entry import Entry
from baimo.store.filters import Filters
from baimo.store.ledger import Ledger
from tests.store.test_rollups import DAY, FROM, calls, kept, written

WISHES: Sequence[Mapping[str, str]] = (
    {},
    {"key": "rare"},
    {"key": "nobody"},
    {"tenant": "acme", "status": "failed"},
    {"tag:team": "b", "key": "k3"},
    {"model": "v/n", "surface": "chat", "status": "x.z"},
    {"route": "direct", "key": "rare"},
)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def history(count: int) -> list[Entry]:
    """Of which two in a hundred are of one key; most of them in the order of time."""
    lines = sorted(calls(count, seed=9), key=lambda call: call.at_ms)
    for place in random.Random(5).sample(range(count), count // 50):
        lines[place].key = "rare"
        lines[place], lines[-1 - place] = lines[-1 - place], lines[place]
    return lines


def found(
    database: Database, wish: Mapping[str, str], limit: int, near: int, cells: int, **of: int
) -> list[str]:
    """Ids, page by page."""
    fields: dict[str, Any] = {name: value for name, value in wish.items() if not name.startswith("tag:")}
    tags = {name[4:]: value for name, value in wish.items() if name.startswith("tag:")}
    filters = Filters(**fields, tags=tags, **of)
    ids: list[str] = []
    with database.snapshot() as connection:
        first, last = finding.whole_ledger(connection)
        while page := finding.newest(connection, filters, (first, last), limit, near=near, cells=cells):
            ids += [row["id"] for row in page]
            last = page[-1]["seq"] - 1
    return ids


def test_every_way_finds_the_same_lines(database: Database) -> None:
    lines = history(300)
    written(database, lines[:200])
    rollups.count_in(database)
    written(database, lines[200:])  # these are not counted in: they are read as they come
    moments: Sequence[dict[str, int]] = (
        {},
        {"since_ms": FROM + DAY + 7, "until_ms": FROM + 2 * DAY + 9_000_000},
    )
    for wish in WISHES:
        for within in moments:
            since, until = within.get("since_ms", 0), within.get("until_ms", FROM + 9 * DAY)
            wanted = [call.id for call in reversed(lines) if kept(call, wish) and since <= call.at_ms < until]
            for limit, near, cells in ((7, 1, 2), (3, 20, 40), (1000, 1, 5), (5, 1000, 1)):
                assert found(database, wish, limit, near, cells, **within) == wanted, (wish, within, limit)


def test_what_is_pruned_is_not_looked_for(database: Database) -> None:
    lines = history(200)
    written(database, lines)
    gone = Ledger(database).prune(FROM + 2 * DAY)
    assert gone > 5
    for wish in WISHES:
        wanted = [call.id for call in reversed(lines[gone:]) if kept(call, wish)]
        assert found(database, wish, 4, 2, 3) == wanted, wish
