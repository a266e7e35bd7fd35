"""The books under real processes: races for the last of a limit, `kill -9`, a database that is locked, a full disk."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import random
import resource
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from sqlalchemy import text

from baimo.core.record import INTERRUPTED
from baimo.core.tenant import Limit
from baimo.errors import BudgetExceeded, LimitReached, StoreError
from baimo.settings import LedgerSettings
from baimo.store.books import Books
from baimo.store.buckets import bucket_of
from baimo.store.chain import locked_head
from baimo.store.engine import Database
from baimo.store.entry import Charge
from baimo.store.ledger import Ledger
from tests.store.accounting import charge, charged, ended, entry
from tests.waiting import PATIENCE_S

CALLS = Limit(counts="requests", amount=100, window="total")
AT_ONCE = Limit(counts="concurrency", amount=1_000)
SPAWN = multiprocessing.get_context("spawn")


class Machine:
    """The machine's own time."""

    def now(self) -> float:
        return time.monotonic()

    def wall(self) -> float:
        return time.time()


def books(url: str, folder: Path) -> Books:
    return Books(Database(url), folder / "journal", LedgerSettings(), Machine(), segment_bytes=1 << 18)


def gone(mine: Books) -> None:
    mine.leave()
    mine._database.close()


def held(database: Database) -> int:
    with database.reading() as connection:
        return int(connection.execute(text("SELECT COALESCE(SUM(amount), 0) FROM leases")).scalar_one())


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    with closing(Database(database_url)) as opened:
        yield opened


# racing


def _race(
    url: str, folder: Path, who: int, most: int, outcome: multiprocessing.Queue[tuple[int, int]]
) -> None:
    budget = Limit(counts="cost", amount=10_000, window="total")
    mine = books(url, folder)
    granted = refused = 0

    async def client(number: int) -> None:
        nonlocal granted, refused
        reserved = (charge(budget, most), charge(CALLS, 1), charge(AT_ONCE, 1, scope="model", name="v/m"))
        for turn in range(100):
            if not mine.reserve(reserved):
                try:
                    await mine.obtain(reserved, 30.0)
                except (BudgetExceeded, LimitReached):
                    refused += 1
                    return
            granted += 1
            call = entry(f"rec_{who}_{number}_{turn}", reserved=reserved, began_ms=0)
            mine.open(call)
            await asyncio.sleep(random.random() * 0.01)
            mine.close(ended(call, charged_micros=100), charged(call, reserved))

    async def run() -> None:
        await mine.start()
        await asyncio.gather(*(client(number) for number in range(40)))
        await mine.stop()

    asyncio.run(run())
    outcome.put((granted, refused))


@pytest.mark.parametrize(("most", "expected"), [(100, 100), (250, 98)])
def test_two_processes_that_race_for_a_limit_use_all_of_it_and_no_more(
    database_url: str, database: Database, tmp_path: Path, most: int, expected: int
) -> None:
    outcome: multiprocessing.Queue[tuple[int, int]] = SPAWN.Queue()
    racers = [
        SPAWN.Process(target=_race, args=(database_url, tmp_path, who, most, outcome)) for who in range(2)
    ]
    for racer in racers:
        racer.start()
    results = [outcome.get(timeout=PATIENCE_S) for _ in racers]
    for racer in racers:
        racer.join(PATIENCE_S)
    # 10,000 at 100 each: a call that may take 250 fits as long as 9,750 or less are used
    assert sum(granted for granted, _ in results) == expected
    assert sum(refused for _, refused in results) == 80
    ledger = Ledger(database)
    assert ledger.count() == expected and held(database) == 0
    findings = ledger.verify()
    assert findings.ok, [str(each) for each in findings.findings]
    with database.reading() as connection:
        uses = dict(connection.execute(text("SELECT bucket, used FROM meters")).all())  # type: ignore[arg-type]
    assert uses["key:k1:cost:total:"] == expected * 100
    assert uses["key:k1:requests:total:"] == expected


# dying


def _serve(url: str, folder: Path, log: Path, durable: bool) -> None:
    wide = Limit(counts="cost", amount=10**12, window="total")
    mine = books(url, folder)

    async def client(number: int) -> None:
        reserved = (charge(wide, 10_000),)
        turn = 0
        while True:
            if not mine.reserve(reserved):
                await mine.obtain(reserved, 30.0)
            call = entry(f"rec_{os.getpid()}_{number}_{turn}", reserved=reserved, began_ms=0)
            mine.open(call)
            os.write(told, f"open {call.id}\n".encode())
            await asyncio.sleep(random.random() * 0.005)
            mine.close(ended(call), charged(call, reserved))
            if durable:
                await mine.durable()
            os.write(told, f"closed {call.id}\n".encode())
            turn += 1

    async def run() -> None:
        await mine.start()
        await asyncio.gather(*(client(number) for number in range(20)))

    told = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    asyncio.run(run())


@pytest.mark.parametrize("durable", [False, True])
def test_killed_at_random_moments_every_call_is_accounted_for(
    database_url: str, database: Database, tmp_path: Path, durable: bool
) -> None:
    picked = random.Random(3)
    told: dict[str, str] = {}
    for turn in range(4):
        log = tmp_path / f"log{turn}"
        process = SPAWN.Process(target=_serve, args=(database_url, tmp_path, log, durable))
        process.start()
        for _ in range(1_000):
            if log.exists() and log.stat().st_size > 4_000:
                break
            time.sleep(0.01)
        time.sleep(picked.random() * 0.2)
        assert process.pid is not None and process.is_alive()
        os.kill(process.pid, signal.SIGKILL)
        process.join(PATIENCE_S)
        for line in log.read_text().splitlines():
            kind, _, id = line.partition(" ")
            told[id] = kind
    heir = books(database_url, tmp_path)
    gone(heir)
    ledger = Ledger(database)
    lines = {line.record.id: line.record for line in ledger.lines()}
    assert set(told) <= set(lines)
    assert all(lines[id].status == "ok" for id, state in told.items() if state == "closed")
    # a process may die between the journal and our log of it
    odd = [
        id for id, record in lines.items() if told.get(id) != ("closed" if record.status == "ok" else "open")
    ]
    assert len(odd) <= 4 * 20
    assert any(record.status == INTERRUPTED for record in lines.values())
    assert held(database) == 0
    findings = ledger.verify()
    assert findings.ok, [str(each) for each in findings.findings]


# trouble


def test_while_the_database_is_locked_calls_go_on_and_reach_it_later(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'baimo.db'}"
    mine = books(url, tmp_path)
    wide = Limit(counts="cost", amount=10**9, window="total")
    some = (charge(wide, 1_000),)

    async def run() -> None:
        await mine.start()
        await mine.obtain(some, 5.0)
        locker = sqlite3.connect(tmp_path / "baimo.db", isolation_level=None)
        locker.execute("BEGIN IMMEDIATE")
        for number in range(50):
            reserved = some if number == 0 else ()
            call = entry(f"rec_{number:03d}", reserved=reserved, began_ms=0)
            mine.open(call)
            mine.close(ended(call), charged(call, reserved))
        await mine.durable()  # the journal is not the database
        with pytest.raises(StoreError):  # no lease, and nobody can say whether it fits: it does not
            await mine.obtain((charge(wide, 10, name="k2"),), 0.1)
        health = mine.health()
        assert not health.ok and health.since_ms and "locked" in health.problem and health.behind == 50
        locker.execute("ROLLBACK")
        locker.close()
        for _ in range(1_000):
            if mine.health().ok and not mine.health().behind:
                break
            await asyncio.sleep(0.01)
        assert mine.health().ok and mine.health().problem == ""
        await mine.obtain((charge(wide, 10, name="k2"),), 5.0)
        await mine.stop()

    asyncio.run(run())
    mine._database.close()
    with closing(Database(url)) as database:
        assert [line.record.id for line in Ledger(database).lines()] == [f"rec_{n:03d}" for n in range(50)]
        assert Ledger(database).verify().ok


def test_what_could_not_be_moved_when_stopping_is_found_by_the_next_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'baimo.db'}"
    mine = books(url, tmp_path)
    locker = sqlite3.connect(tmp_path / "baimo.db", isolation_level=None)
    locker.execute("BEGIN IMMEDIATE")
    call = entry("rec_1", began_ms=0)
    mine.open(call)
    mine.close(ended(call))
    mine.open(entry("rec_2", began_ms=0))
    gone(mine)
    locker.execute("ROLLBACK")
    locker.close()
    heir = books(url, tmp_path)
    assert heir.recovered == (1, 1)
    gone(heir)
    with closing(Database(url)) as database:
        assert Ledger(database).count() == 2 and Ledger(database).verify().ok


def _on_a_full_disk(url: str, folder: Path, outcome: multiprocessing.Queue[object]) -> None:
    mine = books(url, folder)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 15, resource.RLIM_INFINITY))
    begun = []
    with suppress(StoreError):
        while True:
            call = entry(f"rec_{len(begun):05d}", began_ms=0)
            mine.open(call)
            begun.append(call)
    for call in begun:
        mine.close(ended(call))
    outcome.put(len(begun))
    try:
        mine.flush()
    except StoreError as error:
        outcome.put(error.key)
    outcome.close()
    outcome.join_thread()
    os._exit(0)


def test_on_a_full_disk_calls_are_refused_and_those_that_began_are_kept(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'baimo.db'}"
    Database(url).close()
    outcome: multiprocessing.Queue[object] = SPAWN.Queue()
    process = SPAWN.Process(target=_on_a_full_disk, args=(url, tmp_path, outcome))
    process.start()
    begun = outcome.get(timeout=PATIENCE_S)
    assert isinstance(begun, int) and begun > 10
    assert str(outcome.get(timeout=PATIENCE_S)).startswith("store.")
    process.join(PATIENCE_S)
    heir = books(url, tmp_path)  # there is room again
    gone(heir)
    with closing(Database(url)) as database:
        assert Ledger(database).count() == begun and Ledger(database).verify().ok


def test_the_writer_survives_an_unreachable_postgres(postgres_server: str, tmp_path: Path) -> None:
    import psycopg

    name = f"gone{os.getpid()}"
    with psycopg.connect(postgres_server, autocommit=True) as admin:
        admin.execute(f"CREATE DATABASE {name}")  # type: ignore[arg-type]
    url = postgres_server.rpartition("/")[0] + f"/{name}"
    mine = books(url, tmp_path)

    async def run() -> None:
        await mine.start()
        for number in range(20):
            call = entry(f"rec_{number}", began_ms=0)
            mine.open(call)
            mine.close(ended(call))
            if number == 10:
                with psycopg.connect(postgres_server, autocommit=True) as admin:
                    admin.execute(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (name,)
                    )
            await asyncio.sleep(0.01)
        await mine.stop()

    asyncio.run(run())
    mine._database.close()
    with closing(Database(url)) as database:
        assert Ledger(database).count() == 20 and Ledger(database).verify().ok


def test_durable_returns_after_what_was_closed_before_is_on_disk(database: Database, tmp_path: Path) -> None:
    synced: list[int] = []
    mine = Books(database, tmp_path / "journal", LedgerSettings(), Machine())

    async def run() -> None:
        calls = [entry(began_ms=0) for _ in range(50)]
        for call in calls:
            mine.open(call)
            mine.close(ended(call))
        await asyncio.gather(*(mine.durable() for _ in calls))
        synced.append(sum(segment.end - segment.synced for segment in mine._journal._segments))
        await mine.stop()
        with pytest.raises(StoreError):
            await mine.durable()

    asyncio.run(run())
    assert synced == [0]


def test_a_concurrency_limit_counts_calls_under_way(database: Database, tmp_path: Path) -> None:
    mine = Books(database, tmp_path / "journal", LedgerSettings(), Machine())
    three = Limit(counts="concurrency", amount=3)
    most = most_seen = 0

    async def client() -> None:
        nonlocal most, most_seen
        reserved = (Charge(bucket_of("key", "k1", three, 0), 3, 1),)
        for _ in range(5):
            if not mine.reserve(reserved):
                await mine.obtain(reserved, 30.0)
            most += 1
            most_seen = max(most_seen, most)
            call = entry(reserved=reserved, began_ms=0)
            mine.open(call)
            await asyncio.sleep(0.001)
            most -= 1
            mine.close(ended(call), charged(call, reserved))

    async def run() -> None:
        await mine.start()
        await asyncio.gather(*(client() for _ in range(12)))
        await mine.stop()

    asyncio.run(run())
    assert most_seen == 3 and Ledger(database).count() == 60 and held(database) == 0


def test_a_database_that_says_nothing_is_not_waited_for_for_ever(database: Database, tmp_path: Path) -> None:
    # its writer is never started
    mine = Books(database, tmp_path / "journal", LedgerSettings(), Machine(), patience_s=0.05)

    async def run() -> None:
        with pytest.raises(StoreError, match="did not answer in time"):
            await mine.obtain((charge(CALLS, 1),), 0.0)

    asyncio.run(run())
    assert not mine._meters.waits
    mine.leave()


def test_a_locked_postgres_is_named_as_such(postgres_server: str) -> None:
    with closing(Database(postgres_server)) as database, database.writing() as first:
        locked_head(first)
        with (
            pytest.raises(StoreError, match="locked by another process"),
            database.writing(wait_ms=50) as second,
        ):
            locked_head(second)


def test_a_crowd_of_calls_reaches_the_ledger_although_fewer_transactions_carry_it(
    database_url: str, tmp_path: Path
) -> None:
    mine = books(database_url, tmp_path)

    async def crowded() -> None:
        await mine.start()
        for _ in range(300):  # in far less than one flush_ms: more than one transaction is worth
            call = entry()
            mine.open(call)
            mine.close(ended(call))
        for _ in range(1_000):
            if not mine.health().behind:
                break
            await asyncio.sleep(0.01)
        assert Ledger(mine._database).count() == 300 and mine.health().ok
        await mine.stop()

    asyncio.run(crowded())
    assert Ledger(mine._database).verify().ok
    mine._database.close()
