"""Function calls."""

from __future__ import annotations

import json
from typing import Any

import pytest

from baimo.core.call import Completion
from baimo.core.message import Tool, ToolCall
from baimo.core.run import Outcome
from tests.evals.scorers import judge

LAMP = [{"name": "light.on", "arguments": {"room": "Living Room", "level": 5}}]
TOOLS = (
    Tool(
        name="light.on",
        parameters={
            "type": "object",
            "properties": {
                "room": {"type": "string"},
                "level": {"type": "integer"},
                "mood": {"type": "string"},
            },
            "required": ["room"],
        },
    ),
)


def native(*calls: tuple[str, Any]) -> Completion:
    made = (
        ToolCall(id=str(n), name=name, arguments=given if isinstance(given, str) else json.dumps(given))
        for n, (name, given) in enumerate(calls)
    )
    return Completion(text="", tool_calls=tuple(made))


def test_a_native_call_is_right_whatever_its_notation_of_dots_case_and_numbers() -> None:
    reply = native(("light_on", {"level": 5.0, "room": "living room"}))
    assert judge("tool_calls", reply, LAMP, example_tools=TOOLS).outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    "reply",
    [
        '{"name": "light.on", "arguments": {"room": "living room", "level": 5}}',
        '```json\n[{"name": "light.on", "parameters": {"room": "Living Room", "level": 5}}]\n```',
        '<tool_call>\n{"name": "light.on", "arguments": {"room": "Living Room", "level": 5}}\n</tool_call>',
        '{"light.on": {"room": "Living Room", "level": 5}}',
        'light.on(room="Living Room", level=5)',
        "[light.on(level=5, room='Living Room')]",
        '{"function": {"name": "light.on", "arguments": "{\\"room\\": \\"Living Room\\", \\"level\\": 5}"}}',
    ],
)
def test_a_call_written_as_text_is_right_but_not_in_the_native_form(reply: str) -> None:
    score = judge("tool_calls", reply, LAMP, example_tools=TOOLS)
    assert (score.lenient, score.outcome) == (1, Outcome.MALFORMED)
    assert judge("tool_calls", reply, LAMP, example_tools=TOOLS, form="text").outcome is Outcome.RIGHT


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"level": 5}, "room is missing"),
        ({"room": "Hall", "level": 5}, "room is Hall"),
        ({"room": "Living Room", "level": 5, "mood": "warm"}, "mood is not expected"),
    ],
)
def test_a_wrong_argument_is_named(arguments: dict[str, Any], complaint: str) -> None:
    score = judge("tool_calls", native(("light.on", arguments)), LAMP, example_tools=TOOLS)
    assert score.outcome is Outcome.WRONG
    assert complaint in score.explanation


def test_an_argument_of_the_wrong_type_is_malformed_though_its_value_is_right() -> None:
    reply = native(("light.on", {"room": "Living Room", "level": "5"}))
    assert judge("tool_calls", reply, LAMP, example_tools=TOOLS).outcome is Outcome.MALFORMED


def test_broken_arguments_are_repaired_for_the_content_only() -> None:
    reply = native(("light.on", "{'room': 'Living Room', 'level': 5,}"))
    score = judge("tool_calls", reply, LAMP, example_tools=TOOLS)
    assert (score.lenient, score.strict) == (1, 0)
    assert judge("tool_calls", native(("light.on", "room!")), LAMP).outcome is Outcome.MALFORMED


def test_accepted_values_and_optional_arguments_as_on_the_leaderboard() -> None:
    target = [{"weather": {"city": ["SF", "San Francisco"], "unit": ["celsius", ""], "near": [{"km": [5]}]}}]
    assert (
        judge("tool_calls", native(("weather", {"city": "san francisco", "near": {"km": 5}})), target).lenient
        == 1
    )
    assert judge("tool_calls", native(("weather", {"city": "LA", "near": {"km": 5}})), target).lenient == 0
    assert judge("tool_calls", native(("weather", {"city": "SF", "near": {"km": 6}})), target).lenient == 0
    assert judge("tool_calls", native(("weather", {"city": "SF"})), target).lenient == 0


def test_parallel_calls_come_in_any_order_unless_the_task_says_otherwise() -> None:
    target = [{"name": "go", "arguments": {"to": place}} for place in ("a", "b")]
    reply = native(("go", {"to": "b"}), ("go", {"to": "a"}))
    assert judge("tool_calls", reply, target).lenient == 1
    assert judge("tool_calls", reply, target, ordered=True).lenient == 0


def test_missing_and_extra_calls_cost_their_share() -> None:
    target = [{"name": "go", "arguments": {"to": place}} for place in ("a", "b")]
    assert judge("tool_calls", native(("go", {"to": "a"})), target).lenient == 0
    assert judge("tool_calls", native(("go", {"to": "a"})), target, mode="share").lenient == 0.5
    three = native(*(("go", {"to": place}) for place in "abc"))
    assert judge("tool_calls", three, target, mode="share").lenient == pytest.approx(2 / 3)
    assert judge("tool_calls", three, target).outcome is Outcome.WRONG


def test_no_call_is_right_when_none_is_wanted() -> None:
    assert judge("tool_calls", "I cannot do that.", []).outcome is Outcome.RIGHT
    assert judge("tool_calls", native(("go", {})), []).outcome is Outcome.WRONG
    assert judge("tool_calls", "Which room?", LAMP).outcome is Outcome.MALFORMED


def test_python_syntax_is_read_and_never_run() -> None:
    assert judge("tool_calls", "go(to=__import__('os').getcwd())", [{"go": {"to": ["a"]}}]).lenient == 0


def test_a_target_that_lists_no_calls_is_the_task_s_fault() -> None:
    assert judge("tool_calls", "x", "go").outcome is Outcome.UNSCORED
