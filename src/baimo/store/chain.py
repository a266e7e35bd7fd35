"""Appending to the ledger: the only way in which a line gets there, for the gateway and for every other verb.

Prevents two failures: a line that somebody changed, removed or slipped in afterwards (each line's hash covers the
line and the hash before it), and totals that drift from the lines (both are written in one transaction).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, NamedTuple

from sqlalchemy import Connection, text

from baimo.errors import StoreError
from baimo.store.lines import COLUMNS, PLACE, Row, line_of
from baimo.store.tables import GROUPED, SUMMED

START = bytes(32)
"""What the first line is chained to."""
DAY_MS = 86_400_000

_TOGETHER = 64
"""Rows per statement: fewer statements mean fewer hand-overs of the interpreter between threads."""
_NAMES = ", ".join(("seq", "chain", *COLUMNS))
_ONE = f"({', '.join('?' * (len(COLUMNS) + 2))})"
_INSERT_ONE = f"INSERT INTO records ({_NAMES}) VALUES {_ONE}"
_INSERT_MANY = f"INSERT INTO records ({_NAMES}) VALUES {', '.join([_ONE] * _TOGETHER)}"
_COPY = f"COPY records ({_NAMES}) FROM STDIN WITH (NULL '\x02')"


class Head(NamedTuple):
    """The ledger's newest line."""

    seq: int
    """Its number, counted from 1 without gaps; 0 = none yet."""
    chain: bytes
    """Its hash, 32 bytes."""


def locked_head(connection: Connection) -> Head:
    """The newest line; nobody else appends until the transaction ends."""
    lock = " FOR UPDATE" if connection.dialect.name == "postgresql" else ""
    row = connection.exec_driver_sql(f"SELECT seq, chain FROM ledger_head WHERE one = 1{lock}").one()
    return Head(int(row[0]), bytes(row[1]))


class Appending:
    """Lines on their way into the ledger, inside the caller's transaction: `add` them, then `end`."""

    def __init__(self, connection: Connection, head: Head | None = None) -> None:
        """
        Args:
            connection: in a writing transaction.
            head: the newest line, if the transaction holds its lock already.
        """
        self._connection = connection
        self._head = head or locked_head(connection)
        self._tally = Tally()

    def add(self, rows: Sequence[Row], lines: Iterable[bytes]) -> None:
        """Add lines.

        Args:
            rows: columns of each line, as `lines.row_of` makes them.
            lines: their canonical bytes.

        Raises:
            StoreError: the database does not take them; the transaction must be given up.
        """
        seq, chain = self._head
        chained: list[Row] = []
        sha256 = hashlib.sha256
        # `core.record.linked`, written out: a function call per line would cost as much as the hash
        for row, line in zip(rows, lines, strict=True):
            seq += 1
            chain = sha256(chain + line).digest()
            chained.append((seq, chain, *row))
        if chained:
            _insert(self._connection, chained)
            self._tally.add(rows)
        self._head = Head(seq, chain)

    def end(self) -> Head:
        """Bring totals and head up to date; returns the new head."""
        if self._tally.sums:
            self._tally.write(self._connection, "totals")
            _move_head(self._connection, self._head)
        return self._head


def append(connection: Connection, rows: Sequence[Row]) -> Head:
    """Add lines to the ledger and its totals inside the caller's transaction; returns the new head.

    Raises:
        StoreError: the database does not take them; the transaction must be given up.
    """
    appending = Appending(connection)
    appending.add(rows, map(line_of, rows))
    return appending.end()


def adopt(connection: Connection) -> None:
    """Chain the lines that were written before there was a chain, and sum them up; once, when the schema is raised."""
    chain, seq, batch = START, 0, 5_000
    tally = Tally()
    while True:
        found = connection.execute(
            text(f"SELECT seq, {', '.join(COLUMNS)} FROM records WHERE seq > :seq ORDER BY seq LIMIT :batch"),
            {"seq": seq, "batch": batch},
        ).all()
        if not found:
            break
        links: list[dict[str, Any]] = []
        rows = [tuple(row[1:]) for row in found]
        for (seq, *_), row in zip(found, rows, strict=True):
            chain = hashlib.sha256(chain + line_of(row)).digest()
            links.append({"seq": seq, "chain": chain})
        connection.execute(text("UPDATE records SET chain = :chain WHERE seq = :seq"), links)
        tally.add(rows)
    tally.write(connection, "totals")
    connection.execute(
        text("INSERT INTO ledger_head (one, seq, chain) VALUES (1, :seq, :chain)"),
        {"seq": seq, "chain": chain},
    )


class Tally:
    """Sums of lines by day, tenant, key, model, surface and currency, as the table `totals` holds them."""

    def __init__(self) -> None:
        self.sums: dict[tuple[int, str, str, str, str, str], list[int]] = {}
        """By day since 1970 and the other groups; in the order of `SUMMED`."""

    def add(self, rows: Iterable[Row]) -> None:
        """Count lines in."""
        sums = self.sums
        for row in rows:
            place = (row[_AT] // DAY_MS, row[_TENANT], row[_KEY], row[_MODEL], row[_SURFACE], row[_CURRENCY])
            cell = sums.get(place)
            if cell is None:
                cell = sums[place] = [0] * len(SUMMED)
            cell[0] += 1
            if row[_STATUS] != "ok":
                cell[1] += 1
            micros = row[_COST]
            if micros is None:
                cell[2] += 1
            else:
                cell[4] += micros
                cell[5] += row[_REST] or 0
            tokens_in, tokens_out = row[_IN], row[_OUT]
            if tokens_in is None or tokens_out is None:
                cell[3] += 1
            cell[6] += tokens_in or 0
            cell[7] += tokens_out or 0
            cell[8] += row[_CACHED] or 0
            cell[9] += row[_WRITTEN] or 0
            cell[10] += row[_MICROS]
            cell[11] += row[_TOKENS]

    def write(self, connection: Connection, table: str) -> None:
        """Add these sums to `totals` or `totals_pruned`."""
        rows = [(day_name(day), *groups, *cell) for (day, *groups), cell in self.sums.items()]
        before = f"INSERT INTO {table} ({', '.join((*GROUPED, *SUMMED))}) "
        together(connection, before, rows, _ADD[table], ("TEXT",) * len(GROUPED) + ("BIGINT",) * len(SUMMED))

    def rows(self) -> Iterator[dict[str, Any]]:
        """The sums as rows of the table."""
        for (day, *groups), cell in self.sums.items():
            yield dict(zip((*GROUPED, *SUMMED), (day_name(day), *groups, *cell), strict=True))

    def merge(self, row: Mapping[Any, Any]) -> None:
        """Add one row of the table.

        Raises:
            ValueError: it holds what none can hold; nothing is added.
        """
        texts, numbers = [row[name] for name in GROUPED], [row[name] for name in SUMMED]
        if {type(one) for one in texts} != {str} or {type(one) for one in numbers} != {int}:
            raise ValueError("other types")
        if day_name(_day_number(row["day"])) != row["day"]:
            raise ValueError("no day")
        place = (_day_number(row["day"]), *(row[name] for name in GROUPED[1:]))
        cell = self.sums.setdefault(place, [0] * len(SUMMED))
        for at, name in enumerate(SUMMED):
            cell[at] += row[name]


def together(
    connection: Connection, before: str, rows: Sequence[tuple[Any, ...]], after: str, types: Sequence[str]
) -> None:
    """Execute a statement over many rows of values: `before` VALUES (…), (…) `after`.

    Args:
        before: ends where the rows are to stand.
        rows: values, one for each type.
        types: of the columns.
    """
    if connection.dialect.name == "postgresql":
        if rows:
            # arrays: the text of the statement stays the same, whatever the number of rows
            arrays = ", ".join(f"CAST(%s AS {kind}[])" for kind in types)
            statement = f"{before}SELECT * FROM unnest({arrays}){after}"
            connection.exec_driver_sql(statement, tuple(list(column) for column in zip(*rows, strict=True)))
        return
    one = f"({', '.join('?' * len(types))})"
    for start in range(0, len(rows), _TOGETHER):
        some = rows[start : start + _TOGETHER]
        statement = f"{before}VALUES {', '.join([one] * len(some))}{after}"
        connection.exec_driver_sql(statement, tuple([value for row in some for value in row]))


def day_name(day: int) -> str:
    """2026-11-21, of days since 1970."""
    return (date(1970, 1, 1) + timedelta(days=day)).isoformat()


def _day_number(name: str) -> int:
    return (date.fromisoformat(name) - date(1970, 1, 1)).days


def _move_head(connection: Connection, head: Head) -> None:
    moved = connection.execute(_MOVE, {"seq": head.seq, "chain": head.chain})
    if moved.rowcount != 1:
        raise StoreError("ledger.no_head")


def _insert(connection: Connection, rows: list[Row]) -> None:
    if connection.dialect.name == "postgresql":
        driver: Any = connection.connection.dbapi_connection
        with driver.cursor() as cursor, cursor.copy(_COPY) as copy:
            copy.write("".join([_copied(row) for row in rows]).encode())
        return
    whole = len(rows) - len(rows) % _TOGETHER
    for start in range(0, whole, _TOGETHER):
        values: list[Any] = []
        for row in rows[start : start + _TOGETHER]:
            values += row
        connection.exec_driver_sql(_INSERT_MANY, tuple(values))
    if whole < len(rows):
        connection.exec_driver_sql(_INSERT_ONE, rows[whole:])


def _copied(row: Row) -> str:
    """A row as COPY reads it. Written out here because the driver takes ten times as long for 45 columns."""
    seq, chain, *values = row
    texts = [_NULL if value is None else value if value.__class__ is str else repr(value) for value in values]
    line = "\t".join(texts)
    if _SPECIAL(line) is not None or line.count("\t") != len(texts) - 1:
        escaped = [text if text is _NULL else text.translate(_ESCAPES) for text in texts]
        line = "\t".join(escaped)
    return f"{seq}\t\\\\x{chain.hex()}\t{line}\n"


_MOVE = text("UPDATE ledger_head SET seq = :seq, chain = :chain WHERE one = 1")
_NULL = "\x02"
"""`clean` lets no text be this."""
_SPECIAL = re.compile(r"[\\\n\r]").search
_ESCAPES = str.maketrans({"\\": "\\\\", "\n": "\\n", "\r": "\\r", "\t": "\\t"})
_ADD = {
    table: f" ON CONFLICT ({', '.join(GROUPED)}) DO UPDATE SET"
    f" {', '.join(f'{name} = {table}.{name} + excluded.{name}' for name in SUMMED)}"
    for table in ("totals", "totals_pruned")
}
_AT, _TENANT, _KEY, _MODEL = (PLACE[name] for name in ("at_ms", "tenant", "key", "model"))
_SURFACE, _CURRENCY, _STATUS = (PLACE[name] for name in ("surface", "currency", "status"))
_COST, _REST, _IN, _OUT = (PLACE[name] for name in ("cost_micros", "cost_rest", "tokens_in", "tokens_out"))
_CACHED, _WRITTEN = PLACE["tokens_cached"], PLACE["tokens_cache_write"]
_MICROS, _TOKENS = PLACE["charged_micros"], PLACE["charged_tokens"]
