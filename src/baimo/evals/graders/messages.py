"""Messages with templates, as graders and data sources have them, in the three ways that OpenAI writes their content.

Content is a text, one block, or a list of texts and blocks; a block is text (input_text, output_text), a picture
(input_image) or sound (input_audio).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

from baimo.core.message import Message, Part, Role
from baimo.errors import CallRefused
from baimo.evals.graders.template import filled
from baimo.evals.scorers.base import is_array, is_object

ROLES: Mapping[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "assistant": "assistant",
}
"""Role on the wire → role of a Message."""
_TEXTS = frozenset({"input_text", "output_text", "text"})


def input_templates(rows: Sequence[Mapping[str, Any]], field: str) -> Iterator[tuple[str, str]]:
    """The templates in messages, each with its place.

    Raises:
        CallRefused: a message cannot be read.
    """
    for number, row in enumerate(rows):
        place = f"{field}[{number}]"
        if row.get("role") not in ROLES:
            known = ", ".join(ROLES)
            raise CallRefused(
                "graders.wrong_value", field=f"{place}.role", got=str(row.get("role"))[:40], expected=known
            )
        if "content" not in row:
            raise CallRefused("graders.missing", field=f"{place}.content")
        for block, where in _blocks(row["content"], f"{place}.content"):
            yield from ((text, where) for text in _texts(block, where))


def messages(rows: Sequence[Mapping[str, Any]], names: Mapping[str, Any]) -> tuple[Message, ...]:
    """Messages with their templates filled.

    Args:
        rows: messages that `input_templates` has seen.
        names: the namespaces.

    Raises:
        ScorerError: a variable is not there.
    """
    return tuple(
        Message(role=ROLES[str(row["role"])], content=_content(row["content"], names)) for row in rows
    )


def _content(value: Any, names: Mapping[str, Any]) -> str | tuple[Part, ...]:
    blocks = [_part(block, names) for block, _ in _blocks(value, "")]
    if len(blocks) == 1 and blocks[0].kind == "text":
        return blocks[0].data
    return tuple(blocks)


def _blocks(value: Any, field: str) -> list[tuple[Any, str]]:
    if is_array(value):
        return [(one, f"{field}[{place}]") for place, one in enumerate(value)]
    return [(value, field)]


def _texts(block: Any, field: str) -> list[str]:
    """What a block has of templates."""
    if isinstance(block, str):
        return [block]
    if is_object(block):
        kind = block.get("type")
        if kind in _TEXTS and isinstance(block.get("text"), str):
            return [block["text"]]
        if kind == "input_image" and isinstance(block.get("image_url"), str):
            return [block["image_url"]]
        if kind == "input_audio" and is_object(sound := block.get("input_audio")):
            return [str(sound.get("data", ""))]
    raise CallRefused(
        "graders.wrong_value",
        field=field,
        got=_kind(block),
        expected="text | input_text | input_image | input_audio",
    )


def _part(block: Any, names: Mapping[str, Any]) -> Part:
    if isinstance(block, str):
        return Part(kind="text", data=filled(block, names))
    row = cast("Mapping[str, Any]", block)
    if row["type"] in _TEXTS:
        return Part(kind="text", data=filled(row["text"], names))
    if row["type"] == "input_image":
        return Part(kind="image_url", data=filled(row["image_url"], names), detail=row.get("detail"))
    sound = row["input_audio"]
    return Part(
        kind="input_audio",
        data=filled(str(sound.get("data", "")), names),
        media_type=f"audio/{sound.get('format', 'wav')}",
    )


def _kind(value: object) -> str:
    return str(value.get("type"))[:40] if is_object(value) else type(value).__name__
