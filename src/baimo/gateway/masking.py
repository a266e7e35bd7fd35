"""Personal data in a request: replaced in everything that people or tools wrote, put back in the answer.

Prevents two failures: a value that leaves by a side door (a tool's arguments, a predicted output, the name of an end
user) although the prompt itself was masked, and one that is not recognised because JSON writes it with escapes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from baimo.core.call import Completion, Request
from baimo.core.message import Message, ToolCall
from baimo.core.texts import Change, in_message, in_value


class Unmasking(Protocol):
    """Puts back in a stream what was replaced: `pii.mask.Unmasking`."""

    def feed(self, piece: str) -> str: ...

    def rest(self) -> str: ...


class Masker(Protocol):
    """Replaces personal data and puts it back, for one call: `pii.mask.Masker`."""

    def mask_all(self, texts: Sequence[str]) -> list[str]: ...

    def unmask(self, text: str, *, json: bool = False) -> str: ...

    def unmasking(self, *, json: bool = False) -> Unmasking: ...


def masked(request: Request, masker: Masker) -> Request:
    """The request with personal data replaced in all its texts; pictures and sounds stay as they are."""
    texts: list[str] = []

    def noted(text: str) -> str:
        texts.append(text)
        return text

    _rebuilt(request, noted)
    count = len(texts)
    # "password": "…" is recognised by its name, which the decoded value lacks
    texts += [called.arguments for message in request.messages for called in message.tool_calls]
    # all texts at once: what is recognised as a name in one is replaced in the others, too
    shown = iter(masker.mask_all(texts)[:count])
    return _rebuilt(request, lambda _: next(shown))


def unmasked(completion: Completion, masker: Masker, *, json: bool) -> Completion:
    """The answer with everything put back; its text is JSON where that was asked for."""
    return replace(
        completion,
        text=masker.unmask(completion.text, json=json),
        reasoning=None if completion.reasoning is None else masker.unmask(completion.reasoning),
        tool_calls=calls_unmasked(completion.tool_calls, masker),
        stop_sequence=stop_unmasked(completion.stop_sequence, masker),
    )


def stop_unmasked(stop: str | None, masker: Masker) -> str | None:
    """The text that ended the answer, as the client wrote it."""
    return None if stop is None else masker.unmask(stop)


def calls_unmasked(calls: Sequence[ToolCall], masker: Masker) -> tuple[ToolCall, ...]:
    """Complete calls with everything put back in their arguments."""
    return tuple(replace(called, arguments=masker.unmask(called.arguments, json=True)) for called in calls)


def _rebuilt(request: Request, change: Change) -> Request:
    """The request with every text changed, always in the same order."""
    form = request.response_format
    return replace(
        request,
        messages=tuple(_message(message, change) for message in request.messages),
        sampling=replace(request.sampling, stop=tuple(map(change, request.sampling.stop))),
        tools=tuple(
            replace(tool, description=change(tool.description), parameters=in_value(tool.parameters, change))
            for tool in request.tools
        ),
        response_format=None if form is None else replace(form, schema=in_value(form.schema, change)),
        extra=in_value(request.extra, change),
    )


def _message(message: Message, change: Change) -> Message:
    changed = in_message(message, change)
    name = None if message.name is None else change(message.name)
    # servers take no placeholder for a name: what would have to be replaced is left out
    return replace(changed, name=name if name == message.name else None)
