"""The chat template of a model's own metadata, rendered as its makers rendered it in training.

Prevents two failures: a prompt that differs from the training format by one newline, which costs accuracy without
an error; and a template from a downloaded file that runs code: it is rendered in a sandbox.

Conventions: https://huggingface.co/docs/transformers/chat_templating_writing
"""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from baimo.core.message import Message, Tool
from baimo.errors import RequestRefused

if TYPE_CHECKING:
    from jinja2 import Template

PLAIN = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
"""For base models, which have no template."""


def rendered(
    source: str,
    messages: tuple[Message, ...],
    *,
    tools: tuple[Tool, ...] = (),
    special: Mapping[str, str] | None = None,
    now: datetime | None = None,
    variables: Mapping[str, Any] | None = None,
    opening: bool = True,
) -> str:
    """The conversation as the model's prompt, ending where its answer begins.

    Args:
        source: Jinja2 source; empty = `PLAIN`.
        messages: the conversation; parts other than text are refused.
        tools: functions offered; refused when the template knows no tools.
        special: texts of special tokens: bos_token, eos_token …
        now: what `strftime_now` reads; None = the clock.
        variables: further template variables, e.g. `enable_thinking`.
        opening: whether the answer is still to come; False = a conversation that ends as it stands, to be learnt.

    Raises:
        RequestRefused: a part that is no text, tools without a place for them, or a template that refuses.
    """
    from jinja2 import TemplateError

    if tools and "tools" not in source:
        raise RequestRefused("local.no_tools")
    try:
        return _compiled(source or PLAIN).render(
            messages=[_message(message) for message in messages],
            tools=[_tool(tool) for tool in tools] or None,
            documents=None,
            add_generation_prompt=opening,
            strftime_now=_clock(now),
            **(special or {}),
            **(variables or {}),
        )
    except (TemplateError, TypeError, ValueError, KeyError) as error:
        raise RequestRefused("local.template", problem=error) from error


def _clock(now: datetime | None) -> Callable[[str], str]:
    return lambda form: (now or datetime.now().astimezone()).strftime(form)


@functools.lru_cache(maxsize=32)
def _compiled(source: str) -> Template:
    from jinja2 import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> str:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.filters["tojson"] = _to_json
    cast("dict[str, Any]", environment.globals)["raise_exception"] = refuse
    return environment.from_string(_without_generation_marks(source))


def _without_generation_marks(source: str) -> str:
    """`{% generation %}` only marks the assistant's tokens for training; here it means nothing."""
    return re.sub(r"\{%-?\s*(?:end)?generation\s*-?%\}", "", source)


def _to_json(value: Any, ensure_ascii: bool = False, **options: Any) -> str:
    """transformers' filter: no HTML escapes, unlike Jinja2's own."""
    return json.dumps(value, ensure_ascii=ensure_ascii, **options)


def _message(message: Message) -> dict[str, Any]:
    plain: dict[str, Any] = {"role": message.role, "content": _text(message)}
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        plain["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        plain["name"] = message.name
    return plain


def _text(message: Message) -> str:
    if isinstance(message.content, str):
        return message.content
    for part in message.content:
        if part.kind != "text":
            raise RequestRefused("local.text_only", kind=part.kind)
    return "".join(part.data for part in message.content)


def _arguments(source: str) -> Any:
    """Templates expect the arguments as an object; malformed ones stay text."""
    try:
        return json.loads(source)
    except ValueError:
        return source


def _tool(tool: Tool) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters or {"type": "object", "properties": {}},
        },
    }
