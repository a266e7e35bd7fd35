"""Deleting the oldest lines without breaking what can be proved about the rest.

Prevents the failure where retention and audit exclude each other: a checkpoint says where the chain goes on, what the
deleted lines summed up to, and what limits they had used.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sqlalchemy import Connection, bindparam, delete, func, insert, select, text

from baimo.store import rollups, tables
from baimo.store.chain import Tally, locked_head
from baimo.store.contents import dropped
from baimo.store.engine import Database
from baimo.store.lines import COLUMNS, PLACE
from baimo.store.uses import Uses

_TOGETHER = 20_000


def prune(database: Database, before_ms: int, progress: Callable[[int, int], None] | None = None) -> int:
    """Delete the oldest lines up to the first that was settled at or after `before_ms`; returns how many.

    Raises:
        StoreError: the database does not take it; what was done so far stays done.
    """
    table = tables.records
    with database.reading() as connection:
        first = connection.execute(select(func.min(table.c.seq))).scalar()
        keep = connection.execute(select(func.min(table.c.seq)).where(table.c.at_ms >= before_ms)).scalar()
        newest = connection.execute(select(tables.ledger_head.c.seq)).scalar_one()
    if first is None:
        return 0
    # the newest line stays: the head's hash can be checked against it
    end = min(keep if keep is not None else newest, newest)
    rollups.count_in(database)  # of what is not a line any more nothing can be counted in
    gone = 0
    for start in range(first, end, _TOGETHER):
        upto = min(start + _TOGETHER, end) - 1
        with database.writing() as connection:
            locked_head(connection)
            gone += _forget(connection, upto, before_ms)  # none, where somebody else prunes, too
        if progress is not None:
            progress(upto + 1 - first, end - first)
    return gone


def _forget(connection: Connection, upto: int, before_ms: int) -> int:
    table = tables.records
    query = select(table.c.seq, table.c.chain, *(table.c[name] for name in COLUMNS))
    rows = connection.execute(query.where(table.c.seq <= upto).order_by(table.c.seq)).all()
    if not rows:
        return 0
    upto, chain = max((int(row.seq), bytes(row.chain)) for row in rows)
    lines = [tuple(row[2:]) for row in rows]
    tally = Tally()
    tally.add(lines)
    tally.write(connection, "totals_pruned")
    _carry(connection, lines)
    checkpoint = {"seq": upto, "chain": chain, "at_ms": before_ms, "lines": len(rows)}
    connection.execute(insert(tables.ledger_checkpoints).values(checkpoint))
    kept = [line[PLACE["id"]] for line in lines if line[PLACE["content_hash"]]]
    for start in range(0, len(kept), 500):
        some = kept[start : start + 500]
        dropped(connection, lambda table, some=some: [table.c.record.in_(some)])
    connection.execute(delete(table).where(table.c.seq <= upto))
    return len(rows)


def _carry(connection: Connection, lines: list[tuple[object, ...]]) -> None:
    """What these lines used of limits becomes part of what no line names any more."""
    names = connection.execute(select(tables.meters.c.bucket)).scalars()
    uses = Uses(dict.fromkeys(names, 0))
    for line in lines:
        uses.add(line)
    carried: Mapping[str, int] = {name: used for name, used in uses.used.items() if used}
    if carried:
        statement = text("UPDATE meters SET base = base + :more WHERE bucket = :name").bindparams(
            bindparam("more"), bindparam("name")
        )
        connection.execute(statement, [{"name": name, "more": more} for name, more in carried.items()])
