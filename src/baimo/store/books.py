"""The books of one process: the only thing that the request path writes to.

Prevents the failures that make a ledger worthless: a call without a line, a line without its charge, a reservation
that outlives its call. A call is reserved, opened before anything is sent, and closed however it ended; from then on
it cannot be lost, whatever happens to the process or the database.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from baimo.core.ids import sortable_id
from baimo.core.money import MICROS
from baimo.errors import BaimoError, BudgetExceeded, LimitReached, StoreError
from baimo.settings import LedgerSettings
from baimo.store import recovery
from baimo.store.buckets import FOREVER_MS, parsed
from baimo.store.chain import locked_head
from baimo.store.draws import Refusal
from baimo.store.engine import Database
from baimo.store.entries import Ended, ended, ending, opening
from baimo.store.entry import Charge, Entry
from baimo.store.journal import SEGMENT_BYTES, Journal
from baimo.store.meters import Meters, Wait
from baimo.store.syncer import Syncer
from baimo.store.writer import BEHIND, Health, Writer
from baimo.text import text

PATIENCE_S = 5.0


class Clock(Protocol):
    """Time."""

    def now(self) -> float:
        """Seconds on a clock that never goes back."""
        ...

    def wall(self) -> float:
        """Seconds since 1970."""
        ...


class Books:
    """Reservations, Records and their durability. One per process; `reserve`, `open`, `close` never wait."""

    def __init__(
        self,
        database: Database,
        folder: Path,
        settings: LedgerSettings,
        clock: Clock,
        *,
        currency: str = "",
        segment_bytes: int = SEGMENT_BYTES,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """Enter this process among the holders, and the calls of processes that are gone into the ledger.

        Args:
            database: the ledger's.
            folder: of the journals of all processes that share it here: `<workspace>/journal`.
            settings: [ledger].
            clock: wall clock of Records and windows, and a steady one for waiting.
            currency: money.currency, for messages.
            segment_bytes: size of the journal's files.
            patience_s: how much longer than asked for a call waits for a database that does not answer.

        Raises:
            StoreError: database or folder cannot be written.
        """
        self._clock, self.currency = clock, currency
        self._patience_s = patience_s
        self._latest_ms = 0
        self.holder = sortable_id("holder", int(clock.wall() * 1000), os.urandom(7))
        """Id of this process among those that share the ledger."""
        self._journal = Journal(folder / self.holder, segment_bytes=segment_bytes)
        self._meters = Meters(self._wake)
        self._writer = Writer(
            database,
            self._journal,
            self._meters,
            holder=self.holder,
            folder=folder,
            flush_s=settings.flush_ms / 1000,
            now_ms=self.now_ms,
            now=clock.now,
            refused=self._refused,
        )
        self._syncer = Syncer(self._journal.sync)
        self._database = database
        self._queue = self._writer.queue
        self._stopped = threading.Event()
        self._full = False
        try:
            with database.writing() as connection:
                locked_head(connection)
                recovery.enrol(connection, self.holder, self.now_ms())
            self.recovered = self._writer.recover()
            """What was found of processes that are gone."""
        except BaseException:
            self._journal.close()
            raise
        self.reserve = self._meters.reserve
        """`reserve(charges) -> bool`: take them from the leases in memory, all or nothing; False = `obtain` them."""
        self.release = self._meters.release
        """`release(charges)`: give back what was reserved and never opened."""
        self.doubt = self._meters.doubt
        """`doubt(scope, name)`: somebody's limits were changed; the next call draws anew."""
        self.remaining = self._meters.remaining
        """`remaining(bucket, limit) -> int`: what is left, to the best knowledge of this process."""

    def now_ms(self) -> int:
        """Wall clock, milliseconds since 1970; stands still while the machine's clock is behind what it said before."""
        now = int(self._clock.wall() * 1000)
        if now > self._latest_ms:
            self._latest_ms = now
        return self._latest_ms

    async def obtain(self, charges: Sequence[Charge], wait_s: float) -> None:
        """Reserve these, drawing leases, asking other processes for theirs, and waiting for calls under way.

        Args:
            charges: all or nothing; each bucket once.
            wait_s: longest wait for what other calls have reserved and may not use.

        Raises:
            BudgetExceeded: a limit on money does not leave as much as the call may cost.
            LimitReached: likewise any other limit.
            StoreError: the database does not answer; nothing is reserved.
        """
        meters = self._meters
        if meters.reserve(charges):
            return
        if meters.closed is not None:
            raise meters.closed
        hopeless = meters.hopeless(charges)
        if hopeless is not None:
            raise self._refused(Refusal(None, hopeless, meters.used(hopeless.bucket)))
        wait = Wait(charges, self._clock.now() + wait_s)
        meters.wait(wait)
        # not asyncio.timeout: the request path may not be a Task yet
        alarm = asyncio.get_running_loop().call_later(wait_s + self._patience_s, self._give_up, wait)
        try:
            await wait.future
        except asyncio.CancelledError:
            if meters.leave(wait):
                meters.release(charges)
            raise
        finally:
            alarm.cancel()

    def _give_up(self, wait: Wait) -> None:
        """The database has not said anything about a waiting call in time."""
        self._meters.refuse(wait, self._writer.error or StoreError("ledger.silent"))

    def open(self, entry: Entry) -> None:
        """Enter that a call begins, with what is reserved for it. Entered again, it replaces what was said before.

        Raises:
            StoreError: the disk is full, and nobody could say how the call ended. Nothing is entered; the caller
                still has its reservation.
        """
        if self._stopped.is_set():
            raise StoreError("ledger.stopped")
        if not entry.began_ms:
            entry.began_ms = self.now_ms()
        try:
            self._journal.opened(entry.id, opening(entry))
        except StoreError:
            self._full = True
            raise

    def close(self, entry: Entry, charged: Sequence[Charge] = ()) -> None:
        """Enter how a call ended; from here on its Record cannot be lost. Sets `at_ms`, `limits` and `charges`.

        Args:
            entry: as it was opened; `reserved` is given back.
            charged: what its limits are charged instead; each bucket once.
        """
        entry.at_ms = self.now_ms()
        row, line = ended(entry, charged)
        payload = ending(line, charged)
        content = entry.content or b""
        position = None
        try:
            position, kept = self._journal.closed(entry.id, payload, content)
            if not kept:
                content = b""
                self._writer.contents_lost += 1
        except StoreError:
            pass  # longer than was promised and the disk is full: it waits in memory
        self._meters.settle(entry.reserved, charged)
        self._queue.append(Ended(row, line, charged, content) if position is None else position)
        if len(self._queue) > BEHIND and self._writer.error is None:
            time.sleep(0)  # the writer is slower than the calls: it gets the interpreter first
        if self._writer.idle:
            self._wake()

    async def durable(self) -> None:
        """Return when everything closed so far would survive a power failure.

        Raises:
            StoreError: the disk does not take it.
        """
        await self._syncer.synced()

    async def start(self) -> None:
        """Begin to move Records into the database."""
        self._writer.start()

    async def stop(self) -> None:
        """Move everything into the database, give the leases back, leave. What cannot be moved stays in the journal.

        Calls that are still open become interrupted ones when the next process starts.
        """
        await asyncio.to_thread(self.leave)

    def leave(self) -> None:
        """`stop`, for callers without an event loop."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        self._writer.stop()
        self._syncer.stop()
        self._meters.shut(StoreError("ledger.stopped"))
        try:
            while self._writer.flush(leave=True):
                pass
            if not self._journal.open:
                with self._database.writing() as connection:
                    locked_head(connection)
                    recovery.dismiss(connection, self.holder)
        except BaimoError:
            pass  # the journal has it, and the next process finds it there
        finally:
            self._journal.close()

    def flush(self) -> bool:
        """Move what has ended into the database now; returns whether more is left.

        Raises:
            StoreError: the database does not take it; the journal keeps it.
        """
        return self._writer.flush()

    def admits(self) -> bool:
        """Whether calls can begin; False = the disk had no room for one, and the ledger was not written since."""
        self._full = self._full and self._writer.error is not None
        return not self._full

    def health(self) -> Health:
        """Whether Records reach the database, and if not, since when and why."""
        return self._writer.health

    @property
    def journal_bytes(self) -> int:
        """Disk space that the journal takes."""
        return self._journal.bytes

    def _wake(self) -> None:
        self._writer.wake.set()

    def _refused(self, refusal: Refusal) -> BaimoError:
        charge = refusal.charge
        bucket = parsed(charge.bucket)
        end_s = (bucket.ends_ms - self.now_ms()) / 1000 if bucket.ends_ms < FOREVER_MS else None
        owner = "owner" if bucket.scope == "tenant" and not bucket.name else bucket.scope
        shown = self._money if bucket.counts == "cost" else str
        facts = {
            "whose": text(f"ledger.whose_{owner}", name=bucket.name),
            "window": text(f"ledger.window_{bucket.window}"),
            "limit": shown(charge.limit),
            "used": shown(refusal.used),
            "amount": shown(charge.amount),
            "wait_s": end_s or 0.0,
            "bucket": charge.bucket,
        }
        never = charge.amount > charge.limit and bucket.counts in ("cost", "tokens")
        if bucket.counts == "cost":
            return BudgetExceeded("ledger.never_cost" if never else "ledger.over_cost", **facts)
        if never:
            return LimitReached("ledger.never_tokens", retry_after_s=None, **facts)
        retry_after_s = 1.0 if bucket.counts == "concurrency" else end_s
        return LimitReached(f"ledger.over_{bucket.counts}", retry_after_s=retry_after_s, **facts)

    def _money(self, micros: int) -> str:
        whole, rest = divmod(micros, MICROS)
        digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
        return f"{whole}.{digits} {self.currency}".rstrip()
