"""Clients that leave and models' servers that fail, at every moment: one Record each, the right status, no mix-up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple

import pytest

from tests.e2e.clients import PATHS, Answer, line, request
from tests.e2e.watched import Watched, watched
from tests.upstream import TOKENS_IN, TOKENS_OUT
from tests.upstream_answers import events
from tests.waiting import PATIENCE_S, until

pytestmark = pytest.mark.xdist_group("faults")
WAYS = [
    ("chat", "mock/model"),
    ("completions", "mock/model"),
    ("messages", "claude/model"),
    ("messages", "mock/model"),
    ("responses", "mock/model"),
    ("chat", "claude/model"),
]
"""Passed through and translated."""
EXACT = TOKENS_IN * 150_000 + TOKENS_OUT * 600_000
"""Cost of an answer, millionths of a micro-unit."""


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    with watched(tmp_path_factory.mktemp("faults")) as made:
        yield made


def upstream_events(surface: str, model: str) -> int:
    """How many events the model's server sends of a stream."""
    path = "/v1/messages" if model.startswith("claude") else "/v1/completions"
    if surface != "completions" and path == "/v1/completions":
        path = "/v1/chat/completions"
    return len(list(events(path, {"stream_options": {"include_usage": True}}, "hold")))


# clients that leave


async def _leaves(house: Watched, surface: str, body: bytes, text: str) -> None:
    async with line(house.endpoint) as connected:
        connected.writer.write(request(PATHS[surface], house.key, body))
        async with asyncio.timeout(PATIENCE_S):
            while text not in house.model.holding:  # noqa: ASYNC110 - it is in another thread
                await asyncio.sleep(0.005)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.05):
                while await connected.reader.read(1 << 16):
                    pass


@pytest.mark.parametrize(("surface", "model"), WAYS)
def test_a_client_that_leaves_at_any_event_of_a_stream_has_one_record(
    house: Watched, surface: str, model: str
) -> None:
    count = upstream_events(surface, model)
    places = [f"{number}{part}" for number in range(count) for part in ("", ".5")]
    texts = [f"hold {place} #{surface} {model}" for place in places]
    bodies = [house.body(surface, text, model, stream=True) for text in texts]

    async def all_leave() -> None:
        await asyncio.gather(*map(_leaves, [house] * len(texts), [surface] * len(texts), bodies, texts))
        await house.is_well(f"left {surface} {model}")

    asyncio.run(all_leave())
    for place, record in zip(places, house.records(bodies), strict=True):
        assert (record["http_status"], record["status"]) == (499, "gateway.client_gone"), place
        if record["cost_micros"] is None:
            assert record["unsure"] == 1, place
            assert record["charged_tokens"] > TOKENS_IN + TOKENS_OUT, place
            assert record["charged_micros"] > EXACT / 10**6, place
        else:  # the usage had come
            assert float(place) >= count - 2, place
            assert record["cost_micros"] * 10**6 + record["cost_rest"] == EXACT, place
    # nobody waits for the rest
    until(lambda: house.model.deserted.issuperset(texts))
    assert {house.times_asked(text) for text in texts} == {1}


@pytest.mark.parametrize(("surface", "model"), WAYS)
def test_a_client_that_leaves_before_a_whole_answer_has_one_record(
    house: Watched, surface: str, model: str
) -> None:
    text = f"hold 0 #whole {surface} {model}"
    body = house.body(surface, text, model)
    asyncio.run(_leaves(house, surface, body, text))
    (record,) = house.records([body])
    assert (record["http_status"], record["cost_micros"], record["unsure"]) == (499, None, 1)
    assert record["charged_micros"] > EXACT / 10**6
    until(lambda: text in house.model.deserted)


def test_a_client_that_leaves_while_it_sends_has_no_record(house: Watched) -> None:
    key = house.endpoint.new_key()
    whole = request(PATHS["chat"], key, house.body("chat", "never #sent"))

    async def leave_everywhere() -> None:
        for place in range(1, len(whole), 7):
            async with line(house.endpoint) as connected:
                connected.writer.write(whole[:place])
                await connected.writer.drain()
        await house.is_well("half sent")

    asyncio.run(leave_everywhere())
    public = key.split("-")[1]
    assert house.endpoint.records(f"key = '{public}'") == []
    assert not house.times_asked("never #sent")


# models' servers that fail


class Fault(NamedTuple):
    """What a model's server does, and what becomes of it."""

    wish: str
    status: int
    """That the client gets."""
    unsure: int = 1
    """Whether it may have been billed."""
    times: int = 1
    """How often the server may be asked."""


FAULTS = [
    Fault("reset", 502),
    Fault("stall", 504),
    Fault("half", 502),
    Fault("lie long", 502),
    Fault("lie short", 502),
    Fault("half open", 504),
    Fault("huge", 502),
    Fault("status 400", 400, 0),
    Fault("status 401", 502, 0),
    Fault("status 404", 404, 0),
    Fault("status 429 1", 429, 0, 3),
    Fault("status 500", 502, 0),
    Fault("status 503", 502, 0),
]
"""For whole answers."""


@pytest.mark.parametrize(("surface", "model"), WAYS)
def test_whatever_a_models_server_does_there_is_one_record_and_the_next_call_is_well(
    house: Watched, surface: str, model: str
) -> None:
    texts = [f"{fault.wish} #{surface} {model}" for fault in FAULTS]
    bodies = [house.body(surface, text, model) for text in texts]

    async def all_fail() -> list[Answer]:
        failing = asyncio.gather(*map(house.call, [surface] * len(bodies), bodies))
        while not failing.done():
            await house.is_well(f"beside {surface} {model} {id(asyncio.current_task())}")
        await house.is_well(f"after {surface} {model}")
        return list(await failing)

    answers = asyncio.run(all_fail())
    found: dict[str, tuple[int, int, int]] = {}
    for fault, answer, record, text in zip(FAULTS, answers, house.records(bodies), texts, strict=True):
        found[fault.wish] = (answer.status, record["unsure"], house.times_asked(text))
        assert record["http_status"] == answer.status
        assert record["status"] != "ok"
        assert (record["cost_micros"] is None) == (record["charged_micros"] > 0) == bool(fault.unsure), fault
        assert answer.row["error"]["message"], fault
    assert found == {fault.wish: fault[1:] for fault in FAULTS}
    assert not any(map(_spoils, house.model.lines))


BAD = ("half", "lie", "huge", "stall", "reset")


def _spoils(over: list[str]) -> bool:
    """Whether a connection was used again after an answer that did not end where it said it would."""
    return any(text.startswith(BAD) for text in over[:-1])


def _broken(answer: Answer) -> bool:
    """Whether nobody takes it for a whole one: a response that failed says so itself."""
    failed = b"event: response.failed" in answer.body and b"response.completed" not in answer.body
    return failed if answer.whole else not failed


@pytest.mark.parametrize(("surface", "model"), WAYS)
def test_a_stream_that_breaks_at_any_event_is_never_taken_for_a_whole_one(
    house: Watched, surface: str, model: str
) -> None:
    places = range(upstream_events(surface, model))
    texts = [f"break {place} #{surface} {model}" for place in places]
    bodies = [house.body(surface, text, model, stream=True) for text in texts]

    async def all_break() -> list[Answer]:
        answers = await asyncio.gather(*map(house.call, [surface] * len(bodies), bodies))
        await house.is_well(f"broken {surface} {model}")
        return list(answers)

    answers = asyncio.run(all_break())
    for place, answer, record in zip(places, answers, house.records(bodies), strict=True):
        assert answer.status == record["http_status"], place
        assert (answer.status == 200) == (record["first_byte_ms"] is not None), place
        assert answer.status in ((200, 502) if place else (502,)), place
        if answer.status == 200:
            assert _broken(answer), place
        assert record["status"] != "ok", place
        if record["cost_micros"] is None:
            assert (record["unsure"], record["charged_micros"] > EXACT / 10**6) == (1, True), place
        else:  # the usage had come
            assert place >= len(places) - 2
            assert record["cost_micros"] * 10**6 + record["cost_rest"] == EXACT
    assert {house.times_asked(text) for text in texts} == {1}


def test_nobody_is_ever_shown_the_answer_to_another_call(house: Watched) -> None:
    """Good calls and every fault at once, whole and streamed, over the same connections, again and again."""
    wishes = [
        fault.wish for fault in FAULTS if fault.wish not in ("stall", "half open", "status 429 1", "huge")
    ]

    async def well(number: int, turn: int) -> None:
        surface, model = WAYS[number % len(WAYS)]
        text = f"say {number} {turn} #mixed"
        stream = number % 2 == 0
        answer = await house.call(surface, house.body(surface, text, model, stream=stream))
        shown = f"{number} {turn} #mixed " if stream else f"echo: {text}"
        assert (answer.status, answer.whole, answer.text) == (200, True, shown)

    async def ill(number: int, turn: int) -> None:
        surface, model = WAYS[(number + turn) % len(WAYS)]
        wish = (*wishes, *(f"break {place}" for place in range(4)))[number % (len(wishes) + 4)]
        stream = wish.startswith("break")
        body = house.body(surface, f"{wish} #mixed {number} {turn}", model, stream=stream)
        answer = await house.call(surface, body)
        assert answer.status != 200 or _broken(answer)

    async def mixed() -> None:
        for turn in range(8):
            await asyncio.gather(
                *(well(number, turn) for number in range(24)), *(ill(number, turn) for number in range(24))
            )

    asyncio.run(mixed())
