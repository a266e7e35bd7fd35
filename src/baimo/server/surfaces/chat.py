"""POST /v1/chat/completions.

Source: developers.openai.com/api/reference/resources/chat, and the types of the official SDK 3.54 (November 2026).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec

from baimo.core.call import Completion, Request
from baimo.errors import BaimoError
from baimo.gateway.surface import Events, Peek, Seen, Watch
from baimo.server.surfaces import openai_errors
from baimo.server.surfaces.asks import Asks, connects, searched, unpriced
from baimo.server.surfaces.chat_answer import ChatEvents, chat_answer, retold
from baimo.server.surfaces.chat_request import chat_request
from baimo.server.surfaces.chat_watch import ChatWatch
from baimo.server.surfaces.usage import seen_answer
from baimo.server.surfaces.vendor_ids import vendor_id
from baimo.server.surfaces.wirejson import NOTHING, Members, opened, refused, says, written
from baimo.typed import json_decoder

Tokens = Annotated[int, msgspec.Meta(ge=1, le=1 << 40)]
"""Not 0, as OpenAI has it: some servers take that for no limit."""
Answers = Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]

TEMPLATE_BYTES = 512
"""Most tokens that a chat template puts around a conversation of its own accord: default system texts, dates, what
begins the answer. The frames of single messages (5 tokens or so) are shorter than their JSON, which is counted."""
TOOLS_BYTES = 1024
"""Most tokens of the text with which templates and vendors introduce tools (Qwen about 120; Anthropic names 264 to
530 in platform.claude.com/docs/en/agents-and-tools/tool-use/overview)."""
MESSAGE_BYTES = 8
"""Added for each message, for templates that frame it with more than its JSON has."""

_TEXT = frozenset({"text", "refusal", "thinking"})
_SOUND = frozenset({"input_audio", "audio_url"})
_CLIENT_TOOLS = frozenset({"function", "custom"})
_USAGE_WANTED = msgspec.Raw(b'{"include_usage":true}')


class Part(msgspec.Struct):
    """A piece of a message, as far as bounds go; the last five hold what is no text."""

    type: str = "text"
    text: str | None = None
    image_url: msgspec.Raw = NOTHING
    input_audio: msgspec.Raw = NOTHING
    file: msgspec.Raw = NOTHING
    video_url: msgspec.Raw = NOTHING
    audio_url: msgspec.Raw = NOTHING

    def payload_bytes(self) -> int:
        """Length of inline data; it is not told to a tokenizer."""
        data = (self.image_url, self.input_audio, self.file, self.video_url, self.audio_url)
        return sum(map(len, data))


class Turn(msgspec.Struct):
    """A message, as far as bounds and the conversation's beginning go."""

    role: str = ""
    content: str | list[Part] | None = None


class ToolKind(msgspec.Struct):
    """A tool, as far as bounds go: what a vendor's own tools find (web_search …) becomes prompt as well."""

    type: str = "function"


class StreamOptions(msgspec.Struct):
    """What a stream shall hold besides the answer."""

    include_usage: bool | None = None


class Body(Asks):
    """What admission needs of a request."""

    messages: list[Turn]
    model: str = ""
    stream: bool | None = None
    max_tokens: Tokens | None = None
    max_completion_tokens: Tokens | None = None
    n: Answers | None = None
    stream_options: StreamOptions | None = None
    tools: list[ToolKind] | None = None
    functions: msgspec.Raw = NOTHING
    prediction: msgspec.Raw = NOTHING
    web_search_options: msgspec.Raw = NOTHING
    modalities: msgspec.Raw = NOTHING
    audio: msgspec.Raw = NOTHING
    store: bool | None = None
    service_tier: str | None = None
    best_of: Answers | None = None


KNOWN = frozenset(Body.__struct_fields__)
_decoded = json_decoder(Body)


class ChatPeek(Peek, kw_only=True):
    """Also what the answer depends on."""

    functions: bool = False
    """The request speaks of functions, as before November 2023, and so must the answer."""


class Chat:
    """Implements `Surface`."""

    name = "chat"
    protocol = "openai"
    target = "chat/completions"
    neutral = True
    holds = "choices"
    ability = "chat"
    known = KNOWN
    """Members that `peek` reads."""
    renames = True
    """Whether models with the quirk max_completion_tokens want the limit under that name here."""

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """See `Surface`. With predicted outputs an answer may take its `max_tokens` and the prediction. What a vendor's
        own tools add to the prompt is bounded like an attachment."""
        try:
            read = _decoded(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise refused(error) from None
        most, other = read.max_tokens, read.max_completion_tokens
        if most is None or (other is not None and other > most):
            most = other
        if most is not None and says(read.prediction):
            most += len(read.prediction)
        answers = read.n or 1
        if read.best_of is not None and read.best_of > answers:
            answers = read.best_of
        text_bytes = len(body) + TEMPLATE_BYTES + MESSAGE_BYTES * len(read.messages)
        attachments = 0
        if read.tools or says(read.functions):
            text_bytes += TOOLS_BYTES
            attachments = sum(tool.type not in _CLIENT_TOOLS for tool in read.tools or ())
        if says(read.web_search_options):
            attachments += 1
        for turn in read.messages:
            if isinstance(turn.content, list):
                for part in turn.content:
                    if part.type not in _TEXT:
                        attachments += 1
                        text_bytes -= part.payload_bytes()
        asked, told = unpriced(read)
        if not asked and (attachments or read.modalities is not NOTHING or read.audio is not NOTHING):
            asked, told = _asked(read), False
        elif asked and connects(read):
            attachments += 1
        searching = searched(read)
        if searching:
            asked, told = asked or searching, False
            attachments += 1
        options = read.stream_options
        return ChatPeek(
            model=read.model,
            stream=read.stream or False,
            max_tokens=most,
            answers=answers,
            wants_usage=(options is not None and options.include_usage) or False,
            text_bytes=text_bytes,
            attachments=attachments,
            opening=_opening(read.messages),
            vendor_id=vendor_id(body),
            tier=read.service_tier or "",
            unpriced=asked,
            told=told,
            long_cache=says(read.cache_control),
            deterministic=answers == 1 and not (read.store or searching or says(read.web_search_options)),
            functions=says(read.functions),
        )

    def sent(
        self,
        body: bytes,
        peek: Peek,
        *,
        model: str,
        max_tokens: int | None,
        quirks: frozenset[str] = frozenset(),
    ) -> bytes:
        """See `Surface`; two quirks of a model matter here: no_stream_options and max_completion_tokens."""
        members = opened(body, self.known)
        members["model"] = model
        if peek.stream and not peek.wants_usage and "no_stream_options" not in quirks:
            _ask_usage(members)
        renamed = self.renames and "max_completion_tokens" in quirks
        if max_tokens is not None and peek.max_tokens is None:
            members["max_completion_tokens" if renamed else "max_tokens"] = max_tokens
        elif renamed and "max_tokens" in members:
            members.setdefault("max_completion_tokens", members.pop("max_tokens"))
        return written(members)

    def seen(self, body: bytes) -> Seen:
        """See `Surface`."""
        return seen_answer(body)

    def watch(self, peek: Peek) -> Watch:
        """See `Surface`."""
        return ChatWatch(drop_usage=not peek.wants_usage, answers=peek.answers)

    def retold(self, body: bytes) -> bytes:
        """See `Surface`."""
        return retold(body)

    def request(self, body: bytes, peek: Peek, *, model: str, native: bool = False) -> Request:
        """See `Surface`."""
        return chat_request(body, model=model)

    def answer(
        self, completion: Completion | Sequence[Completion], peek: Peek, *, id: str, created_s: int
    ) -> bytes:
        """See `Surface`."""
        functions = isinstance(peek, ChatPeek) and peek.functions
        return chat_answer(completion, model=peek.model, id=id, created_s=created_s, functions=functions)

    def events(self, peek: Peek, *, id: str, created_s: int) -> Events:
        """See `Surface`."""
        functions = isinstance(peek, ChatPeek) and peek.functions
        return ChatEvents(peek, id=id, created_s=created_s, functions=functions)

    def refusal(self, error: BaimoError, *, request_id: str) -> bytes:
        """See `Surface`."""
        return openai_errors.refusal(error, request_id=request_id)


def _asked(read: Body) -> str:
    """Path of what is billed besides text: sound or pictures in the answer, sound in the prompt, a vendor's tools."""
    if says(read.audio):
        return "audio"
    if says(read.modalities) and b"".join(bytes(read.modalities).split()) != b'["text"]':
        return "modalities"
    for number, turn in enumerate(read.messages):
        if isinstance(turn.content, list) and any(part.type in _SOUND for part in turn.content):
            return f"messages[{number}].content"
    for number, tool in enumerate(read.tools or ()):
        if tool.type not in _CLIENT_TOOLS:
            return f"tools[{number}]"
    return "web_search_options" if says(read.web_search_options) else ""


def _ask_usage(members: Members) -> None:
    """Ask for usage in a stream; other wishes of the client stay."""
    given: Any = members.get("stream_options")
    options = None if given is None else msgspec.json.decode(given)
    members["stream_options"] = {**options, "include_usage": True} if options else _USAGE_WANTED


def _opening(messages: list[Turn]) -> bytes:
    said: list[str] = []
    for turn in messages:
        content = turn.content
        said.append(turn.role)
        if isinstance(content, list):
            said += [part.text or "" for part in content]
        elif content:
            said.append(content)
        if turn.role == "user":
            break
    return "\0".join(said).encode()
