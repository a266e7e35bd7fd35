"""Where a client puts its key: the header of OpenAI's SDK, of Anthropic's, of Azure's, of a browser."""

from __future__ import annotations

import base64
import binascii
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


def password(headers: Mapping[bytes, bytes]) -> bytes | None:
    """The password of HTTP Basic, which browsers ask for and send again, or None.

    Args:
        headers: lower-case names.
    """
    scheme, _, value = (headers.get(b"authorization") or b"").partition(b" ")
    if scheme.lower() != b"basic":
        return None
    try:
        return base64.b64decode(value.strip(), validate=True).partition(b":")[2]
    except binascii.Error:
        return None
