"""Conversations that clients of the Responses API continue by id: what was said before is kept here, not at a vendor.

Prevents three failures: a tenant that continues another's conversation, because all share the vendor's account; a
prompt whose length nobody knew before it was paid for, because the vendor adds the turns before; and a conversation
that cannot go on with another model.

Before the call, `begun` writes the earlier turns into the body. After it, `Remembering` keeps what the client was told:
it holds the last bytes of the answer back until the turn is kept, so that its id can be used at once, in any process.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Sequence
from typing import Any, NamedTuple, Protocol

import msgspec

from baimo.core.moments import wall_ms
from baimo.core.tenant import DataClass
from baimo.errors import CallRefused
from baimo.gateway.call import Reply
from baimo.gateway.policy import strictest
from baimo.gateway.surface import Seen
from baimo.server.surfaces import wirejson
from baimo.server.surfaces.responses import user_item
from baimo.server.surfaces.responses_answer import PREVIOUS
from baimo.server.surfaces.sse import LineWatch
from baimo.store.responses import DAYS, KeptResponse
from baimo.typed import from_json, json_decoder

log = logging.getLogger(__name__)
_ENDS = ("response.completed", "response.incomplete")


class ResponseMemory(Protocol):
    """Keeps turns per tenant: `store.responses.Responses`. Blocks on the database; called from a thread."""

    def put(self, kept: KeptResponse) -> bool:
        """Keep a turn, and the turns before it for as long; False = its tenant was forgotten since it began."""
        ...

    def get(self, tenant: str, id: str) -> KeptResponse | None:
        """A tenant's turn."""
        ...

    def turns(self, tenant: str, id: str) -> Sequence[KeptResponse]:
        """A turn and all before it, the first one first; empty when one of them is not kept."""
        ...

    def holding(self, tenant: str, items: Sequence[str]) -> Sequence[KeptResponse]:
        """A tenant's turns whose answers hold any of these items."""
        ...

    def delete(self, tenant: str, id: str) -> bool:
        """Forget a turn; whether there was one."""
        ...


class _Head(msgspec.Struct):
    input: str | list[msgspec.Raw] | None = None
    previous_response_id: str | None = None
    store: bool | None = None


_head = json_decoder(_Head)
decoded_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_MEMBERS = frozenset({"model", "input", "store", "stream", "previous_response_id", PREVIOUS})
_NO_PREVIOUS = re.compile(rb'"previous_response_id"\s*:\s*null')
"""Of a vendor that was sent the whole conversation. Within a text the quotes would be escaped."""


class Turn(NamedTuple):
    """A call of the Responses API with everything that was said before."""

    body: bytes
    """The request, complete in itself."""
    given: bytes
    """JSON list of the items that the client sent this time."""
    tenant: str
    key: str
    kept: bool
    """Whether the client wants it kept: `store`."""
    conversation: str = ""
    previous: str = ""
    data_class: DataClass = "public"
    """The strictest of this call's own and of everything that it goes on from."""
    began_ms: int | None = None
    """When the call began, milliseconds since 1970; what its tenant said until it was forgotten is not kept."""

    def answered(self, response: bytes) -> KeptResponse | None:
        """What is to be kept with this answer; None when it is no response that can be continued."""
        try:
            row = from_json(response, _Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        if not row.id or row.status not in ("completed", "incomplete"):
            return None
        return KeptResponse(
            id=row.id,
            tenant=self.tenant,
            key=self.key,
            conversation=self.conversation or row.id,
            previous=self.previous,
            data_class=self.data_class,
            began_ms=self.began_ms,
            given=self.given,
            response=response,
            items=tuple(item.id for item in row.output if item.id),
        )


class _Item(msgspec.Struct):
    id: str | None = None
    type: str | None = None
    role: str | None = None

    @property
    def is_reference(self) -> bool:
        """Whether it stands for an item that was said before."""
        return self.id is not None and self.role is None and self.type in (None, "item_reference")


_item = json_decoder(_Item)


class _Answer(msgspec.Struct):
    id: str = ""
    status: str = ""
    output: list[_Item] = []


async def begun(body: bytes, memory: ResponseMemory, *, tenant: str, key: str, data_class: DataClass) -> Turn:
    """The turn that a request begins; the database is asked only if it continues another.

    Args:
        body: as the client sent it.
        memory: where turns are kept.
        tenant: who asks; only its own turns are found.
        key: public part of the key that asks.
        data_class: of what the client sends this time.

    Raises:
        CallRefused: the body cannot be read, or the turn to go on from is not kept for this tenant.
    """
    began_ms = wall_ms()
    head = wirejson.read(_head, body)
    given, named = _listed(head.input), list[KeptResponse]()
    if b'"id"' in body:
        given, named = await _resolved(given, memory, tenant)
    before, earlier, conversation = head.previous_response_id, list[msgspec.Raw](), ""
    turns: Sequence[KeptResponse] = ()
    if before is not None:
        turns = await asyncio.to_thread(memory.turns, tenant, before)
        if not turns:
            raise CallRefused(
                "responses.unknown_previous", field="previous_response_id", id=before, days=DAYS
            )
        conversation = turns[0].id
        for turn in turns:
            earlier += (*decoded_items(turn.given), *filter(None, _said(turn).values()))
    whole = body
    if before is not None or named:
        members = wirejson.opened(body, _MEMBERS)
        members.pop("previous_response_id", None)
        members |= {"input": [*earlier, *given], PREVIOUS: before}
        whole = wirejson.written(members)
    kept = head.store is not False
    classes: list[DataClass] = [data_class, *(turn.data_class for turn in (*turns, *named))]
    strict = strictest(*classes)
    return Turn(
        whole, wirejson.written(given), tenant, key, kept, conversation, before or "", strict, began_ms
    )


async def _resolved(
    given: list[msgspec.Raw], memory: ResponseMemory, tenant: str
) -> tuple[list[msgspec.Raw], Sequence[KeptResponse]]:
    """The items with what references stand for in their place, and the turns in which it was said."""
    named = {
        place: str(item.id)
        for place, raw in enumerate(given)
        if b'"id"' in bytes(raw) and (item := wirejson.read(_item, bytes(raw))).is_reference
    }
    if not named:
        return given, ()
    found: dict[str, msgspec.Raw | None] = {}
    turns = await asyncio.to_thread(memory.holding, tenant, list(named.values()))
    for turn in turns:
        found |= _said(turn)
    resolved: list[msgspec.Raw] = []
    for place, raw in enumerate(given):
        if place not in named:
            resolved.append(raw)
        elif named[place] not in found:
            raise CallRefused("responses.unknown_item", field=f"input[{place}]", id=named[place], days=DAYS)
        elif (item := found[named[place]]) is not None:
            resolved.append(item)
    return resolved, turns


class Remembering:
    """Implements `Reply`: hands everything on, and keeps a turn before its client learns that it is over.

    Args:
        reply: the client's side.
        turn: what is answered.
        memory: where turns are kept.
    """

    def __init__(self, reply: Reply, turn: Turn, memory: ResponseMemory) -> None:
        self._reply = reply
        self._turn = turn
        self._memory = memory
        self._watch = _Last()
        self._held: list[bytes] = []
        self._line = b""
        self._ended = False
        self._task: asyncio.Task[None] | None = None

    @property
    def gone(self) -> bool:
        """The client has left."""
        return self._reply.gone

    @property
    def started(self) -> bool:
        """The head was sent, or will be in a moment."""
        return self._reply.started or self._task is not None

    def whole(self, status: int, head: bytes, body: bytes) -> None:
        """A complete answer; one that can be continued is kept first."""
        body = self._following(body)
        kept = self._turn.answered(body) if status == 200 else None
        if kept is None:
            self._reply.whole(status, head, body)
            return
        self._task = asyncio.ensure_future(self._whole(kept, status, head, body))

    def start(self, status: int, head: bytes) -> None:
        """The head of a stream."""
        self._reply.start(status, head)

    def write(self, piece: bytes) -> None:
        """A piece; the one with the last event, and what follows it, waits."""
        if self._turn.previous:  # its id may be cut in two: lines are handed on whole
            lines, end, self._line = (self._line + piece).rpartition(b"\n")
            piece = self._following(lines + end)
        if self._task is not None:
            self._held.append(piece)
            return
        self._watch.feed(piece)
        if (kept := self._kept()) is None:
            self._reply.write(piece)
            return
        self._held.append(piece)
        self._task = asyncio.ensure_future(self._last(kept))

    def end(self) -> None:
        """The stream is over."""
        if self._line:
            self._held.append(self._line)
            if self._task is None:
                self._reply.write(self._held.pop())
        if self._task is None:
            self._watch.rest()  # its blank line may be missing
            if (kept := self._kept()) is not None:
                self._task = asyncio.ensure_future(self._last(kept))
        if self._task is None:
            self._reply.end()
        else:
            self._ended = True

    def abort(self) -> None:
        """Break the connection."""
        self._held.clear()
        self._reply.abort()

    def drained(self) -> Awaitable[None] | None:
        """None = write on."""
        return self._reply.drained()

    async def settled(self) -> None:
        """The turn is kept and everything was handed on; who is cancelled while waiting does not stop it."""
        if self._task is not None:
            await asyncio.shield(self._task)

    def _kept(self) -> KeptResponse | None:
        """The turn, once its response has been seen."""
        last, self._watch.response = self._watch.response, b""
        return self._turn.answered(last) if last else None

    def _following(self, said: bytes) -> bytes:
        """An answer, or lines of it, that names the turn which it follows."""
        if not self._turn.previous:
            return said
        named = b'"previous_response_id":' + msgspec.json.encode(self._turn.previous)
        return _NO_PREVIOUS.sub(lambda _: named, said)

    async def _whole(self, kept: KeptResponse, status: int, head: bytes, body: bytes) -> None:
        if not await self._put(kept):
            members = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
            body = wirejson.written(members | {"store": False})
        self._reply.whole(status, head, body)

    async def _last(self, kept: KeptResponse) -> None:
        await self._put(kept)
        for piece in self._held:
            self._reply.write(piece)
        self._held.clear()
        self._task = None
        if self._ended:
            self._reply.end()

    async def _put(self, kept: KeptResponse) -> bool:
        """Keep it; False = it cannot be, which a whole answer says (`store`), and the log."""
        try:
            return await asyncio.to_thread(self._memory.put, kept)
        except Exception:
            # the answer is there and paid for: that it cannot be continued is no reason to withhold it
            log.exception("response %s of tenant %r is not kept", kept.id, kept.tenant)
            return False


class _Last(LineWatch):
    """Finds the response in the last event of a stream."""

    def __init__(self) -> None:
        marks = tuple(f'"{kind}"'.encode() for kind in _ENDS)
        super().__init__(marks=marks, opener=b"\0", overhead=0)
        self.response = b""

    def read(self, data: bytes) -> None:
        """An event that may be the last."""
        try:
            event = from_json(data, _Event)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if event.type in _ENDS:
            self.response = bytes(event.response)

    def seen(self) -> Seen:
        """Nothing: others look at usage."""
        return Seen(None)


class _Event(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw(b"")


def _said(turn: KeptResponse) -> dict[str, msgspec.Raw | None]:
    """What a turn's answer adds to the conversation, by the items' ids. Items that a model behind us made carry ids
    that no vendor knows, and reasoning that no other model can read: neither goes on (None)."""
    output: list[msgspec.Raw] = from_json(turn.response, _Output).output
    tail = turn.id.partition("_")[2]
    said: dict[str, msgspec.Raw | None] = {}
    for place, item in enumerate(output):
        row: dict[str, Any] = msgspec.json.decode(item)
        id = str(row.get("id") or f"{place}")
        own, _, number = id.partition("_")[2].rpartition("_")
        if own != tail or not number.isdigit():
            said[id] = item  # as its vendor wrote it
        elif row["type"] == "reasoning":
            said[id] = None
        else:
            for name in ("id", "status"):
                row.pop(name, None)
            said[id] = msgspec.Raw(wirejson.written(row))
    return said


class _Output(msgspec.Struct):
    output: list[msgspec.Raw] = []


def _listed(given: str | list[msgspec.Raw] | None) -> list[msgspec.Raw]:
    if isinstance(given, str):
        return [msgspec.Raw(wirejson.written(user_item(given)))]
    return given or []
