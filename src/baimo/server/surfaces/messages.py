"""Anthropic's `POST /v1/messages`.

Source: platform.claude.com/docs/en/api/messages and the type definitions of the official SDK 2.12 (November 2026).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from baimo.core.call import Completion, Request
from baimo.errors import BaimoError, CallRefused
from baimo.gateway.surface import Peek, Seen
from baimo.providers.anthropic import tool_id
from baimo.providers.anthropic_reply import completion, usage
from baimo.providers.faults import Place, error_message
from baimo.providers.openai_reply import fields
from baimo.providers.paced import as_delta
from baimo.server.surfaces import anthropic_errors, messages_request, wirejson
from baimo.server.surfaces.asks import Asks, connects, searched, unpriced
from baimo.server.surfaces.chat import MESSAGE_BYTES, TEMPLATE_BYTES, TOOLS_BYTES
from baimo.server.surfaces.given import Given, objects
from baimo.server.surfaces.messages_answer import MessageEvents, first, message
from baimo.server.surfaces.sse import LineWatch, encoded
from baimo.server.surfaces.usage import Count, object_in
from baimo.server.surfaces.vendor_ids import vendor_id
from baimo.typed import json_decoder

_ATTACHED = (b'"image"', b'"document"', b"\\u00")
"""One of these is in every body with an attachment; the last stands for a name written with escapes."""
_UNSIGNED = re.compile(rb'"signature"\s*:\s*""')
_FOREIGN = re.compile(rb'"tool_use_id"\s*:\s*"(?![\w-]+")')
_IDS = {"tool_use": "id", "tool_result": "tool_use_id"}

_CLIENTS = ("bash_", "browser_", "computer_", "memory_", "text_editor_")
"""Beginnings of the types of tools that Anthropic describes and the client runs."""
_UNTOLD = "code_execution_"
"""Beginning of the types of a tool that is billed by the hour, of which the usage says nothing."""


class _Tool(msgspec.Struct):
    type: str | None = None


class _Head(Asks):
    messages: list[msgspec.Raw]
    model: str = ""
    max_tokens: Count | None = None
    service_tier: str | None = None
    system: msgspec.Raw = msgspec.Raw(b"")
    tools: list[_Tool] | None = None
    tool_choice: msgspec.Raw = msgspec.Raw(b"")
    stream: bool | None = None


_MEMBERS = frozenset(_Head.__struct_fields__)
_head = json_decoder(_Head)


class MessagesPeek(Peek, kw_only=True):
    """What the answer of a Messages request depends on besides."""

    one_call: bool = False
    """disable_parallel_tool_use: at most one tool call per answer."""


class Messages:
    """Implements `Surface`."""

    name = "messages"
    protocol = "anthropic"
    target = "v1/messages"
    neutral = True
    holds = "content"
    ability = "chat"
    counted = True
    """Whether max_tokens must be there."""

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> MessagesPeek:
        """Model, limits and size; contents are decoded only where something is attached."""
        head = wirejson.read(_head, body)
        if self.counted and head.max_tokens is None:
            raise CallRefused("surfaces.missing", field="max_tokens")
        tools = head.tools or []
        asked, told = unpriced(head)
        if tools and not asked:
            asked, told = _run_by_the_vendor(tools)
        searching = searched(head)
        text_bytes = len(body) + TEMPLATE_BYTES + MESSAGE_BYTES * len(head.messages)
        peek = MessagesPeek(
            model=head.model,
            stream=head.stream is True,
            max_tokens=head.max_tokens,
            wants_usage=True,
            text_bytes=text_bytes + (TOOLS_BYTES if tools else 0),
            attachments=sum(1 for tool in tools if tool.type not in (None, "custom"))
            + bool(searching)
            + connects(head),
            opening=bytes(head.system) + (bytes(head.messages[0]) if head.messages else b""),
            vendor_id=vendor_id(body),
            tier=head.service_tier or "",
            unpriced=asked or searching,
            told=told and not searching,
            long_cache=_keeps_an_hour(body),
            deterministic=not searching,
            one_call=_one_call(head.tool_choice),
        )
        if any(mark in body for mark in _ATTACHED):
            found, inline = attached(Given.body(body).row["messages"])
            peek.attachments += found
            peek.text_bytes -= inline
        return peek

    def sent(
        self,
        body: bytes,
        peek: Peek,
        *,
        model: str,
        max_tokens: int | None,
        quirks: frozenset[str] = frozenset(),
    ) -> bytes:
        """The body with another model. What other models left in it and the API refuses is left out (thinking without
        a signature) or replaced (ids of calls)."""
        members = wirejson.opened(body, _MEMBERS)
        members["model"] = model
        if max_tokens is not None and peek.max_tokens is None and self.counted:
            members["max_tokens"] = max_tokens
        unsigned = body.find(b'"signature"') >= 0 and _UNSIGNED.search(body) is not None
        if unsigned or _foreign_ids(body):
            turns = objects(msgspec.json.decode(members["messages"]))
            members["messages"] = _with_own_ids(_signed(turns))
        return wirejson.written(members)

    def seen(self, body: bytes) -> Seen:
        """Usage of a whole message."""
        return _said(object_in(body))

    def watch(self, peek: Peek) -> MessagesWatch:
        """Reads message_start, message_delta, message_stop and errors."""
        return MessagesWatch()

    def retold(self, body: bytes) -> bytes:
        """See `Surface`."""
        row = object_in(body)
        if not isinstance(row.get("content"), list):
            return b""
        events = MessageEvents(model=str(row.get("model") or ""), id=str(row.get("id") or ""))
        said = completion(row, Place(host="", model="", key=""))
        return events.delta(as_delta(said)) + events.end()

    def request(self, body: bytes, peek: Peek, *, model: str, native: bool = False) -> Request:
        """The neutral request; see `messages_request` for what is left out and what is refused."""
        return messages_request.request(Given.body(body), model=model, native=native)

    def answer(
        self, completion: Completion | Sequence[Completion], peek: Peek, *, id: str, created_s: int
    ) -> bytes:
        """A whole message."""
        one_call = isinstance(peek, MessagesPeek) and peek.one_call
        return encoded(message(first(completion), model=peek.model, id=id, one_call=one_call))

    def events(self, peek: Peek, *, id: str, created_s: int) -> MessageEvents:
        """message_start … message_stop."""
        return MessageEvents(
            model=peek.model, id=id, one_call=isinstance(peek, MessagesPeek) and peek.one_call
        )

    def refusal(self, error: BaimoError, *, request_id: str) -> bytes:
        """An error body."""
        return anthropic_errors.refusal(error, request_id=request_id)


class _Message(msgspec.Struct):
    model: str = ""
    usage: dict[str, Any] | None = None


class _Delta(msgspec.Struct):
    stop_reason: str | None = None


class _Error(msgspec.Struct):
    type: str = ""
    message: str = ""


class _Event(msgspec.Struct):
    type: str = ""
    message: _Message | None = None
    delta: _Delta | None = None
    usage: dict[str, Any] | None = None
    error: _Error | None = None


_event = json_decoder(_Event)


class MessagesWatch(LineWatch):
    """Implements `Watch`. Counts in a stream are cumulative: later ones replace earlier ones."""

    def __init__(self) -> None:
        super().__init__(
            marks=(b"message_", b"error"),
            opener=b'"content_block_delta"',
            overhead=len(
                b"event: content_block_delta\ndata: "
                b'{"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":""}}\n\n'
            ),
        )
        self._counts: dict[str, Any] = {}
        self._model = self._finish = self._failed = ""
        self._complete = self._counted = False

    def read(self, data: bytes) -> None:
        """The first event, the last two, or an error."""
        try:
            event = _event(data)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if event.type == "message_start" and event.message is not None:
            self._model = event.message.model
            self._count(event.message.usage)
        elif event.type == "message_delta":
            self._count(event.usage)
            self._counted = self._counted or event.usage is not None
            self._finish = (event.delta and event.delta.stop_reason) or self._finish
        elif event.type == "message_stop":
            self._complete = True
        elif event.type == "error" and event.error is not None:
            self._failed = event.error.message or event.error.type or "error"

    def seen(self) -> Seen:
        """Usage and ending so far. Before message_delta the answer's tokens are not known, and 0 for the prompt's
        stands for a server that counts at the end."""
        found = usage(self._counts if self._counted else {**self._counts, "output_tokens": None})
        if found is not None and not self._counted and not found.tokens_in:
            found = None
        return Seen(
            found,
            model=self._model,
            finish_reason=self._finish,
            complete=self._complete and not self._failed,
            text_bytes=self.text_bytes,
            tier=str(self._counts.get("service_tier") or ""),
            failed=self._failed,
        )

    def _count(self, counts: Mapping[str, Any] | None) -> None:
        self._counts.update({name: value for name, value in (counts or {}).items() if value is not None})


def attached(value: Any, depth: int = 0) -> tuple[int, int]:
    """How many images and documents a list of turns or blocks holds, and the bytes of base64 in them.

    A picture in a document in a tool's result in a turn is as deep as the API allows.
    """
    found = inline = 0
    for row in objects(value) if depth < 4 else ():
        kind, source = row.get("type"), fields(row.get("source"))
        if kind in ("image", "document") and source.get("type") == "base64":
            found, inline = found + 1, inline + len(str(source.get("data") or ""))
        elif kind in ("image", "document") and source.get("type") not in ("text", "content"):
            found += 1
        else:
            more, further = attached(row.get("content") or source.get("content"), depth + 1)
            found, inline = found + more, inline + further
    return found, inline


def _run_by_the_vendor(tools: list[_Tool]) -> tuple[str, bool]:
    """`Peek.unpriced` and `Peek.told` of the tools: those that the vendor runs may cost something each time, and let
    the model answer again and again within one call."""
    asked, told = "", True
    for number, tool in enumerate(tools):
        if tool.type not in (None, "custom") and not tool.type.startswith(_CLIENTS):
            asked = asked or f"tools[{number}]"
            told = told and not tool.type.startswith(_UNTOLD)
    return asked, told


def _keeps_an_hour(body: bytes) -> bool:
    """Whether `"ttl": "1h"` may be in it, with its letters as they are or as escapes."""
    find = body.find
    if find(b'"1h"') >= 0:
        return True
    return find(b"\\u00") >= 0 and (find(b"\\u0031") >= 0 or find(b"\\u0068") >= 0)


def _one_call(raw: msgspec.Raw) -> bool:
    return bool(raw) and fields(msgspec.json.decode(raw)).get("disable_parallel_tool_use") is True


def _said(row: Mapping[str, Any]) -> Seen:
    return Seen(
        usage(fields(row.get("usage"))),
        model=str(row.get("model") or ""),
        finish_reason=str(row.get("stop_reason") or ""),
        complete=row.get("type") == "message",
        tier=str(fields(row.get("usage")).get("service_tier") or ""),
        failed=error_message(row) or "error" if row.get("error") else "",
    )


def _foreign_ids(body: bytes) -> bool:
    """Whether other models may have written a call whose result is in it; to count is cheaper than to match."""
    results = body.count(b'"tool_use_id"')
    return results > body.count(b'"tool_use_id":"toolu_') and _FOREIGN.search(body) is not None


def _with_own_ids(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for turn in turns:
        for block in objects(turn.get("content")):
            name = _IDS.get(str(block.get("type")))
            if name is not None and isinstance(block.get(name), str):
                block[name] = tool_id(block[name])
    return turns


def _signed(turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The turns without unsigned thinking; a turn that was nothing else is left out."""
    signed: list[dict[str, Any]] = []
    for turn in turns:
        if isinstance(turn.get("content"), list):
            blocks = [block for block in objects(turn["content"]) if block.get("signature") != ""]
            if not blocks:
                continue
            turn = {**turn, "content": blocks}
        signed.append(turn)
    return signed
