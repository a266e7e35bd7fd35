"""Azure's paths of OpenAI's API: the same operations under other names, as the SDK's `AzureOpenAI` asks for them.

Prevents the failure where another model answers than the deployment that the path names.
Source: learn.microsoft.com/azure/ai-services/openai/reference; `openai/lib/azure.py` of the SDK.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

import msgspec

from baimo.server.surfaces.wirejson import opened, written

if TYPE_CHECKING:
    from baimo.server.exchange import Exchange
    from baimo.server.lanes import Handler

PREFIX = b"/openai/"
_DEPLOYED = re.compile(
    rb"/openai/deployments/(.+?)/(chat/completions|completions|embeddings|audio/speech|images/generations)"
)
_MODEL = frozenset({"model"})


def plain(path: bytes) -> tuple[bytes, str]:
    """The path under /v1, and the model that Azure's path names; empty = the body names it."""
    found = _DEPLOYED.fullmatch(path)
    if found is not None:
        return b"/v1/" + found[2], unquote_to_bytes(found[1]).decode(errors="replace")
    return b"/v1/" + path.removeprefix(PREFIX).removeprefix(b"v1/"), ""


def deployed(handler: Handler, model: str) -> Handler:
    """The operation with this model, whatever the body says."""

    async def answer(exchange: Exchange) -> None:
        with suppress(
            msgspec.MsgspecError, UnicodeDecodeError, RecursionError
        ):  # the operation says what is wrong
            exchange.body = written({**opened(exchange.body, _MODEL), "model": model})
        await handler(exchange)

    return answer
