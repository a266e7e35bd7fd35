"""The database's side of limits: one transaction moves charges to `used`, gives back, recalls and draws leases.

The caller holds the ledger's lock (`locked_head`), so that nobody else draws between what is read here and what is
written. Nothing in memory changes before the transaction is committed, but for what is given back: that is taken out
of reach first, because a call may be admitted at any moment.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, select, text, update

from baimo.core.tenant import Key
from baimo.store import tables
from baimo.store.buckets import FIELDS, SCOPES, parsed
from baimo.store.chain import DAY_MS, day_name, together
from baimo.store.entries import Ended
from baimo.store.entry import Charge
from baimo.store.meters import Meters, Wait
from baimo.typed import from_json


class Refusal(NamedTuple):
    """A call that cannot fit any more, or not in time."""

    wait: Wait | None
    """None = it never waited."""
    charge: Charge
    """The one that does not fit."""
    used: int
    """What is used of it."""


class State(NamedTuple):
    """A bucket as the database has it."""

    used: int
    wanted: int
    leased: int
    """By everybody."""


class Trade:
    """What one transaction does for the limits; `begin` in it, `commit` after it, or `undo`."""

    def __init__(self, meters: Meters, holder: str, now_ms: int) -> None:
        """
        Args:
            meters: of this process.
            holder: its id.
            now_ms: wall clock, milliseconds since 1970.
        """
        self._meters = meters
        self._holder = holder
        self._now_ms = now_ms
        self._charged: Mapping[str, int] = {}
        self._given: dict[str, int] = {}
        self._settled: dict[str, int] = {}
        self._drawn: set[str] = set()
        self._amounts: dict[str, int] = {}
        """New amounts of leases."""
        self._states: dict[str, State] = {}
        self._wanted: dict[str, int] = {}
        """`wanted` as the database has it."""
        self.waits: list[Wait] = []
        """Calls that waited when it began."""
        self._limits: dict[str, int] = {}
        """Limits that the first waiting call of each bucket names."""
        self._changed: set[str] = set()
        """Buckets whose leases were drawn under another limit."""
        self._over: list[str] = []
        self.refusals: list[Refusal] = []

    def begin(
        self,
        connection: Connection,
        charged: Mapping[str, int],
        wanting: set[str],
        *,
        leave: bool = False,
        settled: Iterable[Ended] = (),
    ) -> None:
        """Do it, inside the caller's transaction.

        Args:
            connection: in a writing transaction.
            charged: by bucket: what its calls took, which moves from lease to `used`.
            wanting: buckets that this process has asked others for; kept up to date here.
            leave: give everything back that is not taken, and draw nothing.
            settled: calls whose charges are in the database already, and still taken in memory.
        """
        meters = self._meters
        self._charged = charged
        for call in settled:
            for charge in call.charged:
                if charge.bucket in meters.leases:
                    self._settled[charge.bucket] = self._settled.get(charge.bucket, 0) + charge.amount
        use(connection, charged)
        for bucket, amount in charged.items():
            self._amounts[bucket] = max(0, meters.leases[bucket].amount - amount)
        if meters.leases:
            self._wanted = {str(row[0]): int(row[1]) for row in connection.execute(_WANTED)}
        self._over = meters.idle(self._now_ms)
        with meters.lock:
            self.waits = list(meters.waits)
            for wait in reversed(self.waits):
                self._limits |= {charge.bucket: charge.limit for charge in wait.charges}
            self._give_back(leave)
        if not leave:
            self._draw(connection)
        self._write(connection, wanting)

    def commit(self) -> None:
        """It is in the database: now it holds in memory, too."""
        meters = self._meters
        with meters.lock:
            for bucket, amount in self._amounts.items():
                meters.leases[bucket].amount = amount
            for gone in (self._charged, self._given, self._settled):
                for bucket, amount in gone.items():
                    meters.leases[bucket].taken -= amount
            for bucket, state in self._states.items():
                lease = meters.leases[bucket]
                if lease.limit >= 0 or bucket in self._changed:  # it may have been doubted meanwhile
                    lease.limit = self._limits[bucket]
                lease.used = max(lease.used, state.used)
                lease.outside = lease.limit - state.used - state.leased
                if bucket in self._drawn:
                    lease.low = lease.free // 4
            for bucket in self._over:
                lease = meters.leases[bucket]
                if not (lease.amount or lease.taken or lease.waiting):
                    del meters.leases[bucket]
        meters.grant()

    def undo(self) -> None:
        """It is not in the database: what was to be given back is ours again."""
        with self._meters.lock:
            for bucket, amount in self._given.items():
                self._meters.leases[bucket].taken -= amount

    # giving back

    def _give_back(self, leave: bool) -> None:
        over = set(self._over)
        for bucket, lease in self._meters.leases.items():
            # two processes that both wait, each with a part of what the other needs: one must let go
            asked = self._wanted.get(bucket, 0) > 0 and (not lease.waiting or random.random() < 0.5)
            changed = self._limits.get(bucket, lease.limit) != lease.limit
            if changed:
                self._changed.add(bucket)
            if leave or asked or changed or bucket in over:
                free = self._free(bucket)
                if free > 0:
                    lease.taken += free
                    self._given[bucket] = free
                    self._amounts[bucket] = self._amounts.get(bucket, lease.amount) - free

    def _free(self, bucket: str) -> int:
        """What will be free once this is committed."""
        lease = self._meters.leases[bucket]
        taken = lease.taken - sum(gone.get(bucket, 0) for gone in (self._charged, self._given, self._settled))
        return self._amounts.get(bucket, lease.amount) - taken

    # drawing

    def _draw(self, connection: Connection) -> None:
        meters = self._meters
        with meters.lock:
            low = {bucket for bucket in meters.low if bucket in meters.leases}
            meters.low.clear()
            self._limits = {bucket: meters.leases[bucket].limit for bucket in low} | self._limits
            free = {bucket: self._free(bucket) for bucket in self._limits}
            own = {bucket: meters.leases[bucket].amount for bucket in self._limits}
        if not self._limits:
            return
        for bucket, state in looked_at(connection, self._limits).items():
            self._wanted.setdefault(bucket, state.wanted)
            leased = state.leased - own[bucket] + self._amounts.get(bucket, own[bucket])
            wanted = max(0, state.wanted - self._given.get(bucket, 0))
            self._states[bucket] = State(state.used, wanted, leased)
        holders = max(1, int(connection.execute(_HOLDERS).scalar_one()))
        blocked: set[str] = set()
        for wait in self.waits:
            self._serve(wait, free, blocked, holders)
        for bucket in low - blocked:
            if not self._states[bucket].wanted:
                self._take(bucket, self._left(bucket) // (2 * holders), free)

    def _serve(self, wait: Wait, free: dict[str, int], blocked: set[str], holders: int) -> None:
        """Draw what a waiting call lacks: everything or nothing, so that no two processes hold halves."""
        lacking: dict[str, int] = {}
        for charge in wait.charges:
            used = self._states[charge.bucket].used
            if used + charge.amount > charge.limit:
                self.refusals.append(Refusal(wait, charge, used))
                return
            lacking[charge.bucket] = max(0, charge.amount - free[charge.bucket])
        missing = {bucket: lack - self._left(bucket) for bucket, lack in lacking.items()}
        missing = {bucket: amount for bucket, amount in missing.items() if amount > 0 and lacking[bucket]}
        if missing:
            for bucket, amount in missing.items():
                blocked.add(bucket)
                state = self._states[bucket]
                self._states[bucket] = state._replace(wanted=max(state.wanted, amount))
            return
        if any(charge.bucket in blocked for charge in wait.charges):
            return
        for bucket, lack in lacking.items():
            if lack:
                # when others wait for it, nobody takes more than the call needs
                share = 0 if self._states[bucket].wanted else self._left(bucket) // (2 * holders)
                self._take(bucket, max(lack, share), free)
        for charge in wait.charges:
            free[charge.bucket] -= charge.amount

    def _left(self, bucket: str) -> int:
        state = self._states[bucket]
        return self._limits[bucket] - state.used - state.leased

    def _take(self, bucket: str, amount: int, free: dict[str, int]) -> None:
        if amount <= 0:
            return
        state = self._states[bucket]
        self._states[bucket] = state._replace(leased=state.leased + amount)
        own = self._amounts.get(bucket, self._meters.leases[bucket].amount)
        self._amounts[bucket] = own + amount
        self._drawn.add(bucket)
        free[bucket] += amount

    # writing

    def _write(self, connection: Connection, wanting: set[str]) -> None:
        wanted = {bucket: max(0, was - self._given.get(bucket, 0)) for bucket, was in self._wanted.items()}
        for bucket, state in self._states.items():
            wanted[bucket] = state.wanted
            if state.wanted > self._wanted[bucket]:
                wanting.add(bucket)
        for bucket in list(wanting):
            if bucket in self._drawn or bucket not in self._limits:  # we have it, or gave up
                wanted[bucket] = 0
                wanting.discard(bucket)
        changes = [
            {"name": name, "now": now} for name, now in wanted.items() if now != self._wanted.get(name)
        ]
        if changes:
            connection.execute(_WANT, changes)
        keep = [
            {"bucket": bucket, "holder": self._holder, "amount": amount}
            for bucket, amount in self._amounts.items()
            if amount
        ]
        drop = [
            {"name": bucket, "whose": self._holder} for bucket, amount in self._amounts.items() if not amount
        ]
        if keep:
            connection.execute(_LEASE, keep)
        if drop:
            connection.execute(_DROP, drop)


def use(connection: Connection, charged: Mapping[str, int]) -> None:
    """Add charges to `used`. A bucket that was cleared away because its window is long over stays away."""
    together(connection, _USE, sorted(charged.items()), _USED, ("TEXT", "BIGINT"))


def looked_at(connection: Connection, limits: Iterable[str]) -> dict[str, State]:
    """The state of these buckets; those that are new are set up with what was used before they were."""
    names = sorted(limits)
    found: dict[str, State] = {}
    for start in range(0, len(names), 500):
        rows = connection.execute(_LOOK, {"names": names[start : start + 500]})
        found |= {str(row[0]): State(int(row[1]), int(row[2]), int(row[3])) for row in rows}
    for name in names:
        if name not in found:
            base = _base(connection, name)
            connection.execute(_METER, {"bucket": name, "base": base})
            found[name] = State(base, 0, 0)
    return found


def catch_up(connection: Connection, names: Iterable[str]) -> None:
    """Count in what calls took while these limits were taken away. The caller holds the ledger's lock."""
    for name in names:
        used = connection.execute(_USED_OF, {"name": name}).scalar()
        if used is not None:
            connection.execute(_CATCH_UP, {"name": name, "more": max(0, _base(connection, name) - int(used))})


def _base(connection: Connection, name: str) -> int:
    """What the window had used of a limit on money or tokens before the limit was set: from the totals."""
    bucket = parsed(name)
    if (
        bucket.counts not in ("cost", "tokens")
        or bucket.window in ("minute", "hour")
        or bucket.scope == "route"
    ):
        return 0
    owners = _counted_as(connection, bucket.name) if bucket.scope == "key" else [bucket.name]
    table, field = tables.totals, FIELDS[SCOPES.index(bucket.scope)]
    amount = "charged_micros" if bucket.counts == "cost" else "charged_tokens"
    query = select(func.coalesce(func.sum(table.c[amount]), 0)).where(table.c[field].in_(owners))
    if bucket.window == "total":
        return int(connection.execute(query).scalar_one())
    first, last = bucket.begins_ms // DAY_MS, bucket.ends_ms // DAY_MS
    query = query.where(table.c.day >= day_name(first), table.c.day < day_name(last))
    ended = int(connection.execute(query).scalar_one())
    if not ended:
        return 0
    # totals are by the day on which a call ended; a call counts in the window in which it was admitted
    lines = tables.records
    earlier = select(func.coalesce(func.sum(lines.c[amount]), 0)).where(
        lines.c.at_ms >= bucket.begins_ms,
        lines.c.at_ms < bucket.begins_ms + DAY_MS,
        lines.c.began_ms < bucket.begins_ms,
        lines.c[field].in_(owners),
    )
    return ended - int(connection.execute(earlier).scalar_one())


def _counted_as(connection: Connection, meter: str) -> list[str]:
    """Public parts of the keys whose limits count under this name: the key itself and those that replaced it."""
    found, table = [meter], tables.keys
    while said := connection.execute(select(table.c.key).where(table.c.public == found[-1])).scalar():
        successor = from_json(said, Key).rotated_to
        if not successor or successor in found:
            break
        found.append(successor)
    return found


_meters, _leases = tables.meters, tables.leases
_WANTED = select(_meters.c.bucket, _meters.c.wanted).where(_meters.c.wanted > 0)
_HOLDERS = select(func.count()).select_from(tables.holders)
_WANT: Any = update(_meters).where(_meters.c.bucket == bindparam("name")).values(wanted=bindparam("now"))
_USE = "WITH more (bucket, amount) AS ("
_USED = ") UPDATE meters SET used = used + more.amount FROM more WHERE meters.bucket = more.bucket"
_DROP: Any = delete(_leases).where(
    _leases.c.bucket == bindparam("name"), _leases.c.holder == bindparam("whose")
)
_LEASE = text(
    "INSERT INTO leases (bucket, holder, amount) VALUES (:bucket, :holder, :amount)"
    " ON CONFLICT (bucket, holder) DO UPDATE SET amount = excluded.amount"
)
_USED_OF = select(_meters.c.used).where(_meters.c.bucket == bindparam("name"))
_CATCH_UP = text("UPDATE meters SET used = used + :more, base = base + :more WHERE bucket = :name")
_METER = text("INSERT INTO meters (bucket, used, base, wanted) VALUES (:bucket, :base, :base, 0)")
_LOOK = select(
    _meters.c.bucket,
    _meters.c.used,
    _meters.c.wanted,
    select(func.coalesce(func.sum(_leases.c.amount), 0))
    .where(_leases.c.bucket == _meters.c.bucket)
    .scalar_subquery(),
).where(_meters.c.bucket.in_(bindparam("names", expanding=True)))
