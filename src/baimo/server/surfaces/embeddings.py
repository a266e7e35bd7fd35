"""POST /v1/embeddings.

Source: developers.openai.com/api/reference/resources/embeddings; vLLM also takes `messages` with pictures, and Jina
objects as inputs (docs.vllm.ai, jina.ai/embeddings).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from baimo.errors import CallRefused
from baimo.gateway.surface import Peek, Seen
from baimo.providers.openai_reply import fields, items
from baimo.server.surfaces.passed import OVERHEAD_BYTES, Passed
from baimo.server.surfaces.usage import counted
from baimo.server.surfaces.wirejson import NOTHING, read, says
from baimo.typed import json_decoder


class Body(msgspec.Struct):
    """What admission needs of a request."""

    model: str = ""
    input: msgspec.Raw = NOTHING
    messages: msgspec.Raw = NOTHING


class _Answer(msgspec.Struct):
    """The vectors are not read."""

    usage: dict[str, Any] | None = None
    model: str = ""


_decoded = json_decoder(Body)
_answer = json_decoder(_Answer)
_anything = msgspec.json.Decoder(object).decode
_ATTACHED = frozenset({"image", "image_url", "input_audio", "audio", "video", "file"})


class Embeddings(Passed):
    """Implements `Surface`."""

    name = "embeddings"
    target = "embeddings"
    ability = "embeddings"
    known = frozenset(Body.__struct_fields__)

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """See `Surface`. A text costs one or two tokens more than it has, which its quotes and comma make up for."""
        given = read(_decoded, body)
        if not says(given.input) and not says(given.messages):
            raise CallRefused("surfaces.missing", field="input")
        attachments = pictures(given.input) + pictures(given.messages)
        return Peek(model=given.model, text_bytes=len(body) + OVERHEAD_BYTES, attachments=attachments)

    def seen(self, body: bytes) -> Seen:
        """See `Surface`."""
        try:
            answer = _answer(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Seen(None)
        return Seen(counted(answer.usage, output=False), answer.model)


def pictures(part: msgspec.Raw) -> int:
    """How many objects in a part of a body, at any depth, hold something that is no text.

    Raises:
        CallRefused: the part is no JSON.
    """
    if b"{" not in bytes(part):
        return 0
    found, todo = 0, [read(_anything, bytes(part))]
    while todo:  # a body may be nested deeper than calls may be
        value = todo.pop()
        if not isinstance(value, Mapping):
            todo += items(value)
            continue
        row = fields(value)
        found += row.get("type", "text") != "text" or not _ATTACHED.isdisjoint(row)
        todo += [one for name, one in row.items() if name in {"content", "input"}]
    return found
