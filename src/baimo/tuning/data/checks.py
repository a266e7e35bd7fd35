"""What is wrong with training data before a machine is busy with them for hours: `check(rows, …)`.

Every finding names the rows by file and line and says what to do. Nothing is changed here; `clean.py` does that.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from baimo.core.tuning import Row
from baimo.errors import BaimoError
from baimo.tuning.data import repeats
from baimo.tuning.data.asked import asked_all
from baimo.tuning.data.finding import Aids, Finding, Severity, Spot, Use, short, spot_of
from baimo.tuning.data.languages import UNKNOWN, language_of
from baimo.tuning.data.personal import PersonalData, unwanted
from baimo.tuning.data.structure import SEVERITY, Fault, faults, use_of

FEW = 50
"""Rows below which tuning mostly learns the form of the answers."""
MINOR = 0.02
"""Share of a language below which it is told as a likely accident."""
_RANK = {"error": 0, "warning": 1, "note": 2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What a check found."""

    rows: int
    """Rows that could be read."""
    use: Use
    """What they are good for: sft, dpo, grpo or cpt."""
    findings: tuple[Finding, ...]
    """Errors first; within a severity in the order of the checks."""
    languages: Mapping[str, int]
    """Language → rows, most first; `und` = undecided."""
    tokens: int | None = None
    """Of all rows; None = nobody could count them."""
    longest: int | None = None
    """Of the longest row."""

    @property
    def errors(self) -> int:
        """Findings that have to be mended."""
        return sum(finding.severity == "error" for finding in self.findings)

    def plain(self) -> dict[str, Any]:
        """As JSON-ready data."""
        figures = {"rows": self.rows, "use": self.use, "errors": self.errors}
        counts = {"languages": dict(self.languages), "tokens": self.tokens, "longest": self.longest}
        return {**figures, **counts, "findings": [finding.plain() for finding in self.findings]}


def check(
    rows: Sequence[Row],
    aids: Aids = Aids(),
    *,
    problems: Iterable[BaimoError] = (),
    left: Mapping[str, int] | None = None,
) -> Report:
    """Everything that is wrong or remarkable.

    Args:
        rows: what was read.
        aids: what checks need from outside; what is not there is not looked for.
        problems: lines that could not be read.
        left: parts of turns that rows have no place for, by name: how often.
    """
    use = aids.use or use_of(rows)
    tokens = [aids.count(row) for row in rows] if aids.count is not None else None
    spoken = list(map(language_of, rows))
    found = [
        *_problems(problems),
        *_structure(rows, use),
        *_lengths(rows, tokens, aids.longest),
        *_repeats(rows, aids, use),
        *_leaks(rows, aids),
        *_contents(rows, aids),
        *_languages(rows, spoken, aids),
        *(Finding(kind="left", severity="note", facts={"name": name, "times": times})
          for name, times in (left or {}).items()),
    ]  # fmt: skip
    if 0 < len(rows) < FEW:
        found.append(Finding(kind="few", severity="note", facts={"rows": len(rows), "few": FEW}))
    return Report(
        rows=len(rows),
        use=use,
        findings=tuple(sorted(found, key=lambda finding: _RANK[finding.severity])),
        languages=dict(Counter(spoken).most_common()),
        tokens=None if tokens is None else sum(tokens),
        longest=None if tokens is None else max(tokens, default=0),
    )


def errors(rows: Sequence[Row], use: Use) -> list[Finding]:
    """Rows that teach something wrong or cannot be learnt so; a look at each row by itself."""
    return [finding for finding in _structure(rows, use) if finding.severity == "error"]


def _problems(problems: Iterable[BaimoError]) -> Iterator[Finding]:
    """Lines that could not be read, by what is wrong with them; the first one is told in full."""
    grouped: dict[tuple[object, ...], list[BaimoError]] = defaultdict(list)
    for problem in problems:
        kept = (value for name, value in problem.facts.items() if name in ("name", "role", "found"))
        grouped[problem.key, *map(str, kept)].append(problem)
    for same in grouped.values():
        spots = tuple(Spot(str(one.facts["path"]), cast("int", one.facts["line"])) for one in same)
        facts = {"problem": str(same[0]), "what": same[0].hint}
        yield Finding(kind="unreadable", severity="error", spots=spots, facts=facts)


def _structure(rows: Sequence[Row], use: Use) -> Iterator[Finding]:
    found: dict[Fault, list[Spot]] = defaultdict(list)
    for row in rows:
        for fault in faults(row, use):
            found[fault._replace(turn=None)].append(spot_of(row, fault.turn))
    for fault, spots in found.items():
        facts = {"name": fault.name, "use": use}
        yield Finding(kind=fault.kind, severity=SEVERITY[fault.kind], spots=tuple(spots), facts=facts)


def _lengths(rows: Sequence[Row], tokens: Sequence[int] | None, longest: int) -> Iterator[Finding]:
    if tokens is None or not longest:
        return
    for row, size in zip(rows, tokens, strict=True):
        if size > longest:
            facts = {"tokens": size, "limit": longest}
            yield Finding(kind="long", severity="warning", spots=(spot_of(row),), facts=facts)


def _repeats(rows: Sequence[Row], aids: Aids, use: Use) -> Iterator[Finding]:
    asked = asked_all(rows)

    def finding(kind: str, severity: Severity, group: Sequence[int], **facts: object) -> Finding:
        spots = tuple(spot_of(rows[place]) for place in group)
        return Finding(kind=kind, severity=severity, spots=spots, facts=facts)

    def sample(group: Sequence[int]) -> str:
        return short(asked[group[0]].question)

    for group in repeats.duplicates(rows):
        yield finding("duplicate", "warning", group, sample=sample(group))
    for group in repeats.contradictions(rows, asked):
        answers = dict.fromkeys(
            short(asked[place].answer.removeprefix("assistant: ").replace("\0", " ≻ ")) for place in group
        )
        severity: Severity = "warning" if use == "sft" else "note"
        yield finding(
            "contradiction", severity, group, answers=" | ".join(list(answers)[:4]), sample=sample(group)
        )
    if aids.near is not None:
        for group in repeats.near_duplicates(rows, aids.near, asked):
            yield finding("near_duplicate", "note", group, sample=sample(group))


def _leaks(rows: Sequence[Row], aids: Aids) -> Iterator[Finding]:
    if not aids.held_out:
        return
    found: dict[str, list[repeats.Leak]] = defaultdict(list)
    for leak in repeats.leaks(rows, aids.held_out, aids.near):
        found[leak.kind].append(leak)
    severities: dict[str, Severity] = {"same": "error", "inside": "error", "near": "warning"}
    for kind, some in found.items():
        spots = tuple(spot_of(rows[leak.place]) for leak in some)
        facts = {"sample": short(aids.held_out[some[0].held_out]), "total": len(aids.held_out)}
        yield Finding(kind=f"leak_{kind}", severity=severities[kind], spots=spots, facts=facts)


def _contents(rows: Sequence[Row], aids: Aids) -> Iterator[Finding]:
    """Personal data, by kind; values are never shown. And words that are not wanted."""
    personal = PersonalData(aids.pii)
    spots: dict[str, list[Spot]] = defaultdict(list)
    times: Counter[str] = Counter()
    for row in rows:
        for kind, count in personal.kinds_in(row).items():
            spots[kind].append(spot_of(row))
            times[kind] += count
    for kind, where in spots.items():
        facts = {"name": kind, "times": times[kind]}
        yield Finding(kind="personal", severity="warning", spots=tuple(where), facts=facts)
    if aids.words:
        found = unwanted(aids.words)
        yield from _by(rows, map(found, rows), "unwanted", "warning")


def _languages(rows: Sequence[Row], spoken: Sequence[str], aids: Aids) -> Iterator[Finding]:
    counts = Counter(spoken)
    known = {name: count for name, count in counts.items() if name != UNKNOWN}
    if aids.languages:
        wanted = {*aids.languages, UNKNOWN}
        yield from _by(rows, (None if name in wanted else name for name in spoken), "language", "warning")
    elif len(known) > 1:
        shares = ", ".join(
            f"{name} {100 * count / len(rows):.1f} %" for name, count in counts.most_common(12)
        )
        yield Finding(kind="languages", severity="note", facts={"shares": shares})
        rare = {name for name, count in known.items() if count < MINOR * len(rows)}
        rare &= {name for name in rare if max(known.values()) >= 0.5 * len(rows)}
        yield from _by(rows, (name if name in rare else None for name in spoken), "stray", "note")


def _by(rows: Sequence[Row], names: Iterable[str | None], kind: str, severity: Severity) -> Iterator[Finding]:
    found: dict[str, list[Spot]] = defaultdict(list)
    for row, name in zip(rows, names, strict=True):
        if name is not None:
            found[name].append(spot_of(row))
    for name, spots in found.items():
        yield Finding(kind=kind, severity=severity, spots=tuple(spots), facts={"name": name})
