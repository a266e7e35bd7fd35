"""Texts are changed wherever they stand, and nothing else is."""

from __future__ import annotations

import json
from typing import Any

from baimo.core.message import Message, Part, ToolCall
from baimo.core.texts import in_json, in_message, in_value


def test_texts_of_a_value_are_changed_and_names_and_numbers_stay() -> None:
    assert in_value({"a": ["x", 1, None], "b": {"c": ("y",)}}, str.upper) == {
        "a": ["X", 1, None],
        "b": {"c": ["Y"]},
    }


def test_arguments_stay_json_and_what_needs_no_change_stays_as_it_was_written() -> None:
    assert (
        in_json(r'{"name": "\u5f20"}', lambda text: text.replace("张", "<NAME_1>")) == '{"name": "<NAME_1>"}'
    )
    assert in_json('{ "n" :1}', str.upper) == '{ "n" :1}'
    assert in_json("{broken", str.upper) == "{BROKEN"


def test_what_is_nested_too_deeply_is_changed_as_a_text_in_the_same_order_every_time() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = ["first", deep]
    written = json.dumps(deep)

    def order() -> list[str]:
        seen: list[str] = []
        assert in_json(written, lambda text: seen.append(text) or text.upper()) == written.upper()
        return seen

    assert order() == order() and order()[-1] == written


def test_pictures_stay_as_they_are_and_calls_are_changed() -> None:
    said = Message(
        role="assistant",
        content=(Part(kind="text", data="a"), Part(kind="image_url", data="b")),
        tool_calls=(ToolCall(id="1", name="f", arguments='{"q":"c"}'),),
    )
    changed = in_message(said, str.upper)
    assert [part.data for part in changed.content if isinstance(part, Part)] == ["A", "b"]
    assert changed.tool_calls[0].arguments == '{"q": "C"}'
