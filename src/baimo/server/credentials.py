"""Where a client puts its key: the header of OpenAI's SDK, of Anthropic's, of Azure's."""

from __future__ import annotations

from collections.abc import Mapping


def credential(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The presented key, or None.

    Args:
        headers: lower-case names.
    """
    given = headers.get(b"authorization")
    if given is not None:
        scheme, _, value = given.partition(b" ")
        # RFC 9110 section 11.1: the scheme is case-insensitive
        return value.strip() if scheme.lower() == b"bearer" else None
    return headers.get(b"x-api-key") or headers.get(b"api-key")
