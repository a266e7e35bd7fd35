"""The thread that moves ended calls from the journal into the database, and speaks with it about limits.

Prevents three failures: an event loop that waits for a disk (nothing here runs on it), a ledger that stops for ever
because of one odd row or one broken connection (what failed is tried again, more carefully, in order), and a thread
that dies unnoticed (`health` says since when and why).
"""

from __future__ import annotations

import logging
import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, select

from baimo.errors import BaimoError, StoreError
from baimo.store import recovery, tables
from baimo.store.chain import locked_head
from baimo.store.clearing import clear
from baimo.store.draws import Refusal, Trade
from baimo.store.engine import Database
from baimo.store.entries import Ended, read_ending
from baimo.store.journal import Journal, Position
from baimo.store.meters import Meters

TOGETHER = 2048
"""Most lines in one transaction."""
BEHIND = 4096
"""Ended calls that wait for the writer before the request path waits for it, too."""
BEAT_S = 10.0
"""How often a process shows that it lives."""
SILENT_S = 30.0
"""After so long without the database, a process that others may take for dead admits nothing against its leases."""
CLEAR_S = 600.0
"""How often buckets of long past windows are cleared away."""
LOCK_WAIT_MS = 2_000
"""Longest wait for other writers of the database, in one attempt."""
_CROWD = 64
"""Calls that ended within one `flush_ms`, from which on they move into the database less often."""
_SKIPPED = 3
"""How often in a row they do not."""
_NICE = 5
"""A quarter of the processor where others want it, too; it lags behind for a moment, and then the calls wait for it."""
_IDLE_S = 0.25
_WATCH_S = 0.05
_RETRY_S = (0.05, 2.0)

_HERE = select(tables.holders.c.id).where(tables.holders.c.id == bindparam("holder"))
_WANTED = select(tables.meters.c.bucket).where(tables.meters.c.wanted > 0)
_log = logging.getLogger("baimo.store")

Item = Position | Ended
"""An ended call: where the journal has it, or the call itself where the disk was full. Thousands that are kept as
objects until they are written cost megabytes; reading them back costs no time beyond what is saved."""


class Health(NamedTuple):
    """How the ledger is doing."""

    ok: bool
    """The last attempt to write succeeded."""
    since_ms: int | None
    """When it stopped succeeding."""
    problem: str
    """Why; empty = nothing is wrong."""
    behind: int
    """Ended calls that are not in the database yet; the journal has them."""
    contents_lost: int
    """Contents that found no room on a full disk; their Records are there."""


class Writer:
    """Moves calls into the database, round by round. All rounds run in one thread at a time."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        meters: Meters,
        *,
        holder: str,
        folder: Path,
        flush_s: float,
        now_ms: Callable[[], int],
        now: Callable[[], float],
        refused: Callable[[Refusal], BaimoError],
    ) -> None:
        """
        Args:
            holder: id of this process.
            folder: of all journals.
            flush_s: how often calls move.
            now_ms: wall clock that never goes back.
            now: clock of the deadlines of waiting calls.
            refused: the error that turns a call away.
        """
        self.queue: deque[Item] = deque()
        self.contents_lost = 0
        self.wake = threading.Event()
        self.idle = False
        """Nothing was to be done for a while: whoever has something should `wake` it."""
        self._database, self._journal, self._meters = database, journal, meters
        self._holder, self._folder, self._flush_s = holder, folder, flush_s
        self._now_ms, self._now, self._refused = now_ms, now, refused
        self._round = threading.Lock()
        self._moving = 0
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._wanting: set[str] = set()
        self._careful = False
        self._skipped = 0
        self._error: BaimoError | None = None
        self._since_ms: int | None = None
        self._heard = self._beaten = self._cleared = time.monotonic()

    def start(self) -> None:
        """Begin to write in the background."""
        self._thread = threading.Thread(target=self._run, name="baimo-ledger", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread; what is queued stays queued."""
        self._stopping = True
        self.wake.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        for wait in list(self._meters.waits):
            self._meters.refuse(wait, StoreError("ledger.stopped"))

    @property
    def health(self) -> Health:
        """How it is doing."""
        problem = "" if self._error is None else str(self._error)
        behind = len(self.queue) + self._moving
        return Health(self._error is None, self._since_ms, problem, behind, self.contents_lost)

    @property
    def error(self) -> BaimoError | None:
        """Why the last round failed; None = it did not."""
        return self._error

    def flush(self, *, leave: bool = False) -> bool:
        """One round, now: move what has ended, draw what is waited for; returns whether more is queued.

        Args:
            leave: give back every lease that no call has taken.

        Raises:
            StoreError: the database does not take it; everything is as it was.
        """
        with self._round:
            batch = [self.queue.popleft() for _ in range(min(TOGETHER, len(self.queue)))]
            self._moving = len(batch)
            try:
                trade = self._transaction(batch, leave)
            except BaseException as error:
                self.queue.extendleft(reversed(batch))
                self._moving = 0
                self._careful = True
                self._failed(error)
                with suppress(StoreError):
                    self._journal.sync()  # the journal does not wait for the database
                raise
            self._moving = 0
            trade.commit()
            self._succeeded(trade)
            self._journal.applied([item for item in batch if not isinstance(item, Ended)])
            try:
                self._journal.sync()
                self._journal.reclaim(self._database.sync)
            except (StoreError, OSError) as error:
                self._failed(error)
                raise
            return bool(self.queue)

    def recover(self) -> recovery.Recovered:
        """Enter the calls of processes that are gone."""
        return recovery.recover(self._database, self._folder, self._holder, self._now_ms())

    def _transaction(self, batch: Sequence[Item], leave: bool) -> Trade:
        calls: Iterable[Ended] = map(self._call, batch)
        trade = Trade(self._meters, self._holder, self._now_ms())
        try:
            with self._database.writing(wait_ms=LOCK_WAIT_MS) as connection:
                head = locked_head(connection)
                self._attend(connection)
                before: list[Ended] = []
                if self._careful:
                    calls, before = self._unknown(connection, [*calls])
                charged = recovery.entered(connection, calls, head)
                trade.begin(connection, charged, self._wanting, leave=leave, settled=before)
        except BaseException:
            trade.undo()
            raise
        self._careful = False
        return trade

    def _call(self, item: Item) -> Ended:
        return item if isinstance(item, Ended) else read_ending(self._journal.read(item))

    def _unknown(self, connection: Connection, calls: Sequence[Ended]) -> tuple[list[Ended], list[Ended]]:
        """After a failure: whose commit may have succeeded, and whose rows may have been refused."""
        self._resync(connection)
        there = recovery.known(connection, [call.row[0] for call in calls])
        fresh: dict[str, Ended] = {}
        before: list[Ended] = []
        for call in calls:
            if call.row[0] in there or call.row[0] in fresh:
                before.append(call)
            else:
                fresh[call.row[0]] = recovery.tidied(call)
        return list(fresh.values()), before

    def _attend(self, connection: Connection) -> None:
        """Show that we live, and see whether others think so."""
        here = connection.execute(_HERE, {"holder": self._holder}).first()
        if here is None:  # we were taken for dead: what we held is gone
            self._resync(connection)
        if here is None or time.monotonic() - self._beaten > BEAT_S:
            recovery.enrol(connection, self._holder, self._now_ms())
            self._beaten = time.monotonic()

    def _resync(self, connection: Connection) -> None:
        table = tables.leases
        rows = connection.execute(
            select(table.c.bucket, table.c.amount).where(table.c.holder == self._holder)
        ).all()
        amounts = {str(row[0]): int(row[1]) for row in rows}
        with self._meters.lock:
            for bucket, lease in self._meters.leases.items():
                lease.amount = amounts.pop(bucket, 0)
            for bucket, amount in amounts.items():
                self._meters.adopt(bucket, amount)

    def _succeeded(self, trade: Trade) -> None:
        self._heard = time.monotonic()
        if self._error is not None:
            _log.warning("the ledger is written again")
        self._error, self._since_ms = None, None
        if self._meters.closed is not None and not self._stopping:
            self._meters.shut(None)
            self._meters.grant()
        for refusal in trade.refusals:
            if refusal.wait is not None:
                self._meters.refuse(refusal.wait, self._refused(refusal))
        now = self._now()
        for wait in trade.waits:  # not those who came later: the database has not been asked for them
            if wait.until <= now:
                charge = self._meters.tightest(wait.charges)
                lease = self._meters.leases[charge.bucket]
                self._meters.refuse(wait, self._refused(Refusal(wait, charge, lease.used)))

    def _failed(self, error: BaseException) -> None:
        known = error if isinstance(error, BaimoError) else StoreError("ledger.writer", problem=repr(error))
        if self._error is None:
            self._since_ms = self._now_ms()
        if self._error is None or str(self._error) != str(known):
            _log.error("the ledger cannot be written, its journal keeps everything: %s", known)
        self._error = known
        if self._database.dialect != "sqlite" and time.monotonic() - self._heard > SILENT_S:
            self._meters.shut(known)
        for wait in list(self._meters.waits):
            if wait.until <= self._now():
                self._meters.refuse(wait, known)

    def _run(self) -> None:
        if sys.platform == "linux":
            # there every thread has a priority of its own: who answers calls goes first
            with suppress(OSError):
                os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        pause, busy = self._flush_s, time.monotonic()
        retry = _RETRY_S[0]
        while not self._stopping:
            woken = self.wake.wait(pause)
            if self._stopping:
                return
            self.wake.clear()
            try:
                worked = self._postponed() if not woken and self._is_crowded() else self._turn()
                retry = _RETRY_S[0]
            except Exception as error:  # the thread must not end: what failed is tried again
                if not isinstance(error, BaimoError):
                    _log.exception("the ledger's writer failed")
                pause = retry
                retry = min(_RETRY_S[1], retry * 2)
                continue
            moment = time.monotonic()
            if worked:
                busy = moment
            self.idle = moment - busy > 1.0
            pause = self._flush_s if not self.idle else _WATCH_S if moment - busy < BEAT_S else _IDLE_S
            if self._meters.waits:
                pause = min(self._flush_s, 0.02)

    def _is_crowded(self) -> bool:
        """So many calls end that moving more of them together is cheaper, and nobody waits for what they reserved."""
        queued = len(self.queue)
        return (
            _CROWD <= queued < TOGETHER
            and self._skipped < _SKIPPED
            and self._error is None
            and not self._meters.waits
            and not self._meters.low
        )

    def _postponed(self) -> bool:
        """Only what a power failure must not take: a transaction costs as much as the lines of fifty calls."""
        self._skipped += 1
        self._journal.sync()
        return True

    def _turn(self) -> bool:
        self._skipped = 0
        moment = time.monotonic()
        beat = moment - self._beaten > BEAT_S
        worked = bool(self.queue or self._meters.waits or self._meters.low)
        if worked or beat or self._error is not None or self._is_asked():
            while self.flush() and not self._stopping:
                time.sleep(0)  # let the event loop have its turn
        if beat:
            self.recover()
        if moment - self._cleared > CLEAR_S:
            self._cleared = moment
            clear(self._database, self._now_ms())
        return worked

    def _is_asked(self) -> bool:
        """Whether another process waits for what we hold, or a window is over."""
        if not self._meters.leases:
            return False
        if self._meters.idle(self._now_ms()):
            return True
        with self._database.reading() as connection:
            wanted = connection.execute(_WANTED).scalars().all()
        return any(bucket in self._meters.leases for bucket in wanted)
