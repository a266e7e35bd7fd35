"""The store keeps what it is given, on SQLite and PostgreSQL alike."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import time
import uuid
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import inspect, text

from baimo.core.call import Completion, JsonFormat, Request, Sampling, TokenLogprob, Usage
from baimo.core.ids import digest
from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.core.money import Price
from baimo.core.record import Record
from baimo.core.run import Run, Sample, Score, StoredAnswer
from baimo.errors import StoreError, TaskError, UsageError
from baimo.store import migrations, tables
from baimo.store.accounts import raise_revision
from baimo.store.contents import Contents
from baimo.store.engine import Database
from baimo.store.store import Spend, Store
from tests.conftest import made
from tests.store.meeting import meanwhile
from tests.waiting import PATIENCE_S

PRICE = Price(input_per_million=Decimal("2.5"), output_per_million=Decimal(10))


@pytest.fixture
def store(database_url: str) -> Iterator[Store]:
    with closing(Store(Database(database_url))) as opened:
        yield opened


def request(words: str = "hello") -> Request:
    return Request(
        model="m",
        messages=(
            Message(role="system", content="be brief"),
            Message(
                role="user", content=(Part(kind="text", data=words), Part(kind="image_url", data="data:,"))
            ),
        ),
        sampling=Sampling(temperature=0.0, stop=("\n",)),
        tools=(Tool(name="f", parameters={"type": "object", "properties": {"a": {"enum": [1, None]}}}),),
        response_format=JsonFormat(schema={"type": "object"}),
    )


def bought(words: str = "hello", price_micros: int | None = 17) -> StoredAnswer:
    asked = request(words)
    completion = Completion(
        text="你好\x00"[:2],
        tool_calls=(ToolCall(id="1", name="f", arguments="{"),),
        finish_reason="stop",
        usage=Usage(tokens_in=3, tokens_out=2),
        logprobs=(TokenLogprob(token="你", logprob=-0.5, top=(("你", -0.5), ("您", -1.0))),),
        latency_ms=12.5,
    )
    return StoredAnswer(
        hash=digest(asked),
        request=asked,
        completion=completion,
        price_micros=price_micros,
        currency="CNY",
        created_ms=5,
    )


def record(id: str, cost_micros: int | None = 17, **changes: object) -> Record:
    values = {"at_ms": 5, "surface": "compare", "model": "v/m", "currency": "CNY", "cost_micros": cost_micros}
    return Record(id=id, usage=Usage(tokens_in=3, tokens_out=2), tags={"a": "b"}, **(values | changes))


def run(id: str = "run_1", **changes: object) -> Run:
    values = {
        "task": "t",
        "task_hash": "h",
        "options": {"epsilon": 0.01},
        "candidates": ({"name": "a"},),
        "config_hash": "c",
        "seed": 7,
        "started_ms": 1,
        "version": "0",
    }
    return Run(id=id, **(values | changes))


def test_an_answer_comes_back_exactly_as_it_was_bought(store: Store) -> None:
    answer = bought()
    store.settle(record("rec_1"), answer)
    assert store.answer(answer.hash) == answer
    assert store.answers([answer.hash, "other"]) == {answer.hash: answer}
    assert list(store.records()) == [record("rec_1")]


def test_a_price_that_is_not_known_stays_unknown(store: Store) -> None:
    store.settle(record("rec_1", cost_micros=None), bought(price_micros=None))
    store.settle(record("rec_2", cost_micros=5))
    answer = store.answer(bought().hash)
    assert answer is not None and answer.price_micros is None
    assert store.spend() == [Spend("v/m", "CNY", 2, 1, 5, 6, 4)]


def test_the_first_bought_answer_stays_when_another_process_buys_it_again(store: Store) -> None:
    store.settle(record("rec_1"), bought(price_micros=1))
    store.settle(record("rec_2"), bought(price_micros=2))
    answer = store.answer(bought().hash)
    assert answer is not None and answer.price_micros == 1
    assert len(list(store.records())) == 2  # both were paid for, so both are in the ledger


def test_a_record_and_its_answer_are_written_together_or_not_at_all(store: Store) -> None:
    store.settle(record("rec_1"), bought("one"))
    with pytest.raises(StoreError):
        store.settle(record("rec_1"), bought("two"))
    assert store.answer(bought("two").hash) is None


def test_runs_are_listed_newest_first_and_end_with_their_status(store: Store) -> None:
    store.begin(run("run_1", started_ms=1))
    store.begin(run("run_2", started_ms=2))
    store.finish(run("run_1", status="done", ended_ms=9), None)
    assert [(each.id, each.status) for each in store.runs("t")] == [("run_2", "running"), ("run_1", "done")]
    assert store.run("run_1") == run("run_1", status="done", ended_ms=9)
    assert store.run("run_0") is None and store.verdict("run_1") is None


def test_samples_keep_their_order_and_the_newest_judgement(store: Store) -> None:
    def sample(example: str, lenient: float) -> Sample:
        return Sample(candidate="a", example=example, request_hash="h", score=Score.of(lenient, field="x"))

    store.begin(run())
    store.add_samples("run_1", [sample("e2", 1.0), sample("e1", 0.0)], first_position=0)
    store.add_samples("run_1", [sample("e1", 0.5)], first_position=1)
    assert store.samples("run_1") == [sample("e2", 1.0), sample("e1", 0.5)]


def test_blobs_are_kept_under_their_own_hash(store: Store) -> None:
    hash = sha256(b"\x00\xff").hexdigest()
    for id in ("run_1", "run_2"):
        store.begin(run(id, task_blob=hash), b"\x00\xff")
    assert store.blob(hash) == b"\x00\xff" and store.blob("none") is None


def test_a_comparison_is_forgotten_with_its_task_and_nothing_is_added_to_it_afterwards(store: Store) -> None:
    for id, tenant, blob in (("run_1", "acme", "own"), ("run_2", "acme", "both"), ("run_3", "other", "both")):
        store.begin(run(id, tenant=tenant, task_blob=blob), b"{}")
    said = Sample(candidate="a", example="e", request_hash="h", score=Score.of(1.0, field="x"))
    gone = Contents(store.database, lambda: 7).forget_tenant("acme")
    assert (gone["runs"], gone["blobs"]) == (2, 1)
    with pytest.raises(UsageError):  # who still works on it has nothing more to do
        store.add_samples("run_1", [said], first_position=0)
    store.settle(record("rec_1", run="run_1", tenant="acme"), bought("one"))
    store.settle(record("rec_2", run="run_3", tenant="other"), bought("two"))
    assert store.samples("run_1") == []
    assert store.answer(bought("one").hash) is None and store.answer(bought("two").hash) is not None
    assert [one.id for one in store.records()] == ["rec_1", "rec_2"]
    with pytest.raises(TaskError):  # it was being prepared at that moment
        store.begin(run("run_4", tenant="acme", task_blob="own", started_ms=7), b"{}")
    store.begin(run("run_5", tenant="acme", task_blob="new", started_ms=8), b"{}")
    assert [store.blob(hash) for hash in ("own", "both", "new")] == [None, b"{}", b"{}"]


def test_the_tables_that_queries_use_are_those_that_the_migrations_make(empty_url: str) -> None:
    with closing(Database(empty_url)) as database, database.reading() as connection:
        seen = inspect(connection)
        for table in tables.metadata.sorted_tables:
            columns = {column["name"]: column["nullable"] for column in seen.get_columns(table.name)}
            assert set(columns) == set(table.columns.keys())
            key = seen.get_pk_constraint(table.name)["constrained_columns"]
            assert key == [column.name for column in table.primary_key]


def test_opening_a_current_store_applies_nothing(store: Store) -> None:
    with store.database.writing() as connection:
        assert migrations.migrate(connection) == []


def test_a_store_of_a_newer_version_is_refused(store: Store) -> None:
    with store.database.writing() as connection:
        connection.execute(text("INSERT INTO migrations VALUES ('9999_future', 'x', 0)"))
    with pytest.raises(StoreError, match="9999_future"):
        Database(store.database.url.render_as_string(hide_password=False))


def _write_many(url: str, who: int, count: int) -> None:
    store = Store(Database(url))
    for number in range(count):
        store.settle(record(f"rec_{who}_{number}"), bought(f"{who} {number}"))
    store.close()


def test_two_processes_write_to_one_store_at_once(empty_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    writers = [spawn.Process(target=_write_many, args=(empty_url, who, 60)) for who in range(2)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(PATIENCE_S)
    assert [writer.exitcode for writer in writers] == [0, 0]
    with closing(Store(Database(empty_url))) as store:
        assert len(list(store.records())) == 120
        hashes = [bought(f"{who} {number}").hash for who in range(2) for number in range(60)]
        assert len(store.answers(hashes)) == 120


def test_what_was_written_survives_a_killed_process(database_url: str) -> None:
    spawn = multiprocessing.get_context("spawn")
    writer = spawn.Process(target=_write_many, args=(database_url, 0, 100_000))
    store = Store(Database(database_url))
    writer.start()
    assert writer.pid is not None
    for _ in range(3600):
        if len(list(store.records())) > 20:
            break
        time.sleep(0.05)
    os.kill(writer.pid, signal.SIGKILL)
    writer.join(PATIENCE_S)
    records = list(store.records())
    assert len(records) > 20
    numbers = sorted(int(each.id.rpartition("_")[2]) for each in records)
    assert numbers == list(range(len(records)))  # nothing in the middle is lost
    assert len(store.answers(bought(f"0 {number}").hash for number in numbers)) == len(records)
    store.close()


def test_a_damaged_file_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "baimo.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(StoreError, match=r"baimo\.db is damaged") as caught:
        Database(str(path))
    assert "backup" in caught.value.hint


def test_a_full_disk_is_named_as_such_and_loses_nothing(tmp_path: Path) -> None:
    store = Store(Database(str(tmp_path / "baimo.db")))
    store.settle(record("rec_1"), bought("one"))

    def cap(connection: sqlite3.Connection, *_: object) -> None:
        connection.execute("PRAGMA max_page_count=40").close()  # what the file system does when it is full

    from sqlalchemy import event

    event.listen(store.database._engine, "checkout", cap)
    with pytest.raises(StoreError, match="disk is full"):
        for number in range(10_000):
            store.settle(record(f"rec_x{number}"), bought("x" * 1000 + str(number)))
    assert store.answer(bought("one").hash) == bought("one")
    store.close()


def test_a_path_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be made"):
        Database(str(tmp_path / "file" / "sub" / "baimo.db"))


def test_an_unreachable_postgres_is_named_without_its_password() -> None:
    pytest.importorskip("psycopg")
    with pytest.raises(StoreError, match="does not answer") as caught:
        Database("postgresql://someone:hunter2@127.0.0.1:1/none")
    assert "hunter2" not in str(caught.value) + caught.value.hint


@pytest.fixture
def postgres_url(request: pytest.FixtureRequest) -> str:
    copied = request.getfixturevalue("migrated")
    return made(request.getfixturevalue("postgres_server"), f"t{uuid.uuid4().hex}", f"TEMPLATE {copied}")


def raised(database: Database, name: str = "x") -> None:
    with database.writing() as connection:
        raise_revision(connection, name)


@pytest.mark.postgres
def test_a_server_that_has_become_a_copy_is_left_for_the_one_that_has_not(
    postgres_url: str, postgres_server: str
) -> None:
    import psycopg

    with psycopg.connect(postgres_server, autocommit=True) as server:
        name = postgres_url.rpartition("/")[2]
        server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # type: ignore[arg-type]
        with closing(Database(postgres_url)) as database:
            server.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")  # type: ignore[arg-type]
            with pytest.raises(StoreError) as refused:
                raised(database)
            assert refused.value.key == "store.read_only"
            raised(database)  # by a new connection


@pytest.mark.postgres
def test_a_connection_that_the_server_ends_is_named_and_the_next_one_works(postgres_url: str) -> None:
    with closing(Database(postgres_url)) as database:
        end = text("SELECT pg_terminate_backend(:pid)")
        with pytest.raises(StoreError) as lost, database.writing() as connection:
            pid = connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            with database.reading() as other:
                other.execute(end, {"pid": pid})
            connection.execute(text("SELECT 1"))
        assert lost.value.key == "store.unreachable"
        raised(database)


@pytest.mark.postgres
def test_two_who_wait_for_each_other_are_told_that_the_other_was_first(postgres_url: str) -> None:
    with closing(Database(postgres_url)) as database:

        def backwards() -> None:
            with database.writing() as connection:
                raise_revision(connection, "b")
                raise_revision(connection, "a")

        def forwards() -> None:
            with database.writing() as connection:
                raise_revision(connection, "a")
                raise_revision(connection, "b")

        with meanwhile(database, "INSERT INTO revisions", backwards, when=2) as said:
            try:
                forwards()
            except StoreError as error:
                first = [error]
            else:
                first = []
        assert [error.key for error in (*first, *said) if error is not None] == ["store.locked"]


@pytest.mark.postgres
def test_nobody_waits_for_ever_for_a_machine_that_is_gone(postgres_url: str) -> None:
    with closing(Database(f"{postgres_url}?connect_timeout=3")) as database:
        raised(database)
        with database.reading() as connection:
            for name, value in (("lock_timeout", "30s"), ("idle_in_transaction_session_timeout", "1min")):
                assert connection.execute(text(f"SHOW {name}")).scalar_one() == value
            driver: Any = connection.connection.dbapi_connection
            link = driver.info.get_parameters()
    assert link["connect_timeout"] == "3" and link["tcp_user_timeout"] == "30000"
