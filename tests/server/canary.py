"""A model that fails with everything it was told in its error: the worst that a library may do with a secret."""

from __future__ import annotations

from baimo.core.call import Request


def fails(request: Request) -> str:
    raise RuntimeError(f"cannot answer {request.messages!r}")
