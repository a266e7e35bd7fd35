"""Whatever happens between them, reservations, Records and limits agree."""

from __future__ import annotations

import asyncio
import itertools
import shutil
import tempfile
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from dataclasses import replace as replaced
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from msgspec.structs import replace
from sqlalchemy import text

from baimo.core.record import INTERRUPTED
from baimo.core.tenant import Key, Limit, Tenant, Window
from baimo.errors import BudgetExceeded, LimitReached, StoreError
from baimo.gateway.answers import retry_headers
from baimo.settings import LedgerSettings
from baimo.store import recovery
from baimo.store.accounts import Accounts
from baimo.store.books import Books
from baimo.store.chain import locked_head
from baimo.store.contents import Contents
from baimo.store.engine import Database
from baimo.store.entries import Ended, read_ending
from baimo.store.entry import Charge, Entry
from baimo.store.ledger import Ledger
from baimo.store.writer import BEHIND
from tests.store.accounting import NOW_MS, Hands, charge, charged, ended, entry
from tests.store.meeting import meanwhile
from tests.store.test_journal import dropped

SMALL = 1 << 16
BUDGET = Limit(counts="cost", amount=100_000, window="month")
TOKENS = Limit(counts="tokens", amount=9_000, window="day")
CALLS = Limit(counts="requests", amount=40, window="minute")
AT_ONCE = Limit(counts="concurrency", amount=6)


def silent(database: Database, for_ms: int) -> None:
    """Whoever is there is on another machine, and was last heard of so much longer ago."""
    with database.writing() as connection:
        said = text("UPDATE holders SET host = 'elsewhere', beat_ms = beat_ms - :ms")
        connection.execute(said, {"ms": for_ms})


def books(database: Database, folder: Path, clock: Hands | None = None) -> Books:
    return Books(
        database, folder / "journal", LedgerSettings(), clock or Hands(), currency="USD", segment_bytes=SMALL
    )


def crash(some: Books) -> None:
    """As `kill -9` leaves it: no flush, no goodbye, the file lock gone."""
    some._writer.stop()
    dropped(some._journal)


def obtained(
    some: Books, charges: tuple[Charge, ...], others: tuple[Books, ...] = (), wait_s: float = 0.0
) -> None:
    """`obtain` in one thread: the writers of all processes have their rounds while it waits."""

    async def wait() -> None:
        task = asyncio.ensure_future(some.obtain(charges, wait_s))
        for _ in range(8):
            await asyncio.sleep(0)
            if task.done():
                break
            for each in (some, *others):
                each.flush()
            some._clock.steady += wait_s / 4  # type: ignore[attr-defined]
            await asyncio.sleep(0)
        await task

    asyncio.run(wait())


def used(database: Database) -> dict[str, tuple[int, int]]:
    """By bucket: what is used, and what all processes together hold."""
    with database.reading() as connection:
        rows = connection.execute(
            text(
                "SELECT bucket, used, (SELECT COALESCE(SUM(amount), 0) FROM leases"
                " WHERE leases.bucket = meters.bucket) FROM meters"
            )
        ).all()
        negative = connection.execute(text("SELECT COUNT(*) FROM leases WHERE amount < 0")).scalar_one()
    assert negative == 0
    return {row[0]: (int(row[1]), int(row[2])) for row in rows}


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


# one process


def test_a_call_is_reserved_opened_closed_and_one_record(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    reserved = (charge(BUDGET, 5_000), charge(CALLS, 1), charge(AT_ONCE, 1, scope="tenant", name="acme"))
    assert not mine.reserve(reserved)  # nothing is drawn yet
    obtained(mine, reserved)
    call = entry("rec_1", reserved=reserved)
    mine.open(call)
    mine.close(ended(call), charged(call, reserved))
    assert mine.health().behind == 1
    mine.flush()
    assert used(database)[reserved[0].bucket][0] == call.cost_micros
    assert used(database)[reserved[1].bucket][0] == 1
    assert used(database)[reserved[2].bucket][0] == 0
    line = Ledger(database).line("rec_1")
    assert line is not None and line.record.charged_micros == call.cost_micros
    assert line.record.limits and not line.record.charges
    mine.leave()
    assert Ledger(database).verify().ok
    assert all(held == 0 for _, held in used(database).values())
    assert not any((tmp_path / "journal").iterdir())


def test_without_limits_nothing_is_asked_for(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    assert mine.reserve(())
    call = entry("rec_1")
    mine.open(call)
    mine.close(ended(call))
    mine.leave()
    assert Ledger(database).verify().ok and Ledger(database).count() == 1


def test_a_refusal_names_whose_limit_it_is_what_is_used_and_what_the_call_may_take(
    database: Database, tmp_path: Path
) -> None:
    mine = books(database, tmp_path)
    with pytest.raises(
        BudgetExceeded, match=r"key k1 may spend 0\.10 USD per month; 0\.00 USD is used"
    ) as over:
        obtained(mine, (charge(BUDGET, 1),))
        obtained(mine, (charge(BUDGET, 100_000),))
    assert "up to 0.10 USD" in str(over.value) and "max_tokens" in over.value.hint
    with pytest.raises(LimitReached, match="tenant acme may use 9000 tokens per day") as reached:
        obtained(mine, (charge(TOKENS, 1, scope="tenant", name="acme"),))
        obtained(mine, (charge(TOKENS, 9_000, scope="tenant", name="acme"),))
    assert reached.value.retry_after_s == pytest.approx(15 * 3600 + 59 * 60 + 30)
    with pytest.raises(LimitReached, match="model v/m may have 1 calls at once"):
        one = Limit(counts="concurrency", amount=1)
        obtained(mine, (charge(one, 1, scope="model", name="v/m"),))
        obtained(mine, (charge(one, 1, scope="model", name="v/m"),))
    mine.leave()


def test_a_call_larger_than_the_whole_limit_is_not_told_to_wait(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    with pytest.raises(BudgetExceeded, match=r"this call alone may cost up to 0\.100001 USD: it never fits"):
        obtained(mine, (charge(BUDGET, 100_001),))
    with pytest.raises(LimitReached, match="this call alone may take up to 9001: it never fits") as reached:
        obtained(mine, (charge(TOKENS, 9_001),))
    assert retry_headers(reached.value) == [(b"x-should-retry", b"false")]
    mine.leave()


def test_a_call_that_does_not_fit_yet_waits_for_one_that_takes_less_than_the_most(
    database: Database, tmp_path: Path
) -> None:
    mine = books(database, tmp_path)
    most = (charge(BUDGET, 60_000),)
    obtained(mine, most)
    call = entry("rec_1", reserved=most)
    mine.open(call)

    async def race() -> None:
        waiting = asyncio.ensure_future(mine.obtain(most, 10.0))
        for _ in range(3):
            await asyncio.sleep(0)
            mine.flush()
        assert not waiting.done()
        mine.close(ended(call), charged(call, most))
        mine.flush()
        await waiting

    asyncio.run(race())
    mine.leave()


def test_it_is_refused_at_once_when_it_cannot_fit_any_more(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    most = (charge(BUDGET, 60_000),)
    obtained(mine, most)
    call = entry(reserved=most)
    mine.open(call)
    mine.close(ended(call, 200_000, 50_000), charged(call, most))
    assert call.cost_micros == 60_000

    async def later() -> None:
        waiting = asyncio.ensure_future(mine.obtain(most, 1e6))
        await asyncio.sleep(0)
        mine.flush()
        with pytest.raises(BudgetExceeded, match=r"0\.06 USD is used"):
            await waiting
        with pytest.raises(BudgetExceeded):  # and now without a question to the database
            await mine.obtain(most, 1e6)

    asyncio.run(later())
    mine.leave()


def test_whoever_leaves_the_queue_leaves_nothing_reserved(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    most = (charge(BUDGET, 100_000),)
    obtained(mine, most)

    async def gone() -> None:
        waiting = asyncio.ensure_future(mine.obtain(most, 10.0))
        await asyncio.sleep(0)
        waiting.cancel()
        with suppress(asyncio.CancelledError):
            await waiting
        second = asyncio.ensure_future(mine.obtain(most, 10.0))
        await asyncio.sleep(0)
        mine.release(most)  # granted, but it has not heard of it when it is cancelled
        second.cancel()
        with suppress(asyncio.CancelledError):
            await second

    asyncio.run(gone())
    assert mine.reserve(most)
    mine.release(most)
    mine.leave()


def test_a_call_that_took_more_than_the_most_is_charged_what_it_took(
    database: Database, tmp_path: Path
) -> None:
    mine = books(database, tmp_path)
    most = (charge(BUDGET, 1_000),)
    obtained(mine, most)
    call = entry(reserved=most)
    mine.open(call)
    mine.close(ended(call, 700_000, 0), charged(call, most))
    assert call.cost_micros == 105_000
    mine.flush()
    assert used(database)[most[0].bucket] == (105_000, 0)
    with pytest.raises(BudgetExceeded):
        obtained(mine, most)
    mine.leave()
    assert Ledger(database).verify().ok


def test_charges_that_the_record_does_not_tell_are_written_down(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    reserved = (
        charge(BUDGET, 900, name="older-key"),
        charge(BUDGET, 900, scope="model", name="x/tried: before"),
    )
    obtained(mine, reserved)
    call = entry("rec_1", reserved=reserved)
    mine.open(call)
    mine.close(
        ended(call), (replace(reserved[0], amount=call.cost_micros or 0), replace(reserved[1], amount=7))
    )
    mine.leave()
    line = Ledger(database).line("rec_1")
    assert line is not None and "older-key" in line.record.charges and line.record.limits == 0
    assert used(database)[reserved[1].bucket][0] == 7
    assert Ledger(database).verify().ok
    with database.writing() as connection:
        connection.execute(text("UPDATE meters SET used = used - 1 WHERE used = 7"))
    assert [finding.kind for finding in Ledger(database).verify().findings] == ["limit"]


@pytest.mark.parametrize(
    "statement",
    [
        "DELETE FROM meters WHERE bucket LIKE '%month%'",
        "DELETE FROM meters WHERE bucket LIKE '%older-key%'",
        "DELETE FROM meters WHERE bucket LIKE '%requests%'",
        "UPDATE meters SET used = 0, base = base - used WHERE bucket LIKE '%cost%'",
    ],
)
def test_a_limit_that_was_emptied_behind_its_back_is_found(
    database: Database, tmp_path: Path, statement: str
) -> None:
    mine = books(database, tmp_path)
    reserved = (charge(BUDGET, 500), charge(CALLS, 1), charge(TOKENS, 900, name="older-key"))
    obtained(mine, reserved)
    call = entry(reserved=reserved)
    mine.open(call)
    mine.close(ended(call), charged(call, reserved))
    mine.leave()
    assert Ledger(database).verify().ok
    with database.writing() as connection:
        connection.execute(text(statement))
    (found,) = Ledger(database).verify().findings
    assert found.kind == "limit" and str(found)


def test_a_new_limit_knows_what_its_window_had_used_before_it_was_set(
    database: Database, tmp_path: Path
) -> None:
    mine = books(database, tmp_path)
    for _ in range(3):
        call = entry()
        mine.open(call)
        mine.close(ended(call))
    mine.flush()
    reserved = (charge(BUDGET, 10),)
    obtained(mine, reserved)
    assert used(database)[reserved[0].bucket][0] == 3 * (ended(entry()).cost_micros or 0)
    mine.release(reserved)
    mine.leave()
    assert Ledger(database).verify().ok


def test_a_new_limit_of_a_key_that_replaces_another_knows_what_both_had_used(
    database: Database, tmp_path: Path
) -> None:
    accounts = Accounts(database)
    first = accounts.create_key(Key(label="a")).key
    second = accounts.rotate(first.public, 1_000).key
    third = accounts.rotate(second.public, 1_000).key
    mine = books(database, tmp_path)
    for key in (first, second, third, accounts.create_key(Key(label="b")).key):
        call = entry(key=key.public)
        mine.open(call)
        mine.close(ended(call))
    mine.flush()
    reserved = (charge(BUDGET, 10, name=third.meter),)
    obtained(mine, reserved)
    assert used(database)[reserved[0].bucket][0] == 3 * (ended(entry()).cost_micros or 0)
    mine.leave()


@pytest.mark.parametrize("window", ["day", "month", "total"])
def test_a_call_that_ends_after_midnight_counts_in_the_window_of_its_admission_only(
    database: Database, tmp_path: Path, window: Window
) -> None:
    limit = Limit(counts="tokens", amount=1_000, window=window)
    before_ms = int(datetime(2027, 1, 31, 23, 59, 50, tzinfo=UTC).timestamp()) * 1000
    clock = Hands(before_ms)
    mine = books(database, tmp_path, clock)
    reserved = (charge(limit, 700, now_ms=before_ms),)
    obtained(mine, reserved)
    call = entry(reserved=reserved, began_ms=before_ms)
    mine.open(call)
    clock.wall_ms += 30_000
    mine.close(ended(call, 400, 300), charged(call, reserved))
    other = entry(began_ms=mine.now_ms())  # without the limit: a new one must know of it
    mine.open(other)
    mine.close(ended(other, 40, 50))
    mine.flush()
    next_one = (charge(limit, 200, now_ms=clock.wall_ms),)
    obtained(mine, next_one)
    assert used(database)[next_one[0].bucket][0] == (700 if window == "total" else 90)
    mine.release(next_one)
    mine.leave()
    assert Ledger(database).verify().ok


def test_a_limit_that_is_taken_away_and_set_again_knows_what_was_used_in_between(
    database: Database, tmp_path: Path
) -> None:
    cost = ended(entry()).cost_micros or 0
    limit = Limit(counts="cost", amount=4 * cost, window="month")
    accounts = Accounts(database, lambda: NOW_MS)
    accounts.create_tenant(Tenant(id="acme", limits=(limit,)))
    key = accounts.create_key(Key(label="a", tenant="acme", limits=(limit,))).key
    mine = books(database, tmp_path)
    reserved = (charge(limit, cost, name=key.public), charge(limit, cost, scope="tenant", name="acme"))
    for limited in (True, False, False):
        call = entry(key=key.public, reserved=reserved if limited else ())
        if limited:
            obtained(mine, reserved)
        mine.open(call)
        mine.close(ended(call), reserved if limited else ())
        mine.flush()
        if limited:
            accounts.change_key(key.public, {"limits": ()})
            accounts.change_tenant("acme", {"limits": ()})
    accounts.change_key(key.public, {"limits": (limit,)})
    accounts.change_tenant("acme", {"limits": (limit,)})
    left = mine.remaining(reserved[0].bucket, limit.amount)
    mine.doubt("key", key.public)
    mine.doubt("tenant", "acme")
    assert mine.remaining(reserved[0].bucket, limit.amount) == left
    assert {use for use, _ in used(database).values()} == {3 * cost}
    assert not mine.reserve(reserved)
    obtained(mine, reserved)
    with pytest.raises(BudgetExceeded):
        obtained(mine, reserved)
    accounts.change_key(key.public, {"limits": (replaced(limit, amount=9 * cost),)})
    assert {use for use, _ in used(database).values()} == {3 * cost}
    mine.release(reserved)
    mine.leave()
    assert Ledger(database).verify().ok


def test_a_limit_that_is_lowered_or_raised_holds_from_the_next_call_on(
    database: Database, tmp_path: Path
) -> None:
    mine = books(database, tmp_path)
    obtained(mine, (charge(BUDGET, 10),))
    lower = Limit(counts="cost", amount=50, window="month")
    with pytest.raises(BudgetExceeded):
        obtained(mine, (charge(lower, 51),))
    obtained(mine, (charge(lower, 40),))
    assert used(database)[charge(lower, 1).bucket][1] <= 50
    higher = Limit(counts="cost", amount=900_000, window="month")
    obtained(mine, (charge(higher, 800_000),))
    mine.leave()


def test_a_clock_that_goes_back_opens_no_window_again(database: Database, tmp_path: Path) -> None:
    clock = Hands()
    mine = books(database, tmp_path, clock)
    first = mine.now_ms()
    clock.wall_ms -= 3_600_000
    assert mine.now_ms() == first
    call = entry(began_ms=0)
    mine.open(call)
    mine.close(ended(call))
    assert call.began_ms == call.at_ms == first
    clock.wall_ms = first + 60_000
    assert mine.now_ms() == first + 60_000
    mine.leave()


def test_leases_of_a_window_that_is_over_are_dropped(database: Database, tmp_path: Path) -> None:
    clock = Hands()
    mine = books(database, tmp_path, clock)
    old = (charge(CALLS, 1),)
    obtained(mine, old)
    call = entry(reserved=old)
    mine.open(call)
    clock.wall_ms += 60_000
    new = (charge(CALLS, 1, now_ms=mine.now_ms()),)
    obtained(mine, new)
    mine.close(ended(call), charged(call, old))  # still charged to the minute in which it began
    mine.flush()
    mine.flush()
    assert used(database)[old[0].bucket] == (1, 0)
    assert set(mine._meters.leases) == {new[0].bucket}
    mine.leave()
    assert Ledger(database).verify().ok


def test_contents_are_kept_sealed_with_their_record(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    for id, content in (("rec_1", b"question and answer"), ("rec_2", b"long " * 50_000)):
        call = entry(id, content=content)
        mine.open(call)
        mine.close(ended(call))
    mine.leave()
    assert Contents(database).content("rec_1") == b"question and answer"
    assert Contents(database).content("rec_2") == b"long " * 50_000
    assert Ledger(database).verify().ok


@pytest.mark.parametrize("killed", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_a_content_that_lies_in_a_journal_while_its_tenant_is_forgotten_is_not_kept(
    database: Database, tmp_path: Path, whole: bool, killed: bool
) -> None:
    mine, contents = books(database, tmp_path), Contents(database, lambda: NOW_MS + 5)
    waits, under_way = entry("rec_1", content=b"said"), entry("rec_2", content=b"said")
    others = entry("rec_3", content=b"said", tenant="other")
    for call in (waits, under_way, others):
        mine.open(call)
    mine.close(ended(waits))
    mine.close(ended(others))
    if whole:
        contents.forget_tenant("acme")
    else:
        assert contents.forget(tenant="acme") == 0
    mine.close(ended(under_way))
    later = entry("rec_4", content=b"said", began_ms=NOW_MS + 6)
    mine.open(later)
    mine.close(ended(later))
    if killed:
        crash(mine)
        mine = books(database, tmp_path)
        assert mine.recovered == (4, 0)
    mine.leave()
    kept = [contents.content(f"rec_{number}") for number in range(1, 5)]
    assert kept == [None, None, b"said", b"said"]
    lines = [Ledger(database).line(f"rec_{number}") for number in range(1, 5)]
    assert [bool(line and line.record.content_hash) for line in lines] == [False, False, True, True]
    assert Ledger(database).verify().ok


def test_a_content_that_is_written_while_its_tenant_is_forgotten_does_not_stay(
    database: Database, tmp_path: Path
) -> None:
    mine, contents = books(database, tmp_path), Contents(database, lambda: NOW_MS + 5)
    call = entry("rec_1", content=b"said")
    mine.open(call)
    mine.close(ended(call))
    calls = [mine._writer._call(item) for item in mine._queue]
    forgetting = threading.Thread(target=contents.forget_tenant, args=["acme"])
    with database.writing() as connection:
        recovery.entered(connection, calls, locked_head(connection))
        forgetting.start()
        forgetting.join(0.2)
        assert forgetting.is_alive()
    forgetting.join()
    assert contents.content("rec_1") is None
    mine._queue.clear()
    mine.leave()


def test_contents_in_a_journal_are_forgotten_by_age(database: Database, tmp_path: Path) -> None:
    mine, contents = books(database, tmp_path), Contents(database, lambda: NOW_MS + 5)
    calls = [entry(content=b"said", began_ms=NOW_MS + age_ms) for age_ms in (-1, 0)]
    for call in calls:
        mine.open(call)
        mine.close(ended(call))
    contents.forget(before_ms=NOW_MS)
    contents.forget(tenant="acme", before_ms=NOW_MS - 60_000)
    mine.leave()
    assert [contents.content(call.id) for call in calls] == [None, b"said"]


def test_odd_text_from_outside_stops_nothing(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    for model_used in ("a\x00b", "\ud800", "模型\U0001f600", "x" * 10_000):
        call = entry(tags='{"a":"\ud800"}' if model_used == "\ud800" else "{}")
        mine.open(call)
        mine.close(ended(call, model_used=model_used, tokens_out=40))
    for _ in range(2):
        with suppress(StoreError):
            mine.flush()
    mine.leave()
    assert Ledger(database).count() == 4 and Ledger(database).verify().ok


def test_what_waits_for_the_database_waits_in_the_journal_and_not_in_memory(
    database: Database, tmp_path: Path
) -> None:
    mine = books(database, tmp_path)
    ids = [f"rec_{number:06d}" for number in range(BEHIND + 500)]
    for id in ids:
        call = entry(id, content=b"kept" if id == ids[-1] else None)
        mine.open(call)
        mine.close(ended(call))
    assert not any(isinstance(item, Ended) for item in mine._queue) and mine.health().behind == len(ids)
    mine.leave()
    assert [line.record.id for line in Ledger(database).lines()] == ids
    assert Contents(database).content(ids[-1]) == b"kept"
    assert Ledger(database).verify().ok


def test_an_entry_closed_twice_is_one_record(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    call = entry("rec_1")
    mine.open(call)
    mine.close(ended(call))
    mine.close(call)
    with suppress(StoreError):
        mine.flush()
    mine.leave()
    assert Ledger(database).count() == 1 and Ledger(database).verify().ok


def test_whoever_waits_when_the_process_stops_is_told(database: Database, tmp_path: Path) -> None:
    mine = books(database, tmp_path)
    most = (charge(BUDGET, 100_000),)
    obtained(mine, most)
    call = entry("rec_1")
    mine.open(call)

    async def stopping() -> None:
        waiting = asyncio.ensure_future(mine.obtain(most, 60.0))
        await asyncio.sleep(0)
        await mine.stop()
        with pytest.raises(StoreError, match="is closed"):
            await waiting
        with pytest.raises(StoreError, match="is closed"):
            await mine.obtain(most, 60.0)

    asyncio.run(stopping())
    mine.close(ended(call))  # too late: nobody can say how it ended
    heir = books(database, tmp_path)
    assert heir.recovered == (0, 1)
    heir.leave()


# several processes, and those that are gone


def test_what_a_dead_process_left_becomes_records_and_its_leases_are_free(
    database: Database, tmp_path: Path
) -> None:
    dead = books(database, tmp_path)
    reserved = (charge(BUDGET, 5_000), charge(TOKENS, 800), charge(AT_ONCE, 1))
    calls = [entry(reserved=reserved, content=b"c") for _ in range(3)]
    for call in calls:
        obtained(dead, reserved)
        dead.open(call)
    dead.close(ended(calls[0]), charged(calls[0], reserved))
    dead.flush()
    dead.close(ended(calls[1]), charged(calls[1], reserved))
    crash(dead)
    heir = books(database, tmp_path)
    assert heir.recovered == (1, 1)
    ledger = Ledger(database)
    statuses = [ledger.line(call.id).record.status for call in calls]  # type: ignore[union-attr]
    assert statuses == ["ok", "ok", INTERRUPTED]
    lost = ledger.line(calls[2].id)
    assert lost is not None and lost.record.cost_micros is None and lost.record.unsure == 1
    assert (lost.record.charged_micros, lost.record.charged_tokens) == (5_000, 800)
    spent = 5_000 + sum(call.cost_micros or 0 for call in calls[:2])
    assert used(database) == {
        reserved[0].bucket: (spent, 0),
        reserved[1].bucket: (800 + 2 * 160, 0),
        reserved[2].bucket: (0, 0),
    }
    assert ledger.verify().ok
    assert Contents(database).content(calls[1].id) == b"c"
    assert books(database, tmp_path).recovered == (0, 0)
    heir.leave()


def test_a_living_process_is_not_declared_dead(database: Database, tmp_path: Path) -> None:
    one = books(database, tmp_path)
    obtained(one, (charge(BUDGET, 10),))
    two = books(database, tmp_path)
    assert used(database)[charge(BUDGET, 1).bucket][1] > 0
    one.leave()
    two.leave()


def test_a_silent_process_elsewhere_loses_its_leases_and_notices(database: Database, tmp_path: Path) -> None:
    far = books(database, tmp_path / "far")
    obtained(far, (charge(BUDGET, 10),))
    silent(database, 30_000)
    near = books(database, tmp_path / "near")
    assert used(database)[charge(BUDGET, 1).bucket][1] > 0
    near.leave()
    silent(database, 31_000)
    near = books(database, tmp_path / "near")
    assert used(database)[charge(BUDGET, 1).bucket][1] == 0
    far.flush()  # what it believed to have is gone; the call under way is not forgotten
    lease = far._meters.leases[charge(BUDGET, 1).bucket]
    assert (lease.amount, lease.taken) == (0, 10)
    obtained(far, (charge(BUDGET, 10),))
    far.leave()
    near.leave()


def test_machines_whose_clocks_are_apart_take_each_other_for_living(
    database: Database, tmp_path: Path
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("its processes share a machine, and its clock")
    far = books(database, tmp_path / "far")
    obtained(far, (charge(BUDGET, 10),))
    silent(database, 0)
    near = books(database, tmp_path / "near", Hands(NOW_MS + 3_600_000))
    assert used(database)[charge(BUDGET, 1).bucket][1] > 0
    far.leave()
    near.leave()


def test_who_is_heard_of_while_somebody_waits_to_declare_it_dead_lives(
    database: Database, tmp_path: Path
) -> None:
    far = books(database, tmp_path / "far")
    obtained(far, (charge(BUDGET, 10),))
    silent(database, 61_000)

    def heard() -> None:
        with database.writing() as connection:
            recovery.enrol(connection, far.holder, NOW_MS)

    locking = "BEGIN" if database.dialect == "sqlite" else "SELECT seq, chain FROM ledger_head"
    with meanwhile(database, locking, heard, when=2):  # first it enters itself
        near = books(database, tmp_path / "near")
    assert used(database)[charge(BUDGET, 1).bucket][1] > 0
    far.leave()
    near.leave()


def test_what_one_process_holds_and_does_not_need_is_had_by_another(
    database: Database, tmp_path: Path
) -> None:
    one, two = books(database, tmp_path), books(database, tmp_path)
    obtained(one, (charge(BUDGET, 10),))
    obtained(two, (charge(BUDGET, 99_000),), (one,), wait_s=10.0)
    assert sum(used(database)[charge(BUDGET, 1).bucket]) <= 100_000
    with pytest.raises(BudgetExceeded):
        obtained(one, (charge(BUDGET, 1_000),), (two,), wait_s=10.0)
    two.release((charge(BUDGET, 99_000),))
    obtained(one, (charge(BUDGET, 99_000),), (two,), wait_s=10.0)
    one.leave()
    two.leave()


@dataclass
class Slot:
    """One process of the machine below."""

    books: Books | None = None
    clock: Hands = field(default_factory=Hands)


@dataclass
class Held:
    """A reservation, and the call made with it."""

    slot: Slot
    owner: Books
    charges: tuple[Charge, ...]
    call: Entry | None = None


class Money(RuleBasedStateMachine):
    """Processes reserve, open, settle, release, crash and restart in any order; limits and Records always agree."""

    limits = (
        Limit(counts="cost", amount=1_000_000, window="month"),
        Limit(counts="tokens", amount=60_000, window="day"),
        CALLS,
        AT_ONCE,
    )

    def address(self) -> str:
        return f"sqlite:///{self.folder / 'baimo.db'}"

    @initialize()
    def begin(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bm-money-"))
        self.database = Database(self.address())
        self.slots = [Slot(), Slot(), Slot()]
        self.reserved: list[Held] = []
        self.under_way: list[Held] = []
        self.entries: dict[str, str] = {}
        """By id: open or closed."""
        self.numbers = itertools.count()

    @rule(
        slot=st.integers(0, 2),
        money=st.sampled_from((20_000, 300_000, 90_000, 700, 1)),
        tokens=st.sampled_from((500, 3_000, 1)),
        wait=st.booleans(),
        opens=st.booleans(),
    )
    def reserve(self, slot: int, money: int, tokens: int, wait: bool, opens: bool) -> None:
        mine = self.slots[slot].books
        if mine is None:
            mine = self.slots[slot].books = books(self.database, self.folder, self.slots[slot].clock)
        amounts = (money, tokens, 1, 1)
        charges = tuple(charge(limit, amount) for limit, amount in zip(self.limits, amounts, strict=True))
        if not mine.reserve(charges):
            others = tuple(each.books for each in self.slots if wait and each.books not in (None, mine))
            try:
                obtained(mine, charges, others, wait_s=4.0 if wait else 0.0)  # type: ignore[arg-type]
            except (BudgetExceeded, LimitReached):
                return
        held = Held(self.slots[slot], mine, charges)
        if opens:
            self._open(held)
        else:
            self.reserved.append(held)

    @precondition(lambda self: self.reserved)
    @rule(which=st.integers(0, 99), opens=st.booleans())
    def open_or_release(self, which: int, opens: bool) -> None:
        held = self.reserved.pop(which % len(self.reserved))
        if opens:
            self._open(held)
        else:
            held.owner.release(held.charges)

    @precondition(lambda self: self.under_way)
    @rule(which=st.integers(0, 99), share=st.sampled_from((1.0, 0.9, 0.3, 0.0)), flush=st.booleans())
    def settle(self, which: int, share: float, flush: bool) -> None:
        held = self.under_way.pop(which % len(self.under_way))
        assert held.call is not None
        call = ended(held.call, tokens_in=int(held.charges[1].amount * share), tokens_out=0)
        call.charged_micros = int(held.charges[0].amount * share)
        held.owner.close(call, charged(call, held.charges))
        self.entries[call.id] = "closed"
        if flush:
            held.owner.flush()

    @rule(slot=st.integers(0, 2), how=st.sampled_from(("flush", "crash", "stop")))
    def process(self, slot: int, how: str) -> None:
        mine = self.slots[slot].books
        if mine is None:
            return
        if how == "flush":
            mine.flush()
            return
        self.slots[slot].books = None
        self.reserved = [held for held in self.reserved if held.owner is not mine]
        self.under_way = [held for held in self.under_way if held.owner is not mine]
        if how == "crash":
            crash(mine)
        else:
            mine.leave()

    def _open(self, held: Held) -> None:
        held.call = entry(f"rec_{next(self.numbers):06d}", reserved=held.charges)
        held.owner.open(held.call)
        self.entries[held.call.id] = "open"
        self.under_way.append(held)

    @invariant()
    def no_limit_is_exceeded(self) -> None:
        if not hasattr(self, "database"):
            return
        limits = {charge(each, 0).bucket: each.amount for each in self.limits}
        for bucket, (use, held) in used(self.database).items():
            assert use + held <= limits[bucket], bucket

    @invariant()
    def nothing_stays_reserved_that_no_call_has(self) -> None:
        for slot in getattr(self, "slots", ()):
            if slot.books is None:
                continue
            taken: Counter[str] = Counter()
            for held in (*self.reserved, *self.under_way):
                if held.owner is slot.books:
                    taken.update({charge.bucket: charge.amount for charge in held.charges})
            for item in slot.books._queue:
                call = item if isinstance(item, Ended) else read_ending(slot.books._journal.read(item))
                taken.update({charge.bucket: charge.amount for charge in call.charged})
            assert {
                bucket: lease.taken for bucket, lease in slot.books._meters.leases.items() if lease.taken
            } == {bucket: amount for bucket, amount in taken.items() if amount}

    def teardown(self) -> None:
        if not hasattr(self, "database"):
            return
        for slot in self.slots:
            if slot.books is not None:
                slot.books.leave()
        last = books(self.database, self.folder)
        last.leave()
        assert all(held == 0 for _, held in used(self.database).values())
        ledger = Ledger(self.database)
        lines = {line.record.id: line.record for line in ledger.lines()}
        assert set(lines) == set(self.entries) and ledger.count() == len(lines)
        for id, state in self.entries.items():
            assert lines[id].status == ("ok" if state == "closed" else INTERRUPTED)
        findings = ledger.verify()
        assert findings.ok, [str(each) for each in findings.findings]
        assert not any((self.folder / "journal").iterdir())
        self.database.close()
        shutil.rmtree(self.folder)


@pytest.mark.postgres
def test_money_agrees_on_postgresql_too(postgres_server: str) -> None:
    psycopg = pytest.importorskip("psycopg")

    class OnPostgres(Money):
        def address(self) -> str:
            name = f"m{uuid.uuid4().hex}"
            with psycopg.connect(postgres_server, autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {name}")
            return postgres_server.rpartition("/")[0] + f"/{name}"

    run_state_machine_as_test(OnPostgres, settings=settings(max_examples=6, stateful_step_count=25))


TestMoney = Money.TestCase
TestMoney.settings = settings(max_examples=40, stateful_step_count=40)
