"""An example as the fields of a form, and back: only what a person changed is sent."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

ROLES = ("user", "assistant", "system", "tool")
_ROOM = 1
"""Empty turns to write into."""


class Turn(NamedTuple):
    """A message of a conversation."""

    role: str
    content: str


class Drawn(NamedTuple):
    """What a form of an example shows."""

    input: str
    fields: list[tuple[str, str]]
    """Further variables of the prompt."""
    turns: list[Turn]
    raw: str
    """The conversation as JSON, where it holds more than text."""
    expected: str
    is_json: bool
    """Whether the reference is no text."""
    labels: str
    group: str
    split: str


def example_form(one: Mapping[str, Any]) -> Drawn:
    """An example of the API in the fields of a form; an empty one is a new example."""
    fields: dict[str, Any] = dict(one.get("fields") or {})
    messages: Sequence[Mapping[str, Any]] = one.get("messages") or ()
    simple = all(
        isinstance(turn.get("content"), str) and turn.keys() <= {"role", "content"} for turn in messages
    )
    asked = fields.pop("input", "")
    expected, known = one.get("expected"), dict[str, Any](one.get("labels") or {})
    return Drawn(
        input=shown(asked),
        # a column that was taken for the input or a label stands under its own name, too; it follows
        fields=[
            (name, shown(value)) for name, value in fields.items() if value not in (asked, known.get(name))
        ],
        turns=[Turn(turn["role"], turn["content"]) for turn in messages] if simple else [],
        raw="" if simple else json.dumps(messages, ensure_ascii=False, indent=1),
        expected=shown(expected),
        is_json=expected is not None and not isinstance(expected, str),
        labels="\n".join(f"{name}={shown(value)}" for name, value in known.items()),
        group=one.get("group") or "",
        split=one.get("split") or "test",
    )


def shown(value: Any) -> str:
    """A value as text that a form can hold."""
    return "" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def change_of(one: Mapping[str, Any], form: Mapping[str, str], *, whole: bool) -> dict[str, Any]:
    """What of an example is different in a form.

    Args:
        one: the example as the API shows it; empty = a new one.
        form: as it was sent.
        whole: also what is asked, split and group; else only the reference and labels.
    """
    before, wanted = example_form(one), dict[str, Any]()
    said = {name: value.replace("\r\n", "\n") for name, value in form.items()}
    if said.get("expected", before.expected) != before.expected:
        if said["expected"]:
            wanted["expected"] = parsed(said["expected"], like=one.get("expected"))
        else:
            wanted["clear"] = ["expected"]
    labels = changed_labels(one.get("labels") or {}, said.get("labels", before.labels))
    if labels:
        wanted["labels"] = labels
    if whole:
        wanted |= _asked(one, before, said)
    return wanted


def _asked(one: Mapping[str, Any], before: Drawn, said: Mapping[str, str]) -> dict[str, Any]:
    wanted: dict[str, Any] = {}
    turns = [
        {"role": said[name], "content": said.get(f"content-{name.removeprefix('role-')}", "")}
        for name in sorted(
            (name for name in said if name.startswith("role-")), key=lambda name: int(name[5:] or 0)
        )
        if said.get(f"content-{name.removeprefix('role-')}", "")
    ]
    if turns != [turn._asdict() for turn in before.turns] and (turns or before.turns) and not before.raw:
        wanted["messages"] = turns
    elif before.raw and said.get("messages", before.raw) != before.raw:
        wanted["messages"] = parsed(said["messages"], like=[])
    # of a conversation, the input is what its last turn asks
    if not turns and not before.turns and not before.raw and said.get("input", before.input) != before.input:
        wanted["input"] = said["input"]
    fields: dict[str, Any] = dict(one.get("fields") or {})
    changed = {
        name: said[f"field-{name}"] for name, old in before.fields if said.get(f"field-{name}", old) != old
    }
    if changed:
        like = {name: parsed(value, like=fields.get(name)) for name, value in changed.items()}
        wanted["fields"] = fields | like | ({"input": wanted.pop("input")} if "input" in wanted else {})
    if said.get("split", before.split) != before.split or not one:
        wanted["to" if one else "split"] = said.get("split") or "test"
    if said.get("group", before.group) != before.group:
        wanted |= {"group": said["group"]} if said["group"] else {"clear": ["group"]}
    return wanted


def parsed(value: str, *, like: Any) -> Any:
    """Text of a form as the kind of value that was there; what is no JSON stays text."""
    if like is None or isinstance(like, str):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def changed_labels(before: Mapping[str, Any], said: str) -> dict[str, Any]:
    """Labels, one `name=value` a line, that are new, different or gone (null)."""
    pairs = [line.partition("=") for line in said.splitlines() if line.strip()]
    now = {name.strip(): value.strip() for name, _, value in pairs}
    changed = {
        name: parsed(value, like=before.get(name))
        for name, value in now.items()
        if name not in before or shown(before[name]) != value
    }
    return {**changed, **{name: None for name in before if name not in now}}
