"""Tool calls in the text of open models: `<tool_call>{"name": …, "arguments": …}</tool_call>`.

The convention of Hermes, Qwen and SmolLM2 templates: https://huggingface.co/docs/transformers/chat_extras. Text that
merely looks like a call stays text; nothing is shown twice or lost.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, cast

from baimo.core.call import Request
from baimo.core.ids import digest
from baimo.core.message import ToolCall

_OPEN, _CLOSE = "<tool_call>", "</tool_call>"


@dataclass(frozen=True, slots=True, kw_only=True)
class Spoken:
    """What a piece of text turned out to be."""

    text: str = ""
    """For the reader."""
    calls: tuple[ToolCall, ...] = ()
    """For the program."""

    def joined(self, other: Spoken) -> Spoken:
        """This, then `other`."""
        return Spoken(text=self.text + other.text, calls=self.calls + other.calls)


class ToolReader:
    """Takes an answer apart as it comes.

    Args:
        request: without tools everything is text.
    """

    def __init__(self, request: Request) -> None:
        self._request = request
        self._active = bool(request.tools) and request.tool_choice != "none"
        self._held = ""
        self._count = 0
        self._after_call = False

    def feed(self, text: str) -> Spoken:
        """What is certain after this piece; the beginning of a call is held back."""
        if not self._active:
            return Spoken(text=text)
        self._held += text
        spoken = Spoken()
        while True:
            before, opened, after = self._held.partition(_OPEN)
            if not opened:
                keep = next((n for n in range(len(_OPEN) - 1, 0, -1) if self._held.endswith(_OPEN[:n])), 0)
                cut = len(self._held) - keep
                shown, self._held = self._held[:cut], self._held[cut:]
                return spoken.joined(self._plain(shown))
            spoken = spoken.joined(self._plain(before))
            body, closed, rest = after.partition(_CLOSE)
            if not closed:
                self._held = opened + after
                return spoken
            spoken = spoken.joined(self._read(body, opened + body + closed))
            self._held = rest

    def _plain(self, text: str) -> Spoken:
        """Text as it is, without the line breaks that only separate calls."""
        if self._after_call:
            text = text.lstrip("\n")
        self._after_call = self._after_call and not text
        return Spoken(text=text)

    def rest(self) -> Spoken:
        """What was held back at the end; a call that lacks only its closing mark counts."""
        held, self._held = self._held, ""
        return self._read(held.removeprefix(_OPEN), held) if held.startswith(_OPEN) else self._plain(held)

    def _read(self, body: str, written: str) -> Spoken:
        try:
            data = json.loads(body)
        except ValueError:
            return Spoken(text=written)
        if not isinstance(data, dict):
            return Spoken(text=written)
        fields = cast("dict[str, Any]", data)
        if not isinstance(fields.get("name"), str):
            return Spoken(text=written)
        self._count += 1
        self._after_call = True
        arguments = fields.get("arguments", fields.get("parameters", {}))
        call = ToolCall(
            id=f"call_{digest([self._request, self._count, body])[:12]}",
            name=fields["name"],
            arguments=arguments if isinstance(arguments, str) else json.dumps(arguments, ensure_ascii=False),
        )
        return Spoken(calls=(call,))
