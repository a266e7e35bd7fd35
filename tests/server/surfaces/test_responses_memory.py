"""Conversations by id: the official SDK continues, reads and forgets them."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Awaitable, Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any
from urllib.parse import parse_qs

import openai
import pytest

from baimo.core.call import Delta, Request, Usage
from baimo.core.message import Message, ToolCall
from baimo.errors import BaimoError, CallRefused, NotFound, StoreError
from baimo.gateway.call import Reply
from baimo.server.surfaces import responses_kept
from baimo.server.surfaces.responses import Responses
from baimo.server.surfaces.responses_memory import Remembering, Turn, begun
from baimo.store.contents import Contents
from baimo.store.engine import Database
from baimo.store.responses import KeptResponse
from baimo.store.responses import Responses as Kept
from tests.server.surfaces.endpoint import CREATED, listening, whole
from tests.waiting import PATIENCE_S

STOPPED = Delta(finish_reason="stop", usage=Usage(tokens_in=3, tokens_out=2))


class Client:
    """A `Reply` that puts what it is told into a queue."""

    def __init__(self) -> None:
        self.sent: asyncio.Queue[tuple[str, Any]] = asyncio.Queue()
        self.gone = False
        self.started = False

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        self.started = True
        self.sent.put_nowait(("whole", (status, body)))

    def start(self, status: int, head: bytes) -> None:
        self.started = True
        self.sent.put_nowait(("start", status))

    def write(self, piece: bytes) -> None:
        self.sent.put_nowait(("write", piece))

    def end(self) -> None:
        self.sent.put_nowait(("end", None))

    def abort(self) -> None:
        self.sent.put_nowait(("abort", None))

    def drained(self) -> Awaitable[None] | None:
        return None


class App:
    """The Responses API over a store; a tenant is the key that is sent."""

    def __init__(self, memory: Kept) -> None:
        self.memory = memory
        self.surface = Responses()
        self.seen: list[Request] = []
        self.calls = 0

    async def __call__(self, scope: Mapping[str, Any], receive: Any, send: Any) -> None:
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        tenant = dict(scope["headers"])[b"authorization"].decode().removeprefix("Bearer ")
        query = {name: values[0] for name, values in parse_qs(scope["query_string"].decode()).items()}
        parts = scope["path"].removeprefix("/v1/responses").strip("/").split("/")
        client = Client()
        try:
            if scope["method"] == "POST":
                await self._call(body, tenant, client)
            else:
                client.whole(200, b"", self._read(scope["method"], tenant, parts, query))
        except BaimoError as error:
            client.whole(error.http_status, b"", self.surface.refusal(error, request_id=""))
        await _sent(client, send)

    def _read(self, method: str, tenant: str, parts: list[str], query: dict[str, Any]) -> bytes:
        if method == "DELETE":
            return responses_kept.deleted(self.memory, tenant=tenant, id=parts[0])
        if len(parts) > 1:
            query["limit"] = int(query.get("limit", 20))
            return responses_kept.input_items(self.memory, tenant=tenant, id=parts[0], **query)
        return responses_kept.retrieved(self.memory, tenant=tenant, id=parts[0])

    async def _call(self, body: bytes, tenant: str, client: Client) -> None:
        turn = await begun(body, self.memory, tenant=tenant, key="ab12", data_class="public")
        reply: Reply = Remembering(client, turn, self.memory) if turn.kept else client
        peek = self.surface.peek(turn.body, {})
        request = self.surface.request(turn.body, peek, model="m")
        self.seen.append(request)
        self.calls += 1
        id = f"rec_{self.calls:08}"
        said = [
            Delta(reasoning="hm", text=f"answer {self.calls}"),
            Delta(tool_calls=(ToolCall(id="c1", name="f", arguments="{}"),) if request.tools else ()),
            STOPPED,
        ]
        if not peek.stream:
            answer = self.surface.answer(whole(said), peek, id=id, created_s=CREATED)
            reply.whole(200, b"content-type: application/json\r\n", answer)
            return
        events = self.surface.events(peek, id=id, created_s=CREATED)
        reply.start(200, b"content-type: text/event-stream\r\n")
        for delta in said:
            reply.write(events.delta(delta))
        end = events.end()
        reply.write(end[:100])
        reply.write(end[100:])
        reply.end()


async def _sent(client: Client, send: Any) -> None:
    while True:
        act, fact = await client.sent.get()
        kind = b"text/event-stream" if act == "start" else b"application/json"
        if act in ("whole", "start"):
            status = fact[0] if act == "whole" else fact
            await send(
                {"type": "http.response.start", "status": status, "headers": [(b"content-type", kind)]}
            )
        if act == "whole":
            await send({"type": "http.response.body", "body": fact[1]})
            return
        if act == "write":
            await send({"type": "http.response.body", "body": fact, "more_body": True})
        if act == "end":
            await send({"type": "http.response.body", "body": b""})
            return


@pytest.fixture
def memory(tmp_path: Any) -> Iterator[Kept]:
    database = Database(f"sqlite:///{tmp_path / 'baimo.db'}")
    yield Kept(database)
    database.close()


@contextmanager
def served(app: App, *tenants: str) -> Iterator[list[openai.OpenAI]]:
    with listening(app) as address:
        clients = [
            openai.OpenAI(base_url=f"{address}/v1", api_key=tenant, max_retries=0) for tenant in tenants
        ]
        yield clients
        for client in clients:
            client.close()


def test_a_conversation_goes_on_from_the_id_of_its_last_answer(memory: Kept) -> None:
    app = App(memory)
    with served(app, "acme") as (client,):
        first = client.responses.create(model="m", input="one")
        with client.responses.stream(model="m", input="two", previous_response_id=first.id) as events:
            second = events.get_final_response()
        third = client.responses.create(
            model="m", input=[{"role": "user", "content": "three"}], previous_response_id=second.id
        )
        branch = client.responses.create(model="m", input="other", previous_response_id=first.id)
    assert (first.previous_response_id, second.previous_response_id) == (None, first.id)
    assert third.previous_response_id == second.id
    assert app.seen[2].messages == (
        Message(role="user", content="one"),
        Message(role="assistant", content="answer 1"),
        Message(role="user", content="two"),
        Message(role="assistant", content="answer 2"),
        Message(role="user", content="three"),
    )
    assert [message.content for message in app.seen[3].messages] == ["one", "answer 1", "other"]
    assert branch.output_text == "answer 4"


def test_instructions_hold_for_one_turn_only(memory: Kept) -> None:
    app = App(memory)
    with served(app, "acme") as (client,):
        first = client.responses.create(model="m", input="one", instructions="Be brief.")
        client.responses.create(model="m", input="two", previous_response_id=first.id)
    assert [message.role for message in app.seen[1].messages] == ["user", "assistant", "user"]


def test_the_result_of_a_tool_is_all_that_the_next_turn_must_bring(memory: Kept) -> None:
    app = App(memory)
    tool: Any = {"type": "function", "name": "f", "parameters": {"type": "object"}, "strict": False}
    with served(app, "acme") as (client,):
        first = client.responses.create(model="m", input="one", tools=[tool])
        output: Any = {"type": "function_call_output", "call_id": "c1", "output": "42"}
        client.responses.create(model="m", input=[output], previous_response_id=first.id)
    assert app.seen[1].messages == (
        Message(role="user", content="one"),
        Message(
            role="assistant", content="answer 1", tool_calls=(ToolCall(id="c1", name="f", arguments="{}"),)
        ),
        Message(role="tool", content="42", tool_call_id="c1"),
    )


def test_no_tenant_reads_continues_or_deletes_anothers_response(memory: Kept) -> None:
    app = App(memory)
    with served(app, "acme", "other") as (acme, other):
        mine = acme.responses.create(model="m", input="one")
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(mine.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.input_items.list(mine.id)
        with pytest.raises(openai.NotFoundError):
            other.responses.delete(mine.id)
        with pytest.raises(openai.BadRequestError, match="no response resp_00000001 to go on from"):
            other.responses.create(model="m", input="two", previous_response_id=mine.id)
        assert acme.responses.retrieve(mine.id).to_dict() == mine.to_dict()
    assert app.calls == 1


def test_what_is_deleted_is_gone(memory: Kept) -> None:
    with served(App(memory), "acme") as (client,):
        mine = client.responses.create(model="m", input="one")
        client.responses.delete(mine.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(mine.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.delete(mine.id)


@pytest.mark.parametrize("stream", [False, True])
def test_what_a_client_does_not_want_kept_is_not_kept(memory: Kept, stream: bool) -> None:
    with served(App(memory), "acme") as (client,):
        if stream:
            with client.responses.stream(model="m", input="one", store=False) as events:
                mine: Any = events.get_final_response()
        else:
            mine = client.responses.create(model="m", input="one", store=False)
        assert mine.store is False
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(mine.id)


def test_the_items_of_a_request_are_listed_page_by_page(memory: Kept) -> None:
    items: Any = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": "two"},
        {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}", "id": None},
        {"type": "function_call_output", "call_id": "c", "output": "42"},
        {"role": "user", "content": [{"type": "input_text", "text": "three"}], "id": "msg_own"},
    ]
    with served(App(memory), "acme") as (client,):
        mine = client.responses.create(model="m", input=items)
        listed = client.responses.input_items.list(mine.id, order="asc", limit=2)
        assert listed.has_more and [item.type for item in listed.data] == ["message", "message"]
        everything = list(listed)
        newest = list(client.responses.input_items.list(mine.id))
        with pytest.raises(openai.BadRequestError):
            client.responses.input_items.list(mine.id, after="nothing")
        with pytest.raises(openai.BadRequestError):
            client.responses.input_items.list(mine.id, limit=101)
    assert [item.type for item in everything] == [
        *("message", "message", "function_call", "function_call_output", "message")
    ]
    assert [item.to_dict() for item in newest] == [item.to_dict() for item in reversed(everything)]
    shown: Any = [item.to_dict() for item in everything]
    assert shown[0]["content"] == [{"type": "input_text", "text": "one"}]
    assert shown[1]["content"][0]["type"] == "output_text"
    assert (shown[3]["output"], shown[4]["id"]) == ("42", "msg_own")
    assert len({item["id"] for item in shown}) == 5


@pytest.mark.parametrize("kind", [{"type": "item_reference"}, {}])
def test_an_item_may_be_named_instead_of_sent_again(memory: Kept, kind: dict[str, str]) -> None:
    app = App(memory)
    with served(app, "acme", "other") as (client, other):
        first = client.responses.create(model="m", input="one")
        reasoning, message = first.output
        items: Any = [
            {"role": "user", "content": "one"},
            *({**kind, "id": item.id} for item in (reasoning, message)),
            {"role": "user", "content": "two"},
        ]
        second = client.responses.create(model="m", input=items)
        kept = list(client.responses.input_items.list(second.id, order="asc"))
        with pytest.raises(openai.BadRequestError, match=r"input\[1\]"):
            other.responses.create(model="m", input=items)
    assert app.seen[1].messages == (
        Message(role="user", content="one"),
        Message(role="assistant", content="answer 1"),
        Message(role="user", content="two"),
    )
    assert [item.type for item in kept] == ["message"] * 3


# the turn


def turn_of(body: dict[str, Any], memory: Any) -> Turn:
    return asyncio.run(begun(json.dumps(body).encode(), memory, tenant="acme", key="k", data_class="public"))


class Vendor:
    """A memory that holds one answer as a vendor wrote it."""

    output = (
        {"id": "rs_9f", "type": "reasoning", "summary": [], "encrypted_content": "gAAA"},
        {"id": "ws_1", "type": "web_search_call", "status": "completed"},
        {"id": "msg_9f_0", "type": "message", "role": "assistant", "status": "completed", "content": []},
    )

    def turns(self, tenant: str, id: str) -> list[KeptResponse]:
        response = json.dumps({"id": id, "output": self.output}).encode()
        return [
            KeptResponse(id=id, tenant=tenant, given=b'[{"role":"user","content":1.50}]', response=response)
        ]


def test_what_a_vendor_wrote_goes_back_to_it_as_it_was() -> None:
    turn = turn_of({"model": "m", "input": "go on", "previous_response_id": "resp_9f00"}, Vendor())
    body = json.loads(turn.body)
    assert body["input"] == [
        {"role": "user", "content": 1.5},
        *Vendor.output,
        {"type": "message", "role": "user", "content": "go on"},
    ]
    assert b"1.50" in turn.body
    assert "previous_response_id" not in body
    sent = Responses().sent(turn.body, Responses().peek(turn.body, {}), model="gpt", max_tokens=None)
    assert set(json.loads(sent)) == {"model", "input"}


def test_a_request_that_continues_nothing_is_left_as_it_is() -> None:
    body = b'{"model":"m", "input":"hi"}'
    turn = asyncio.run(begun(body, Vendor(), tenant="acme", key="k", data_class="public"))  # type: ignore[arg-type]
    assert (turn.body, turn.kept, turn.conversation, turn.previous) == (body, True, "", "")
    assert json.loads(turn.given) == [{"type": "message", "role": "user", "content": "hi"}]


@pytest.mark.parametrize("body", [{"input": 7}, {"input": "x", "store": "no"}, {"previous_response_id": 7}])
def test_a_body_that_cannot_be_read_is_refused_by_its_field(body: dict[str, Any]) -> None:
    with pytest.raises(CallRefused) as caught:
        turn_of(body, Vendor())
    assert str(caught.value).startswith(list(body)[-1])


def test_an_id_that_is_not_kept_is_said_so_in_a_message_of_the_right_kind(memory: Kept) -> None:
    with pytest.raises(CallRefused) as caught:
        turn_of({"input": "x", "previous_response_id": "resp_none"}, memory)
    assert caught.value.http_status == 400
    with pytest.raises(NotFound):
        responses_kept.retrieved(memory, tenant="acme", id="resp_none")


# the order of keeping and telling


class Slow:
    """A memory that keeps when it is let."""

    def __init__(self, error: Exception | None = None) -> None:
        self.let = threading.Event()
        self.kept: list[KeptResponse] = []
        self.error = error

    def put(self, kept: KeptResponse) -> bool:
        assert self.let.wait(PATIENCE_S)
        if self.error is not None:
            raise self.error
        self.kept.append(kept)
        return True


TURN = Turn(b"", b"[]", "acme", "k", True)
ANSWER = b'{"id":"resp_1","status":"completed","output":[]}'
LAST = b'event: response.completed\ndata: {"type":"response.completed","response":%s}\n\n' % ANSWER


async def drained(client: Client, count: int) -> list[tuple[str, Any]]:
    return [await asyncio.wait_for(client.sent.get(), 10) for _ in range(count)]


def test_an_answer_whose_tenant_was_forgotten_while_it_came_says_that_it_is_not_kept(tmp_path: Any) -> None:
    async def run() -> None:
        client, memory = Client(), Kept(database)
        turn = await begun(b'{"input":"x"}', memory, tenant="acme", key="k", data_class="public")
        Contents(database).forget_tenant("acme")
        reply = Remembering(client, turn, memory)
        reply.whole(200, b"", ANSWER)
        await reply.settled()
        _, (status, body) = client.sent.get_nowait()
        assert (status, json.loads(body)["store"], memory.get("acme", "resp_1")) == (200, False, None)

    with closing(Database(f"sqlite:///{tmp_path / 'baimo.db'}")) as database:
        asyncio.run(run())


def test_a_whole_answer_leaves_after_it_is_kept() -> None:
    async def run() -> None:
        client, memory = Client(), Slow()
        reply = Remembering(client, TURN, memory)  # type: ignore[arg-type]
        reply.whole(200, b"", ANSWER)
        await asyncio.sleep(0.01)
        assert client.sent.empty() and reply.started
        waiting = asyncio.ensure_future(reply.settled())
        await asyncio.sleep(0)
        waiting.cancel()
        memory.let.set()
        await reply.settled()
        assert client.sent.get_nowait() == ("whole", (200, ANSWER))
        assert [kept.id for kept in memory.kept] == ["resp_1"]
        assert memory.kept[0].conversation == "resp_1"

    asyncio.run(run())


def test_a_whole_answer_that_cannot_be_kept_says_so() -> None:
    async def run() -> None:
        client, memory = Client(), Slow(StoreError("store.full", where="x"))
        memory.let.set()
        reply = Remembering(client, TURN, memory)  # type: ignore[arg-type]
        reply.whole(200, b"", ANSWER.replace(b"{", b'{"store":true,', 1))
        await reply.settled()
        _, (status, body) = client.sent.get_nowait()
        assert (status, json.loads(body)) == (200, {**json.loads(ANSWER), "store": False})

    asyncio.run(run())


@pytest.mark.parametrize("cut", range(0, len(LAST) + 1, 7))
def test_the_last_event_leaves_after_the_turn_is_kept(cut: int) -> None:
    async def run() -> None:
        client, memory = Client(), Slow()
        reply = Remembering(client, TURN, memory)  # type: ignore[arg-type]
        reply.start(200, b"")
        reply.write(b'data: {"type":"response.output_text.delta"}\n\n')
        assert [act for act, _ in await drained(client, 2)] == ["start", "write"]
        reply.write(LAST[:cut])
        reply.write(LAST[cut:])
        reply.end()
        await asyncio.sleep(0)
        early = b"".join(
            [fact for act, fact in [client.sent.get_nowait() for _ in range(client.sent.qsize())]]
        )
        assert not early.endswith(b"\n\n")
        memory.let.set()
        late = b""
        while True:
            act, fact = (await drained(client, 1))[0]
            if act == "end":
                break
            late += fact
        assert early + late == LAST
        assert len(memory.kept) == 1

    asyncio.run(run())


@pytest.mark.parametrize("missing", [1, 2])
def test_a_turn_is_kept_also_where_the_last_events_end_is_missing(missing: int) -> None:
    async def run() -> None:
        client, memory = Client(), Slow()
        memory.let.set()
        reply = Remembering(client, TURN, memory)  # type: ignore[arg-type]
        reply.start(200, b"")
        reply.write(LAST[:-missing])
        reply.end()
        await reply.settled()
        assert [act for act, _ in await drained(client, 3)] == ["start", "write", "end"]
        assert [kept.id for kept in memory.kept] == ["resp_1"]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("status", "body"),
    [(400, ANSWER), (200, b'{"id":"resp_1","status":"failed"}'), (200, b"<html>"), (200, b"{}")],
)
def test_what_cannot_be_continued_leaves_at_once(status: int, body: bytes) -> None:
    client = Client()
    Remembering(client, TURN, Slow()).whole(status, b"", body)  # type: ignore[arg-type]
    assert client.sent.get_nowait() == ("whole", (status, body))


@pytest.mark.parametrize("error", [StoreError("store.full", where="x", problem="y"), RuntimeError("z")])
def test_an_answer_that_cannot_be_kept_is_given_all_the_same(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        client, memory = Client(), Slow(error)
        memory.let.set()
        reply = Remembering(client, TURN, memory)  # type: ignore[arg-type]
        reply.start(200, b"")
        reply.write(LAST)
        reply.end()
        assert await drained(client, 3) == [("start", 200), ("write", LAST), ("end", None)]

    asyncio.run(run())
    assert "resp_1" in caplog.text


def test_a_stream_that_breaks_off_is_not_kept_and_is_broken_for_the_client_too() -> None:
    client, memory = Client(), Slow()
    reply = Remembering(client, TURN, memory)  # type: ignore[arg-type]
    reply.start(200, b"")
    reply.write(LAST[:40])
    reply.abort()
    acts = [client.sent.get_nowait()[0] for _ in range(client.sent.qsize())]
    assert acts == ["start", "write", "abort"]
    assert memory.kept == []


@pytest.mark.parametrize("cut", range(0, 120, 7))
def test_the_answer_of_a_vendor_that_was_told_everything_names_the_turn_before(cut: int) -> None:
    row = {"id": "resp_2", "status": "completed", "previous_response_id": None}
    row["output"] = [{"id": "m", "content": [{"text": 'says "previous_response_id":null'}]}]
    turn = Turn(b"", b"[]", "t", "k", True, "resp_1", "resp_1")

    async def streamed() -> bytes:
        client = Client()
        reply = Remembering(client, turn, Vendor())
        event = b"data: " + json.dumps({"type": "response.completed", "response": row}).encode() + b"\n\n"
        reply.start(200, b"")
        reply.write(event[:cut])
        reply.write(event[cut:])
        reply.end()
        await reply.settled()
        sent = b""
        while not client.sent.empty():
            kind, piece = client.sent.get_nowait()
            sent += piece if kind == "write" else b""
        return sent

    answer = json.loads(asyncio.run(streamed()).removeprefix(b"data: "))["response"]
    assert answer == {**row, "previous_response_id": "resp_1"}
