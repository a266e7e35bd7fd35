"""Training files as OpenAI's fine-tuning API takes and refuses them: for code that was written against its errors.

Stricter than the readers of `formats.py`: what OpenAI refuses is refused here with its code, its `param`, and in its
style of words ("Invalid file format. Example 3, message 2 …"), with the line in addition. The words were taken from
published errors of jobs and files; where none was found (weights, tools, endings) they are ours in the same style.

Rows: FineTuneChatRequestInput, FineTunePreferenceRequestInput, FineTuneReinforcementRequestInput and
FineTuneCompletionRequestInput of https://github.com/openai/openai-openapi.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Literal, cast

from baimo.errors import DataError
from baimo.text import text
from baimo.tuning.data.records import lines
from baimo.tuning.data.structure import is_object
from baimo.tuning.data.turns import as_map

Method = Literal["supervised", "dpo", "reinforcement"]
Param = Literal["training_file", "validation_file"]
FEWEST = 10
"""Examples that a training file has at least."""
MOST_BYTES = 512 * 2**20
"""Of an uploaded file."""
MOST_TOLD = 50
"""Faults of one file after which no more are looked for."""
_ROLES = ("system", "user", "assistant", "tool", "function", "developer")
_CHAT = frozenset({"messages", "tools", "functions", "parallel_tool_calls"})
_PREFERENCE = ("input", "preferred_output", "non_preferred_output")
_TURN = frozenset({"role", "content", "name"})
_OF_ROLE: Mapping[str, frozenset[str]] = {
    "assistant": frozenset({"weight", "tool_calls", "function_call", "refusal", "audio"}),
    "tool": frozenset({"tool_call_id"}),
}
_FORMAT_OF: Mapping[str, str] = {"supervised": "chat", "dpo": "preference", "reinforcement": "reinforcement"}
_METHOD_OF = {shape: method for method, shape in _FORMAT_OF.items()} | {"completion": "supervised"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Invalid:
    """Why a file is refused."""

    kind: str
    """Part of the message key: `data.openai_<kind>`."""
    code: str | None = None
    """OpenAI's code: invalid_training_file, invalid_n_examples …"""
    param: str | None = None
    """OpenAI's name of what is wrong: training_file …"""
    line: int | None = None
    """Line of the file, from 1; None = the file as a whole."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the message names."""

    @property
    def message(self) -> str:
        """What is wrong, in OpenAI's style."""
        said = text(f"data.openai_{self.kind}", **self.facts)
        if self.line is None or self.kind in _WHOLE:
            return said
        return f"{text('data.openai_prefix')} {said}"

    @property
    def job_message(self) -> str:
        """The same as the error of a job."""
        if self.kind == "few":
            return self.message
        return f"{text(f'data.openai_failed_{self.param}')} {self.message}"

    def plain(self) -> dict[str, Any]:
        """{code, message, param} as a job's `error` holds them."""
        return {"code": self.code, "message": self.job_message, "param": self.param}


_WHOLE = frozenset({"no_dictionary", "unexpected"})
Fault = tuple[str, dict[str, Any]]
"""Kind and facts."""


def upload_fault(path: Path, *, most_bytes: int = MOST_BYTES) -> Invalid | None:
    """Why a file is not even taken for tuning, as `POST /v1/files` says it; None = it is taken.

    Raises:
        DataError: the file cannot be read at all.
    """
    size = path.stat().st_size
    if size > most_bytes:
        facts = {"bytes": size, "limit": most_bytes}
        return Invalid(kind="too_large", code="file_too_large", param="file", facts=facts)
    empty = True
    try:
        for number, line in lines(path):
            if not line.strip():
                continue
            empty = False
            if not isinstance(_decoded(line)[0], dict):
                facts = {"line": number, "start": line.strip()[:5]}
                return Invalid(kind="no_dictionary", line=number, facts=facts)
    except DataError as error:
        if error.key != "data.encoding":
            raise
        return Invalid(kind="encoding", line=int(str(error.facts["line"])), facts=dict(error.facts))
    return Invalid(kind="empty_file", param="file") if empty else None


def purpose_fault(file: str, purpose: str, param: Param = "training_file") -> Invalid | None:
    """Why an uploaded file may not be used by a job; None = it may.

    Args:
        file: its id.
        purpose: with which it was uploaded.
        param: what the job is to use it for.
    """
    if purpose == "fine-tune":
        return None
    facts = {"file": file, "purpose": purpose}
    return Invalid(kind="purpose", code=f"invalid_{param}", param=param, facts=facts)


def file_faults(
    path: Path,
    method: Method = "supervised",
    *,
    param: Param = "training_file",
    file: str = "",
    fewest: int = FEWEST,
) -> list[Invalid]:
    """Everything for which a job refuses a file, at most MOST_TOLD; the first one is the job's error.

    Args:
        path: where it lies.
        method: how the job learns.
        param: what the job uses it for.
        file: its id, for messages.
        fewest: examples that it has at least.

    Raises:
        DataError: the file cannot be read at all.
    """
    code = f"invalid_{param}"
    numbered = ((number, line) for number, line in lines(path) if line.strip())
    examples = _Examples(numbered)
    try:
        faults = [
            Invalid(kind=kind, code=code, param=param, line=examples.line, facts={**facts, "file": file})
            for kind, facts in islice(examples.faults(method), MOST_TOLD)
        ]
    except DataError as error:
        if error.key != "data.encoding":
            raise
        facts = dict(error.facts)
        return [Invalid(kind="encoding", code=code, param=param, line=int(str(facts["line"])), facts=facts)]
    if not faults and examples.seen < (fewest if param == "training_file" else 1):
        facts = {"count": examples.seen, "fewest": fewest, "file": text(f"data.openai_{param}")}
        faults.append(Invalid(kind="few", code="invalid_n_examples", param=param, facts=facts))
    return faults


class _Examples:
    """The examples of a file, one after the other."""

    def __init__(self, numbered: Iterator[tuple[int, str]]) -> None:
        self._numbered = numbered
        self.seen = 0
        """How many there were so far."""
        self.line = 0
        """Line of the last one."""

    def faults(self, method: Method) -> Iterator[Fault]:
        """What is wrong with them, in order; a file in another format than the method's is told once."""
        shape = ""
        for number, words in self._numbered:
            self.line = number
            self.seen += 1
            value, problem = _decoded(words)
            if not isinstance(value, dict):
                kind = "bad_json" if problem else "bad_line"
                yield kind, {"example": self.seen, "line": self.line, "problem": problem}
                continue
            record = cast("dict[str, Any]", value)
            shape = shape or _shape(record)
            if self.seen == 1 and (fault := _shape_fault(shape, method)) is not None:
                yield fault
                return
            for kind, facts in _CHECKS[method if shape != "completion" else shape](record):
                yield kind, {"example": self.seen, **facts}


def _decoded(line: str) -> tuple[Any, str]:
    try:
        return json.loads(line), ""
    except (ValueError, RecursionError) as error:
        return None, str(error)


def _shape(record: Mapping[str, Any]) -> str:
    """Which format the first example is in; empty = none."""
    if record.keys() & {*_PREFERENCE[1:]}:
        return "preference"
    if "messages" in record:
        turns = _list(record["messages"])
        asks = bool(turns) and as_map(turns[-1]).get("role") in ("user", "tool", "function")
        return "reinforcement" if asks and not record.keys() <= _CHAT else "chat"
    return "completion" if record.keys() & {"prompt", "completion"} else ""


def _shape_fault(shape: str, method: Method) -> Fault | None:
    if not shape:
        return ("unexpected", {}) if method == "supervised" else None  # the missing key is named then
    fits = shape == _FORMAT_OF[method] or (method == "supervised" and shape == "completion")
    if fits or {shape, _FORMAT_OF[method]} == {"chat", "reinforcement"}:
        return None  # chat rows for a reward and the reverse are told by their endings
    return "method", {"format": f"fine-tune-{shape}", "fitting": _METHOD_OF[shape], "method": method}


def _supervised(record: Mapping[str, Any]) -> Iterator[Fault]:
    turns = yield from _messages(record, "messages")
    yield from _extra(record, _CHAT)
    if not turns:
        return
    yield from _conversation(turns, record)
    answers = [as_map(turn) for turn in turns if as_map(turn).get("role") == "assistant"]
    if not answers:
        yield "no_assistant", {}
    elif as_map(turns[-1]).get("role") != "assistant":
        yield "last_turn", {}
    elif all(turn.get("weight") == 0 for turn in answers):
        yield "no_weight", {}


def _dpo(record: Mapping[str, Any]) -> Iterator[Fault]:
    if "input" not in record:
        yield "missing", {"name": "input"}
    else:
        given = as_map(record["input"])
        yield from _extra(given, _CHAT)
        turns = yield from _messages(given, "messages")
        if turns:
            yield from _conversation(turns, given)
            if as_map(turns[-1]).get("role") == "assistant":
                yield "input_ends", {}
    for name in _PREFERENCE[1:]:
        if name not in record:
            yield "missing", {"name": name}
            continue
        ending = _list(record[name])
        if len(ending) != 1 or as_map(ending[0]).get("role") != "assistant":
            yield "one_answer", {"name": name}
            continue
        for kind, facts in _turn(as_map(ending[0]), as_map(record.get("input"))):
            yield kind, {**facts, "turn": f"{name}[0]"}
    yield from _extra(record, frozenset(_PREFERENCE))


def _reinforcement(record: Mapping[str, Any]) -> Iterator[Fault]:
    turns = yield from _messages(record, "messages")
    if turns:
        yield from _conversation(turns, record)
        if as_map(turns[-1]).get("role") == "assistant":
            yield "ends_answered", {}


def _completion(record: Mapping[str, Any]) -> Iterator[Fault]:
    for name in ("prompt", "completion"):
        if name not in record:
            yield "missing", {"name": name}
        elif not isinstance(record[name], str):
            yield "no_string", {"name": name}
    if record.get("completion") == "":
        yield "empty_field", {"name": "completion"}
    yield from _extra(record, frozenset({"prompt", "completion"}))


_CHECKS: Mapping[str, Callable[[Mapping[str, Any]], Iterator[Fault]]] = {
    "supervised": _supervised,
    "dpo": _dpo,
    "reinforcement": _reinforcement,
    "completion": _completion,
}


def _extra(record: Mapping[str, Any], known: frozenset[str]) -> Iterator[Fault]:
    for name in record:
        if name not in known:
            yield "extra", {"name": name}


def _messages(record: Mapping[str, Any], name: str) -> Generator[Fault, None, list[Any]]:
    """Faults of the list itself; returns the list."""
    if name not in record:
        yield "missing", {"name": name}
        return []
    found = record[name]
    if not isinstance(found, list) or not found:
        yield "no_list", {"name": name}
        return []
    return cast("list[Any]", found)


def _conversation(turns: Sequence[Any], record: Mapping[str, Any]) -> Iterator[Fault]:
    waiting: list[str] = []
    for number, item in enumerate(turns, 1):
        if not isinstance(item, Mapping):
            yield "no_message", {"turn": number}
            continue
        turn = cast("Mapping[str, Any]", item)
        for kind, facts in _turn(turn, record):
            yield kind, {**facts, "turn": number}
        if turn.get("role") == "tool":
            if turn.get("tool_call_id") not in waiting:
                yield "unasked", {"turn": number, "id": turn.get("tool_call_id")}
            else:
                waiting.remove(turn["tool_call_id"])
            continue
        if waiting:
            yield "unanswered", {"turn": number, "ids": ", ".join(waiting)}
        waiting = [str(as_map(call).get("id")) for call in _list(turn.get("tool_calls"))]


def _turn(turn: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Fault]:
    """Faults of one message; `turn` is added by the caller."""
    if "role" not in turn:
        yield "no_role", {}
        return
    role = turn["role"]
    if role not in _ROLES:
        yield "role", {"role": role, "known": ", ".join(f"'{one}'" for one in _ROLES)}
        return
    for name in turn.keys() - _TURN - _OF_ROLE.get(role, frozenset()):
        yield "extra_field", {"name": name}
    if "weight" in turn and role == "assistant" and turn["weight"] not in (0, 1):
        yield "weight", {"value": turn["weight"]}
    if role == "tool" and "tool_call_id" not in turn:
        yield "no_field", {"name": "tool_call_id"}
    yield from _content(turn, role)
    yield from _calls(turn, record)


def _content(turn: Mapping[str, Any], role: str) -> Iterator[Fault]:
    content = turn.get("content")
    instead = role == "assistant" and any(
        turn.get(name) for name in ("tool_calls", "function_call", "refusal")
    )
    if content is None:
        if not instead:
            yield "no_field", {"name": "content"}
    elif isinstance(content, str):
        if not content.strip() and not instead and role != "tool":
            yield "empty", {}
    elif not isinstance(content, list):
        yield "no_content", {}
    else:
        for part in cast("list[Any]", content):
            kind = as_map(part).get("type")
            if kind not in ("text", "image_url", "input_audio", "refusal", "file"):
                yield "part", {"found": kind}
        if not content and not instead:
            yield "empty", {}


def _calls(turn: Mapping[str, Any], record: Mapping[str, Any]) -> Iterator[Fault]:
    offered = [as_map(as_map(one).get("function", one)).get("name") for one in _list(record.get("tools"))]
    offered += [as_map(one).get("name") for one in _list(record.get("functions"))]
    calls = [as_map(call) for call in _list(turn.get("tool_calls"))]
    functions = [as_map(call.get("function")) for call in calls]
    if turn.get("function_call") is not None:
        functions.append(as_map(turn["function_call"]))
    if any("id" not in call for call in calls):
        yield "no_field", {"name": "tool_calls.id"}
    for function in functions:
        name, arguments = function.get("name"), function.get("arguments")
        if not isinstance(name, str):
            yield "no_field", {"name": "tool_calls.function.name"}
        elif name not in offered:
            yield "unknown_function", {"name": name}
        if not isinstance(arguments, str) or not is_object(arguments):
            yield "arguments", {"name": name}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []
