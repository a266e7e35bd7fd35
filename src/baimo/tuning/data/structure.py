"""What is wrong with the build of a single row: who speaks when, calls and their answers, turns without words.

Prevents the failure that no loss curve shows: a template that renders a broken conversation anyway, and a model that
learns to answer nobody, to call functions with broken arguments, or nothing at all.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

from baimo.core.message import Message
from baimo.core.tuning import Row
from baimo.tuning.data.finding import Severity, Use
from baimo.tuning.data.turns import text_of

SEVERITY: dict[str, Severity] = {
    **dict.fromkeys(("no_answer", "nothing_learnt", "empty_answer", "empty_row", "same_endings"), "error"),
    **dict.fromkeys(("unasked", "unanswered_call", "twice_called"), "error"),
    **dict.fromkeys(("bad_arguments", "unknown_function", "unsuited"), "error"),
    **dict.fromkeys(("empty_turn", "late_system", "trailing", "no_question", "not_text"), "warning"),
    **dict.fromkeys(("no_tools", "in_a_row"), "note"),
}
"""Every kind of fault and how bad it is."""


class Fault(NamedTuple):
    """One thing that is wrong with a row."""

    kind: str
    """One of SEVERITY."""
    turn: int | None = None
    """Message, from 0."""
    name: str = ""
    """Function or role that it is about."""


def use_of(rows: Sequence[Row]) -> Use:
    """What most of the rows are good for."""
    counts = Counter(map(own_use, rows))
    uses: tuple[Use, ...] = ("sft", "dpo", "grpo", "cpt")
    return max(uses, key=lambda use: counts[use])


def faults(row: Row, use: Use) -> Iterator[Fault]:
    """What is wrong with a row that is to be used so."""
    if use == "cpt":
        if row.messages and not row.text:
            yield Fault("unsuited")
        elif not row.text.strip():
            yield Fault("empty_row")
        return
    if not row.messages:
        yield Fault("unsuited" if row.text else "empty_row")
        return
    yield from _ending(row, use)
    yield from _order(row.messages)
    yield from _words(row)
    if row.tools or any(one.tool_calls or one.role == "tool" for one in row.messages):
        yield from _calls(row, use)


def own_use(row: Row) -> Use:
    """What a row is good for."""
    if not row.messages:
        return "cpt"
    if row.rejected:
        return "dpo"
    return "sft" if any(one.role == "assistant" for one in row.messages) else "grpo"


def _ending(row: Row, use: Use) -> Iterator[Fault]:
    """Whether there is something to learn."""
    answers = [number for number, one in enumerate(row.messages) if one.role == "assistant"]
    last = row.messages[-1].role
    if use == "grpo":
        if last == "assistant":
            yield Fault("trailing", len(row.messages) - 1, last)
        return
    if use == "dpo" and not row.rejected:
        yield Fault("unsuited")
    if not answers:
        yield Fault("no_answer")
        return
    if row.trained is not None and not set(row.trained) & set(answers):
        yield Fault("nothing_learnt")
    if last != "assistant":
        yield Fault("trailing", len(row.messages) - 1, last)
    if row.rejected and _same(row):
        yield Fault("same_endings")


def _same(row: Row) -> bool:
    good, bad = row.messages[-1], row.rejected[-1]
    return (text_of(good).strip(), good.tool_calls) == (text_of(bad).strip(), bad.tool_calls)


def _order(messages: Sequence[Message]) -> Iterator[Fault]:
    """Who speaks when."""
    before = ""
    asked = False
    for number, message in enumerate(messages):
        role = message.role
        if role == "system" and before not in ("", "system"):
            yield Fault("late_system", number)
        if role == "assistant" and not asked and before != "assistant":
            yield Fault("no_question", number)
        if role == before and role in ("user", "assistant"):
            yield Fault("in_a_row", number, role)
        asked = asked or role in ("user", "tool")
        before = role


def _words(row: Row) -> Iterator[Fault]:
    """Turns that say nothing, and turns of which a model of text sees nothing."""
    for number, message in enumerate(row.messages):
        content = message.content
        if not isinstance(content, str) and any(part.kind != "text" for part in content):
            yield Fault("not_text", number)
        elif not (content.strip() if isinstance(content, str) else content) and not message.tool_calls:
            learnt = message.role == "assistant" and (row.trained is None or number in row.trained)
            yield Fault("empty_answer" if learnt else "empty_turn", number, message.role)
    if row.rejected and not text_of(row.rejected[-1]).strip() and not row.rejected[-1].tool_calls:
        yield Fault("empty_turn", None, "assistant")


def _calls(row: Row, use: Use) -> Iterator[Fault]:
    """Calls and their answers: each call is answered once before anybody else speaks; the last turn's may wait."""
    known = {tool.name for tool in row.tools}
    waiting: dict[str, str] = {}
    for number, message in enumerate(row.messages):
        if message.role == "tool":
            if message.tool_call_id in waiting:
                del waiting[message.tool_call_id]
            else:
                yield Fault("unasked", number, message.tool_call_id or "")
            continue
        if waiting:
            yield Fault("unanswered_call", number, ", ".join(waiting.values()))
            waiting = {}
        for call in message.tool_calls:
            if call.id in waiting:
                yield Fault("twice_called", number, call.id)
            waiting[call.id] = call.name
            if known and call.name not in known:
                yield Fault("unknown_function", number, call.name)
            if not is_object(call.arguments):
                yield Fault("bad_arguments", number, call.name)
    if waiting and row.messages[-1].role == "tool":
        yield Fault("unanswered_call", len(row.messages) - 1, ", ".join(waiting.values()))
    if not known:
        yield Fault("no_tools")
    for call in row.rejected[-1].tool_calls if row.rejected else ():
        if known and call.name not in known:
            yield Fault("unknown_function", None, call.name)


def is_object(written: str) -> bool:
    """Whether the arguments of a call are a JSON object."""
    try:
        found: Any = msgspec.json.decode(written)
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return False
    return isinstance(found, dict)
