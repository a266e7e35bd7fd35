"""Personal data in a request: replaced in everything that people or tools wrote, put back in the answer.

Prevents two failures: a value that leaves by a side door (a tool's arguments, a predicted output, the name of an end
user) although the prompt itself was masked, and one that is not recognised because JSON writes it with escapes.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

from baimo.core.call import Completion, Request
from baimo.core.message import Message, Part, ToolCall

Change = Callable[[str], str]


class Unmasking(Protocol):
    """Puts back in a stream what was replaced: `pii.mask.Unmasking`."""

    def feed(self, piece: str) -> str: ...

    def rest(self) -> str: ...


class Masker(Protocol):
    """Replaces personal data and puts it back, for one call: `pii.mask.Masker`."""

    def mask_all(self, texts: Sequence[str]) -> list[str]: ...

    def unmask(self, text: str, *, json: bool = False) -> str: ...

    def unmasking(self) -> Unmasking: ...


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


def unmasked(completion: Completion, masker: Masker) -> Completion:
    """The answer with everything put back."""
    return replace(
        completion,
        text=masker.unmask(completion.text),
        reasoning=None if completion.reasoning is None else masker.unmask(completion.reasoning),
        tool_calls=calls_unmasked(completion.tool_calls, masker),
    )


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
            replace(tool, description=change(tool.description), parameters=_inside(tool.parameters, change))
            for tool in request.tools
        ),
        response_format=None if form is None else replace(form, schema=_inside(form.schema, change)),
        extra=_inside(request.extra, change),
    )


def _message(message: Message, change: Change) -> Message:
    content: str | tuple[Part, ...]
    if isinstance(message.content, str):
        content = change(message.content)
    else:
        content = tuple(
            replace(part, data=change(part.data)) if part.kind == "text" else part for part in message.content
        )
    calls = tuple(
        replace(called, arguments=_arguments(called.arguments, change)) for called in message.tool_calls
    )
    name = None if message.name is None else change(message.name)
    # servers take no placeholder for a name: what would have to be replaced is left out
    return replace(message, content=content, tool_calls=calls, name=name if name == message.name else None)


def _arguments(written: str, change: Change) -> str:
    try:
        data = json.loads(written)
    except ValueError:
        return change(written)
    changed = _inside(data, change)
    return written if changed == data else json.dumps(changed, ensure_ascii=False)


def _inside(value: Any, change: Change) -> Any:
    """The value with every text in it changed; the names of members stay."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {name: _inside(one, change) for name, one in cast("Mapping[str, Any]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_inside(one, change) for one in cast("Sequence[Any]", value)]
    return value
