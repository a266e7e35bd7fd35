"""The ledger against what a provider says: day by day, model by model, to the token and the cent.

Prevents two failures: a difference that disappears in a grand total, and one that nobody can explain, because the calls
whose cost or usage the ledger itself is not sure of are listed beside it.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, and_, case, func, or_, select

from baimo.core.moments import DAY_MS, day, shown
from baimo.core.money import MICROS
from baimo.errors import UsageError
from baimo.store import tables
from baimo.store.engine import Database
from baimo.store.statements.line import TOKENS, Line
from baimo.store.statements.statement import Statement

LISTED = 50
"""Doubtful calls that are listed one by one; the others are counted."""
_CENT_HALF = Decimal("0.005")
_QUARTER_MS = 900_000
_PICO = Decimal(MICROS) * MICROS


@dataclass(slots=True, kw_only=True)
class Figures:
    """Sums of one side for one day and model. None = this side does not say."""

    calls: int | None = None
    tokens_in: int | None = None
    tokens_cached: int | None = None
    tokens_cache_write: int | None = None
    tokens_out: int | None = None
    cost: Decimal | None = None
    """Units of the statement's currency."""

    def add(self, name: str, amount: int | Decimal | None) -> None:
        """Count an amount in; None leaves the sum as it is."""
        if amount is not None:
            setattr(self, name, (getattr(self, name) or 0) + amount)


class Compared(NamedTuple):
    """One day and model on both sides."""

    day: str
    """ISO date, UTC."""
    model: str
    """As the provider calls it, else as the ledger does; empty = all models together."""
    theirs: Figures | None
    """None = the statement has no such line."""
    ours: Figures | None
    """None = the ledger has no such call."""
    differs: tuple[str, ...]
    """Figures that differ by more than is tolerated."""


class Doubtful(NamedTuple):
    """A call of that time whose line in the ledger is not certain."""

    record: str
    began_ms: int
    model: str
    unsure: int
    """Attempts that may have been billed although no usage came back."""
    estimated: bool
    """Its tokens were counted here, not by the provider."""
    unpriced: bool
    """Its cost is not known."""


class Note(NamedTuple):
    """Something that whoever reads the result must know."""

    key: str
    """Message key."""
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """Both sides, compared."""

    statement: Statement
    since_ms: int
    """First millisecond that the statement covers."""
    until_ms: int
    """First millisecond after it."""
    currency: str
    rows: tuple[Compared, ...]
    """By day, then model."""
    doubtful: tuple[Doubtful, ...]
    """The first of them."""
    doubts: int
    """How many there are."""
    notes: tuple[Note, ...]

    @property
    def differing(self) -> list[Compared]:
        """Rows that differ."""
        return [row for row in self.rows if row.differs]


@dataclass(slots=True, kw_only=True)
class _Theirs:
    """A statement, summed up."""

    sums: dict[tuple[int, str], Figures] = field(default_factory=lambda: defaultdict(Figures))
    """By number of the day and plain name of the model."""
    names: dict[str, str] = field(default_factory=dict[str, str])
    """Plain name → as the provider writes it."""
    rounded: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])
    """Amounts that were rounded to the cent."""
    since_ms: int = 1 << 62
    until_ms: int = 0
    ended_ms: int = 0
    """Where its last line ends; until_ms is the end of that day."""
    offset_ms: int = 0
    """When the provider's days begin, after midnight UTC."""
    currency: str = ""
    by_model: bool = True
    keys: set[str] = field(default_factory=set[str])
    foreign: Counter[str] = field(default_factory=Counter[str])
    """Amounts in other currencies than the first one."""

    def overlaps(self, number: int, span: tuple[int, int]) -> bool:
        """Whether the day of this number has a part in a span of milliseconds."""
        begins_ms = number * DAY_MS + self.offset_ms
        return begins_ms < span[1] and begins_ms + DAY_MS > span[0]


def reconciled(
    database: Database,
    statement: Statement,
    *,
    vendors: Sequence[str] = (),
    tolerance: Decimal = Decimal("0.01"),
    key: str = "",
    project: str = "",
) -> Reconciliation:
    """Compare a statement with the ledger's calls of the same time.

    Args:
        database: where the ledger is.
        statement: what the provider says; read to its end.
        vendors: names before the slash of the models that this provider bills; () = the provider's own.
        tolerance: difference of money that does not matter for a day and model, units of currency. Amounts that the
            export rounded to the cent may differ by half a cent each on top.
        key: compare only what the provider booked on this key of its own.
        project: likewise, project or workspace.

    Raises:
        UsageError: the statement cannot be read, or holds nothing of this key or project.
    """
    theirs = _summed(statement, key, project)
    ours = _Ours(database, theirs, tuple(vendors) or (statement.form.provider,))
    holds = [
        name
        for name in (*TOKENS, "cost")
        if any(getattr(one, name) is not None for one in theirs.sums.values())
    ]
    own = ours.sums()
    places = sorted({*theirs.sums, *own})
    pruned = ours.pruned()
    if pruned is not None:
        places = [place for place in places if not theirs.overlaps(place[0], pruned)]
        if not places and theirs.sums:
            raise UsageError("reconcile.all_pruned", path=statement.path, until=shown(pruned[1]))
    rows: list[Compared] = []
    for place in places:
        said, kept = theirs.sums.get(place), own.get(place)
        allowed = tolerance + _CENT_HALF * theirs.rounded[place]
        differs = tuple(name for name in holds if _apart(name, said, kept, allowed))
        name = theirs.names.get(place[1]) or ours.names.get(place[1], place[1])
        rows.append(Compared(day(place[0] * DAY_MS), name, said, kept, differs))
    doubtful, doubts = ours.doubtful()
    return Reconciliation(
        statement=statement,
        since_ms=theirs.since_ms,
        until_ms=theirs.until_ms,
        currency=theirs.currency or "USD",
        rows=tuple(rows),
        doubtful=tuple(doubtful),
        doubts=doubts,
        notes=tuple(_notes(statement, theirs, ours, pruned)),
    )


def plain_name(model: str) -> str:
    """A model's name without vendor, date and style: `Claude Haiku 4.5`, `claude-haiku-4-5-20251001` and
    `anthropic/claude-haiku-4.5` are the same model on both sides."""
    name = model.rpartition("/")[2].strip().lower()
    name = re.sub(r"[\s._]+", "-", name)
    return re.sub(r"-(?:20\d{6}|20\d\d-\d\d-\d\d|latest)$", "", name)


def _summed(statement: Statement, key: str, project: str) -> _Theirs:
    theirs, seen, offsets = _Theirs(), {"key": set[str](), "project": set[str]()}, Counter[int]()
    # summed by quarters of an hour first: when a day begins, and whether models are told apart, is known at the end
    held: dict[tuple[int, str, str], tuple[Figures, Counter[str]]] = {}
    for line in statement.lines:
        theirs.since_ms = min(theirs.since_ms, line.begins_ms)
        theirs.until_ms = max(theirs.until_ms, line.ends_ms)
        if line.ends_ms - line.begins_ms >= DAY_MS:
            offsets[line.begins_ms % DAY_MS] += 1
        seen["key"].add(line.key)
        seen["project"].add(line.project)
        if line.empty or (key and line.key != key) or (project and line.project != project):
            continue
        place = (line.begins_ms // _QUARTER_MS, line.model, line.what)
        _add(theirs, line, *held.setdefault(place, (Figures(), Counter())))
    if theirs.until_ms == 0:
        raise UsageError("statements.no_window", path=statement.path)
    _known(statement, "statements.no_keys", key, seen["key"])
    _known(statement, "statements.no_projects", project, seen["project"])
    theirs.offset_ms = offsets.most_common(1)[0][0] if offsets else 0
    theirs.ended_ms = theirs.until_ms
    # whole days: an export by the minute may leave out minutes without calls at either end
    theirs.since_ms -= (theirs.since_ms - theirs.offset_ms) % DAY_MS
    theirs.until_ms += -(theirs.until_ms - theirs.offset_ms) % DAY_MS
    theirs.by_model = all(model or what for _, model, what in held)
    theirs.keys = {key} if key else seen["key"] - {""}
    for (quarter, model, what), (figures, rounded) in held.items():
        number = (quarter * _QUARTER_MS - theirs.offset_ms) // DAY_MS
        name = (plain_name(model) or what) if theirs.by_model else ""
        theirs.names.setdefault(name, (model or what) if theirs.by_model else "")
        for kind in (*TOKENS, "calls", "cost"):
            theirs.sums[number, name].add(kind, getattr(figures, kind))
        theirs.rounded[number, name] += rounded["cents"]
    return theirs


def _add(theirs: _Theirs, line: Line, sums: Figures, rounded: Counter[str]) -> None:
    for kind in TOKENS:
        sums.add(kind, getattr(line, kind))
    sums.add("calls", line.requests)
    if line.cost is None:
        return
    theirs.currency = theirs.currency or line.currency
    if line.currency == theirs.currency:
        sums.add("cost", line.cost)
        rounded["cents"] += line.rounded
    else:
        theirs.foreign[line.currency] += 1


def _known(statement: Statement, missing: str, wanted: str, seen: set[str]) -> None:
    known = sorted(seen - {""})
    if wanted and not known:
        raise UsageError(missing, path=statement.path)
    if wanted and wanted not in known:
        near = ", ".join(known[:10])
        raise UsageError("statements.unknown_key", path=statement.path, value=wanted, near=near)


def _apart(name: str, said: Figures | None, kept: Figures | None, allowed: Decimal) -> bool:
    """Whether a figure differs by more than is allowed; what only one side has is held against 0."""
    theirs = Decimal(0) if said is None else getattr(said, name)
    if theirs is None:
        return False
    ours = (None if kept is None else getattr(kept, name)) or Decimal(0)
    return abs(theirs - ours) > (allowed if name == "cost" else 0)


def _of(model: Column[str], vendors: Sequence[str]) -> ColumnElement[bool]:
    return or_(*(model.startswith(f"{vendor}/", autoescape=True) for vendor in vendors))


def _begins_ms(day: str) -> int:
    return int(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * 1000


class _Ours:
    """The ledger's calls of the statement's time that the provider must know of."""

    def __init__(self, database: Database, theirs: _Theirs, vendors: tuple[str, ...]) -> None:
        self._database = database
        self._theirs = theirs
        self.names: dict[str, str] = {}
        """Plain name → as the ledger has it."""
        self.foreign: Counter[str] = Counter()
        """Calls in other currencies than the statement's."""
        self.across = 0
        """Calls that began on one day and ended on the next."""
        table = tables.records
        self._began = func.coalesce(table.c.began_ms, table.c.at_ms)
        self._where = and_(
            table.c.at_ms >= theirs.since_ms,
            self._began >= theirs.since_ms,
            self._began < theirs.until_ms,
            table.c.attempts > 0,  # what the cache answered was never sent
            _of(table.c.model, vendors),
        )
        self._vendors = vendors

    def pruned(self) -> tuple[int, int] | None:
        """From the first to the end of the last UTC day of which lines were pruned; None = all are here."""
        table = tables.totals_pruned
        query = select(func.min(table.c.day), func.max(table.c.day)).where(_of(table.c.model, self._vendors))
        with self._database.reading() as connection:
            first, last = connection.execute(query).one()
        return None if first is None else (_begins_ms(first), _begins_ms(last) + DAY_MS)

    def sums(self) -> dict[tuple[int, str], Figures]:
        """Figures by number of the day and plain name of the model."""
        table, offset = tables.records, self._theirs.offset_ms
        day = (self._began - offset) // DAY_MS
        across = case(((table.c.at_ms - offset) // DAY_MS > day, 1), else_=0)
        groups = (day, table.c.model, table.c.model_used, table.c.currency)
        counts = [func.sum(getattr(table.c, name)) for name in TOKENS]
        query = select(
            *groups,
            func.count(),
            func.sum(across),
            *counts,
            func.sum(table.c.cost_micros),
            func.sum(table.c.cost_rest),
        ).where(self._where)
        found: dict[tuple[int, str], Figures] = defaultdict(Figures)
        with self._database.reading() as connection:
            for row in connection.execute(query.group_by(*groups)):
                self._count(found, *row)
        return dict(found)

    def _count(
        self,
        found: dict[tuple[int, str], Figures],
        number: int,
        model: str,
        used: str,
        currency: str,
        calls: int,
        across: int,
        *amounts: int | Decimal | None,
    ) -> None:
        self.across += int(across)
        name = plain_name(used or model) if self._theirs.by_model else ""
        self.names.setdefault(name, (used or model) if self._theirs.by_model else "")
        *tokens, micros, rest = (None if amount is None else int(amount) for amount in amounts)
        sums = found[int(number), name]
        sums.add("calls", int(calls))
        for kind, count in zip(TOKENS, tokens, strict=True):
            sums.add(kind, count)
        if currency != (self._theirs.currency or currency):
            self.foreign[currency] += int(calls)
        elif micros is not None:
            sums.add("cost", (Decimal(micros) * MICROS + (rest or 0)) / _PICO)

    def doubtful(self) -> tuple[list[Doubtful], int]:
        """The first calls whose usage or cost is not certain, and how many there are."""
        table = tables.records
        doubts = or_(
            table.c.unsure > 0,
            table.c.estimated != 0,
            table.c.cost_micros.is_(None),
            table.c.tokens_in.is_(None),
            table.c.tokens_out.is_(None),
        )
        columns = (table.c.id, self._began, table.c.model, table.c.unsure, table.c.estimated)
        query = (
            select(*columns, table.c.cost_micros).where(self._where, doubts).order_by(self._began, table.c.id)
        )
        with self._database.reading() as connection:
            count = connection.execute(
                select(func.count()).select_from(table).where(self._where, doubts)
            ).scalar_one()
            rows = connection.execute(query.limit(LISTED)).all()
        listed = [
            Doubtful(str(id), int(began), str(model), int(unsure), bool(estimated), cost is None)
            for id, began, model, unsure, estimated, cost in rows
        ]
        return listed, int(count)


def _notes(
    statement: Statement, theirs: _Theirs, ours: _Ours, pruned: tuple[int, int] | None
) -> Iterator[Note]:
    if statement.cut:
        yield Note("reconcile.note_cut", {})
    if theirs.ended_ms != theirs.until_ms:
        yield Note("reconcile.note_partial", {"when": shown(theirs.ended_ms)})
    if pruned is not None and theirs.since_ms < pruned[1] and theirs.until_ms > pruned[0]:
        yield Note("reconcile.note_pruned", {"since": shown(pruned[0]), "until": shown(pruned[1])})
    if theirs.offset_ms:
        yield Note("reconcile.note_offset", {"hours": f"{theirs.offset_ms / 3_600_000:g}"})
    if not theirs.by_model:
        yield Note("reconcile.note_all_models", {})
    if cents := theirs.rounded.total():
        yield Note("reconcile.note_rounded", {"count": cents})
    if len(theirs.keys) > 1:
        yield Note("reconcile.note_keys", {"count": len(theirs.keys)})
    if ours.across:
        yield Note("reconcile.note_across", {"count": ours.across})
    for currency, count in sorted(theirs.foreign.items()):
        yield Note("reconcile.note_amounts", {"count": count, "currency": currency})
    for currency, count in sorted(ours.foreign.items()):
        yield Note("reconcile.note_currency", {"count": count, "currency": currency})
