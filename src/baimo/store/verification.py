"""The proof: every link of the chain, every cost, every total and every limit's use, derived anew from the lines.

Prevents the failure where a ledger is believed because it is there: whatever was changed behind its back, by hand or
by a defect, is named with the line at which it begins.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table, func, select

from baimo.core.moments import wall_ms
from baimo.core.money import MICROS
from baimo.store import rollups, tables
from baimo.store.buckets import parsed
from baimo.store.chain import START, Head, Tally
from baimo.store.engine import Database
from baimo.store.lines import COLUMNS, PLACE, line_of, misfit
from baimo.store.tables import GROUPED, SUMMED
from baimo.store.uses import Uses
from baimo.text import text

SHOWN = 100
"""Findings that are kept; the rest is counted."""
_PAGE = 5_000
_LONGEST = 60
"""Characters that are shown of a value."""


class Finding(NamedTuple):
    """Something that is not as it must be."""

    kind: str
    """chain, gap, line, head, cost, total, rollup, limit, content or entry."""
    place: str
    """Which line, total, bucket or Record."""
    expected: str
    found: str

    def __str__(self) -> str:
        return text(f"ledger.wrong_{self.kind}", place=self.place, expected=self.expected, found=self.found)


@dataclass(frozen=True, slots=True, kw_only=True)
class Findings:
    """What a verification saw."""

    lines: int
    """Lines that were looked at."""
    first: int
    """Number of the first of them; lines before it are pruned."""
    last: int
    """Number of the newest."""
    chain: str
    """Hash of the newest, 64 hexadecimal digits: note it elsewhere, and no line up to here can change unseen."""
    problems: int
    """How many things are wrong."""
    findings: tuple[Finding, ...]
    """The first of them."""
    unpriced: int
    """Lines whose cost is not known; nothing can be derived for them."""
    underived: int
    """Lines with a cost and without the prices that it was reckoned with: from the cache, or older than prices here."""

    @property
    def ok(self) -> bool:
        """Nothing is wrong."""
        return not self.problems


class _Report:
    def __init__(self) -> None:
        self.problems = 0
        self.kinds: set[str] = set()
        self.findings: list[Finding] = []
        self.unpriced = self.underived = 0

    def say(self, kind: str, place: object, expected: object, found: object) -> None:
        self.problems += 1
        self.kinds.add(kind)
        if len(self.findings) < SHOWN:
            self.findings.append(Finding(kind, str(place), str(expected), str(found)))


class _Stand(NamedTuple):
    """What the lines must add up to: read at one moment, before the lines that led to it."""

    head: Head
    begin: Head
    totals: Tally
    pruned: Tally
    meters: dict[str, tuple[int, int]]
    """used and base by bucket."""


def verify(database: Database, progress: Callable[[int, int], None] | None = None) -> Findings:
    """Derive everything anew from the lines. Reads page by page; others may write meanwhile.

    Args:
        database: the ledger's.
        progress: told lines done and lines in all, now and then.
    """
    report = _Report()
    with database.snapshot() as connection:
        stand = _stand(connection, report)
    tally, uses = Tally(), Uses({name: base for name, (_, base) in stand.meters.items()}, wall_ms())
    seq, chain = stand.begin
    total = stand.head.seq - stand.begin.seq
    for page in _pages(database, seq, stand.head.seq):
        seq, chain = _links(page, seq, chain, report)
        lines = list(_fitting(page, report))
        tally.add([line for _, line in lines])
        for at, line in lines:
            if line[_LIMITS] or line[_CHARGES]:
                uses.add(line)
            _cost(at, line, report)
        if progress is not None:
            progress(seq - stand.begin.seq, total)
    if _pruned(database, stand.begin):
        return verify(database, progress)  # lines went while they were read
    if (seq, chain) != stand.head and stand.head.chain:
        report.say("head", stand.head.seq, stand.head.chain.hex(), f"{seq}: {chain.hex()}")
    seen = sum(cell[0] for cell in tally.sums.values())
    _compare_totals(stand, tally, report)
    for name, derived in uses.used.items():
        used, base = stand.meters[name]
        if derived != used or base < 0:
            report.say("limit", name, derived - min(0, base), used)
    for name, derived in uses.lacking.items():
        report.say("limit", name, derived, "–")
    if not report.kinds & {"chain", "gap", "line", "head", "total"}:  # what they are held against is right
        _rollups(database, report)
    with database.reading() as connection:
        _contents(connection, report)
    return Findings(
        lines=seen,
        first=stand.begin.seq + 1,
        last=stand.head.seq,
        chain=stand.head.chain.hex(),
        problems=report.problems,
        findings=tuple(report.findings),
        unpriced=report.unpriced,
        underived=report.underived,
    )


def _stand(connection: Connection, report: _Report) -> _Stand:
    return _Stand(
        _head(connection, report),
        _begin(connection),
        _kept(connection, tables.totals, report),
        _kept(connection, tables.totals_pruned, report),
        _meters(connection, report),
    )


def _head(connection: Connection, report: _Report) -> Head:
    query = select(tables.ledger_head.c.seq, tables.ledger_head.c.chain)
    seq, chain = connection.execute(query).first() or (None, None)
    if isinstance(seq, int) and isinstance(chain, bytes) and len(chain) == len(START):
        return Head(seq, chain)
    newest = int(connection.execute(select(func.max(tables.records.c.seq))).scalar() or 0)
    report.say("head", "–" if seq is None else seq, "–" if chain is None else chain, newest)
    return Head(newest, b"")


def _begin(connection: Connection) -> Head:
    """Where pruning ended. A checkpoint that is none counts for nothing: then lines are missing."""
    table = tables.ledger_checkpoints
    query = select(table.c.seq, table.c.chain).order_by(table.c.seq.desc()).limit(1)
    seq, chain = connection.execute(query).first() or (0, START)
    return Head(seq, chain) if isinstance(seq, int) and isinstance(chain, bytes) else Head(0, START)


def _kept(connection: Connection, table: Table, report: _Report) -> Tally:
    tally = Tally()
    for row in connection.execute(select(table)).mappings():
        try:
            tally.merge(row)
        except (TypeError, ValueError):
            report.say("total", " ".join(str(row[name]) for name in GROUPED), "–", row["calls"])
    return tally


def _meters(connection: Connection, report: _Report) -> dict[str, tuple[int, int]]:
    table = tables.meters
    found: dict[str, tuple[int, int]] = {}
    for bucket, used, base in connection.execute(select(table.c.bucket, table.c.used, table.c.base)):
        try:
            parsed(bucket)
        except (TypeError, ValueError):
            used = None
        if isinstance(used, int) and isinstance(base, int):
            found[bucket] = (used, base)
        else:
            report.say("limit", bucket, "–", used)
    return found


def _pruned(database: Database, begin: Head) -> bool:
    with database.reading() as connection:
        return _begin(connection) != begin


def _pages(database: Database, after: int, last: int) -> Iterator[list[tuple[Any, ...]]]:
    """Lines as (seq, chain, *columns), in order. Past SQLAlchemy: ten million rows go through here."""
    marker = "%s" if database.dialect == "postgresql" else "?"
    query = (
        f"SELECT seq, chain, {', '.join(COLUMNS)} FROM records"
        f" WHERE seq > {marker} AND seq <= {marker} ORDER BY seq LIMIT {_PAGE}"
    )
    while True:
        with database.reading() as connection:
            driver: Any = connection.connection.dbapi_connection
            cursor = driver.cursor()
            cursor.execute(query, (after, last))
            page: list[tuple[Any, ...]] = cursor.fetchall()
            cursor.close()
        if not page:
            return
        yield page
        after = page[-1][0]


def _links(page: list[tuple[Any, ...]], seq: int, chain: bytes, report: _Report) -> tuple[int, bytes]:
    sha256 = hashlib.sha256
    for row in page:
        if row[0] != seq + 1:
            report.say("gap", row[0], seq + 1, row[0])
        seq, kept = row[0], row[1]
        expected = sha256(chain + line_of(row[2:])).digest()
        # go on from what is there, so that one changed line is one finding
        chain = kept if isinstance(kept, bytes) else b""
        if chain != expected:
            report.say("chain", seq, expected.hex(), chain.hex() or "–")
    return seq, chain


def _fitting(page: list[tuple[Any, ...]], report: _Report) -> Iterator[tuple[int, tuple[Any, ...]]]:
    """Number and columns of the lines that can be reckoned with."""
    for row in page:
        line = row[2:]
        if name := misfit(line):
            report.say("line", row[0], name, repr(line[PLACE[name]])[:_LONGEST])
        else:
            yield row[0], line


def _cost(seq: int, line: tuple[Any, ...], report: _Report) -> None:
    micros = line[_COST]
    if micros is None:
        report.unpriced += 1
        return
    price_in, price_out = line[_PRICE_IN], line[_PRICE_OUT]
    if line[_ATTEMPTS] == 0:
        price_in = None  # answered from the cache: it cost nothing of what it would have cost
    if price_in is None or price_out is None:
        report.underived += 1
        return
    if (price_in and line[_IN] is None) or (price_out and line[_OUT] is None):
        report.say("cost", seq, "–", f"{micros}")
        return
    tokens_in = line[_IN] or 0
    cached = min(line[_CACHED] or 0, tokens_in)
    written = min(line[_WRITTEN] or 0, tokens_in - cached)
    exact = (tokens_in - cached - written) * price_in + (line[_OUT] or 0) * price_out
    if cached:
        price = line[_PRICE_CACHED]
        exact += cached * (price_in if price is None else price)
    if written:
        price = line[_PRICE_WRITTEN]
        exact += written * (price_in if price is None else price)
    if line[_PRICE_CALL]:
        exact += line[_PRICE_CALL] * MICROS
    rest = line[_REST]
    if micros * MICROS + (rest or 0) != exact:
        report.say("cost", seq, f"{exact / MICROS:.6f}", f"{micros + (rest or 0) / MICROS:.6f}")


def _compare_totals(stand: _Stand, derived: Tally, report: _Report) -> None:
    for place, cell in stand.pruned.sums.items():
        mine = derived.sums.setdefault(place, [0] * len(SUMMED))
        derived.sums[place] = [a + b for a, b in zip(mine, cell, strict=True)]
    kept = {tuple(row[name] for name in GROUPED): row for row in stand.totals.rows()}
    for row in derived.rows():
        other = kept.pop(tuple(row[name] for name in GROUPED), None)
        for name in SUMMED:
            if other is None or other[name] != row[name]:
                place = " ".join(str(row[group]) for group in GROUPED)
                report.say("total", f"{place} {name}", row[name], "–" if other is None else other[name])
    for place, row in kept.items():
        report.say("total", " ".join(place), "–", f"{row['calls']}")


def _rollups(database: Database, report: _Report) -> None:
    with database.snapshot() as connection:
        upto = connection.execute(select(tables.rolled.c.seq)).scalar()
        newest = connection.execute(select(tables.ledger_head.c.seq)).scalar() or 0
        days = rollups.days(connection)
    if not isinstance(upto, int) or not 0 <= upto <= newest:
        report.say("rollup", "rolled", newest, "–" if upto is None else upto)
        return
    for day in days:  # a day at a time: nobody who writes waits for all of them
        with database.snapshot() as connection:
            for place, lines, kept in rollups.wrong(connection, day):
                report.say("rollup", " ".join(place), lines or "–", kept or "–")


def _contents(connection: Connection, report: _Report) -> None:
    table, records = tables.contents, tables.records
    query = (
        select(
            table.c.record,
            table.c.content,
            *(table.c.tenant, table.c.at_ms, table.c.hash),
            *(records.c.tenant, records.c.at_ms, records.c.content_hash),
        )
        .join(records, records.c.id == table.c.record, isouter=True)
        .execution_options(yield_per=200)
    )
    for record, content, *kept, tenant, at_ms, hash in connection.execute(query):
        found = hashlib.sha256(content if isinstance(content, bytes) else b"").hexdigest()
        if found != hash:
            report.say("content", record, hash or "–", found)
        elif kept != [tenant, at_ms, hash]:
            report.say("entry", record, [tenant, at_ms, hash], kept)


_COST, _REST, _IN, _OUT = (PLACE[name] for name in ("cost_micros", "cost_rest", "tokens_in", "tokens_out"))
_CACHED, _WRITTEN = PLACE["tokens_cached"], PLACE["tokens_cache_write"]
_PRICE_IN, _PRICE_OUT, _PRICE_CALL = (PLACE[name] for name in ("price_in", "price_out", "price_call"))
_PRICE_CACHED, _PRICE_WRITTEN = PLACE["price_cached"], PLACE["price_cache_write"]
_ATTEMPTS, _LIMITS, _CHARGES = PLACE["attempts"], PLACE["limits"], PLACE["charges"]
