"""What comes back from Anthropic's Messages: whole messages and stream events."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from baimo.core.call import Completion, Delta, FinishReason, Usage
from baimo.core.message import ToolCall
from baimo.errors import BadReply
from baimo.providers.faults import Place, body_fault, parsed
from baimo.providers.openai_reply import count, fields, items
from baimo.providers.sse import Event

_FINISH: Mapping[str, FinishReason] = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}


def completion(data: Mapping[str, Any], place: Place, *, json_tool: str | None = None) -> Completion:
    """A whole message.

    Args:
        data: the decoded body.
        place: what an error names.
        json_tool: name of a forced tool whose input is the answer.

    Raises:
        BadReply: it is no message.
    """
    if not isinstance(data.get("content"), list):
        raise BadReply("providers.no_choices", host=place.host, model=place.model)
    text, reasoning = "", ""
    calls: list[ToolCall] = []
    for block in map(fields, items(data["content"])):
        kind = block.get("type")
        if kind == "text":
            text += str(block.get("text") or "")
        elif kind == "thinking":
            reasoning += str(block.get("thinking") or "")
        elif kind == "tool_use" and block.get("name") == json_tool:
            text += json.dumps(block.get("input"), ensure_ascii=False)
        elif kind == "tool_use":
            arguments = json.dumps(block.get("input") or {}, ensure_ascii=False)
            calls.append(
                ToolCall(
                    id=str(block.get("id") or ""), name=str(block.get("name") or ""), arguments=arguments
                )
            )
    return Completion(
        text=text,
        tool_calls=tuple(calls),
        finish_reason=_finish(data.get("stop_reason"), json_tool),
        stop_sequence=_stop_sequence(data),
        usage=usage(fields(data.get("usage"))) or Usage(),
        model=str(data.get("model") or ""),
        reasoning=reasoning or None,
    )


class _Call:
    """A call of a tool that has begun."""

    __slots__ = ("given", "id", "name", "pieces")

    def __init__(self, block: Mapping[str, Any]) -> None:
        self.id = str(block.get("id") or "")
        self.name = str(block.get("name") or "")
        self.pieces: list[str] = []
        """Of its arguments."""
        self.given = json.dumps(block["input"], ensure_ascii=False) if block.get("input") else ""
        """Arguments that it began with: compatible servers may give all of them."""


class EventReader:
    """Assembles one stream of events."""

    def __init__(self, place: Place, *, json_tool: str | None = None) -> None:
        self._place = place
        self._json_tool = json_tool
        self._call: _Call | None = None
        self._ended: tuple[ToolCall, ...] = ()
        self._usage: dict[str, Any] = {}
        self._model = ""
        self._finish: FinishReason | None = None
        self._stop_sequence: str | None = None
        self._stopped = False

    def feed(self, event: Event) -> list[Delta]:
        """The deltas in one event.

        Raises:
            ProviderError: an error event, or data that is not JSON.
        """
        data = parsed(event.data.encode("utf-8", errors="replace"))
        if not isinstance(data, dict):
            raise BadReply("providers.malformed", host=self._place.host, model=self._place.model)
        row = fields(data)
        if error := body_fault(row, self._place):
            raise error
        kind = row.get("type")
        if kind == "message_start":
            message = fields(row.get("message"))
            self._model = str(message.get("model") or "")
            self._count(message.get("usage"))
        elif kind == "content_block_start":
            return self._block(fields(row.get("content_block")))
        elif kind == "content_block_delta":
            return self._piece(fields(row.get("delta")))
        elif kind == "content_block_stop":
            return self._called()
        elif kind == "message_delta":
            self._count(row.get("usage"))
            delta = fields(row.get("delta"))
            self._finish = _finish(delta.get("stop_reason"), self._json_tool)
            self._stop_sequence = _stop_sequence(delta)
        self._stopped = self._stopped or kind == "message_stop"
        return []

    def close(self) -> list[Delta]:
        """The last delta: the last call, finish reason, usage. A limit may have cut the call: the two belong together.

        Raises:
            BadReply: the stream broke off before its last event.
        """
        if not self._stopped:
            raise BadReply("providers.truncated", host=self._place.host, model=self._place.model)
        finish = self._finish or "unknown"
        return [
            Delta(
                tool_calls=self._ended,
                finish_reason=finish,
                stop_sequence=self._stop_sequence,
                usage=usage(self._usage),
                model=self._model,
            )
        ]

    def _block(self, block: Mapping[str, Any]) -> list[Delta]:
        if block.get("type") == "tool_use":
            self._call = _Call(block)
        before, self._ended = self._ended, ()
        text, reasoning = str(block.get("text") or ""), str(block.get("thinking") or "")
        made = [Delta(tool_calls=before)] if before else []
        return [*made, Delta(text=text, reasoning=reasoning)] if text or reasoning else made

    def _piece(self, delta: Mapping[str, Any]) -> list[Delta]:
        if delta.get("type") == "text_delta":
            return [Delta(text=str(delta.get("text") or ""))]
        if delta.get("type") == "thinking_delta":
            return [Delta(reasoning=str(delta.get("thinking") or ""))]
        if delta.get("type") == "input_json_delta" and self._call is not None:
            piece = str(delta.get("partial_json") or "")
            if piece:
                self._call.pieces.append(piece)
            if self._call.name == self._json_tool:
                return [Delta(text=piece)] if piece else []
        return []

    def _called(self) -> list[Delta]:
        """A call has ended."""
        call, self._call = self._call, None
        if call is None:
            return []
        if call.name == self._json_tool:
            return [Delta(text=call.given)] if call.given and not call.pieces else []
        arguments = "".join(call.pieces) or call.given or "{}"
        self._ended += (ToolCall(id=call.id, name=call.name, arguments=arguments),)
        return []

    def _count(self, value: Any) -> None:
        """Counts in a stream are cumulative: later ones replace earlier ones."""
        self._usage.update({name: number for name, number in fields(value).items() if number is not None})


def usage(row: Mapping[str, Any]) -> Usage | None:
    """Token counts. input_tokens leaves out what was read from or written to the cache; ours has it all."""
    rounds = [fields(one) for one in items(row.get("iterations"))]
    if any(one.get("type") == "compaction" for one in rounds):
        row = _with_compactions(row, rounds)
    fresh, out = count(row.get("input_tokens")), count(row.get("output_tokens"))
    if fresh is None and out is None:
        return None
    cached, written = count(row.get("cache_read_input_tokens")), count(row.get("cache_creation_input_tokens"))
    kept = fields(row.get("cache_creation")).get("ephemeral_1h_input_tokens")
    return Usage(
        tokens_in=None if fresh is None else fresh + (cached or 0) + (written or 0),
        tokens_out=out,
        tokens_cached=cached,
        tokens_reasoning=count(fields(row.get("output_tokens_details")).get("thinking_tokens")),
        tokens_cache_write=written,
        tokens_cache_write_1h=count(kept),
        unpriced=_unpriced(row, rounds),
    )


_COUNTS = ("input_tokens", "output_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
_FREE = frozenset({"web_fetch_requests", "tool_search_requests"})
"""Tools without a fee. Sources: platform.claude.com/docs/en/agents-and-tools/tool-use/web-fetch-tool;
docs.digitalocean.com/notes/2026/inference-tool-search."""


def _with_compactions(row: Mapping[str, Any], rounds: list[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Counts with those of the summaries, which the others leave out. What is not known stays so."""
    compactions = [one for one in rounds if one.get("type") == "compaction"]
    sums: dict[str, Any] = {}
    for name in _COUNTS:
        known = count(row.get(name))
        if known is not None or name.startswith("cache_"):
            sums[name] = (known or 0) + sum(count(one.get(name)) or 0 for one in compactions)
    kept = [
        count(fields(one.get("cache_creation")).get("ephemeral_1h_input_tokens")) or 0
        for one in (row, *compactions)
    ]
    return {**row, **sums, "cache_creation": {"ephemeral_1h_input_tokens": sum(kept)}}


def _unpriced(row: Mapping[str, Any], rounds: list[Mapping[str, Any]]) -> bool:
    """Whether something was billed besides the tokens, or at other prices than the model's standard ones."""
    return (
        row.get("speed") not in (None, "standard")
        or row.get("inference_geo") not in (None, "", "global", "not_available")
        or row.get("service_tier") == "priority"
        or any(number and name not in _FREE for name, number in fields(row.get("server_tool_use")).items())
        or any(one.get("type") not in ("message", "compaction") for one in rounds)
    )


def _finish(value: Any, json_tool: str | None) -> FinishReason:
    if value == "tool_use" and json_tool is not None:
        return "stop"
    return _FINISH.get(str(value), "unknown")


def _stop_sequence(row: Mapping[str, Any]) -> str | None:
    named = row.get("stop_sequence")
    return named if isinstance(named, str) and named else None
