"""Token counts for answers that report none, by the model's own tokenizer; marked as estimated.

Prevents the failure of a guess that passes for a count: where there is no tokenizer, the counts stay unknown.
"""

from __future__ import annotations

from collections.abc import Callable
from math import ceil
from typing import Any, cast

import msgspec

from baimo.core.call import Request, Usage
from baimo.core.model import Model
from baimo.errors import BaimoError
from baimo.gateway.call import Call, Grant
from baimo.gateway.surface import Seen

CountTokens = Callable[[Model, str], int | None]
"""Tokens of a text by a model's own tokenizer; None = it has none here."""


def estimated(count: CountTokens, call: Call, grant: Grant, seen: Seen, answer: bytes) -> Usage | None:
    """The usage of a call whose answer does not say; None = it cannot be told.

    Args:
        count: the tokenizer.
        call: whose body holds the prompt.
        grant: names the model.
        seen: how much text a stream brought.
        answer: a whole answer's body; empty = it was a stream.
    """
    if not call.surface.neutral:
        return None
    try:
        prompt = prompt_text(call.surface.request(call.body, grant.peek, model=grant.terms.model.upstream))
    except BaimoError:
        return None
    tokens_in = count(grant.terms.model, prompt)
    if tokens_in is None:
        return None
    if answer:
        tokens_out = count(grant.terms.model, answer_text(answer))
    elif not seen.text_bytes:
        tokens_out = None  # tool calls, or a wire format whose text nobody measured: not nothing
    else:
        # the text of a stream is gone; its length is not, and it has about as many bytes per token as the prompt
        tokens_out = ceil(seen.text_bytes * max(1, tokens_in) / max(1, len(prompt.encode())))
    return Usage(tokens_in=tokens_in, tokens_out=tokens_out, estimated=True)


def prompt_text(request: Request) -> str:
    """Everything in a request that becomes prompt tokens."""
    texts: list[str] = []
    for message in request.messages:
        if isinstance(message.content, str):
            texts.append(message.content)
        else:
            texts += [part.data for part in message.content if part.kind == "text"]
        texts += [called.arguments for called in message.tool_calls]
    for tool in request.tools:
        texts += [tool.name, tool.description, str(tool.parameters or "")]
    return "\n".join(texts)


def answer_text(body: bytes) -> str:
    """The texts of an answer of any chat API: choices[].message, content[], output[].content[]."""
    try:
        data: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
    return "".join(_texts(data, taken=False))


def _texts(value: Any, *, taken: bool) -> list[str]:
    if isinstance(value, str):
        return [value] if taken else []
    if isinstance(value, list):
        return [text for item in cast("list[Any]", value) for text in _texts(item, taken=taken)]
    if isinstance(value, dict):
        return [
            text
            for name, item in cast("dict[str, Any]", value).items()
            for text in _texts(item, taken=name in _TEXTUAL)
        ]
    return []


_TEXTUAL = frozenset({"content", "text", "reasoning_content", "arguments", "refusal", "thinking"})
