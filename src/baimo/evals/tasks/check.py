"""What is wrong with a task before money is spent on it: duplicates, contradictions, leaks, references that no answer
could ever match.

Prevents the failure that no statistic repairs: a winner chosen on examples that were in the prompt, that contradict
each other, or that nobody can get right.
"""

from __future__ import annotations

import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from baimo.core.ids import digest
from baimo.core.task import Example, Prompt, Task
from baimo.errors import TemplateError
from baimo.evals.tasks.formats.messages import text_of
from baimo.evals.tasks.formats.shapes import kind_of
from baimo.evals.tasks.prompts import Renderer
from baimo.evals.tasks.unscorable import Find, unscorable
from baimo.text import text

if TYPE_CHECKING:
    from baimo.evals.tasks.repeats import Question

Severity = Literal["error", "warning", "note"]
FEW = 100
"""Examples below which a comparison can hardly separate anything."""
ONE_SIDED = 0.5
"""Share of one label from which on a constant reply looks good."""
OTHER_SCRIPT = 0.05
"""Share of examples from which on a second script is worth a slice in the report."""


class Place(NamedTuple):
    """Where an example stands."""

    split: Literal["test", "train"]
    id: str
    file: str
    line: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that a person should look at."""

    kind: str
    """duplicate, near_duplicate, contradiction, leak, near_leak, group_leak, no_reference, no_scorer, unscorable,
    scorer, template, empty_input, long_input, constant_target, one_sided, mixed_targets, unseen_label, languages or
    few_examples."""
    severity: Severity
    """error: rows cannot be judged rightly; warning: the result is worth less than it looks; note: good to know."""
    places: tuple[Place, ...] = ()
    """The examples concerned; none = the task as a whole."""
    facts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """What the detail names."""

    @property
    def lines(self) -> tuple[int, ...]:
        """Lines of the examples concerned, where known."""
        return tuple(place.line for place in self.places if place.line is not None)

    @property
    def ids(self) -> tuple[str, ...]:
        """Ids of the examples concerned."""
        return tuple(place.id for place in self.places)

    @property
    def detail(self) -> str:
        """The finding in the reader's language."""
        return text(f"tasks.check_{self.kind}", **self.facts)


def check(task: Task, *, most_tokens: int = 8000, find: Find | None = None) -> list[Finding]:
    """Everything that is wrong or remarkable, errors first.

    Args:
        task: what load_task returned.
        most_tokens: estimated prompt tokens above which an input counts as over-long.
        find: looks the models of judges up and raises UnknownModel; None = they are not looked up.
    """
    from baimo.evals.tasks.repeats import questions  # loads numpy

    test, train = questions(task.examples, task.prompts), questions(task.train, task.prompts)
    found = [
        *_repeats(test, train),
        *_references(task, find),
        *_rendered(task, most_tokens),
        *_balance(task),
        *_scripts(test),
    ]
    if 0 < len(task.examples) < FEW:
        margin = round(100 / len(task.examples) ** 0.5)
        found.append(
            Finding(
                kind="few_examples", severity="note", facts={"count": len(task.examples), "margin": margin}
            )
        )
    rank = {"error": 0, "warning": 1, "note": 2}
    return sorted(found, key=lambda finding: rank[finding.severity])


def _repeats(test: Sequence[Question], train: Sequence[Question]) -> Iterator[Finding]:
    from baimo.evals.tasks.repeats import contradictions, duplicates, leaks, near_duplicates

    for split, asked in (("test", test), ("train", train)):
        for group in duplicates(asked):
            yield _finding("duplicate", "warning", split, group, count=len(group))
        for group in contradictions(asked):
            answers = sorted({_short(question.example.target) for question in group})
            yield _finding("contradiction", "error", split, group, answers=" | ".join(answers[:5]))
        for group in near_duplicates(asked):
            yield _finding(
                "near_duplicate", "note", split, group, count=len(group), sample=_short(group[0].text)
            )
    for leak in leaks(test, train):
        places = (_place("test", leak.test.example), *(_place("train", one.example) for one in leak.train))
        severity: Severity = (
            "note" if leak.kind == "near_leak" else "error" if leak.kind == "leak" else "warning"
        )
        facts = {"sample": _short(leak.test.text), "count": len(leak.train), "group": leak.test.example.group}
        yield Finding(kind=leak.kind, severity=severity, places=places, facts=facts)


def _references(task: Task, find: Find | None) -> Iterator[Finding]:
    if not task.scorers:
        yield Finding(kind="no_scorer", severity="error")
    needed = any(spec.name not in {"judge", "pairwise", "python", "code"} for spec in task.scorers[:1])
    bare = [one for one in task.examples if one.target is None and not one.metadata.get("asserts")]
    if bare:
        places = tuple(_place("test", example) for example in bare)
        facts = {"count": len(bare), "total": len(task.examples)}
        yield Finding(kind="no_reference", severity="error" if needed else "note", places=places, facts=facts)
    for number, spec in enumerate(task.scorers):
        severity: Severity = "error" if number == 0 else "warning"
        problems: dict[str, list[Example]] = defaultdict(list)
        for example, problem in unscorable(spec, task, find):
            if example is None:
                yield Finding(
                    kind="scorer", severity="error", facts={"scorer": spec.name, "problem": problem}
                )
            else:
                problems[problem].append(example)
        for problem, examples in problems.items():
            facts = {"scorer": spec.name, "problem": problem, "count": len(examples)}
            places = tuple(_place("test", example) for example in examples)
            yield Finding(kind="unscorable", severity=severity, places=places, facts=facts)


def _rendered(task: Task, most_tokens: int) -> Iterator[Finding]:
    for prompt in task.prompts:
        yield from _rendered_by(prompt, task, most_tokens)
    empty = [example for example in task.examples if not _asks(example)]
    if empty:
        places = tuple(_place("test", example) for example in empty)
        yield Finding(kind="empty_input", severity="warning", places=places, facts={"count": len(empty)})


def _rendered_by(prompt: Prompt, task: Task, most_tokens: int) -> Iterator[Finding]:
    broken: dict[str, tuple[TemplateError, list[Example]]] = {}
    long: list[tuple[int, Example]] = []
    try:
        renderer = Renderer(replace(prompt, few_shot=None))
    except TemplateError as error:
        yield Finding(
            kind="template",
            severity="error",
            facts={"prompt": prompt.name, "problem": str(error), "count": 0},
        )
        return
    for example in task.examples:
        try:
            messages = renderer.messages(example)
        except TemplateError as error:
            cause = f"{error.key} {error.facts.get('variable')}"
            broken.setdefault(cause, (error, []))[1].append(example)
            continue
        tokens = sum(estimated_tokens(text_of(message)) for message in messages)
        if tokens > most_tokens:
            long.append((tokens, example))
    for error, examples in broken.values():
        facts = {"prompt": prompt.name, "problem": str(error), "count": len(examples)}
        places = tuple(_place("test", example) for example in examples)
        yield Finding(kind="template", severity="error", places=places, facts=facts)
    if long:
        facts = {"prompt": prompt.name, "count": len(long), "limit": most_tokens, "longest": max(long)[0]}
        places = tuple(_place("test", example) for _, example in long)
        yield Finding(kind="long_input", severity="warning", places=places, facts=facts)


def _balance(task: Task) -> Iterator[Finding]:
    targets = [example.target for example in task.examples if example.target is not None]
    if not targets:
        return
    kinds = Counter(kind_of(target) for target in targets)
    if len(kinds) > 1:
        rare = min(kinds, key=lambda kind: kinds[kind])
        odd = [one for one in task.examples if one.target is not None and kind_of(one.target) == rare]
        facts = {"kinds": ", ".join(f"{kind} × {count}" for kind, count in kinds.most_common())}
        places = tuple(_place("test", example) for example in odd)
        yield Finding(kind="mixed_targets", severity="warning", places=places, facts=facts)
    counts = Counter(
        _short(target) if isinstance(target, (str, int, float)) else digest(target) for target in targets
    )
    (label, most), size = counts.most_common(1)[0], len(targets)
    if len(counts) == 1 and size > 1:
        yield Finding(
            kind="constant_target", severity="warning", facts={"target": _short(targets[0]), "count": size}
        )
    elif len(counts) <= size // 3 and most / size >= ONE_SIDED:
        facts = {"label": label, "share": round(100 * most / size)}
        yield Finding(kind="one_sided", severity="note", facts=facts)
    learned = {_short(example.target) for example in task.train if isinstance(example.target, str)}
    if learned and len(counts) <= size // 3:
        unseen = sorted({_short(target) for target in targets if isinstance(target, str)} - learned)
        if unseen:
            facts = {"count": len(unseen), "labels": ", ".join(unseen[:5])}
            yield Finding(kind="unseen_label", severity="note", facts=facts)


def _scripts(test: Sequence[Question]) -> Iterator[Finding]:
    if any(_LANGUAGE_NAMES & question.example.metadata.keys() for question in test):
        return
    scripts = Counter(script for question in test if (script := script_of(question.text)))
    common = [(script, count) for script, count in scripts.most_common() if count >= OTHER_SCRIPT * len(test)]
    if len(common) > 1:
        shares = ", ".join(f"{script} {round(100 * count / len(test))} %" for script, count in common)
        yield Finding(kind="languages", severity="note", facts={"shares": shares})


def script_of(words: str) -> str:
    """The script that most letters of a text are in, by their Unicode names: Latin, Han, Kana, Hangul, Arabic …"""
    names: Counter[str] = Counter()
    for letter in words[:400]:
        if letter.isalpha():
            name = "LATIN" if letter.isascii() else unicodedata.name(letter, "").partition(" ")[0]
            names[_SCRIPTS.get(name, name.title())] += 1
    if names["Kana"] * 5 > names["Han"]:  # Japanese mixes both; Chinese has no kana
        names["Kana"] += names.pop("Han", 0)
    return max(names, key=lambda name: names[name], default="")


_LANGUAGE_NAMES = frozenset({"language", "lang", "locale"})
_SCRIPTS = {"CJK": "Han", "HIRAGANA": "Kana", "KATAKANA": "Kana", "FULLWIDTH": "Latin"}


def estimated_tokens(words: str) -> int:
    """A rough count without a tokenizer: four characters to a token, one where the script is Chinese or the like."""
    dense = sum(1 for letter in words if letter > "\u2e7f")
    return dense + (len(words) - dense + 3) // 4


def _asks(example: Example) -> bool:
    if example.messages:
        return any(message.content for message in example.messages if message.role != "system")
    return any(str(value).strip() for value in example.fields.values() if value is not None)


def _finding(kind: str, severity: Severity, split: Any, group: Iterable[Question], **facts: Any) -> Finding:
    places = tuple(_place(split, question.example) for question in group)
    return Finding(kind=kind, severity=severity, places=places, facts=facts)


def _place(split: Literal["test", "train"], example: Example) -> Place:
    return Place(split, example.id, example.file, example.line)


def _short(value: object, most: int = 60) -> str:
    from baimo.evals.scorers.base import short

    return short(value, most)
