"""What a comparison sets aside moves with the calendar, and no window is ever overspent."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime

import pytest

from baimo.core.record import Record
from baimo.core.tenant import Limit
from baimo.errors import BudgetExceeded
from baimo.store.engine import Database
from baimo.store.ledger import Ledger
from baimo.store.purses import Limited, Purse
from baimo.store.spent import spent
from baimo.store.store import Store

DAILY = Limit(counts="cost", amount=1_000_000, window="day")
EVER = Limit(counts="cost", amount=1_000_000)
LATE = int(datetime(2026, 11, 23, 23, 59, tzinfo=UTC).timestamp() * 1000)
NEXT = LATE + 120_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


def purse(database: Database, *limits: Limit, key: str = "k1") -> Purse:
    return Purse(database, [Limited("key", key, one) for one in limits])


def pay(purse: Purse, database: Database, id: str, began_ms: int, micros: int) -> None:
    record = Record(
        id=id, at_ms=NEXT, began_ms=began_ms, surface="compare", model="v/m", key="k1", charged_micros=micros
    )
    Store(database).settle(record, None, purse)


def state(database: Database, limit: Limit, now_ms: int) -> tuple[int, int]:
    (found,) = spent(database, "key", "k1", [limit], now_ms)
    return found.used, found.held


def test_what_is_left_is_set_aside_in_the_window_that_has_begun(database: Database) -> None:
    mine = purse(database, DAILY, EVER)
    mine.fill(900_000, LATE)
    pay(mine, database, "rec_1", LATE, 300_000)
    assert mine.moved(LATE) == LATE
    assert mine.moved(NEXT) == NEXT
    assert (state(database, DAILY, LATE), state(database, DAILY, NEXT)) == ((300_000, 600_000), (0, 600_000))
    with pytest.raises(BudgetExceeded):
        purse(database, DAILY).fill(400_001, NEXT)
    pay(mine, database, "rec_2", LATE, 100_000)  # under way at midnight
    assert mine.moved(LATE) == NEXT  # a clock that is set back
    pay(mine, database, "rec_3", NEXT, 500_000)
    assert (state(database, DAILY, LATE), state(database, DAILY, NEXT)) == (
        (400_000, 500_000),
        (500_000, 100_000),
    )
    assert state(database, EVER, NEXT) == (900_000, 0)
    mine.empty()
    assert state(database, DAILY, NEXT) == (500_000, 0)
    assert Ledger(database).verify().ok


def test_a_window_that_leaves_too_little_ends_it_before_another_call(database: Database) -> None:
    mine = purse(database, DAILY)
    mine.fill(900_000, LATE)
    other = purse(database, DAILY)
    other.fill(950_000, NEXT)
    for _ in range(2):
        with pytest.raises(BudgetExceeded) as told:
            mine.moved(NEXT)
        assert told.value.key == "compare.over_limit"
    assert state(database, DAILY, NEXT) == (0, 950_000)
    other.empty()
    assert mine.moved(NEXT) == NEXT
