"""Money that a comparison takes out of limits before it spends any: what is left over goes back when it ends.

Prevents the failure where work beside the gateway overspends a budget that the gateway guards: the whole purse is
leased like any other lease (`used + all leases <= limit` holds at all times), every Record moves its cost from the
lease to what is used, what is left moves with the calendar, and a process that dies gives its lease back like every
other holder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from sqlalchemy import Connection, text

from baimo.core.ids import sortable_id
from baimo.core.money import MICROS
from baimo.core.record import Record
from baimo.core.tenant import Limit
from baimo.errors import BudgetExceeded
from baimo.store import recovery
from baimo.store.buckets import bucket_of, written
from baimo.store.chain import locked_head
from baimo.store.draws import looked_at, use
from baimo.store.engine import Database
from baimo.store.entry import Charge, Entry


class Limited(NamedTuple):
    """A limit on money, and whose it is."""

    scope: str
    """key or tenant."""
    name: str
    """Key.meter or Tenant.id."""
    limit: Limit


class Purse:
    """Belongs to one process; without limits it is bottomless and counts nothing."""

    def __init__(self, database: Database, limits: Sequence[Limited] = ()) -> None:
        """
        Args:
            database: where the meters are.
            limits: all that count money.
        """
        self._database = database
        self._limits = tuple(limits)
        self._holder = ""
        self._buckets: list[str] = []
        """Of each limit, that of the newest moment."""
        self._newest_ms = 0

    def fill(self, micros: int, now_ms: int) -> None:
        """Set so much aside.

        Args:
            micros: micro-units of money.currency.
            now_ms: wall clock.

        Raises:
            BudgetExceeded: a limit does not leave as much; nothing is set aside.
        """
        if not self._limits:
            return
        holder = sortable_id("holder", now_ms, os.urandom(7))
        buckets = [bucket_of(*one, now_ms) for one in self._limits]
        with self._database.writing() as connection:
            locked_head(connection)
            recovery.enrol(connection, holder, now_ms)
            for bucket, one in zip(buckets, self._limits, strict=True):
                _lease(connection, holder, bucket, one.limit, micros)
        self._holder, self._buckets, self._newest_ms = holder, buckets, now_ms

    def moved(self, now_ms: int) -> int:
        """Set what is left aside in the windows that have begun since; called before each call.

        Args:
            now_ms: wall clock.

        Returns:
            The moment whose windows the call is charged to. A clock that is set back opens no window again.

        Raises:
            BudgetExceeded: a limit does not leave as much in its new window.
        """
        now_ms = self._newest_ms = max(now_ms, self._newest_ms)
        buckets = [bucket_of(*one, now_ms) for one in self._limits]
        if self._holder and buckets != self._buckets:
            with self._database.writing() as connection:
                locked_head(connection)
                for one, old, new in zip(self._limits, self._buckets, buckets, strict=True):
                    if old != new:
                        left = connection.execute(_LEFT, {"bucket": old, "holder": self._holder}).scalar()
                        _lease(connection, self._holder, new, one.limit, int(left or 0))
            self._buckets = buckets
        return now_ms

    def beat(self, now_ms: int) -> None:
        """Say that this process is still there, for those on other machines."""
        if self._holder:
            with self._database.writing() as connection:
                recovery.enrol(connection, self._holder, now_ms)

    def charged(self, connection: Connection, record: Record) -> Record:
        """Charge a Record to the limits, inside the transaction that appends it; it as it is to be appended."""
        if not self._limits:
            return record
        locked_head(connection)
        moment = record.began_ms or record.at_ms
        charges = [
            Charge(bucket_of(*one, moment), one.limit.amount, record.charged_micros) for one in self._limits
        ]
        entry = Entry(
            id=record.id,
            surface=record.surface,
            tenant=record.tenant,
            key=record.key,
            began_ms=moment,
            charged_micros=record.charged_micros,
        )
        mask, odd = written(entry, charges)
        use(connection, {one.bucket: one.amount for one in charges})
        for one in charges:
            less = {"bucket": one.bucket, "holder": self._holder, "less": one.amount}
            connection.execute(_LESS, less)
        return replace(record, began_ms=moment, limits=mask, charges=odd)

    def empty(self) -> None:
        """Give back what is left."""
        if self._holder:
            with self._database.writing() as connection:
                locked_head(connection)
                recovery.dismiss(connection, self._holder)
            self._holder = ""


def _lease(connection: Connection, holder: str, bucket: str, limit: Limit, micros: int) -> None:
    state = looked_at(connection, [bucket])[bucket]
    left = limit.amount - state.used - state.leased
    if micros > left:
        most, wanted = f"{max(0, left) / MICROS:g}", f"{micros / MICROS:g}"
        raise BudgetExceeded("compare.over_limit", left=most, wanted=wanted, field="/max_cost")
    connection.execute(_LEASE, {"bucket": bucket, "holder": holder, "amount": micros})


_LEASE = text("INSERT INTO leases (bucket, holder, amount) VALUES (:bucket, :holder, :amount)")
_LEFT = text("SELECT amount FROM leases WHERE bucket = :bucket AND holder = :holder")
_LESS = text(
    "UPDATE leases SET amount = CASE WHEN amount > :less THEN amount - :less ELSE 0 END"
    " WHERE bucket = :bucket AND holder = :holder"
)
