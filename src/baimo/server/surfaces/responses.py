"""OpenAI's `POST /v1/responses`.

Source: developers.openai.com/api/reference/resources/responses and the types of the official SDK 3.54 (November 2026).
Few servers of OpenAI's format have it: those whose vendor has the quirk `responses`; for all others it is translated.
What was said before (`previous_response_id`) is written into the body before it comes here: see `responses_memory`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from baimo.core.call import Completion, Request, Usage
from baimo.errors import BaimoError, NotSupported
from baimo.gateway.surface import Events, Peek, Seen
from baimo.providers.faults import error_message
from baimo.providers.openai_reply import count, fields, items
from baimo.server.surfaces import openai_errors, responses_request, wirejson
from baimo.server.surfaces.asks import Searches, compacts, searched
from baimo.server.surfaces.chat import MESSAGE_BYTES, TEMPLATE_BYTES, TOOLS_BYTES, Tokens
from baimo.server.surfaces.given import Given, objects
from baimo.server.surfaces.messages_answer import first
from baimo.server.surfaces.responses_answer import PREVIOUS, Frame, ResponsesEvents, response
from baimo.server.surfaces.sse import LineWatch, encoded
from baimo.server.surfaces.usage import counted, object_in
from baimo.server.surfaces.vendor_ids import vendor_id
from baimo.typed import json_decoder

QUIRK = "responses"
"""Vendors with it are sent the request as it is."""
_ATTACHED = (
    b'"input_image"',
    b'"input_file"',
    b'"input_audio"',
    b'"computer_call_output"',
    b'"id"',
    b"\\u00",
)
"""One of these is in every body with an attachment: references are objects with an id, and the last stands for a
name written with escapes."""
_UNBOUNDED = frozenset({"input_image", "input_file", "input_audio", "computer_call_output"})


_CLIENTS = frozenset(
    {"function", "custom", "namespace", "computer", "computer_use_preview", "local_shell", "apply_patch"}
)
"""Types of tools that the client runs."""
_BILLED = frozenset({"web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"})
"""Items of an answer that are billed besides its tokens."""


class _Place(msgspec.Struct):
    type: str = ""


class _Tool(msgspec.Struct):
    type: str = ""
    execution: str | None = None
    environment: _Place | None = None

    def client(self) -> bool:
        """Whether the client runs it: a shell of its own, a search for tools of its own."""
        where = self.environment.type if self.environment else self.execution
        return self.type in _CLIENTS or (self.type, where) in (("shell", "local"), ("tool_search", "client"))


class _Head(Searches):
    model: str = ""
    input: str | list[msgspec.Raw] | None = None
    instructions: str | None = None
    max_output_tokens: Tokens | None = None
    stream: bool | None = None
    store: bool | None = None
    service_tier: str | None = None
    tools: list[_Tool] | None = None
    previous_response_id: str | None = None
    conversation: str | dict[str, msgspec.Raw] | None = None
    background: bool | None = None
    prompt: dict[str, msgspec.Raw] | None = None
    context_management: msgspec.Raw = wirejson.NOTHING


_MEMBERS = frozenset(_Head.__struct_fields__)
_head = json_decoder(_Head)


class ResponsesPeek(Peek, kw_only=True):
    """What a response repeats of its request."""

    body: bytes


class Responses:
    """Implements `Surface`."""

    name = "responses"
    protocol = "openai"
    target = "responses"
    neutral = True
    holds = "output"
    ability = "chat"
    needs = QUIRK
    """Quirk that a vendor of this protocol must have to be sent the request as it is."""
    ends_failed = True
    """response.failed and error end a stream as response.completed does."""

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> ResponsesPeek:
        """Model, limits and size; contents are decoded only where something is attached."""
        head = wirejson.read(_head, body)
        if head.previous_response_id is not None:
            raise NotSupported("responses.no_memory")
        if head.conversation is not None:
            # all tenants share the vendor's account, and with it every conversation that the vendor keeps
            raise NotSupported("responses.conversation")
        if head.background:
            raise NotSupported("responses.background")
        searching = searched(head)
        turns = head.input if isinstance(head.input, list) else []
        tools = head.tools or []
        peek = ResponsesPeek(
            model=head.model,
            stream=head.stream is True,
            max_tokens=head.max_output_tokens,
            wants_usage=True,
            text_bytes=len(body)
            + TEMPLATE_BYTES
            + MESSAGE_BYTES * len(turns)
            + (TOOLS_BYTES if tools else 0),
            attachments=sum(1 for tool in tools if tool.type not in ("function", "custom")) + bool(searching),
            opening=_opening(head),
            vendor_id=vendor_id(body),
            tier=head.service_tier or "",
            unpriced=_asked(head, tools) or searching,
            told=not searching,
            deterministic=head.store is False and not searching,
            body=body,
        )
        peek.attachments += head.prompt is not None
        if any(mark in body for mark in _ATTACHED):
            given = Given.body(body).row.get("input")
            found, inline = _attached(given)
            peek.attachments += found
            peek.text_bytes -= inline
            if found and _sounds(given):
                peek.unpriced, peek.told = "input", False
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
        """The body with another model."""
        members = wirejson.opened(body, _MEMBERS)
        members["model"] = model
        members.pop(PREVIOUS, None)
        if max_tokens is not None and peek.max_tokens is None:
            members["max_output_tokens"] = max_tokens
        return wirejson.written(members)

    def seen(self, body: bytes) -> Seen:
        """Usage of a whole response."""
        return said(object_in(body))

    def watch(self, peek: Peek) -> ResponsesWatch:
        """Reads the last event, and errors."""
        return ResponsesWatch()

    def request(self, body: bytes, peek: Peek, *, model: str, native: bool = False) -> Request:
        """The neutral request; see `responses_request` for what is left out and what is refused."""
        return responses_request.request(Given.body(body), model=model)

    def answer(
        self, completion: Completion | Sequence[Completion], peek: Peek, *, id: str, created_s: int
    ) -> bytes:
        """A whole response."""
        return encoded(response(first(completion), _frame(peek, id, created_s)))

    def events(self, peek: Peek, *, id: str, created_s: int) -> ResponsesEvents:
        """response.created … response.completed."""
        return ResponsesEvents(_frame(peek, id, created_s))

    def refusal(self, error: BaimoError, *, request_id: str) -> bytes:
        """An error body."""
        return openai_errors.refusal(error, request_id=request_id)


class ResponsesWatch(LineWatch):
    """Implements `Watch`. Only events that hold a whole response speak of usage or errors; the last one counts."""

    def __init__(self) -> None:
        super().__init__(marks=(b"usage", b"error"), opener=b'.delta",', overhead=210)
        self._last = Seen(None, complete=False)
        self._begun: dict[str, Any] = {}

    def read(self, data: bytes) -> None:
        """The first two events, the last one, or an error."""
        event = object_in(data)
        kind = str(event.get("type") or "")
        if kind == "error" or (not kind and "error" in event):
            self._last = msgspec.structs.replace(self._last, failed=error_message(event) or "error")
        elif kind.startswith("response.") and (row := fields(event.get("response"))):
            self._last = said(row, model=self._last.model)
            self._begun = {name: row[name] for name in ("id", "created_at", "model") if name in row}

    def seen(self) -> Seen:
        """Usage and ending so far."""
        return msgspec.structs.replace(self._last, text_bytes=self.text_bytes)

    def failed(self, error: BaimoError, events: Events) -> bytes:
        """response.failed of the response that was begun: clients take another id, or a number again, for a fault."""
        if self._begun and isinstance(events, ResponsesEvents):
            events.follow(self._begun, self._next_number())
        return events.failed(error)

    def _next_number(self) -> int:
        """The sequence number after that of the last event, whose server may not give any."""
        for line in reversed(self._block.splitlines()):
            number = count(object_in(line[5:]).get("sequence_number"))
            if number is not None:
                return number + 1
        return 0


def said(row: Mapping[str, Any], *, model: str = "") -> Seen:
    """What a response says about itself.

    Args:
        row: the object.
        model: where it names none.
    """
    status = str(row.get("status") or "")
    usage: Usage | None = counted(row.get("usage"))
    if usage is not None:
        details = fields(fields(row.get("usage")).get("input_tokens_details"))
        usage = replace(
            usage,
            tokens_cache_write=count(details.get("cache_write_tokens")),
            unpriced=any(map(_is_billed, items(row.get("output")))),
        )
    reason = fields(row.get("incomplete_details")).get("reason")
    return Seen(
        usage,
        model=str(row.get("model") or model),
        finish_reason=str(reason or status),
        complete=status in ("completed", "incomplete"),
        tier=str(row.get("service_tier") or ""),
        failed=(error_message(row) or "error") if row.get("error") else "",
    )


def _is_billed(item: Any) -> bool:
    given = fields(item)
    hosted = fields(given.get("environment")).get("type") == "container_reference"
    return given.get("type") in _BILLED or (given.get("type") == "shell_call" and hosted)


def _asked(head: _Head, tools: list[_Tool]) -> str:
    """`Peek.unpriced`: tools that OpenAI runs may cost something each time, and let the model answer again and again
    within one call; a summary of the conversation is an answer of its own."""
    if head.context_management is not wirejson.NOTHING and compacts(head.context_management):
        return "context_management"
    return next((f"tools[{number}]" for number, tool in enumerate(tools) if not tool.client()), "")


def _sounds(value: Any, depth: int = 0) -> bool:
    """Whether a list of items or parts holds sound."""
    return depth < 2 and any(
        row.get("type") == "input_audio"
        or any(_sounds(row.get(name), depth + 1) for name in ("content", "output"))
        for row in objects(value)
    )


def _opening(head: _Head) -> bytes:
    """Instructions and first item; a text is the item that it stands for, as it will be in the next turn's body."""
    if isinstance(head.input, str):
        beginning = wirejson.written(user_item(head.input))
    else:
        beginning = bytes(head.input[0]) if head.input else b""
    return (head.instructions or "").encode() + beginning


def user_item(text: str) -> dict[str, Any]:
    """The item that a text as `input` stands for."""
    return {"type": "message", "role": "user", "content": text}


def _attached(value: Any, depth: int = 0) -> tuple[int, int]:
    """How many images, sounds and files a list of items or parts holds, and the bytes of data in them. References were
    replaced by what they stand for, where there is a memory."""
    found = inline = 0
    for row in objects(value) if depth < 2 else ():
        kind = row.get("type")
        if kind == "item_reference" or (kind is None and "id" in row and "role" not in row):
            raise NotSupported("responses.no_memory")
        if kind in _UNBOUNDED:
            given = fields(row.get("output")) if kind == "computer_call_output" else row
            sound = fields(row.get("input_audio")).get("data")
            data = [given.get("image_url"), given.get("file_data"), sound]
            found, inline = found + 1, inline + sum(len(one) for one in data if isinstance(one, str))
        else:
            for name in ("content", "output"):
                more, further = _attached(row.get(name), depth + 1)
                found, inline = found + more, inline + further
    return found, inline


def _frame(peek: Peek, id: str, created_s: int) -> Frame:
    given: Mapping[str, Any] = Given.body(peek.body).row if isinstance(peek, ResponsesPeek) else {}
    return Frame(given, model=peek.model, id=id, created_s=created_s)
