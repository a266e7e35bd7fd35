"""Files of training data as Rows: which format a file is in, and how each is read.

Sources: OpenAI's fine-tuning guides (supervised, direct preference optimization, reinforcement) and its API's
FineTuneChatRequestInput, FineTunePreferenceRequestInput, FineTuneReinforcementRequestInput; TRL's dataset formats
(https://huggingface.co/docs/trl/dataset_formats); Stanford Alpaca and ShareGPT as LLaMA-Factory documents them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, cast

import msgspec

from baimo.core.message import Message
from baimo.core.tuning import Row
from baimo.errors import DataError, UsageError
from baimo.tuning.data.records import Record, container, kind_of, lines, records
from baimo.tuning.data.turns import Place, Turns, as_map, tools, turns

PIECE = 8_000
"""Characters of a plain text file from which on the next blank line begins a new row."""
PAIRS = tuple(
    (asked, answered)
    for asked in ("prompt", "question", "query", "input")
    for answered in ("completion", "response", "answer", "output", "target")
)
"""Columns of a prompt and its completion, the likelier ones first."""
Fields = Mapping[str, Any]


class Columns(NamedTuple):
    """Which columns hold what, where a file's own names do not say."""

    input: str = ""
    """The question."""
    target: str = ""
    """The answer to learn."""
    system: str = ""
    """The system prompt."""
    group: str = ""
    """What belongs together."""


class Reading(NamedTuple):
    """What a file held."""

    format: str
    """Name of the format that its first row was read as."""
    rows: list[Row]
    """Its rows, in the order of the file."""
    problems: list[DataError]
    """Lines that could not be read."""
    left: Mapping[str, int] = MappingProxyType({})
    """Parts of turns that rows have no place for, by name: how often."""


def read(path: Path, *, format: str = "", columns: Columns | None = None) -> Reading:
    """Read a file in any known format.

    Args:
        path: JSON Lines, JSON, CSV, TSV, Parquet, .txt or .md, also gzipped.
        format: one of NAMES; empty = by the keys of each row.
        columns: which column holds what; any means the format `pairs`.

    Raises:
        DataError: the file as a whole cannot be read.
        UsageError: there is no such format.
        MissingExtra: it is Parquet, and pyarrow is not installed.
    """
    if format and format not in NAMES:
        raise UsageError("data.unknown_format", format=format, known=", ".join(NAMES))
    packed = container(path)
    if packed == "text":
        return Reading("text", list(_pieces(path)), [])
    found = records(path, packed)
    problems: list[DataError] = []
    for first in found:
        if isinstance(first, Record):
            break
        problems.append(first)
    else:
        if not problems:
            raise DataError("data.empty_file", path=path, line=1)
        return Reading(format, [], problems)
    fixed = "pairs" if columns and any(columns) else format
    name = fixed or recognised(first.value)
    if not name:
        raise DataError("data.unknown_rows", path=path, line=first.line, columns=", ".join(first.value))
    rows: list[Row] = []
    left: Counter[str] = Counter()
    for one in chain([first], found):
        try:
            if isinstance(one, DataError):
                raise one
            known = fixed or recognised(one.value) or name
            rows.append(_row(known, one, path, columns or Columns(), left))
        except DataError as problem:
            problems.append(problem)
    return Reading(name, rows, problems, left)


def recognised(record: Fields) -> str:
    """The format of which `record` is a row; empty = none that is known."""
    keys = record.keys()
    if "preferred_output" in keys or "non_preferred_output" in keys or "chosen" in keys:
        return "preference"
    if "rejected" in keys or "rejected_response" in keys:
        return "preference"
    for name, key in (("chat", "messages"), ("sharegpt", "conversations"), ("sharegpt", "conversation")):
        if key in keys:
            return name
    if "instruction" in keys:
        return "alpaca"
    if pair(record) is not None:
        return "pairs"
    return "text" if isinstance(record.get("text"), str) else ""


def pair(record: Fields) -> tuple[str, str] | None:
    """The columns of prompt and completion."""
    return next((both for both in PAIRS if both[0] in record and both[1] in record), None)


def _row(name: str, record: Record, path: Path, columns: Columns, left: Counter[str]) -> Row:
    place = Place(path, record.line, left)
    value = _with_json(record.value, ("messages", "conversations", "tools", "chosen", "rejected"))
    try:
        return FORMATS[name](value, columns, place)
    except RecursionError as error:
        raise place.wrong("bad_json", problem=error) from error


def _chat(value: Fields, columns: Columns, place: Place) -> Row:
    """{"messages", "tools", "functions", "parallel_tool_calls", …}; whatever else there is goes to graders."""
    if "messages" not in value:
        raise place.wrong("without", name="messages", columns=", ".join(value))
    known = ("messages", "tools", "functions", "parallel_tool_calls")
    return _conversation(turns(value["messages"], place), value, known, place)


def _sharegpt(value: Fields, columns: Columns, place: Place) -> Row:
    """{"conversations": [{"from": "human", "value": …}], "system", "tools"}."""
    key = "conversations" if "conversations" in value else "conversation"
    if key not in value:
        raise place.wrong("without", name="conversations", columns=", ".join(value))
    said = _with_system(value.get("system"), turns(value[key], place))
    return _conversation(said, value, (key, "system", "tools"), place)


def _alpaca(value: Fields, columns: Columns, place: Place) -> Row:
    """{"instruction", "input", "output", "system", "history": [[question, answer], …]}."""
    known = ("instruction", "input", "output", "system", "history")
    answer = _text(value, "output", place)
    asked = _alpaca_question(value, place)
    messages = (*asked.messages, Message(role="assistant", content=answer))
    return _conversation(Turns(messages, None), value, known, place)


def _alpaca_question(value: Fields, place: Place) -> Turns:
    instruction, context = _text(value, "instruction", place), value.get("input")
    if not isinstance(context, str | None):
        raise place.wrong("no_text", name="input", found=kind_of(context))
    said: list[Message] = []
    history: Any = value.get("history") or []
    if not isinstance(history, list):
        raise place.wrong("bad_history", found=kind_of(history))
    for item in cast("list[Any]", history):
        past = cast("list[Any]", item) if isinstance(item, list) else []
        if len(past) != 2 or not all(isinstance(one, str) for one in past):
            raise place.wrong("bad_history", found=kind_of(item))
        said += (Message(role="user", content=past[0]), Message(role="assistant", content=past[1]))
    question = "\n\n".join(part for part in (instruction, context) if part)
    said.append(Message(role="user", content=question))
    return _with_system(value.get("system"), Turns(tuple(said), None))


def _pairs(value: Fields, columns: Columns, place: Place) -> Row:
    """{"prompt", "completion"} as texts or as turns, or columns of other names."""
    asked, answered = pair(value) or PAIRS[0]
    asked, answered = columns.input or asked, columns.target or answered
    for name in (asked, answered, *filter(None, (columns.system, columns.group))):
        if name not in value:
            raise place.wrong("without", name=name, columns=", ".join(value))
    system = columns.system or "system"
    before = _with_system(value.get(system), _said(value, asked, "user", place))
    after = _said(value, answered, "assistant", place)
    shift = len(before.messages)
    trained = after.trained and tuple(number + shift for number in after.trained)
    if after.trained is None and any(one.role == "assistant" for one in before.messages):
        learnt = (number for number, one in enumerate(after.messages) if one.role == "assistant")
        trained = tuple(number + shift for number in learnt)  # a prompt is not learnt
    said = Turns((*before.messages, *after.messages), trained)
    group = {"group": value[columns.group]} if columns.group else {}
    return _conversation(said, {**value, **group}, (asked, answered, system, columns.group, "tools"), place)


def _preference(value: Fields, columns: Columns, place: Place) -> Row:
    """OpenAI's {"input", "preferred_output", "non_preferred_output"}, or "chosen" and "rejected" beside a prompt, a
    conversation or an instruction, or as two whole conversations."""
    if "preferred_output" in value or "non_preferred_output" in value:
        given = as_map(value.get("input"))
        known = ("input", "preferred_output", "non_preferred_output")
        before = turns(given.get("messages"), place).messages
        good, bad = (_ending(value, name, place) for name in known[1:])
        return _preferred(before, good, bad, {**value, "tools": given.get("tools")}, known, place)
    worse = next(
        (name for name in ("rejected", "rejected_response", "rejected_messages") if name in value), ""
    )
    if not worse:
        raise place.wrong("without", name="rejected", columns=", ".join(value))
    bad = _ending(value, worse, place)
    if "chosen" not in value:  # the better ending is the conversation's own
        said = turns(value.get("messages", value.get("conversations")), place).messages
        known = ("messages", "conversations", worse, "tools")
        return _preferred(said[:-1], said[-1:], bad, value, known, place)
    good = _ending(value, "chosen", place)
    known = (
        "chosen",
        worse,
        "prompt",
        "question",
        "instruction",
        "input",
        "history",
        "messages",
        "conversations",
    )
    before = _before(value, place)
    if not before:  # two whole conversations: what they share is the question
        shared = 0
        while shared < min(len(good), len(bad)) - 1 and good[shared] == bad[shared]:
            shared += 1
        before, good, bad = good[:shared], good[shared:], bad[shared:]
    return _preferred(before, good, bad, value, (*known, "system", "tools", "functions"), place)


def _before(value: Fields, place: Place) -> tuple[Message, ...]:
    """The question of a preference pair."""
    if "instruction" in value:
        return _alpaca_question(value, place).messages
    name = next(
        (one for one in ("messages", "conversations", "prompt", "question", "input") if one in value), ""
    )
    if not name:
        return ()
    return _with_system(value.get("system"), _said(value, name, "user", place)).messages


def _preferred(
    before: Sequence[Message],
    good: Sequence[Message],
    bad: Sequence[Message],
    value: Fields,
    known: Sequence[str],
    place: Place,
) -> Row:
    for name, ending in (("chosen", good), ("rejected", bad)):
        if not ending or ending[-1].role != "assistant":
            raise place.wrong("bad_ending", name=name)
    learnt = (len(before) + len(good) - 1,)
    many = any(one.role == "assistant" for one in (*before, *good[:-1]))
    said = Turns((*before, *good), learnt if many else None)
    return replace(_conversation(said, value, known, place), rejected=tuple(bad))


def _ending(value: Fields, name: str, place: Place) -> tuple[Message, ...]:
    if name not in value:
        raise place.wrong("without", name=name, columns=", ".join(value))
    given: Any = value[name]
    if isinstance(given, Mapping):  # LLaMA-Factory: one turn
        given = [given]
    return _said({name: given}, name, "assistant", place).messages


def _raw(value: Fields, columns: Columns, place: Place) -> Row:
    """{"text"}."""
    group, item = _rest(value, ("text",))
    text = _text(value, "text", place)
    return Row(text=text, group=group, item=item, line=place.line, file=str(place.path))


def _conversation(said: Turns, value: Fields, known: Sequence[str], place: Place) -> Row:
    group, item = _rest(value, (*known, "tools", "functions"))
    return Row(
        messages=said.messages,
        trained=said.trained,
        tools=tools(value.get("tools") or value.get("functions"), place),
        item=item,
        group=group,
        line=place.line,
        file=str(place.path),
    )


def _rest(value: Fields, known: Iterable[str]) -> tuple[str | None, Fields]:
    """The group, and what the line says beyond the format."""
    group = value.get("group")
    apart = {*known, "group"}
    item = {name: one for name, one in value.items() if name not in apart}
    return None if group is None or group == "" else str(group), item


def _said(value: Fields, name: str, role: str, place: Place) -> Turns:
    """A field that is a text, or a list of turns."""
    given = value[name]
    if isinstance(given, list):
        return turns(cast("list[Any]", given), place)
    return turns([{"role": role, "content": _text(value, name, place)}], place)


def _text(value: Fields, name: str, place: Place) -> str:
    given = value.get(name)
    if isinstance(given, (int, float)):
        return str(given)
    if not isinstance(given, str):
        key = "no_text" if name in value else "without"
        raise place.wrong(key, name=name, found=kind_of(given), columns=", ".join(value))
    return given


def _with_system(system: Any, said: Turns) -> Turns:
    if not isinstance(system, str) or not system:
        return said
    trained = said.trained and tuple(number + 1 for number in said.trained)
    return Turns((Message(role="system", content=system), *said.messages), trained)


def _with_json(value: Fields, names: Iterable[str]) -> Fields:
    """Fields of a table that hold a list as JSON text, as lists."""
    made = dict(value)
    for name in names:
        cell = value.get(name)
        if isinstance(cell, str) and cell[:1] == "[":
            try:
                made[name] = msgspec.json.decode(cell)
            except (msgspec.DecodeError, UnicodeError, RecursionError):
                continue
    return made


def _pieces(path: Path) -> Iterator[Row]:
    """A plain text in rows of whole paragraphs; a paragraph is never cut."""
    piece: list[str] = []
    size, first = 0, 1
    for number, line in lines(path):
        if not line.strip() and size >= PIECE:
            yield Row(text="".join(piece).strip("\n"), line=first, file=str(path))
            piece, size = [], 0
        if line.strip() or piece:
            first = first if piece else number
            piece.append(line)
            size += len(line)
    if piece:
        yield Row(text="".join(piece).strip("\n"), line=first, file=str(path))


Reader = Callable[[Fields, Columns, Place], Row]
FORMATS: Mapping[str, Reader] = {
    "chat": _chat,
    "pairs": _pairs,
    "sharegpt": _sharegpt,
    "alpaca": _alpaca,
    "preference": _preference,
    "text": _raw,
}
"""Every format by its name."""
NAMES = tuple(FORMATS)
