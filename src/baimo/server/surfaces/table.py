"""Which path is which surface: the operations that go straight to the gateway."""

from __future__ import annotations

from collections.abc import Mapping

from baimo.core.registry import resolve
from baimo.gateway.surface import Surface

PATHS: Mapping[str, str] = {
    "/v1/chat/completions": "baimo.server.surfaces.chat:Chat",
    "/v1/completions": "baimo.server.surfaces.completions:Completions",
    "/v1/embeddings": "baimo.server.surfaces.embeddings:Embeddings",
    "/v1/rerank": "baimo.server.surfaces.rerank:Rerank",
    "/v1/moderations": "baimo.server.surfaces.moderations:Moderations",
    "/v1/audio/transcriptions": "baimo.server.surfaces.transcriptions:Transcriptions",
    "/v1/audio/speech": "baimo.server.surfaces.speech:Speech",
    "/v1/images/generations": "baimo.server.surfaces.images:Images",
    "/v1/responses": "baimo.server.surfaces.responses:Responses",
    "/v1/messages": "baimo.server.surfaces.messages:Messages",
    "/v1/messages/count_tokens": "baimo.server.surfaces.count_tokens:CountTokens",
}
"""POST operations. What the server adds to some (memory of responses, counting here) is in their own files."""


def surfaces() -> dict[str, Surface]:
    """Every path with its surface, ready to be used."""
    return {path: resolve(target)() for path, target in PATHS.items()}
