"""The verdict in a terminal: a table that fits the width it is given, then the sentences.

Prevents the failure where a narrow terminal or a Chinese name turns a table into confetti: columns are
measured in terminal columns and left out in order of importance, and the reader is told."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from baimo.core.verdict import Standing, Verdict
from baimo.evals.report.figures import (
    amount,
    columns,
    count,
    counted,
    flag_name,
    latency,
    name,
    ranked,
    say,
    score,
    shortened,
    span,
    tier,
    wrapped,
)
from baimo.evals.report.sentences import account

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType

TOP = 20
"""Candidates that a terminal shows."""
_GAP = 2


class Column(NamedTuple):
    """One column of the table."""

    head: str
    cells: tuple[str, ...]
    right: bool = True

    @property
    def width(self) -> int:
        """Terminal columns that it needs."""
        return max(map(columns, (self.head, *self.cells)))


class Layout(NamedTuple):
    """What fits."""

    columns: tuple[Column, ...]
    dropped: tuple[str, ...]
    """Heads of the columns that do not fit."""


def layout(verdict: Verdict, width: int, top: int | None = TOP) -> Layout:
    """The columns that fit into `width`, in reading order; the candidate's name gives way before a figure does."""
    lines = verdict.standings[:top]
    tier, candidate, *rest = _columns(verdict, lines)
    least = min(candidate.width, max(16, width // 3))
    kept, used = list[int](), tier.width + _GAP + least
    # by importance: score, interval, flags, price, malformed and failed, calls, strict and lenient, latency
    for place in (0, 1, 7, 4, 3, 5, 2, 6):
        if rest[place].cells and any(rest[place].cells) and used + _GAP + rest[place].width <= width:
            used += _GAP + rest[place].width
            kept.append(place)
    room = least + width - used
    names = Column(candidate.head, tuple(shortened(cell, room) for cell in candidate.cells), right=False)
    dropped = tuple(each.head for place, each in enumerate(rest) if place not in kept and any(each.cells))
    return Layout((tier, names, *(rest[place] for place in sorted(kept))), dropped)


def _columns(verdict: Verdict, lines: Sequence[Standing]) -> list[Column]:
    def column(key: str, cells: Iterator[str], *, right: bool = True) -> Column:
        return Column(say(key, currency=name(verdict.currency)), tuple(cells), right)

    return [
        column("head_tier", (tier(line) for line in lines)),
        column("head_candidate", (name(line.candidate) for line in lines), right=False),
        column("head_score", (score(line.score) for line in lines)),
        column("head_interval", (span(line.interval if line.judged else None) for line in lines)),
        column("head_strict", (f"{score(line.strict)} | {score(line.lenient)}" for line in lines)),
        column("head_outcomes", (f"{line.wrong}/{line.malformed}/{line.failed}" for line in lines)),
        column("head_cost", (amount(line.cost_per_1000_micros) for line in lines)),
        column("head_calls", (count(line.calls) for line in lines)),
        column("head_latency", (latency(line.latency_ms_median) for line in lines)),
        column("head_flags", (marks(line) for line in lines), right=False),
    ]


def marks(line: Standing) -> str:
    """A candidate's flags in a word each; the ones that disqualify with an exclamation mark."""
    kinds = dict[str, bool]()
    for each in line.flags:
        kinds[each.kind] = kinds.get(each.kind, False) or each.disqualifies
    return " ".join(flag_name(kind) + ("!" if grave else "") for kind, grave in kinds.items())


def footnote(verdict: Verdict, dropped: Sequence[str], top: int | None = TOP) -> list[str]:
    """What the table leaves out."""
    notes: list[str] = []
    hidden = verdict.standings[top:] if top is not None else ()
    if hidden:
        apart = sum(ranked(line) and line.tier != 1 for line in hidden)
        notes.append(counted("more_candidates", len(hidden), apart=count(apart)))
    if dropped:
        notes.append(say("dropped_columns", names=say("separator").join(dropped)))
    return notes


@dataclass(frozen=True, slots=True)
class VerdictTable:
    """A renderable of rich: the table and the sentences, laid out for the console that prints it."""

    verdict: Verdict
    """What is shown."""
    top: int | None = TOP
    """Candidates shown; None = all."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        from rich.text import Text

        fitting = layout(self.verdict, options.max_width, self.top)
        yield _drawn(fitting, self.verdict)
        told, width = account(self.verdict), options.max_width
        said = [(note, "dim") for note in footnote(self.verdict, fitting.dropped, self.top)]
        said += [("", ""), (told.headline, "bold"), *((sentence, "") for sentence in told.body)]
        said += [(f"! {warning}", "yellow") for warning in told.warnings]
        for sentence, style in said:
            for line in wrapped(sentence, width):
                yield Text(line, style=style, no_wrap=True)


def _drawn(fitting: Layout, verdict: Verdict) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    shown = Table(box=None, padding=(0, _GAP, 0, 0), pad_edge=False, header_style="dim", expand=False)
    for column in fitting.columns:
        # rich measures some characters otherwise than we do: a figure may wrap then, never vanish
        shown.add_column(Text(column.head), justify="right" if column.right else "left", overflow="fold")
    for place, line in enumerate(verdict.standings[: len(fitting.columns[0].cells)]):
        won = line.candidate == verdict.winner
        style = "bold green" if won else "" if line.tier == 1 else "dim"
        shown.add_row(*(Text(column.cells[place]) for column in fitting.columns), style=style)
        if place + 1 < len(fitting.columns[0].cells) and tier(verdict.standings[place + 1]) != tier(line):
            shown.add_section()
    return shown


def table(verdict: Verdict, top: int | None = TOP) -> VerdictTable:
    """The verdict for `rich`'s console: table, sentences, warnings.

    Args:
        verdict: what is shown.
        top: how many candidates to show; None = all of them.
    """
    return VerdictTable(verdict, top)


def plain(verdict: Verdict, *, width: int = 100, top: int | None = TOP) -> str:
    """The same as text without colours, at most `width` columns wide."""
    from rich.console import Console

    out = io.StringIO()
    settings: dict[str, Any] = {"no_color": True, "highlight": False, "force_terminal": False, "emoji": False}
    Console(file=out, width=width, markup=False, **settings).print(table(verdict, top))
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"
