"""However a call ends: one Record, nothing left reserved, and the connection given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from baimo.core.call import Delta
from baimo.core.tenant import Key, Limit, Tenant
from baimo.errors import BadReply, RateLimited, RequestRefused, StoreError, Unreachable
from baimo.providers.faults import Place, fault
from baimo.store.entries import opening, read_opening
from baimo.store.entry import Entry
from baimo.store.lines import PLACE
from tests.gateway.doubles import (
    CHAT,
    DONE,
    EVENTS,
    USAGE,
    House,
    MemoryBooks,
    RecordingReply,
    Script,
    ScriptedProvider,
    answer,
    asking,
    cancelled_at,
    chunk,
    completion,
    deltas,
    key,
    stream,
)

LIMITED = key(
    Limit(counts="cost", amount=10_000, window="month"),
    Limit(counts="requests", amount=100, window="minute"),
    Limit(counts="concurrency", amount=5),
)

WAYS: dict[str, Callable[[], House]] = {
    "passed whole": lambda: House(Script(body=answer()), key=LIMITED),
    "passed stream": lambda: House(stream("a", "b"), key=LIMITED),
    "told whole": lambda: House(providers={"home": ScriptedProvider(completion())}, key=LIMITED),
    "told stream": lambda: House(providers={"home": ScriptedProvider(deltas("a", "b"))}, key=LIMITED),
}


def question(way: str) -> dict[str, Any]:
    name = "acme/one" if way.startswith("passed") else "home/small"
    return asking(name, stream=True) if way.endswith("stream") else asking(name)


class JournalBooks(MemoryBooks):
    """Also what the journal has of a call that is under way."""

    def open(self, entry: Entry) -> None:
        super().open(entry)
        self.payload = opening(entry)


@pytest.mark.parametrize("payer", [key(), LIMITED])
def test_a_call_whose_process_dies_is_charged_the_most_with_limits_and_without(payer: Key) -> None:
    books = JournalBooks()
    house = House(Script(body=answer()), books=books, key=payer)
    house.ask(asking())
    row = read_opening(books.payload, books.now_ms()).row
    peek = CHAT.peek(msgspec.json.encode(asking()), {})
    assert row[PLACE["charged_tokens"]] == peek.text_bytes + 100
    assert row[PLACE["charged_micros"]] == peek.text_bytes + 200
    assert (row[PLACE["cost_micros"]], house.record.charged_micros) == (None, 20)


@pytest.mark.parametrize("way", WAYS)
def test_an_answered_call_has_a_record_that_says_what_it_took_and_cost(way: str) -> None:
    house = WAYS[way]()
    reply = house.ask(question(way))
    record = house.record
    assert (reply.status, reply.ended, reply.aborted) == (200, True, False)
    assert (record.status, record.http_status, record.streamed) == ("ok", 200, way.endswith("stream"))
    assert (record.tokens_in, record.tokens_out, record.cost_micros, record.cost_rest) == (10, 5, 20, 0)
    assert (record.charged_micros, record.charged_tokens, record.unsure, record.attempts) == (20, 15, 0, 1)
    assert record.latency_ms is not None and record.first_byte_ms is not None
    assert record.latency_ms >= record.first_byte_ms >= 0
    assert {name.split(":")[2]: used for name, used in house.books.used.items()} == {
        "cost": 20,
        "requests": 1,
        "concurrency": 0,
    }


@pytest.mark.parametrize("way", WAYS)
def test_streams_are_held_up_by_no_proxy_on_the_way(way: str) -> None:
    said = WAYS[way]().ask(question(way)).headers
    streamed = ("no-cache", "no") if way.endswith("stream") else (None, None)
    assert (said.get("cache-control"), said.get("x-accel-buffering")) == streamed


@pytest.mark.parametrize("count", [1 << 28, (1 << 31) - 1, 1 << 63, (1 << 64) - 1, 10**30])
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens", "total_tokens"])
@pytest.mark.parametrize("streamed", [False, True])
def test_a_count_that_no_answer_can_have_is_unknown(name: str, count: int, streamed: bool) -> None:
    told = b'"%s":%d' % (
        name.encode(),
        {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}[name],
    )
    script = stream("a") if streamed else Script(body=answer())
    script.body = script.body.replace(told, b'"%s":%d' % (name.encode(), count))
    script.pieces = [
        one.replace(told, b'"%s":%d' % (name.encode(), count))
        for one in script.pieces
        if isinstance(one, bytes)
    ]
    house = House(script, key=LIMITED)
    assert house.ask(asking(stream=streamed)).status == 200
    record = house.record
    assert record.status == "ok"
    assert max(record.tokens_in or 0, record.tokens_out or 0) <= 10
    if record.cost_micros is None:  # the most that it may have cost by what is known of the model
        assert record.charged_micros == max(
            used for name, used in house.books.used.items() if ":cost:" in name
        )
        assert 200 < record.charged_micros < 1_000
    else:  # the sum alone was wrong
        assert (name, record.charged_micros) == ("total_tokens", 20)


@pytest.mark.parametrize("leaves", [True, False])
@pytest.mark.parametrize("durability", ["batch", "answer"])
@pytest.mark.parametrize("way", WAYS)
def test_a_call_cancelled_at_any_point_has_exactly_one_record(
    way: str, durability: str, leaves: bool
) -> None:
    seen: set[str] = set()
    cut = "gateway.client_gone" if leaves else "gateway.stopping"
    for suspension in range(1, 60):
        house = WAYS[way]()
        house = House(
            *house.pool.scripts,
            providers=house.providers,
            key=LIMITED,
            config={"ledger": {"durability": durability}},
        )
        reply = RecordingReply(slow=True)

        async def run(house: House = house, reply: RecordingReply = reply, at: int = suspension) -> bool:
            work = house.gateway.serve(house.call(question(way), reply=reply))
            return await cancelled_at(work, at, reply if leaves else None)

        reached = asyncio.run(run())
        record = house.record
        seen.add(record.status)
        assert house.gateway.in_flight == 0
        if record.status == cut:
            assert record.http_status == (499 if leaves else reply.status)
            charged = sum(used for name, used in house.books.used.items() if ":cost:" in name)
            assert record.charged_micros == charged
            if record.cost_micros is None:  # nobody knows what it cost: the most that it may have is charged
                assert (record.unsure, charged > 20) == (1, True)
            else:  # its usage had come
                assert (record.unsure, charged, record.cost_micros) == (0, 20, 20)
        if reached and not leaves:
            told = b"this endpoint is stopping" in reply.body
            assert (
                (reply.status, reply.ended, reply.aborted) == (200, True, True)
                if reply.started
                else (told and (reply.status, reply.headers["retry-after"]) == (503, "1"))
            )
            assert told or record.status == "ok"
        assert all(exchange.closed for exchange in house.pool.exchanges if record.status != "ok")
        if not reached:
            assert (record.status, reply.status, reply.ended) == ("ok", 200, True)
            break
    else:
        pytest.fail("it never came to its end")
    assert seen == {"ok", cut}


def test_a_line_of_a_batch_that_is_broken_off_gets_no_answer_for_it_is_asked_again() -> None:
    house = House(Script(body=answer()), key=LIMITED)
    reply = RecordingReply()
    call = house.call(reply=reply)
    call.batch = "batch_1"

    async def run() -> bool:
        return await cancelled_at(house.gateway.serve(call), 1)

    assert asyncio.run(run())
    assert (reply.status, house.record.status, house.record.http_status) == (None, "gateway.stopping", 503)


def test_a_client_that_leaves_while_it_waits_for_a_limit_was_never_admitted() -> None:
    house = House(Script(body=answer()), key=key(Limit(counts="requests", amount=1)))
    house.books.used["key:abcdef123456:requests:total:"] = 1

    async def run() -> bool:
        return await cancelled_at(house.gateway.serve(house.call()), 1)

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(_raising(house))
    assert house.books.records == []
    house.books.settled()


async def _raising(house: House) -> None:
    task = asyncio.ensure_future(house.gateway.serve(house.call()))
    await asyncio.sleep(0)
    task.cancel()
    await task


FAULTS: dict[str, tuple[Exception, int, str, int]] = {
    "no connection": (
        Unreachable("wire.refused", sent=False, stage="connect", host="h", problem="x"),
        502,
        "wire.refused",
        0,
    ),
    "no answer in time": (
        Unreachable("wire.first_byte_timeout", sent=True, stage="first_byte", host="h", seconds=1.0),
        504,
        "wire.first_byte_timeout",
        1,
    ),
    "connection closed after sending": (
        Unreachable("wire.closed", sent=True, stage="first_byte", host="h", problem="x"),
        502,
        "wire.closed",
        1,
    ),
    "no HTTP": (BadReply("wire.not_http", host="h", problem="x"), 502, "wire.not_http", 1),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
def test_a_call_that_no_model_answered_has_a_record_of_why(fault: str, streamed: bool) -> None:
    error, status, name, unsure = FAULTS[fault]
    house = House(Script(error=error), key=LIMITED)
    reply = house.ask(asking(stream=streamed))
    record = house.record
    assert reply.status == status == record.http_status
    assert (record.status, record.unsure) == (name, unsure)
    assert reply.json["error"]["message"]
    if unsure:
        assert record.cost_micros is None
        assert record.charged_micros > 0
        assert record.attempts == 1  # it may have been executed: never sent again
    else:
        assert (record.cost_micros, record.tokens_in, record.charged_micros) == (0, 0, 0)
        assert record.attempts == 3


@pytest.mark.parametrize("body", [answer()[:10], answer() + b"x"])
def test_an_answer_that_is_cut_by_a_wrong_length_is_an_error_and_may_have_cost_something(body: bytes) -> None:
    house = House(Script(body=body), key=LIMITED)
    reply = house.ask(asking())
    assert (reply.status, house.record.http_status, house.record.status) == (502, 502, "gateway.not_json")
    assert (house.record.cost_micros, house.record.unsure) == (None, 1)


def test_an_answer_that_breaks_off_is_an_error_and_may_have_cost_something() -> None:
    house = House(Script(body_error=BadReply("wire.truncated", host="h")), key=LIMITED)
    reply = house.ask()
    assert reply.status == 502
    assert house.record.unsure == 1
    assert house.record.charged_micros > 0


@pytest.mark.parametrize("way", ["passed", "told"])
def test_a_stream_that_breaks_off_ends_in_an_error_event_and_a_broken_connection(way: str) -> None:
    fault = BadReply("wire.truncated", host="h")
    house = House(
        Script(pieces=[chunk("a"), fault], headers=EVENTS),
        providers={"home": ScriptedProvider([Delta(text="a"), fault])},
        key=LIMITED,
    )
    reply = house.ask(asking("acme/one" if way == "passed" else "home/small", stream=True))
    record = house.record
    assert (reply.status, reply.aborted) == (200, True)
    assert b'"error"' in reply.pieces[-1]
    assert (record.status, record.http_status, record.unsure, record.cost_micros) == (
        "wire.truncated",
        200,
        1,
        None,
    )
    assert record.charged_micros > 20


def test_a_stream_that_ends_without_its_last_event_does_not_look_complete() -> None:
    house = House(Script(pieces=[chunk("a"), chunk("b")], headers=EVENTS))
    reply = house.ask(asking(stream=True))
    assert reply.aborted
    assert house.record.status == "gateway.broke_off"


def test_a_stream_of_one_event_without_its_blank_line_is_complete() -> None:
    house = House(Script(pieces=[chunk("a", finish="stop").rstrip(b"\n")], headers=EVENTS))
    reply = house.ask(asking(stream=True))
    assert (reply.status, reply.body, reply.aborted) == (200, house.pool.scripts[0].pieces[0], False)
    assert house.record.status == "ok"


def test_half_an_event_is_no_answer() -> None:
    house = House(Script(pieces=[chunk("a", finish="stop")[:-20]], headers=EVENTS))
    reply = house.ask(asking(stream=True))
    assert (reply.status, reply.started) == (502, False)
    assert house.record.status == "gateway.broke_off"


@pytest.mark.parametrize("durability", ["batch", "answer"])
@pytest.mark.parametrize("end", [[], [chunk(finish="stop")]])
def test_an_error_event_of_the_model_reaches_the_client_once(durability: str, end: list[bytes]) -> None:
    event = b'data: {"error": {"message": "the server is tired", "type": "server_error"}}\n\n'
    pieces = [chunk("a"), *end, event]
    house = House(Script(pieces=pieces, headers=EVENTS), config={"ledger": {"durability": durability}})
    reply = house.ask(asking(stream=True))
    assert reply.body == b"".join(pieces)
    assert reply.aborted
    assert house.record.status == "gateway.stream_failed"


def test_a_stream_that_begins_with_an_error_event_becomes_an_error_answer() -> None:
    event = b'data: {"error": {"message": "the server is tired", "type": "server_error"}}\n\n'
    house = House(Script(pieces=[event], headers=EVENTS))
    reply = house.ask(asking(stream=True))
    assert (reply.status, reply.started) == (502, False)
    assert house.record.status == "providers.server_error"


def test_a_client_that_is_gone_when_the_answer_comes_is_in_the_record() -> None:
    house = House(Script(body=answer()))
    reply = RecordingReply()
    reply.gone = True
    house.ask(reply=reply)
    assert (house.record.http_status, house.record.cost_micros) == (499, 20)


def test_usage_of_a_stream_that_the_client_left_is_known_when_it_had_come() -> None:
    house = House(Script(pieces=[chunk("a"), chunk(finish="stop"), chunk(usage=USAGE), DONE], headers=EVENTS))
    reply = RecordingReply(leaves_after=1)
    house.ask(asking(stream=True), reply=reply)
    assert (house.record.http_status, house.record.tokens_out) == (499, 5)


# what the model's server refuses


def test_a_refusal_reaches_the_client_as_the_vendor_worded_it() -> None:
    body = (
        b'{"error": {"message": "bad temperature", "type": "invalid_request_error", "param": "temperature"}}'
    )
    house = House(
        Script(status=400, body=body, headers={b"content-type": b"application/json", b"set-cookie": b"x"})
    )
    reply = house.ask()
    assert (reply.status, reply.body) == (400, body)
    assert "set-cookie" not in reply.headers
    assert (house.record.status, house.record.http_status, house.record.cost_micros) == (
        "providers.refused",
        400,
        0,
    )


def test_a_refusal_that_is_no_json_is_told_in_our_words() -> None:
    page = Script(status=413, body=b"<html>nginx at 10.0.0.5</html>", headers={b"content-type": b"text/html"})
    reply = House(page).ask()
    assert reply.status == 413 and b"nginx" not in reply.body
    assert reply.json["error"]["type"] == "invalid_request_error"


CUT = Unreachable("wire.silence_timeout", sent=True, stage="body", host="h", seconds=1)


@pytest.mark.parametrize("pieces", [[CUT], [b'{"error": {"mess', CUT], [b"x" * 700_000] * 2])
@pytest.mark.parametrize(
    ("status", "told", "said"),
    [
        (413, 413, "providers.refused"),
        (429, 429, "providers.rate_limited"),
        (401, 502, "providers.key_refused"),
        (500, 502, "providers.server_error"),
    ],
)
def test_a_refusal_without_its_end_is_one_all_the_same(
    status: int, told: int, said: str, pieces: list[bytes | Exception]
) -> None:
    house = House(Script(status=status, pieces=pieces), key=LIMITED)
    reply = house.ask()
    record = house.record
    assert (reply.status, "message" in reply.json["error"]) == (told, True)
    assert (record.status, record.unsure, record.cost_micros) == (said, 0, 0)
    assert all(exchange.closed for exchange in house.pool.exchanges)


@pytest.mark.parametrize("status", [401, 403])
def test_our_own_key_refused_is_not_the_clients_fault(status: int) -> None:
    house = House(
        Script(status=status, body=b'{"error": {"message": "Incorrect API key provided: sk-secret"}}')
    )
    reply = house.ask()
    assert reply.status == 502
    assert b"sk-secret" not in reply.body
    assert "its vendor does not accept this endpoint's own access" in reply.json["error"]["message"]
    assert house.record.status == "providers.key_refused"


def test_a_key_in_a_file_is_read_again_when_it_was_refused(tmp_path: Path) -> None:
    place = tmp_path / "key"
    place.write_text("old")
    house = House(
        Script(status=401, body=b"{}"),
        Script(body=answer()),
        config={"providers": {"acme": {"key": f"file:{place}"}}},
    )
    assert house.ask().status == 502
    place.write_text("new")
    assert house.ask().status == 200
    (_, old, _), (_, new, _) = house.pool.sent
    assert b"Bearer old" in old and b"Bearer new" in new


def test_a_vendors_account_without_credit_is_not_the_clients_fault() -> None:
    house = House(Script(status=429, body=b'{"error": {"code": "insufficient_quota", "message": "pay"}}'))
    assert house.ask().status == 502
    assert house.record.status == "providers.no_credit"


def test_a_missing_key_is_told_without_naming_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ACME_KEY", raising=False)
    house = House(Script(body=answer()), config={"providers": {"acme": {"key": "env:ACME_KEY"}}})
    reply = house.ask()
    assert reply.status == 502
    assert b"ACME_KEY" not in reply.body
    assert house.pool.sent == []
    assert (house.record.status, house.record.cost_micros) == ("providers.no_key", 0)


def test_a_server_error_is_told_in_our_words() -> None:
    house = House(Script(status=500, body=b"<html>oops</html>"))
    reply = house.ask()
    assert reply.status == 502
    assert reply.json["error"]["type"] == "server_error"
    assert house.record.status == "providers.server_error"


@pytest.mark.parametrize("passed", [True, False])
@pytest.mark.parametrize("status", [408, 504, 522, 524])
def test_a_proxy_that_gave_up_waiting_leaves_the_cost_unknown(status: int, passed: bool) -> None:
    provider = ScriptedProvider(fault(status, "timed out", Place(host="h", model="m", key="")))
    house = House(Script(status=status, body=b"timed out"), providers={"home": provider}, key=LIMITED)
    house.ask(asking("acme/one" if passed else "home/small"))
    record = house.record
    assert (record.status, record.attempts, record.unsure) == ("providers.server_error", 1, 1)
    assert (record.cost_micros, record.charged_micros > 200) == (None, True)


@pytest.mark.parametrize("status", [500, 502, 503, 529])
def test_a_server_error_that_is_no_silence_costs_nothing(status: int) -> None:
    house = House(Script(status=status, body=b"down"), key=LIMITED)
    house.ask()
    assert (house.record.unsure, house.record.cost_micros, house.record.charged_micros) == (0, 0, 0)


def test_a_rate_limit_that_names_a_moment_is_waited_for() -> None:
    busy = Script(status=429, body=b"{}", headers={b"retry-after": b"2"})
    house = House(busy, Script(body=answer()))
    reply = house.ask()
    assert reply.status == 200
    assert [2.0 <= pause <= 2.2 for pause in house.slept] == [True]
    assert (house.record.attempts, house.record.unsure, house.record.cost_micros) == (2, 0, 20)


def test_a_pause_that_the_vendor_asked_for_is_no_overhead_of_ours() -> None:
    seconds = [1000.0]

    async def sleep(pause: float) -> None:
        seconds[0] += pause

    busy = Script(status=429, body=b"{}", headers={b"retry-after": b"2"})
    house = House(busy, Script(body=answer()), now=lambda: seconds[0], sleep=sleep)
    reply = house.ask()
    assert (reply.status, reply.headers["x-baimo-overhead-ms"]) == (200, "0.000")
    assert house.record.latency_ms >= 2000


def test_a_rate_limit_without_a_moment_is_the_clients_to_wait_for() -> None:
    house = House(Script(status=429, body=b'{"error": {"message": "slow down"}}'))
    reply = house.ask()
    assert (reply.status, house.slept) == (429, [])
    assert house.record.attempts == 1


def test_a_provider_that_refuses_is_told_in_the_surfaces_words() -> None:
    refusal = RequestRefused("providers.refused", host="h", model="m", status=400, detail="no")
    house = House(providers={"home": ScriptedProvider(refusal)})
    reply = house.ask(asking("home/small"))
    assert (reply.status, reply.json["error"]["type"]) == (400, "invalid_request_error")


def test_a_provider_that_is_busy_says_when_to_come_again() -> None:
    busy = RateLimited(
        "providers.rate_limited", retry_after_s=90.0, host="h", model="m", status=429, detail="no"
    )
    house = House(providers={"home": ScriptedProvider(busy)})
    reply = house.ask(asking("home/small"))
    assert (reply.status, reply.headers["retry-after"]) == (429, "90")


# faults of our own


class Broken(ScriptedProvider):
    async def complete(self, request: Any) -> Any:
        raise ZeroDivisionError


def test_a_fault_of_ours_has_a_record_too_and_is_not_hidden() -> None:
    house = House(providers={"home": Broken(completion())}, key=LIMITED)
    reply = RecordingReply()
    with pytest.raises(ZeroDivisionError):
        house.ask(asking("home/small"), reply=reply)
    assert reply.status == 500
    assert (house.record.status, house.record.http_status) == ("gateway.fault", 500)
    assert house.record.charged_micros > 0


def test_a_fault_while_a_record_is_closed_leaves_a_record_and_nothing_reserved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    house = House(Script(body=answer()), key=LIMITED)
    close = house.books.close

    def failing(*_: object) -> None:
        monkeypatch.setattr(house.books, "close", close)
        raise OverflowError

    monkeypatch.setattr(house.books, "close", failing)
    reply = RecordingReply()
    with pytest.raises(OverflowError):
        house.ask(reply=reply)
    assert (reply.status, house.record.status, house.record.charged_micros > 200) == (
        500,
        "gateway.fault",
        True,
    )


def test_no_answer_leaves_when_its_record_cannot_be_written_down() -> None:
    house = House(Script(body=answer()), config={"ledger": {"durability": "answer"}})
    house.books.fails_to_sync = StoreError("store.full", where="x")
    reply = house.ask()
    assert reply.status == 503
    assert b"hello" not in reply.body


def test_a_call_whose_record_cannot_be_opened_is_not_sent() -> None:
    house = House(Script(body=answer()), key=LIMITED)
    house.books.fails_to_open = StoreError("store.full", where="x")
    assert house.ask().status == 503
    assert house.pool.sent == []
    house.books.settled()


@pytest.mark.parametrize("streamed", [False, True])
def test_with_durable_answers_the_end_leaves_after_the_record(streamed: bool) -> None:
    house = House(
        stream("a") if streamed else Script(body=answer()), config={"ledger": {"durability": "answer"}}
    )
    ends: list[tuple[int, bool]] = []

    class Watching(RecordingReply):
        def write(self, piece: bytes) -> None:
            super().write(piece)
            ends.append((house.books.synced, b"[DONE]" in piece))

        def whole(self, status: int, head: bytes, body: bytes) -> None:
            super().whole(status, head, body)
            ends.append((house.books.synced, True))

    house.ask(asking(stream=streamed), reply=Watching())
    assert [synced for synced, last in ends if last] == [1]
    assert all(synced == 0 for synced, last in ends if not last)
    assert house.record.status == "ok"


def test_a_full_house_refuses_without_a_record() -> None:
    house = House(Script(body=answer()), config={"serve": {"max_in_flight": 1}})
    house.gateway.stopping = True
    reply = house.ask()
    assert (reply.status, reply.headers["retry-after"]) == (503, "1")
    assert house.books.records == []


def test_contents_are_kept_only_for_tenants_that_opted_in() -> None:
    import msgspec

    for streamed in (False, True):
        house = House(
            stream("a") if streamed else Script(body=answer()), tenant=Tenant(id="t", keep_contents=True)
        )
        reply = house.ask(asking(stream=streamed))
        content = msgspec.msgpack.decode(house.record.content or b"")
        assert content["answer"] == reply.body
        assert b"hi" in content["request"]
    house = House(Script(body=answer()))
    house.ask()
    assert house.record.content is None


def test_the_hashes_of_a_record_tell_nothing_without_the_workspaces_key() -> None:
    one = House(Script(body=answer()))
    other = House(Script(body=answer()), secret=b"another")
    one.ask(), other.ask()
    assert one.record.conversation != other.record.conversation
    assert one.record.request_hash != other.record.request_hash
