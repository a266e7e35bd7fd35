"""What requests ask vendors' servers for that has another price, or no bound, than the tokens of one answer.

Prevents a budget that holds for everything but what is dear: another speed or region, a conversation that is summed up
first, models and tools that the vendor goes on asking by itself, searches. Chat and text completions hold the members
of Messages too, which reach Anthropic as they are.
Source: platform.claude.com/docs/en/api/messages and the type definitions of the official SDK 2.12 (November 2026); the
documentation of DashScope, Hunyuan, OpenRouter, Qianfan and xAI for `Searches`.
"""

from __future__ import annotations

from typing import Any, cast

import msgspec

from baimo.server.surfaces.wirejson import NOTHING, says

_EMPTY = frozenset({b"null", b"[]"})
_STANDARD = frozenset({b"null", b'""', b'"standard"', b'"global"', b'"not_available"'})


class Searches(msgspec.Struct, kw_only=True):
    """Switches besides the tools with which a vendor is told to look something up, which becomes prompt."""

    enable_search: msgspec.Raw = NOTHING
    enable_enhancement: msgspec.Raw = NOTHING
    plugins: msgspec.Raw = NOTHING
    web_search: msgspec.Raw = NOTHING
    search_parameters: msgspec.Raw = NOTHING


class Asks(Searches, kw_only=True):
    """Those of Anthropic."""

    speed: msgspec.Raw = NOTHING
    inference_geo: msgspec.Raw = NOTHING
    context_management: msgspec.Raw = NOTHING
    compaction: msgspec.Raw = NOTHING
    mcp_servers: msgspec.Raw = NOTHING
    fallbacks: msgspec.Raw = NOTHING
    cache_control: msgspec.Raw = NOTHING


ASKS = frozenset(Asks.__struct_fields__)


def searched(given: Searches) -> str:
    """The switch that is on; empty = none."""
    if (
        given.enable_search is NOTHING
        and given.enable_enhancement is NOTHING
        and given.plugins is NOTHING
        and given.web_search is NOTHING
        and given.search_parameters is NOTHING
    ):
        return ""
    return next((name for name in Searches.__struct_fields__ if _on(getattr(given, name))), "")


def _on(switch: msgspec.Raw) -> bool:
    """Whether it is, as far as can be told: false, {"mode": "off"} and {"enable": false} are not."""
    try:
        value: Any = msgspec.json.decode(switch)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return True
    if isinstance(value, dict):
        row = cast("dict[str, Any]", value)
        return bool(row) and row.get("mode") != "off" and row.get("enable") is not False
    return bool(value)


def connects(asks: Asks) -> bool:
    """Whether the vendor shall ask other servers, whose tools and results become prompt."""
    return asks.mcp_servers is not NOTHING and bytes(asks.mcp_servers) not in _EMPTY


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
    if connects(asks):
        return "mcp_servers", True
    if asks.fallbacks is not NOTHING and bytes(asks.fallbacks) not in _EMPTY:
        return "fallbacks", True
    return "", False


def compacts(context_management: msgspec.Raw) -> bool:
    """Whether the conversation may be summed up first, which is an answer of its own; escapes may spell anything."""
    given = bytes(context_management)
    return given.find(b"compact") >= 0 or given.find(b"\\u") >= 0
