"""Files of other houses are recognised by content and read as they are; what stays behind is listed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from baimo.core.message import Message, Part, Tool, ToolCall
from baimo.errors import TaskError
from baimo.evals.tasks.folder import Reading, load_task, read_task
from baimo.evals.tasks.formats.columns import Columns
from baimo.evals.tasks.formats.messages import message_of, plain_message, plain_tool, tools_of

WEATHER = {
    "type": "function",
    "function": {"name": "weather", "description": "Now", "parameters": {"type": "object", "properties": {}}},
}


def _read(folder: Path, *records: Any, name: str = "a.jsonl", **options: Any) -> Reading:
    path = folder / name
    path.write_text(
        "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records), encoding="utf-8"
    )
    return read_task(path, **options)


def _left(reading: Reading) -> dict[str, dict[str, Any]]:
    assert all(note.detail for note in reading.notes)
    return {note.kind: dict(note.facts) for note in reading.notes if not note.assumption}


def test_chat_fine_tuning_data_gives_the_last_assistant_turn_as_target(tmp_path: Path) -> None:
    turns = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello", "weight": 0},
        {"role": "user", "content": [{"type": "text", "text": "你好吗"}]},
        {"role": "assistant", "content": "很好"},
    ]
    reading = _read(tmp_path, {"messages": turns, "topic": "small talk"})
    example = reading.task.examples[0]
    assert reading.format == "openai-chat"
    assert [message.role for message in example.messages] == ["system", "user", "assistant", "user"]
    assert example.messages[3].content == (Part(kind="text", data="你好吗"),)
    assert (example.target, example.fields, example.metadata) == (
        "很好",
        {"input": "你好吗"},
        {"topic": "small talk"},
    )
    assert _left(reading) == {"left_weight": {}}


def test_tool_calls_of_the_last_turn_are_the_target(tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Köln"}'}}
    turns = [
        {"role": "user", "content": "?"},
        {"role": "assistant", "content": "Let me see", "tool_calls": [call]},
    ]
    reading = _read(tmp_path, {"messages": turns, "tools": [WEATHER], "parallel_tool_calls": False})
    example = reading.task.examples[0]
    assert example.target == [{"name": "weather", "arguments": {"city": "Köln"}}]
    assert example.tools[0].name == "weather"
    assert reading.task.scorers[0].name == "tool_calls"
    assert "left_text_beside_calls" in _left(reading)


def test_the_older_function_call_is_a_tool_call() -> None:
    message = message_of({"role": "assistant", "content": None, "function_call": {"name": "f"}}, Path("a"), 1)
    assert message.tool_calls == (ToolCall(id="call_0", name="f", arguments="{}"),)


def test_a_conversation_without_an_answer_has_no_target(tmp_path: Path) -> None:
    task = _read(tmp_path, {"messages": [{"role": "user", "content": "Hi"}]}).task
    assert (task.examples[0].target, task.scorers) == (None, ())


def test_evals_records_are_read_with_text_or_messages(tmp_path: Path) -> None:
    reading = _read(
        tmp_path,
        {
            "input": [{"role": "system", "content": "s"}, {"role": "user", "content": "2+2"}],
            "ideal": ["4", "four"],
        },
        {"input": "3+3", "ideal": "6"},
    )
    first, second = reading.task.examples
    assert reading.format == "openai-evals"
    assert (first.target, first.messages[1].content) == (["4", "four"], "2+2")
    assert (second.target, second.messages) == ("6", (Message(role="user", content="3+3"),))


def test_rows_of_the_evals_api_are_opened_and_their_samples_stay_behind(tmp_path: Path) -> None:
    reading = _read(
        tmp_path,
        {"item": {"ticket_text": "x", "correct_label": "a"}, "sample": {"output_text": "a"}},
        {"item": {"ticket_text": "y", "correct_label": "b"}},
        format="openai-evals",
        columns=Columns(input="ticket_text", target="correct_label"),
    )
    assert [(one.fields["input"], one.target) for one in reading.task.examples] == [("x", "a"), ("y", "b")]
    assert _left(reading) == {"left_field": {"name": "sample"}}
    assert _read(tmp_path, {"item": {"question": "x", "answer": "y"}}).format == "openai-evals"


def test_sharegpt_conversations_are_read_with_their_tools(tmp_path: Path) -> None:
    turns = [
        {"from": "human", "value": "hi"},
        {"from": "function_call", "value": '{"name": "f", "arguments": {"a": 1}}'},
    ]
    reading = _read(
        tmp_path, {"conversations": turns, "system": "s", "tools": json.dumps([{"name": "f"}]), "id": "k7"}
    )
    example = reading.task.examples[0]
    assert (reading.format, example.id, example.target) == (
        "sharegpt",
        "k7",
        [{"name": "f", "arguments": {"a": 1}}],
    )
    assert [message.role for message in example.messages] == ["system", "user"]
    assert example.tools == (Tool(name="f"),)


def test_alpaca_joins_instruction_and_input(tmp_path: Path) -> None:
    reading = _read(tmp_path, {"instruction": "Add", "input": "1, 2", "output": "3", "history": [["a", "b"]]})
    example = reading.task.examples[0]
    assert reading.format == "alpaca"
    assert (example.fields["input"], example.fields["context"], example.target) == (
        "Add\n\n1, 2",
        "1, 2",
        "3",
    )
    assert _left(reading) == {"left_field": {"name": "history"}}


def test_a_named_format_beats_recognition(tmp_path: Path) -> None:
    record = {
        "messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}],
        "input": "x",
    }
    assert _read(tmp_path, record, format="rows").task.examples[0].target is None
    assert _read(tmp_path, record, columns=Columns(input="input")).format == "rows"
    with pytest.raises(TaskError, match="openai-chat needs"):
        _read(tmp_path, {"input": "x"}, format="openai-chat")


def test_schemas_of_the_function_calling_leaderboard_become_json_schema() -> None:
    arguments = {"type": "dict", "properties": {"type": {"type": "float"}, "any": {"type": "any"}}}
    tool = tools_of([{"name": "f", "parameters": arguments}], Path("a"), 1)[0]
    assert tool.parameters == {"type": "object", "properties": {"type": {"type": "number"}, "any": {}}}


def test_messages_and_tools_survive_being_written() -> None:
    turns = (
        Message(role="user", content=(Part(kind="text", data="a"), Part(kind="image_url", data="data:x"))),
        Message(role="user", content=(Part(kind="input_audio", data="AA", media_type="audio/wav"),)),
        Message(role="assistant", tool_calls=(ToolCall(id="1", name="f", arguments="{}"),)),
        Message(role="tool", content="r", tool_call_id="1", name="f"),
    )
    assert tuple(message_of(plain_message(turn), Path("a"), 1) for turn in turns) == turns
    tool = Tool(name="f", description="d", parameters={"type": "object"})
    assert tools_of([plain_tool(tool), {"name": "g"}], Path("a"), 1) == (tool, Tool(name="g"))


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"messages": [{"role": "wizard", "content": "x"}]}, "tasks.bad_role"),
        ({"messages": [{"role": "user", "content": [{"type": "video"}]}]}, "tasks.bad_part"),
        ({"messages": [{"role": "assistant", "content": "x"}]}, "tasks.nothing_asked"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, "tasks.bad_tool_call"),
        ({"messages": [{"role": "user", "content": "x"}], "tools": [{}]}, "tasks.bad_tool"),
        ({"messages": [{"role": "user", "content": "x"}], "tools": {"a": 1}}, "tasks.not_a_list"),
        ({"conversations": []}, "tasks.no_messages"),
        ({"messages": []}, "tasks.no_messages"),
        ({"conversations": ["x"]}, "tasks.bad_message"),
        ({"instruction": 3, "output": "x"}, "tasks.record_without"),
        ({"input": {"a": 1}, "ideal": "x"}, "tasks.not_a_list"),
    ],
)
def test_a_broken_record_is_named_with_its_line(tmp_path: Path, record: dict[str, Any], key: str) -> None:
    good = {"messages": [{"role": "user", "content": "x"}]} if "messages" in record else None
    with pytest.raises(TaskError) as caught:
        _read(tmp_path, *filter(None, [good, record]))
    assert (caught.value.key, caught.value.facts["line"]) == (key, 2 if good else 1)
    assert "line" in str(caught.value)


def test_the_same_bytes_give_the_same_task(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}\n'
    )
    assert load_task(path) == load_task(path)
