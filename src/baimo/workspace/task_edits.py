"""Changes of examples, as `TaskKeeping.change` takes them: each is computed from the task as it is under its lock."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from baimo.core.task import Example, Task
from baimo.core.tenant import DataClass
from baimo.errors import Conflict, NotFound, UsageError
from baimo.gateway.policy import strictest
from baimo.workspace.task_imports import freed
from baimo.workspace.task_keeping import Placed, Split, conversation, placed_of, with_examples

Change = Callable[[Task], tuple[Task, Mapping[str, Any]]]
"""The task as it is → the task as it is to be, and what the history tells of it."""
_TOLD = 200
"""Most ids that the history names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """What is said of an example; None = nothing, so that it stays as it is."""

    input: str | None = None
    fields: Mapping[str, Any] | None = None
    """Variables of the prompt, in place of those there are."""
    messages: Sequence[Any] | None = None
    """A conversation to continue, as the Chat Completions API takes it."""
    expected: Any = None
    group: str | None = None
    labels: Mapping[str, Any] = field(default_factory=dict[str, Any])
    """Beside those there are; null takes one away."""
    clear: Collection[str] = ()
    """Of expected, group and messages: what is to be empty."""

    @property
    def labels_only(self) -> bool:
        """Whether nothing but what is expected and labels is changed."""
        asks = (self.input, self.fields, self.messages, self.group)
        return asks == (None, None, None, None) and set(self.clear) <= {"expected"}


def added(draft: Draft, split: Split, id: str, data_class: DataClass = "public") -> Change:
    """One example more.

    Args:
        draft: what it asks and expects.
        split: where.
        id: its id.
        data_class: of what it holds; the task becomes as strict.
    """

    def changed(task: Task) -> tuple[Task, Mapping[str, Any]]:
        placed = placed_of(task)
        if any((one.split, one.example.id) == (split, id) for one in placed):
            raise Conflict("tasks.example_exists", id=id, field="/id")
        if not (draft.input or draft.fields or draft.messages):
            raise UsageError("tasks.nothing_to_ask", field="/input")
        fresh = Placed(split, _drawn(Example(id=id, fields={}), draft))
        task = replace(task, data_class=strictest(task.data_class, data_class))
        return with_examples(task, [*placed, fresh]), {"ids": [fresh.id]}

    return changed


def edited(name: str, draft: Draft) -> Change:
    """Another form of one example; `name` is split:id."""
    return _each([name], lambda one: Placed(one.split, _drawn(one.example, draft)))


def drafted(names: Sequence[str], draft: Draft) -> Change:
    """The same said of several examples; a name is split:id."""
    return _each(names, lambda one: Placed(one.split, _drawn(one.example, draft)))


def deleted(names: Sequence[str]) -> Change:
    """Some examples less."""
    return _each(names, lambda _: None)


def moved(names: Sequence[str], to: Split) -> Change:
    """Some examples to another split; one whose id is taken there gets another."""

    def changed(task: Task) -> tuple[Task, Mapping[str, Any]]:
        wanted, placed = _there(task, names), placed_of(task)
        stays = [one for one in placed if one.id not in wanted or one.split == to]
        taken = {one.example.id for one in stays if one.split == to}
        for one in placed:
            if one.id in wanted and one.split != to:
                example = replace(one.example, id=freed(one.example.id, taken))
                taken.add(example.id)
                stays.append(Placed(to, example))
        return with_examples(task, stays), {"to": to, **_told(names)}

    return changed


def _each(names: Sequence[str], made: Callable[[Placed], Placed | None]) -> Change:
    def changed(task: Task) -> tuple[Task, Mapping[str, Any]]:
        wanted = _there(task, names)
        found = [made(one) if one.id in wanted else one for one in placed_of(task)]
        return with_examples(task, [one for one in found if one is not None]), _told(names)

    return changed


def _there(task: Task, names: Sequence[str]) -> set[str]:
    known, wanted = {one.id for one in placed_of(task)}, set(names)
    if missing := sorted(wanted - known):
        raise NotFound("tasks.no_example", id=missing[0].partition(":")[2], field="/example")
    return wanted


def _told(names: Sequence[str]) -> dict[str, Any]:
    return {"count": len(names), "ids": list(names[:_TOLD])}


def _drawn(example: Example, draft: Draft) -> Example:
    """An example with what a draft says of it."""
    if draft.messages is not None:
        turns = conversation(draft.messages)
        example = replace(example, messages=turns.messages, fields={**example.fields, **turns.fields})
    if draft.fields is not None:
        example = replace(example, fields=dict(draft.fields))
    if draft.input is not None:
        before = example.fields.get("input")
        # a column that was taken for the input stands under its own name, too
        same = [name for name, value in example.fields.items() if before is not None and value == before]
        fields = {**example.fields, **dict.fromkeys([*same, "input"], draft.input)}
        example = replace(example, fields=fields)
    if draft.expected is not None:
        example = replace(example, target=draft.expected)
    if draft.group is not None:
        example = replace(example, group=draft.group)
    # a column that is a label is a variable of the prompt, too
    same = {
        name: one
        for name, one in draft.labels.items()
        if example.metadata.get(name) == example.fields.get(name, ...)
    }
    if same:
        example = replace(example, fields={**example.fields, **same})
    labels = {**example.metadata, **draft.labels}
    example = replace(example, metadata={name: one for name, one in labels.items() if one is not None})
    emptied: dict[str, Any] = {
        "expected": {"target": None},
        "group": {"group": None},
        "messages": {"messages": ()},
    }
    for name in draft.clear:
        example = replace(example, **emptied[name])
    return example
