"""POST /v1/rerank, as Cohere, Jina, Voyage and vLLM have it.

Source: docs.cohere.com/reference/rerank, jina.ai/reranker, docs.vllm.ai (Re-rank API).
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from baimo.gateway.surface import Peek, Seen
from baimo.providers.openai_reply import fields
from baimo.server.surfaces.embeddings import pictures
from baimo.server.surfaces.passed import OVERHEAD_BYTES, Passed
from baimo.server.surfaces.usage import counted, object_in
from baimo.server.surfaces.wirejson import read
from baimo.typed import json_decoder


class Body(msgspec.Struct):
    """What admission needs of a request."""

    query: msgspec.Raw
    documents: list[msgspec.Raw]
    model: str = ""


_decoded = json_decoder(Body)


class Rerank(Passed):
    """Implements `Surface`."""

    name = "rerank"
    target = "rerank"
    ability = "rerank"
    known = frozenset(Body.__struct_fields__)

    def peek(self, body: bytes, headers: Mapping[bytes, bytes]) -> Peek:
        """See `Surface`. The model reads the query again with each document."""
        given = read(_decoded, body)
        each = len(given.query) + OVERHEAD_BYTES
        # text with a brace in it is no object
        objects = [one for one in (given.query, *given.documents) if bytes(one).startswith(b"{")]
        attachments = sum(map(pictures, objects))
        text_bytes = len(body) + each * max(1, len(given.documents))
        return Peek(model=given.model, text_bytes=text_bytes, attachments=attachments)

    def seen(self, body: bytes) -> Seen:
        """See `Surface`. Cohere counts tokens under `meta`."""
        row = object_in(body)
        meta = fields(row.get("meta"))
        places = (row.get("usage"), meta.get("tokens"), meta.get("billed_units"))
        usage = next((found for one in places if (found := counted(one, output=False)) is not None), None)
        return Seen(usage, str(row.get("model") or ""))
