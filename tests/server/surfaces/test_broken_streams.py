"""Streams that break off or fail at the model's server, as the official SDKs meet them behind the gateway."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import anthropic
import openai
import pytest

from baimo.core.call import Delta
from baimo.errors import BadReply
from baimo.server.surfaces.messages import Messages
from baimo.server.surfaces.responses import Responses
from tests.gateway.doubles import EVENTS, House, RecordingReply, Script, ScriptedProvider
from tests.server.surfaces.endpoint import listening

BROKEN = BadReply("wire.truncated", host="h")
MESSAGE: Any = {"model": "clay/opus", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]}
RESPONSE: Any = {"model": "dune/gpt", "input": "Hi"}


def event(kind: str, **facts: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **facts})}\n\n".encode()


MESSAGE_BEGUN = event(
    "message_start",
    message={
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": {"input_tokens": 10, "output_tokens": 1},
    },
) + event("content_block_start", index=0, content_block={"type": "text", "text": ""})
HALF = b'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,"del'


def broken(surface: Any, body: dict[str, Any], *pieces: bytes | Exception) -> RecordingReply:
    """What a client got of a stream that failed."""
    house = House(Script(pieces=pieces, headers=EVENTS))
    reply = house.ask({**body, "stream": True}, surface=surface)
    assert (reply.status, house.record.status != "ok") == (200, True)
    return reply


@contextmanager
def again(reply: RecordingReply) -> Iterator[str]:
    """The address of a server that answers as the gateway did."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": reply.body, "more_body": True})
        if not reply.aborted:
            await send({"type": "http.response.body", "body": b""})

    with listening(app) as address:
        yield address


@pytest.mark.parametrize("pieces", [(HALF, BROKEN), (HALF,), (HALF[:20], HALF[20:], BROKEN)])
def test_a_stream_cut_within_an_event_ends_in_an_error_that_the_sdk_understands(pieces: Any) -> None:
    reply = broken(Messages(), MESSAGE, MESSAGE_BEGUN, *pieces)
    assert reply.body.startswith(MESSAGE_BEGUN + b"event: error\n")
    with (
        again(reply) as address,
        anthropic.Anthropic(base_url=address, api_key="k", max_retries=0) as client,
        pytest.raises(anthropic.APIStatusError, match=r"before it was complete|broke off"),
        client.messages.stream(**MESSAGE) as stream,
    ):
        list(stream)


def test_the_models_own_error_reaches_the_client_even_without_its_blank_line() -> None:
    said = event("error", error={"type": "overloaded_error", "message": "Overloaded"}).rstrip()
    reply = broken(Messages(), MESSAGE, MESSAGE_BEGUN, said)
    assert reply.body == MESSAGE_BEGUN + said


BEGUN: dict[str, Any] = {
    "id": "resp_up_1",
    "object": "response",
    "created_at": 7,
    "model": "m",
    "status": "in_progress",
    "output": [],
    "tools": [],
    "tool_choice": "auto",
    "parallel_tool_calls": True,
    "error": None,
    "usage": None,
}
ITEM = {"id": "msg_1", "type": "message", "role": "assistant", "status": "in_progress", "content": []}
PLACE: Any = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
RESPONSE_BEGUN = (
    event("response.created", sequence_number=0, response=BEGUN),
    event("response.output_item.added", sequence_number=1, output_index=0, item=ITEM),
    event(
        "response.content_part.added",
        sequence_number=2,
        part={"type": "output_text", "text": "", "annotations": []},
        **PLACE,
    ),
    event("response.output_text.delta", sequence_number=3, delta="Hel", logprobs=[], **PLACE),
)


CUT = b'event: x\ndata: {"sequence_number":9'


@pytest.mark.parametrize("shown", range(1, 5))
@pytest.mark.parametrize("rest", [(), (BROKEN,), (CUT,), (CUT, BROKEN)])
def test_a_response_that_breaks_off_fails_as_the_one_that_was_begun(shown: int, rest: Any) -> None:
    reply = broken(Responses(), RESPONSE, *RESPONSE_BEGUN[:shown], *rest)
    with (
        again(reply) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
        client.responses.stream(**RESPONSE) as stream,
    ):
        events: list[Any] = list(stream)
    assert [one.sequence_number for one in events] == list(range(shown + 1))
    last = events[-1]
    assert (last.type, last.response.id, last.response.created_at) == ("response.failed", "resp_up_1", 7)
    assert last.response.error.code == "server_error"


def test_a_server_that_numbers_nothing_has_its_response_failed_too() -> None:
    reply = broken(Responses(), RESPONSE, event("response.created", response=BEGUN), BROKEN)
    assert reply.body.count(b"response.created") == 2  # name and type of one event
    assert b'"response.failed","sequence_number":0,"response":{"id":"resp_up_1"' in reply.body


FAILED = event(
    "response.failed",
    sequence_number=4,
    response=BEGUN | {"status": "failed", "error": {"code": "server_error", "message": "boom"}},
)
ERROR = event("error", sequence_number=4, code="server_error", message="boom", param=None)


@pytest.mark.parametrize("last", [FAILED, ERROR])
def test_the_vendors_own_failure_of_a_response_is_an_end_to_the_sdk(last: bytes) -> None:
    reply = broken(Responses(), RESPONSE, *RESPONSE_BEGUN, last)
    assert (reply.body, reply.aborted) == (b"".join((*RESPONSE_BEGUN, last)), False)
    with (
        again(reply) as address,
        openai.OpenAI(base_url=f"{address}/v1", api_key="k", max_retries=0) as client,
        client.responses.create(**RESPONSE, stream=True) as stream,
    ):
        assert [one.sequence_number for one in stream] == [0, 1, 2, 3, 4]


def test_a_translated_response_that_breaks_off_fails_and_ends() -> None:
    house = House(providers={"home": ScriptedProvider([Delta(text="a"), BROKEN])})
    reply = house.ask({"model": "home/small", "input": "Hi", "stream": True}, surface=Responses())
    assert (house.record.status, reply.ended, reply.aborted) == ("wire.truncated", True, False)
    assert reply.body.count(b"event: response.failed") == 1
    assert b"response.completed" not in reply.body
