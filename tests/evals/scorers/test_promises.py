"""What every scorer promises: no reply makes it raise or hang, and a perfect answer gets full marks."""

from __future__ import annotations

import asyncio
import json
import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from baimo.core.call import Completion
from baimo.core.message import ToolCall
from baimo.core.registry import Spec
from baimo.core.run import Outcome, Score, Scorer
from baimo.core.task import Example
from baimo.evals.scorers.registry import scorer

CALL = {"name": "light.on", "arguments": {"room": "hall"}}
CASES: dict[str, tuple[str, dict[str, Any], Any, str]] = {
    "exact": ("exact", {}, "Paris", "Paris"),
    "contains": ("contains", {}, ["lamp", "灯"], "the lamp"),
    "icontains": ("icontains", {"mode": "all"}, ["lamp", "灯"], "the LAMP 灯"),
    "regex": ("regex", {"pattern": r"room: (\w+)", "group": 1}, "hall", "room: hall"),
    "choice": ("choice", {}, "B", "B"),
    "numeric": ("numeric", {}, 18, "18"),
    "json": ("json", {"schema": {"type": "object"}}, {"a": [1, {"b": "x"}]}, '{"a": [1, {"b": "x"}]}'),
    "json fields": (
        "json",
        {"mode": "fields", "texts": "literal", "unordered": True},
        {"a": "[1]"},
        '{"a": [1]}',
    ),
    "tool_calls": ("tool_calls", {"form": "text"}, [CALL], json.dumps([CALL])),
    "f1": ("text_overlap", {}, "北京大学 is", "北京大学 is"),
    "span": ("text_overlap", {"metric": "span_f1"}, "北京大学", "北京大学"),
    "rouge": ("text_overlap", {"metric": "rouge_l"}, "a cat sat", "a cat sat"),
    "bleu": ("text_overlap", {"metric": "bleu"}, "cat", "cat"),
    "chrf": ("text_overlap", {"metric": "chrf"}, "北京", "北京"),
    "all": ("all", {"scorers": [{"name": "exact"}, {"name": "contains"}]}, "Paris", "Paris"),
    "any": (
        "any",
        {"scorers": [{"name": "exact"}, {"name": "choice", "labels": ["Paris"]}]},
        "Paris",
        "Paris",
    ),
    "asserts": ("asserts", {"asserts": [{"type": "regex", "value": "^a+$"}]}, None, "aaa"),
}
HOSTILE = [
    "\x00", "\ud800", "﷽" * 50, "{" * 3000, "[" * 3000, '{"a":' * 1000, "((((" * 500, "```" * 300, "\\boxed{" * 500,
    "1," * 4000, "12,12," * 3000, "9" * 9000, "一" * 9000, "负" * 3000, "1 " * 5000, "one and " * 2000, "####" * 2000,
    "answer is " * 2000, "答案是" * 3000, "A or " * 2000, "1e9999999999", "10^" * 2000, "\\" * 5000, '"' * 5000,
    "<tool_call>" * 800,
    "f(" * 1000, "f(x=" * 1000, "[" + "f()," * 500 + "]", "<think>" * 1000, " " * 9000, "\n" * 9000,
    "1/" * 4000, "½" * 3000, "-" * 9000, "'" * 3001, "{'a': " * 500, "i'm sorry", "NaN", "-Infinity", "{1: {2: {3}}}",
    '{"a": 1e400}',
]  # fmt: skip
replies = st.one_of(
    st.text(),
    st.text(
        alphabet="ABCD ()是选答案:：.answer i\\boxed{}\"'`[],0123456789一二三百万点%/-+eE^#\n", max_size=80
    ),
    st.recursive(st.integers() | st.text(max_size=5), lambda x: st.lists(x, max_size=3), max_leaves=5).map(
        json.dumps
    ),
)


def built(case: str) -> tuple[Scorer, Example, str]:
    name, args, target, perfect = CASES[case]
    return (
        scorer(Spec(name=name, args=args), folder=Path()),
        Example(id="1", fields={}, target=target),
        perfect,
    )


def holds(score: Score) -> bool:
    both = (score.lenient, score.strict)
    if score.outcome in (Outcome.UNSCORED, Outcome.FAILED):
        return both == (None, None)
    return all(value is not None and 0 <= value <= 1 and math.isfinite(value) for value in both)


@pytest.mark.parametrize("case", CASES)
def test_a_perfect_answer_gets_full_marks(case: str) -> None:
    made, example, perfect = built(case)
    score = asyncio.run(made.score(example, Completion(text=perfect)))
    assert (score.lenient, score.strict, score.outcome) == (1, 1, Outcome.RIGHT)


@pytest.mark.parametrize("case", CASES)
def test_hostile_replies_are_judged_without_raising(case: str) -> None:
    made, example, _ = built(case)

    async def run() -> None:
        for reply in HOSTILE:
            assert holds(await made.score(example, Completion(text=reply))), reply[:40]
            call = ToolCall(id="1", name=reply[:20], arguments=reply)
            assert holds(await made.score(example, Completion(text="", tool_calls=(call,)))), reply[:40]

    asyncio.run(run())


@pytest.mark.parametrize("case", CASES)
@settings(deadline=None, max_examples=60)
@given(reply=replies)
def test_no_reply_makes_a_scorer_raise(case: str, reply: str) -> None:
    made, example, _ = built(case)
    assert holds(asyncio.run(made.score(example, Completion(text=reply))))
