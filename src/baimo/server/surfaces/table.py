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
    "/v1/messages": "baimo.server.surfaces.messages:Messages",
}
"""POST operations. Those that also keep something (responses) or count here (count_tokens) are wired by the server."""


def surfaces() -> dict[str, Surface]:
    """Every path with its surface, ready to be used."""
    return {path: resolve(target)() for path, target in PATHS.items()}
