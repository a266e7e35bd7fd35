"""POST /v1/moderations. The API counts no tokens and costs nothing at OpenAI.

Source: developers.openai.com/api/reference/resources/moderations.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from baimo.gateway.surface import Peek
from baimo.server.surfaces.embeddings import pictures
from baimo.server.surfaces.passed import OVERHEAD_BYTES, Passed
from baimo.server.surfaces.wirejson import read
from baimo.typed import json_decoder


class Body(msgspec.Struct):
    """What admission needs of a request."""

    input: msgspec.Raw
    model: str = ""


_decoded = json_decoder(Body)


class Moderations(Passed):
    """Implements `Surface`."""

    name = "moderations"
    target = "moderations"
    ability = "moderations"
    known = frozenset(Body.__struct_fields__)

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """See `Surface`."""
        given = read(_decoded, body)
        attachments = pictures(given.input)
        return Peek(model=given.model, text_bytes=len(body) + OVERHEAD_BYTES, attachments=attachments)
