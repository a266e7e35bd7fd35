from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from baimo.core.ids import sortable_id
from baimo.gateway.answers import by_name, lines
from baimo.gateway.heads import cost
from baimo.gateway.ids import RecordIds
from baimo.store.entry import Entry
from tests.gateway.doubles import House, Script, answer, asking, stream


@given(st.integers(0, 10**15), st.integers(-500_000, 500_000))
def test_the_cost_in_the_header_is_exact(micros: int, rest: int) -> None:
    exact = Decimal(micros * 1_000_000 + rest) / 10**12
    if exact >= 0:
        shown = cost(Entry(id="r", surface="s", cost_micros=micros, cost_rest=rest))
        assert Decimal(shown) == exact
        assert "e" not in shown.lower()


def test_a_stream_says_what_is_known_at_its_head() -> None:
    reply = House(stream("a")).ask(asking(stream=True))
    assert reply.headers["x-baimo-model"] == "acme/one"
    assert "x-baimo-cost" not in reply.headers


def test_every_answer_names_its_line_of_the_ledger() -> None:
    for script, streamed in ((Script(body=answer()), False), (stream("a"), True)):
        house = House(script)
        reply = house.ask(asking(stream=streamed))
        assert [record.id for record in house.books.records] == [reply.headers["x-baimo-record"]]


def test_the_overhead_is_what_neither_model_nor_limits_took() -> None:
    house = House(Script(body=answer(), waits=0.05))
    house.ask()  # what is loaded once is not counted
    assert float(house.ask().headers["x-baimo-overhead-ms"]) < 50
    latency = house.books.records[1].latency_ms
    assert latency is not None and latency >= 50


@given(st.integers(0, 2**45))
def test_ids_of_records_have_the_form_of_all_ids_and_sort_by_time(now_ms: int) -> None:
    ids = RecordIds(1)
    made = [ids.next(now_ms) for _ in range(1100)]  # more than are counted on from one draw
    assert len(set(made)) == 1100
    form = sortable_id("rec", now_ms, b"\0" * 7)
    assert {(len(one), one[:14]) for one in made} == {(len(form), form[:14])}
    assert ids.next(now_ms + 1) > max(made)


@pytest.mark.parametrize(
    "pair", [(b"x-a", b"1\r\nset-cookie: evil"), (b"x-a\n", b"1"), (b"x-a", b"1\r"), (b"x-a", b"\0")]
)
def test_no_value_ends_a_header_line_early(pair: tuple[bytes, bytes]) -> None:
    for _ in range(2):  # nor is it remembered
        with pytest.raises(ValueError, match="line break"):
            lines([(b"x-b", b"2"), pair])


def test_header_lines_are_read_as_they_were_written() -> None:
    pairs = [
        (b"content-type", b"text/event-stream; charset=utf-8"),
        (b"x-empty", b""),
        (b"x-colons", b"a: b: c"),
    ]
    for _ in range(2):  # written anew, and from memory
        assert (
            lines(pairs)
            == b"content-type: text/event-stream; charset=utf-8\r\nx-empty: \r\nx-colons: a: b: c\r\n"
        )
        assert by_name(lines(pairs)) == dict(pairs)
