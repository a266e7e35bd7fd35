"""Cleaning: named steps, each of which leaves one line {step, removed, changed, kept, …} for `TuneSpec.cleaned`.

Steps run in the order of STEPS whatever the order they are named in: first what changes rows, then what takes out
single rows, then what compares rows. So a later step never makes work for an earlier one, and cleaning twice is
cleaning once. Rows stay in their order; of rows that repeat each other the first one stays.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, NamedTuple

from baimo.core.message import Message
from baimo.core.tuning import Row
from baimo.errors import UsageError
from baimo.tuning.data import repeats
from baimo.tuning.data.finding import Aids
from baimo.tuning.data.languages import UNKNOWN, language_of
from baimo.tuning.data.personal import PersonalData, unwanted
from baimo.tuning.data.structure import SEVERITY, faults, own_use

Line = Mapping[str, Any]
"""What a step did: step, removed, changed, kept, and what it went by."""


class Stepped(NamedTuple):
    """What a step made of the rows."""

    rows: list[Row]
    """Those that stay, in their order."""
    changed: int = 0
    """How many of them are different."""
    facts: Line = MappingProxyType({})
    """What it went by, and what it found."""


class Cleaned(NamedTuple):
    """Cleaned rows and how they became so."""

    rows: list[Row]
    """What is left."""
    lines: tuple[Line, ...]
    """One for each step."""


Step = Callable[[Sequence[Row], Aids], Stepped]


def clean(rows: Sequence[Row], steps: Iterable[str], aids: Aids = Aids()) -> Cleaned:
    """Run steps over rows.

    Args:
        rows: what was read.
        steps: names out of STEPS.
        aids: what steps need from outside.

    Raises:
        UsageError: there is no such step, or a step lacks what it needs.
    """
    wanted = list(steps)
    for name in wanted:
        if name not in STEPS:
            raise UsageError("data.unknown_step", step=name, known=", ".join(STEPS))
        if (need := _NEEDS.get(name)) is not None and not getattr(aids, need):
            raise UsageError(f"data.step_needs_{need}", step=name)
    if "drop_too_long" in wanted and not aids.longest:
        raise UsageError("data.step_needs_longest", step="drop_too_long")
    kept, lines = list(rows), list[Line]()
    for name, step in STEPS.items():
        if name not in wanted:
            continue
        before = len(kept)
        stepped = step(kept, aids)
        kept = stepped.rows
        counts = {"removed": before - len(kept), "changed": stepped.changed, "kept": len(kept)}
        lines.append({"step": name, **counts, **stepped.facts})
    return Cleaned(kept, tuple(lines))


def _trim(rows: Sequence[Row], aids: Aids) -> Stepped:
    """White space around answers and questions goes; prompts of systems and raw texts stay as they are."""

    def trimmed(message: Message) -> Message:
        content = message.content
        if message.role == "system" or not isinstance(content, str) or content == content.strip():
            return message
        return replace(message, content=content.strip())

    def of_row(row: Row) -> Row:
        messages, rejected = tuple(map(trimmed, row.messages)), tuple(map(trimmed, row.rejected))
        same = messages == row.messages and rejected == row.rejected
        return row if same else replace(row, messages=messages, rejected=rejected)

    return _changed(rows, of_row)


def _mask_pii(rows: Sequence[Row], aids: Aids) -> Stepped:
    personal, counts = PersonalData(aids.pii), Counter[str]()

    def of_row(row: Row) -> Row:
        masked, found = personal.masked(row)
        counts.update(found)
        return masked if found else row

    stepped = _changed(rows, of_row)
    return stepped._replace(facts={"replaced": dict(sorted(counts.items()))})


def _drop_empty(rows: Sequence[Row], aids: Aids) -> Stepped:
    empty = {"no_answer", "nothing_learnt", "empty_answer", "empty_row"}
    return _without_faults(rows, empty, aids)


def _drop_broken(rows: Sequence[Row], aids: Aids) -> Stepped:
    return _without_faults(rows, {kind for kind, severity in SEVERITY.items() if severity == "error"}, aids)


def _drop_too_long(rows: Sequence[Row], aids: Aids) -> Stepped:
    count = aids.count
    assert count is not None
    return Stepped([row for row in rows if count(row) <= aids.longest], facts={"limit": aids.longest})


def _drop_unwanted(rows: Sequence[Row], aids: Aids) -> Stepped:
    found = unwanted(aids.words)
    return Stepped([row for row in rows if found(row) is None], facts={"words": len(aids.words)})


def _keep_languages(rows: Sequence[Row], aids: Aids) -> Stepped:
    wanted = {*aids.languages, UNKNOWN}
    kept = [row for row in rows if language_of(row) in wanted]
    return Stepped(kept, facts={"languages": sorted(aids.languages)})


def _drop_leaked(rows: Sequence[Row], aids: Aids) -> Stepped:
    leaked = repeats.leaks(rows, aids.held_out, aids.near)
    gone = {leak.place for leak in leaked}
    kinds = Counter(leak.kind for leak in leaked)
    return Stepped(
        _without(rows, gone), facts={"held_out": len(aids.held_out), "kinds": dict(sorted(kinds.items()))}
    )


def _drop_duplicates(rows: Sequence[Row], aids: Aids) -> Stepped:
    return Stepped(_without(rows, _others(repeats.duplicates(rows))))


def _drop_contradictions(rows: Sequence[Row], aids: Aids) -> Stepped:
    """All rows of a contradiction go: nobody here knows which of them is right."""
    groups = repeats.contradictions(rows)
    gone = {place for group in groups for place in group}
    return Stepped(_without(rows, gone), facts={"questions": len(groups)})


def _drop_near_duplicates(rows: Sequence[Row], aids: Aids) -> Stepped:
    """Until none is left: with fewer rows, more pairs are looked at."""
    near = aids.near
    assert near is not None
    kept = list(rows)
    while gone := _others(repeats.near_duplicates(kept, near)):
        kept = _without(kept, gone)
    return Stepped(kept)


STEPS: Mapping[str, Step] = {
    "trim": _trim,
    "mask_pii": _mask_pii,
    "drop_empty": _drop_empty,
    "drop_broken": _drop_broken,
    "drop_too_long": _drop_too_long,
    "drop_unwanted": _drop_unwanted,
    "keep_languages": _keep_languages,
    "drop_leaked": _drop_leaked,
    "drop_duplicates": _drop_duplicates,
    "drop_contradictions": _drop_contradictions,
    "drop_near_duplicates": _drop_near_duplicates,
}
"""Every step, in the order in which they run."""
USUAL = ("drop_empty", "drop_broken", "drop_duplicates")
"""What hardly anybody would not want."""
_NEEDS = {
    "drop_too_long": "count",
    "drop_unwanted": "words",
    "keep_languages": "languages",
    "drop_leaked": "held_out",
    "drop_near_duplicates": "near",
}
"""Step → the field of Aids that it cannot do without."""


def _changed(rows: Sequence[Row], change: Callable[[Row], Row]) -> Stepped:
    made = [change(row) for row in rows]
    return Stepped(made, sum(one is not before for one, before in zip(made, rows, strict=True)))


def _without_faults(rows: Sequence[Row], kinds: set[str], aids: Aids) -> Stepped:
    found: Counter[str] = Counter()
    kept: list[Row] = []
    for row in rows:
        fault = next(
            (fault.kind for fault in faults(row, aids.use or own_use(row)) if fault.kind in kinds), None
        )
        if fault is None:
            kept.append(row)
        else:
            found[fault] += 1
    return Stepped(kept, facts={"kinds": dict(sorted(found.items()))})


def _others(groups: Iterable[Sequence[int]]) -> set[int]:
    return {place for group in groups for place in group[1:]}


def _without(rows: Sequence[Row], gone: set[int]) -> list[Row]:
    return [row for place, row in enumerate(rows) if place not in gone]
