"""POST /v1/images/generations.

Source: developers.openai.com/api/reference/resources/images; models before gpt-image-1 count no tokens.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from baimo.gateway.surface import Peek, Seen
from baimo.server.surfaces.chat import Answers
from baimo.server.surfaces.passed import OVERHEAD_BYTES, Passed
from baimo.server.surfaces.usage import counted
from baimo.server.surfaces.wirejson import read
from baimo.typed import json_decoder


class Body(msgspec.Struct):
    """What admission needs of a request."""

    prompt: str
    model: str = ""
    n: Answers | None = None
    stream: bool | None = None


class _Answer(msgspec.Struct):
    """The pictures are not read."""

    usage: dict[str, Any] | None = None


_decoded = json_decoder(Body)
_answer = json_decoder(_Answer)


class Images(Passed):
    """Implements `Surface`."""

    name = "images"
    target = "images/generations"
    ability = "images"
    known = frozenset(Body.__struct_fields__)

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """See `Surface`."""
        given = read(_decoded, body)
        answers = given.n or 1
        return Peek(
            model=given.model,
            stream=given.stream or False,
            answers=answers,
            billed=answers,
            text_bytes=len(body) + OVERHEAD_BYTES,
            deterministic=answers == 1,
        )

    def seen(self, body: bytes) -> Seen:
        """See `Surface`."""
        try:
            return Seen(counted(_answer(body).usage))
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return Seen(None)
