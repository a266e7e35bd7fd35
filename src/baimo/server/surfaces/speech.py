"""POST /v1/audio/speech. Answers are sound, or events with pieces of it; only the last event counts tokens.

Source: developers.openai.com/api/reference/resources/audio/subresources/speech.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from baimo.gateway.surface import Peek, Seen
from baimo.server.surfaces.passed import OVERHEAD_BYTES, Passed
from baimo.server.surfaces.wirejson import read
from baimo.typed import json_decoder


class Body(msgspec.Struct):
    """What admission needs of a request."""

    input: str
    model: str = ""
    stream_format: str | None = None


_decoded = json_decoder(Body)


class Speech(Passed):
    """Implements `Surface`."""

    name = "speech"
    target = "audio/speech"
    ability = "speech"
    known = frozenset(Body.__struct_fields__)

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """See `Surface`."""
        given = read(_decoded, body)
        return Peek(
            model=given.model, stream=given.stream_format == "sse", text_bytes=len(body) + OVERHEAD_BYTES
        )

    def seen(self, body: bytes) -> Seen:
        """Sound says nothing about itself."""
        return Seen(None)
