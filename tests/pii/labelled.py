"""The labelled cases, and how findings are counted against them.

A case is text with its findings marked ⟦kind:value⟧. `¦` stands inside keys of known shapes and is dropped, so that no
scanner takes the invented ones for real.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from baimo.pii.find import found

_MARK = re.compile(r"⟦(\w+):(.*?)⟧", re.DOTALL)
SETS = ("development", "held_out", "hard")


class Case(NamedTuple):
    """One text and what is in it."""

    name: str
    text: str
    labels: frozenset[tuple[str, int, int]]
    """(kind, start, end) of every value."""


class Tally:
    """Counts for one kind. A finding is right only with the label's kind, start and end."""

    def __init__(self) -> None:
        self.labels = self.right = self.wrong = self.covered = 0
        """`covered` counts labels of which no character is left, whatever the kind: what masking is about."""

    @property
    def precision(self) -> float:
        return self.right / (self.right + self.wrong) if self.right + self.wrong else 1.0

    @property
    def recall(self) -> float:
        return self.right / self.labels if self.labels else 1.0


def cases(half: str) -> Iterator[Case]:
    """The cases of one half."""
    path = Path(__file__).parent / "cases" / f"{half}.jsonl"
    for line in path.read_text("utf-8").splitlines():
        row = json.loads(line)
        yield _case(row["id"], row["text"].replace("¦", ""))


def _case(name: str, marked: str) -> Case:
    text, at, labels = "", 0, set[tuple[str, int, int]]()
    for mark in _MARK.finditer(marked):
        text += marked[at : mark.start()]
        labels.add((mark[1], len(text), len(text) + len(mark[2])))
        text += mark[2]
        at = mark.end()
    return Case(name, text + marked[at:], frozenset(labels))


def tallies(half: str) -> dict[str, Tally]:
    """Kind → counts, and "all"."""
    counts: dict[str, Tally] = {"all": Tally()}
    for case in cases(half):
        findings = {(finding.kind, finding.start, finding.end) for finding in found(case.text)}
        marked = {place for _, start, end in findings for place in range(start, end)}
        for label in case.labels | findings:
            for tally in (counts.setdefault(label[0], Tally()), counts["all"]):
                tally.labels += label in case.labels
                tally.right += label in case.labels and label in findings
                tally.wrong += label not in case.labels
                tally.covered += label in case.labels and marked.issuperset(range(label[1], label[2]))
    return counts


def table(half: str) -> str:
    """The figures as docs/findings/pii.md prints them."""
    rows = [f"| kind ({half}) | labels | precision | recall | covered |", "|---|---|---|---|---|"]
    for kind, tally in sorted(tallies(half).items(), key=lambda item: (item[0] == "all", item[0])):
        share = tally.covered / tally.labels if tally.labels else 1.0
        rows.append(f"| {kind} | {tally.labels} | {tally.precision:.3f} | {tally.recall:.3f} | {share:.3f} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print("\n\n".join(map(table, SETS)))
