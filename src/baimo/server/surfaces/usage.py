"""Token counts in whole answers, read on the hot path.

Answers in OpenAI's own shape are decoded straight into fields; every other spelling goes to the reader of
`providers.openai_reply`, which knows the vendors. Both give the same counts.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import msgspec

from baimo.core.call import Usage
from baimo.gateway.surface import Counts, Seen
from baimo.providers.openai_reply import MOST, count, fields, items, usage_anywhere
from baimo.typed import json_decoder

Count = Annotated[int, msgspec.Meta(ge=0, le=MOST)]


class _Details(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None


class _Counts(msgspec.Struct):
    """OpenAI's shape; the last four are other vendors', whose presence means that it is not."""

    prompt_tokens: Count
    completion_tokens: Count
    total_tokens: Count
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    prompt_cache_hit_tokens: Any = None
    cached_tokens: Any = None
    reasoning_tokens: Any = None
    server_tool_use: Any = None

    def standard(self) -> Counts | None:
        """The same in our words; None when something is counted elsewhere."""
        if (
            self.total_tokens > self.prompt_tokens + self.completion_tokens
            or self.prompt_cache_hit_tokens is not None
            or self.cached_tokens is not None
            or self.reasoning_tokens is not None
            or self.server_tool_use is not None
        ):
            return None
        prompt, out = self.prompt_tokens_details, self.completion_tokens_details
        return Counts(
            self.prompt_tokens,
            self.completion_tokens,
            None if prompt is None else prompt.cached_tokens,
            None if out is None else out.reasoning_tokens,
            None if prompt is None else prompt.cache_write_tokens,
            unpriced=bool((prompt and prompt.audio_tokens) or (out and out.audio_tokens)),
        )


class _Choice(msgspec.Struct):
    finish_reason: str | None = None


class _Answer(msgspec.Struct):
    usage: _Counts
    model: str = ""
    choices: list[_Choice] | None = None
    service_tier: str | None = None


_answer = json_decoder(_Answer)


def seen_answer(body: bytes) -> Seen:
    """What a whole chat or text completion says about itself; what cannot be read is unknown."""
    try:
        answer = _answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _seen_otherwise(body)
    usage = answer.usage.standard()
    if usage is None:
        return _seen_otherwise(body)
    finish = answer.choices[0].finish_reason if answer.choices else None
    return Seen(usage, answer.model, finish or "", tier=answer.service_tier or "")


def seen_usage(event: bytes) -> tuple[Usage | Counts | None, bool, str]:
    """What a stream's event counts, whether it holds nothing else that matters, and the service tier that it names."""
    try:
        answer = _answer(event)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        answer = None
    if answer is not None and (counts := answer.usage.standard()) is not None:
        return counts, answer.choices == [], answer.service_tier or ""
    row = object_in(event)
    choices = items(row.get("choices"))
    usage = usage_anywhere(row, fields(choices[0]) if choices else {})
    return usage, row.get("choices") == [], _word(row.get("service_tier"))


def _seen_otherwise(body: bytes) -> Seen:
    data = object_in(body)
    choices = items(data.get("choices"))
    choice: Mapping[str, Any] = fields(choices[0]) if choices else {}
    finish: Any = choice.get("finish_reason")
    tier = _word(data.get("service_tier"))
    return Seen(usage_anywhere(data, choice), _word(data.get("model")), _word(finish), tier=tier)


def object_in(body: bytes | str) -> Mapping[str, Any]:
    """The JSON object in `body`, or an empty one."""
    try:
        return fields(msgspec.json.decode(body))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}


def counted(value: Any, *, output: bool = True) -> Usage | None:
    """Counts of the younger APIs: input_tokens and output_tokens, with details; None when there are none.

    Args:
        value: what stands under `usage`.
        output: False where answers are no generated tokens: none of them means 0.
    """
    row = fields(value)
    tokens_in = _first(row, "input_tokens", "prompt_tokens", *(() if output else ("total_tokens",)))
    tokens_out = _first(row, "output_tokens", "completion_tokens")
    if tokens_in is None and tokens_out is None:
        return None
    details = fields(row.get("input_tokens_details"))
    return Usage(
        tokens_in=tokens_in,
        tokens_out=tokens_out if output else 0,
        tokens_cached=count(details.get("cached_tokens")),
        tokens_reasoning=count(fields(row.get("output_tokens_details")).get("reasoning_tokens")),
    )


def _first(row: Mapping[str, Any], *names: str) -> int | None:
    return next((number for name in names if (number := count(row.get(name))) is not None), None)


def _word(value: Any) -> str:
    return value if isinstance(value, str) else ""
