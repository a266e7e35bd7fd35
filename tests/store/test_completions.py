"""Stored completions among the contents: found once, read by their tenant, gone with their content."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from sqlalchemy import select

from baimo.core.moments import DAY_MS
from baimo.core.record import Record
from baimo.store import tables
from baimo.store.completions import StoredCompletion, StoredCompletions
from baimo.store.contents import Contents, Kept, put, sealed
from baimo.store.engine import Database
from baimo.store.ledger import Ledger
from baimo.store.store import Store
from tests.store.meeting import meanwhile

NOW = 1_800_000_000_000


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


def said(
    database: Database,
    number: int,
    *,
    tenant: str = "acme",
    surface: str = "chat",
    status: str = "ok",
    answer: bytes = b"",
    **facts: Any,
) -> None:
    """A call with its content, as the books write both."""
    request = {
        "model": "fast",
        "messages": [{"role": "user", "content": f"q{number}"}],
        "store": True,
        **facts,
    }
    whole = {"id": f"chatcmpl-{number}", "choices": [{"index": 0, "message": {"content": f"a{number}"}}]}
    row = {
        "surface": surface,
        "request": json.dumps(request).encode(),
        "answer": answer or json.dumps(whole).encode(),
    }
    kept = sealed(msgspec.msgpack.encode({**row, "cut": bool(facts.get("cut"))}))
    record = Record(
        id=f"rec_{number}",
        at_ms=NOW + number * 1000,
        surface=surface,
        model="v/m",
        asked="fast",
        tenant=tenant,
        status=status,
        content_hash=kept.hash,
    )
    Store(database).settle(record)
    with database.writing() as connection:
        put(connection, [Kept(record.id, tenant, record.at_ms, kept.hash, kept.stored)])


def ids(found: Iterator[StoredCompletion]) -> list[str]:
    return [one.id.removeprefix("chatcmpl-") for one in found]


def test_completions_are_found_as_they_come_and_each_once(database: Database) -> None:
    completions = StoredCompletions(database)
    assert ids(completions.walk("acme")) == []
    said(database, 1, metadata={"case": "a"})
    said(database, 2)
    assert ids(completions.walk("acme")) == ["1", "2"]
    said(database, 3)
    assert ids(completions.walk("acme")) == ids(completions.walk("acme")) == ["1", "2", "3"]
    one = completions.get("acme", "chatcmpl-1")
    assert one is not None and (one.model, one.labels, one.record) == ("fast", {"case": "a"}, "rec_1")
    assert (
        one.request["messages"][0]["content"] == "q1"
        and one.answer["choices"][0]["message"]["content"] == "a1"
    )


def streamed(*pieces: list[dict[str, Any]]) -> bytes:
    """A stream of tool calls' pieces, a list for each chunk."""
    chunks = [
        {"id": "chatcmpl-1", "choices": [{"index": 0, "delta": {"tool_calls": calls}}]} for calls in pieces
    ]
    return b"".join(b"data: " + msgspec.json.encode(chunk) + b"\n\n" for chunk in chunks)


def piece(index: int | None, id: str = "", name: str = "", arguments: str = "") -> dict[str, Any]:
    return {"index": index, "id": id, "function": {"name": name, "arguments": arguments}}


@pytest.mark.parametrize(
    "answer",
    [
        streamed([piece(0, "a", "f", "{")], [piece(0, "", "", "}")], [piece(1, "b", "g", "{}")]),
        streamed([piece(0, "a", "f", "{}")], [piece(0, "b", "g", "{}")]),  # Ollama numbers all calls 0
        streamed([piece(0, "a", "f", "{")], [piece(0, "x", "", "}")], [piece(1, "b", "g", "{}")]),
        streamed([piece(None, "a", "f", "{}"), piece(None, "b", "g", "{}")]),
        streamed([piece(1 << 60, "a", "f", "{}")], [piece(1 << 61, "b", "g", "{}")]),
    ],
)
def test_calls_of_a_stream_are_told_apart_whatever_their_numbers(database: Database, answer: bytes) -> None:
    said(database, 1, answer=answer)
    one = StoredCompletions(database).get("acme", "chatcmpl-1")
    assert one is not None
    calls = one.answer["choices"][0]["message"]["tool_calls"]
    assert [(call["id"], call["function"]) for call in calls] == [
        ("a", {"name": "f", "arguments": "{}"}),
        ("b", {"name": "g", "arguments": "{}"}),
    ]


@pytest.mark.parametrize(
    "answer",
    [
        b'data: {"id":"chatcmpl-1","choices":[{"index":[1],"delta":{}}]}\n\n',
        b'data: {"id":"chatcmpl-1","choices":["x"]}\n\n',
        b'data: {"id":"chatcmpl-1","choices":[{"delta":{"content":["a"]}},{"delta":{"content":"b"}}]}\n\n',
        b"data: []\n\n",
    ],
)
def test_a_stream_that_is_none_hides_no_other_completion(database: Database, answer: bytes) -> None:
    said(database, 1, answer=answer)
    said(database, 2)
    assert ids(StoredCompletions(database).walk("acme")) == ["2"]


def test_only_what_was_to_be_stored_and_answered_whole_is_one(database: Database) -> None:
    for number, facts in enumerate(
        ({"store": False}, {"surface": "responses"}, {"status": "gateway.fault"}, {"cut": True})
    ):
        said(database, number, **facts)
    assert ids(StoredCompletions(database).walk("acme")) == []


def test_completions_are_told_apart_by_tenant_label_model_and_time(database: Database) -> None:
    completions = StoredCompletions(database)
    for number in range(6):
        said(database, number, tenant="other" if number == 5 else "acme", metadata={"odd": str(number % 2)})
    assert ids(completions.walk("other")) == ["5"]
    assert completions.get("other", "chatcmpl-1") is None
    assert ids(completions.walk("acme", labels={"odd": "1"})) == ["1", "3"]
    assert ids(completions.walk("acme", model="slow")) == []
    assert ids(completions.walk("acme", after_s=NOW // 1000 + 2, before_s=NOW // 1000 + 3)) == ["2", "3"]
    assert ids(completions.walk("acme", after="chatcmpl-2")) == ["3", "4"]
    assert ids(completions.walk("acme", after="chatcmpl-2", ascending=False)) == ["1", "0"]


def test_labels_change_and_a_completion_goes_with_its_content(database: Database) -> None:
    completions = StoredCompletions(database)
    said(database, 1, metadata={"case": "a"})
    said(database, 2)
    assert completions.get("acme", "chatcmpl-1") is not None
    assert not completions.label("other", "chatcmpl-1", {})
    assert completions.label("acme", "chatcmpl-1", {"case": "b"})
    assert ids(completions.walk("acme", labels={"case": "b"})) == ["1"]
    Contents(database).forget(record="rec_1")
    assert completions.get("acme", "chatcmpl-1") is None and ids(completions.walk("acme")) == ["2"]
    assert left(database) == ["rec_2"]


def test_two_who_look_at_once_find_all_and_forget_no_label(database: Database) -> None:
    completions = StoredCompletions(database)
    said(database, 1, metadata={"case": "a"})

    def other() -> None:
        completions.look("acme")
        completions.label("acme", "chatcmpl-1", {"case": "b"})

    with meanwhile(database, "SELECT stored_completions.record", other) as told:
        completions.look("acme")
    assert told == [None]
    one = completions.get("acme", "chatcmpl-1")
    assert one is not None

    said(database, 2)
    with meanwhile(database, "INSERT INTO stored_completions_seen", other) as told:
        completions.look("acme")
    assert told == [None]
    one = completions.get("acme", "chatcmpl-1")
    assert one is not None and one.labels == {"case": "b"}


def test_a_line_that_comes_while_somebody_looks_keeps_its_labels(database: Database) -> None:
    completions = StoredCompletions(database)
    said(database, 1)

    def other() -> None:
        said(database, 2, metadata={"case": "a"})

    with meanwhile(database, "SELECT records.seq", other):
        completions.look("acme")
    labelled = completions.label("acme", "chatcmpl-2", {"case": "b"})
    assert [one.labels for one in completions.walk("acme")] == [{}, {"case": "b" if labelled else "a"}]


def left(database: Database) -> list[str]:
    """Records of which it is still known how they were labelled."""
    with database.reading() as connection:
        return sorted(connection.execute(select(tables.stored_completions.c.record)).scalars())


def test_labels_go_with_their_contents_whatever_takes_these_away(database: Database) -> None:
    completions, contents = StoredCompletions(database), Contents(database, lambda: NOW + 2 * DAY_MS)
    for number in range(6):
        said(database, number, metadata={"said": "a secret"}, tenant="acme" if number < 5 else "other")
    for tenant in ("acme", "other"):
        completions.look(tenant)
    Ledger(database).prune(NOW + 1000)
    assert left(database) == [f"rec_{number}" for number in range(1, 6)]
    contents.forget(before_ms=NOW + 2000)
    assert left(database) == [f"rec_{number}" for number in range(2, 6)]
    assert contents.expire(9, {"other": 1}) == 1
    assert left(database) == ["rec_2", "rec_3", "rec_4"]
    assert contents.forget(tenant="acme") == 3
    assert left(database) == []


def test_labels_that_are_looked_for_while_their_contents_are_deleted_do_not_stay(database: Database) -> None:
    class Slow(StoredCompletions):
        def _enter(self, tenant: str, rows: list[dict[str, Any]], before: int, seq: int) -> bool:
            Contents(database).forget(record="rec_1")
            return super()._enter(tenant, rows, before, seq)

    for number in (1, 2):
        said(database, number)
    Slow(database).look("acme")
    assert left(database) == ["rec_2"]
