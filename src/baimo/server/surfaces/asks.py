"""What requests ask Anthropic's servers for that has another price, or no bound, than the tokens of one answer.

Prevents a budget that holds for everything but what is dear: another speed or region, a conversation that is summed up
first, models and tools that the vendor goes on asking by itself. Chat and text completions hold the same members, which
reach Anthropic as they are.
Source: platform.claude.com/docs/en/api/messages and the type definitions of the official SDK 2.12 (November 2026).
"""

from __future__ import annotations

import msgspec

from baimo.server.surfaces.wirejson import NOTHING, says

_EMPTY = frozenset({b"null", b"[]"})
_STANDARD = frozenset({b"null", b'"standard"', b'"global"'})


class Asks(msgspec.Struct, kw_only=True):
    """The members."""

    speed: msgspec.Raw = NOTHING
    inference_geo: msgspec.Raw = NOTHING
    context_management: msgspec.Raw = NOTHING
    compaction: msgspec.Raw = NOTHING
    mcp_servers: msgspec.Raw = NOTHING
    fallbacks: msgspec.Raw = NOTHING
    cache_control: msgspec.Raw = NOTHING


ASKS = frozenset(Asks.__struct_fields__)


def unpriced(asks: Asks) -> tuple[str, bool]:
    """`Peek.unpriced` and `Peek.told` of these members."""
    if asks.speed is not NOTHING and bytes(asks.speed) not in _STANDARD:
        return "speed", False
    if asks.inference_geo is not NOTHING and bytes(asks.inference_geo) not in _STANDARD:
        return "inference_geo", False
    if asks.context_management is not NOTHING and compacts(asks.context_management):
        return "context_management", True
    if says(asks.compaction):
        return "compaction", True
    if asks.mcp_servers is not NOTHING and bytes(asks.mcp_servers) not in _EMPTY:
        return "mcp_servers", True
    if asks.fallbacks is not NOTHING and bytes(asks.fallbacks) not in _EMPTY:
        return "fallbacks", True
    return "", False


def compacts(context_management: msgspec.Raw) -> bool:
    """Whether the conversation may be summed up first, which is an answer of its own; escapes may spell anything."""
    given = bytes(context_management)
    return given.find(b"compact") >= 0 or given.find(b"\\u") >= 0
