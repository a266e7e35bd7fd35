"""Examples that ask the same: duplicates, contradictions, and questions of the test split that are solved in train.

Two examples ask the same when the variables that the task's prompts show, their conversations and their tools are
equal after folding case, spacing, full-width forms and edge punctuation. Nearly the same means that every variable is
at least 90 % alike, no number differs, and the answer is the same: "turn on" and "turn off" are not near.
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from rapidfuzz import fuzz

from baimo.core.ids import digest
from baimo.core.task import Example, Prompt
from baimo.evals.scorers.text import normalised
from baimo.evals.tasks.formats.messages import text_of
from baimo.evals.tasks.near import LONGEST, proposed
from baimo.evals.tasks.prompts import variables_of

ALIKE = 90.0
"""Per cent of edit similarity (rapidfuzz.fuzz.ratio) from which on two texts are near."""
_NUMBERS = re.compile(r"\d+")


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What an example asks, in the form in which it is compared."""

    example: Example
    """The example."""
    parts: tuple[str, ...]
    """The normalised variables, or the conversation."""
    text: str
    """All parts in one."""
    answer: str
    """Digest of the reference; empty = none."""
    tools: str = ""
    """Digest of the tools on offer."""

    @property
    def numbers(self) -> list[str]:
        """Numbers in the text: texts with different ones are not near."""
        return _NUMBERS.findall(self.text)


class Leak(NamedTuple):
    """A test example that train gives away."""

    kind: str
    """leak: the same question; near_leak: nearly the same with the same answer; group_leak: the same group."""
    test: Question
    """The test example."""
    train: tuple[Question, ...]
    """Examples of train, at most 20."""


def questions(examples: Sequence[Example], prompts: Sequence[Prompt]) -> list[Question]:
    """What each example asks, given which variables the prompts show."""
    shown = sorted({name for prompt in prompts for name in variables_of(prompt.system + prompt.user)})
    return [_question(example, shown) for example in examples]


def duplicates(asked: Sequence[Question]) -> list[list[Question]]:
    """Groups of examples that ask the same and expect the same."""
    return [group for group in _alike(asked, with_answer=True) if len(group) > 1]


def contradictions(asked: Sequence[Question]) -> list[list[Question]]:
    """Groups of examples that ask the same and expect different answers."""
    groups = _alike(asked, with_answer=False)
    return [group for group in groups if len({question.answer for question in group} - {""}) > 1]


def near_duplicates(asked: Sequence[Question]) -> list[list[Question]]:
    """Clusters of examples that nearly ask the same, outside of declared groups; exact repeats count once."""
    once = [group[0] for group in _alike(asked, with_answer=True)]
    parent = list(range(len(once)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for first, second in proposed([question.text for question in once]):
        left, right = root(first), root(second)
        one, other = once[first], once[second]
        grouped = one.example.group is not None and one.example.group == other.example.group
        if left != right and not grouped and near(one, other):
            parent[max(left, right)] = min(left, right)
    clusters: dict[int, list[Question]] = defaultdict(list)
    for index, question in enumerate(once):
        clusters[root(index)].append(question)
    return [cluster for cluster in clusters.values() if len(cluster) > 1]


def leaks(test: Sequence[Question], train: Sequence[Question]) -> Iterator[Leak]:
    """Test examples whose question, nearly the same question or group is in train; each is reported once."""
    if not train:
        return
    same: dict[Any, list[Question]] = defaultdict(list)
    grouped: dict[str, list[Question]] = defaultdict(list)
    for question in train:
        same[question.parts, question.tools].append(question)
        if question.example.group is not None:
            grouped[question.example.group].append(question)
    close: dict[int, list[Question]] = defaultdict(list)
    for first, second in proposed([question.text for question in (*test, *train)]):
        # the test split comes first, so a pair across the splits has its smaller index there
        if first < len(test) <= second and near(test[first], train[second - len(test)]):
            close[first].append(train[second - len(test)])
    for index, question in enumerate(test):
        if found := same.get((question.parts, question.tools)):
            yield Leak("leak", question, tuple(found[:20]))
        elif question.example.group in grouped:
            yield Leak("group_leak", question, tuple(grouped[question.example.group or ""][:20]))
        elif index in close:
            yield Leak("near_leak", question, tuple(close[index][:20]))


def near(one: Question, other: Question) -> bool:
    """Whether two examples nearly ask the same and expect the same."""
    if one.answer != other.answer or len(one.parts) != len(other.parts) or one.tools != other.tools:
        return False
    pairs = zip(one.parts, other.parts, strict=True)
    alike = all(
        fuzz.ratio(left[:LONGEST], right[:LONGEST], score_cutoff=ALIKE) > 0
        for left, right in pairs
        if left != right
    )
    return alike and one.numbers == other.numbers


def _alike(asked: Sequence[Question], *, with_answer: bool) -> list[list[Question]]:
    groups: dict[Any, list[Question]] = defaultdict(list)
    for question in asked:
        groups[question.parts, question.tools, question.answer if with_answer else None].append(question)
    return list(groups.values())


def _question(example: Example, shown: Sequence[str]) -> Question:
    if example.messages:
        parts = [f"{message.role}: {text_of(message)}" for message in example.messages]
    else:
        parts = [_as_text(example.fields[name]) for name in shown if name in example.fields]
    folded = tuple(normalised(part) for part in parts)
    judged_by = example.target if example.target is not None else example.metadata.get("asserts")
    return Question(
        example=example,
        parts=folded,
        text="\n".join(folded),
        answer="" if judged_by is None else digest(judged_by),
        tools=digest(example.tools) if example.tools else "",
    )


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
