"""The reply calls the right functions with the right arguments.

Prevents two failures: a call compared as text, where `5` and `5.0` or another order of arguments count as wrong, and a
model marked down because its server hands the call over as text. Follows the AST check of the Berkeley
Function-Calling Leaderboard (https://gorilla.cs.berkeley.edu/blogs/8_berkeley_function_calling_leaderboard.html).
"""

from __future__ import annotations

import ast
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, cast

from baimo.core.call import Completion
from baimo.core.message import Tool
from baimo.core.run import Score
from baimo.core.task import Example
from baimo.evals.scorers.base import (
    Described,
    as_text,
    found,
    is_array,
    is_object,
    judged,
    no_reference,
    short,
    visible,
)
from baimo.evals.scorers.loose_json import parse, read
from baimo.text import text

_TAGGED = re.compile(r"<(tool_call|function_call)>(.*?)(?:</\1>|\Z)", re.DOTALL)
_PYTHON = re.compile(r"[A-Za-z_][\w.]*\s*\(")
_TYPES: dict[str, tuple[type, ...]] = {
    "integer": (int,), "number": (int, float), "float": (int, float), "string": (str,), "boolean": (bool,),
    "array": (list,), "tuple": (list,), "object": (dict,), "dict": (dict,),
}  # fmt: skip


class Call(NamedTuple):
    """One function call with its arguments read."""

    name: str
    """Name of the function."""
    arguments: Mapping[str, Any]
    """Arguments by name."""


class Expected(NamedTuple):
    """One call that the example wants."""

    name: str
    """Name of the function."""
    accepted: Mapping[str, Sequence[Any]]
    """Accepted values of every argument; "" among them = it may be left out."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolCalls(Described):
    """The reply calls what the target lists, in any order. Target: [{"name", "arguments": {…}}], or the form
    [{name: {argument: [accepted values]}}] of the leaderboard; [] = no call is right."""

    name: ClassVar[str] = "tool_calls"
    form: Literal["native", "text", "any"] = "native"
    """What strict asks for: calls of the API, calls as JSON text, or either. Types must fit the tool's schema."""
    mode: Literal["all", "share"] = "all"
    """all: 1 when every call is right and none is extra; share: right calls ÷ the larger of wanted and made."""
    ordered: bool = False
    """Whether the calls must come in the target's order."""

    async def score(self, example: Example, completion: Completion) -> Score:
        """1, 0 or a share; `details` names what is wrong with each call."""
        wanted = expected_calls(example.target)
        if wanted is None:
            return no_reference() if example.target is None else Score.unscored(text("scorers.tools_target"))
        native = bool(completion.tool_calls)
        made = _native(completion) if native else calls_in(visible(completion.text))
        if made is None:
            return judged(0.0, False, text("scorers.tools_broken", reply=short(_raw(completion))))
        tools = {_plain(tool.name): tool for tool in example.tools}
        problems = self._problems(made, wanted, tools)
        right = sum(not problem for problem in problems[: len(wanted)])
        size = max(len(made), len(wanted))
        content = float(right == size) if self.mode == "all" or not size else right / size
        fits = self.form == "any" or not made or native == (self.form == "native")
        form = fits and (bool(made) or not wanted) and all(_typed(call, tools) for call in made)
        wrong = [problem for problem in problems if problem]
        calls = [{"name": call.name, "arguments": dict(call.arguments)} for call in made]
        return judged(content, form, short("; ".join(wrong), 400), calls=calls, problems=wrong, native=native)

    def _problems(
        self, made: Sequence[Call], wanted: Sequence[Expected], tools: Mapping[str, Tool]
    ) -> list[str]:
        """One entry per wanted call (empty = found), then one per call that nobody asked for."""
        left = list(made)
        problems: list[str] = []
        for expected in wanted:
            tried = left[:1] if self.ordered else left
            faults = [(_fault(call, expected, tools.get(_plain(call.name))), call) for call in tried]
            match = next((call for fault, call in faults if not fault), None)
            if match is None:
                same = next(
                    (fault for fault, call in faults if _plain(call.name) == _plain(expected.name)), None
                )
                problems.append(same or text("scorers.tools_missing", name=expected.name))
                match = next((call for _, call in faults if _plain(call.name) == _plain(expected.name)), None)
            else:
                problems.append("")
            if match is not None:
                left.remove(match)
        return problems + [text("scorers.tools_extra", name=call.name) for call in left]


def expected_calls(target: Any) -> list[Expected] | None:
    """The calls that a target names, in either notation; None when it is neither."""
    if is_object(target):
        target = [target]
    if not is_array(target):
        return None
    wanted: list[Expected] = []
    for item in target:
        if not is_object(item):
            return None
        call: Mapping[str, Any] = item
        if isinstance(call.get("name"), str) and set(call) <= {"name", "arguments"}:
            given = cast("Mapping[str, Any]", call.get("arguments") or {})
            wanted.append(Expected(call["name"], {name: [value] for name, value in given.items()}))
        elif len(call) == 1 and is_object(given := next(iter(call.values()))):
            options = {name: _options(value) for name, value in given.items()}
            wanted.append(Expected(next(iter(call)), options))
        else:
            return None
    return wanted


def _options(value: Any) -> Sequence[Any]:
    return value if is_array(value) else [value]


def calls_in(reply: str) -> list[Call] | None:
    """Calls written as text: tagged or bare JSON, or Python call syntax. None = something that is no call."""
    if tagged := _TAGGED.findall(reply):
        parts = [_calls_untagged(body) for _, body in tagged]
        return None if None in parts else [call for part in parts for call in part or ()]
    return _calls_untagged(reply)


def _calls_untagged(reply: str) -> list[Call] | None:
    if calls := _python_calls(reply):
        return calls
    reading = read(reply)
    if reading is None:
        return []
    items = cast("list[Any]", reading.value if isinstance(reading.value, list) else [reading.value])
    calls = [call for item in items if (call := _json_call(item))]
    return calls if len(calls) == len(items) else None


def _json_call(item: Any) -> Call | None:
    if not is_object(item):
        return None
    fields = item
    inner = fields.get("function")
    if is_object(inner):
        return _json_call(inner)
    name = fields.get("name") or inner
    if isinstance(name, str):
        given: Any = next((fields[key] for key in ("arguments", "parameters", "args") if key in fields), "{}")
        return Call(name, arguments) if (arguments := _arguments(given)) is not None else None
    if len(fields) == 1 and isinstance(given := next(iter(fields.values())), Mapping):
        return Call(next(iter(fields)), given)
    return None


def _arguments(given: Any) -> Mapping[str, Any] | None:
    if isinstance(given, str):
        reading = read(given or "{}")
        given = reading.value if reading else None
    return given if is_object(given) else None


def _python_calls(reply: str) -> list[Call]:
    """`[move(x=1), stop()]` and the like; arguments must be literals, nothing is run."""
    code = re.sub(r"^```\w*\n?|```$", "", reply.strip()).strip()
    if not _PYTHON.match(code.lstrip("[")) or len(code) > 20_000:
        return []
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(code, mode="eval").body
        nodes = tree.elts if isinstance(tree, (ast.List, ast.Tuple)) else [tree]
        return [_python_call(node) for node in nodes]
    except (SyntaxError, ValueError, TypeError, MemoryError, RecursionError):
        return []


def _python_call(node: ast.expr) -> Call:
    if not isinstance(node, ast.Call) or node.args:
        raise ValueError("no call with named arguments")
    arguments = {word.arg: _json_like(ast.literal_eval(word.value)) for word in node.keywords if word.arg}
    return Call(ast.unparse(node.func), arguments)


def _json_like(value: Any) -> Any:
    return list(cast("tuple[Any, ...]", value)) if isinstance(value, tuple) else value


def _native(completion: Completion) -> list[Call] | None:
    calls: list[Call] = []
    for call in completion.tool_calls:
        arguments = _arguments(call.arguments)
        if arguments is None:
            return None
        calls.append(Call(call.name, arguments))
    if any(not _is_json(call.arguments) for call in completion.tool_calls):
        # repaired arguments still count for the content, but `_typed` must see that the form was broken
        return [Call(call.name, _Repaired(call.arguments)) for call in calls]
    return calls


class _Repaired(dict[str, Any]):
    """Arguments that were no valid JSON."""


def _is_json(words: str) -> bool:
    try:
        parse(words or "{}")
    except ValueError:
        return False
    return True


def _raw(completion: Completion) -> str:
    return "; ".join(f"{call.name}({call.arguments})" for call in completion.tool_calls) or completion.text


def _plain(name: str) -> str:
    """Names with dots are not allowed by the OpenAI format, so servers send underscores."""
    return name.replace(".", "_")


def _fault(call: Call, expected: Expected, tool: Tool | None) -> str:
    """What is wrong with `call`; empty when it is what was expected."""
    if _plain(call.name) != _plain(expected.name):
        return text("scorers.tools_missing", name=expected.name)
    required = set((tool.parameters or {}).get("required", ())) if tool else set[str]()
    for name, options in expected.accepted.items():
        if name not in call.arguments:
            if options and (name in required or not any(option == "" for option in options)):
                return text("scorers.tools_argument_missing", name=expected.name, argument=name)
        elif not options and call.arguments[name] in ("", [], {}, None):
            continue  # no accepted value: the argument stays empty
        elif not any(same(call.arguments[name], option) for option in options):
            facts = {"found": short(call.arguments[name]), "expected": short(list(options))}
            return text("scorers.tools_argument_wrong", name=expected.name, argument=name, **facts)
    for name, value in call.arguments.items():
        if name not in expected.accepted and value is not None:
            return text("scorers.tools_argument_extra", name=expected.name, argument=name)
    return ""


def same(value: Any, wanted: Any, depth: int = 0) -> bool:
    """Whether an argument means the wanted value: numbers by value, texts without case, spaces and marks."""
    if depth > 50 or value is None or wanted is None:
        return value is None and wanted is None
    if is_object(wanted):
        return is_object(value) and _same_objects(value, wanted, depth)
    if is_array(wanted):
        options = wanted
        if not is_array(value):
            return False
        items = value
        return len(items) == len(options) and all(
            same(item, option, depth + 1) for item, option in zip(items, options, strict=True)
        )
    if isinstance(wanted, bool) or isinstance(value, bool):
        return as_text(value).lower() == as_text(wanted).lower()
    try:
        return float(value) == float(wanted)
    except (TypeError, ValueError, OverflowError):
        return isinstance(value, str) and isinstance(wanted, str) and _folded(value) == _folded(wanted)


def _same_objects(value: Mapping[str, Any], wanted: Mapping[str, Any], depth: int) -> bool:
    """Objects field by field; in the leaderboard's notation each field lists its accepted values."""
    for name, options in wanted.items():
        choices = _options(options)
        if name not in value:
            if not any(choice == "" for choice in choices):
                return False
        elif not (
            same(value[name], options, depth + 1) or any(same(value[name], c, depth + 1) for c in choices)
        ):
            return False
    return all(name in wanted for name in value)


def _folded(words: str) -> str:
    return re.sub(r"[\s,./\-_*^]", "", words).casefold().replace("'", '"')


def _typed(call: Call, tools: Mapping[str, Tool]) -> bool:
    """Whether the arguments are valid JSON and of the types that the tool's schema names."""
    if isinstance(call.arguments, _Repaired):
        return False
    tool = tools.get(_plain(call.name))
    if tool is None:
        return not tools
    properties = cast("Mapping[str, Any]", (tool.parameters or {}).get("properties") or {})
    for name, value in call.arguments.items():
        kind = found(properties, f"{name}.type")
        kinds = _TYPES.get(str(kind))
        if kinds and value is not None:
            whole = isinstance(value, float) and value.is_integer() and int in kinds
            if (isinstance(value, bool) and bool not in kinds) or not (whole or isinstance(value, kinds)):
                return False
    return True
