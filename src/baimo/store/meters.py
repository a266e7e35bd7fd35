"""Limits: what of them this process holds (leases, in memory) and how it draws, gives back and waits for more.

Prevents two failures: a budget that concurrent calls overspend, in one process or in several (`used + all leases <=
limit` holds in the database at all times, and a call is admitted against a lease only); and a limit that turns calls
away although another process merely holds what it does not need (`meters.wanted` asks it to give back).
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterable, Sequence

from baimo.errors import BaimoError
from baimo.store.buckets import parsed
from baimo.store.entry import Charge

_LOOKED_AT = 32
"""How many waiting calls that still do not fit are looked at when one gives back; the writer looks at all."""


class Lease:
    """What this process holds of one bucket."""

    __slots__ = ("amount", "limit", "low", "outside", "taken", "used", "waiting")

    def __init__(self, limit: int) -> None:
        self.amount = 0
        """As the database has it."""
        self.taken = 0
        """Reserved by calls under way, or charged and not yet moved to `used`."""
        self.limit = limit
        """The limit that it was drawn under; -1 = nobody knows whether it still holds."""
        self.used = 0
        """What the database had as used when it was last asked; it only grows."""
        self.outside = limit
        """What nobody held then."""
        self.low = 0
        """With less than this left, more is drawn before somebody has to wait for it."""
        self.waiting = 0
        """Calls that wait for it: who comes later does not overtake them."""

    @property
    def free(self) -> int:
        """What the next call may take; negative after a call that took more than the most."""
        return self.amount - self.taken


class Wait:
    """A call that waits for its reservation."""

    __slots__ = ("_future", "_loop", "charges", "granted", "until")

    def __init__(self, charges: Sequence[Charge], until: float) -> None:
        """
        Args:
            charges: what it needs, all or nothing.
            until: moment of the books' clock after which it is refused.
        """
        self.charges = charges
        self.until = until
        self.granted = False
        """It has what it needs, also before its future says so."""
        self._loop = asyncio.get_running_loop()
        self._future: asyncio.Future[None] = self._loop.create_future()

    @property
    def future(self) -> asyncio.Future[None]:
        """Done when it is granted; fails when it is refused."""
        return self._future

    def end(self, error: BaimoError | None = None) -> None:
        """Grant it, or refuse it; from any thread."""
        try:
            self._loop.call_soon_threadsafe(self._end, error)
        except RuntimeError:
            return  # its loop is closed: nobody waits any more

    def _end(self, error: BaimoError | None) -> None:
        if not self._future.done():
            if error is None:
                self._future.set_result(None)
            else:
                self._future.set_exception(error)


class Meters:
    """The leases of this process. Safe for threads."""

    def __init__(self, ask: Callable[[], None]) -> None:
        """
        Args:
            ask: wakes the writer, which draws what `waits` and `low` need.
        """
        self.lock = threading.Lock()
        self.leases: dict[str, Lease] = {}
        self.waits: list[Wait] = []
        """In the order in which they came."""
        self.low: set[str] = set()
        """Buckets of which there is little left."""
        self.closed: BaimoError | None = None
        """Why nothing may be reserved."""
        self._ask = ask

    def reserve(self, charges: Sequence[Charge]) -> bool:
        """Take all of these from the leases, or nothing. Each bucket may be named once."""
        leases, lock = self.leases, self.lock
        low = False
        lock.acquire()  # `with` takes three times as long, and this is done for every call
        try:
            if self.closed is not None:
                return not charges
            for charge in charges:
                lease = leases.get(charge.bucket)
                if (
                    lease is None
                    or lease.amount - lease.taken < charge.amount
                    or lease.waiting
                    or lease.limit != charge.limit
                ):
                    return False
            for charge in charges:
                lease = leases[charge.bucket]
                lease.taken += charge.amount
                if lease.amount - lease.taken < lease.low:
                    lease.low = 0  # asked once; the writer sets it again
                    self.low.add(charge.bucket)
                    low = True
        finally:
            lock.release()
        if low:
            self._ask()
        return True

    def release(self, charges: Iterable[Charge]) -> None:
        """Give back what was reserved."""
        leases = self.leases
        with self.lock:
            for charge in charges:
                lease = leases.get(charge.bucket)
                if lease is not None:
                    lease.taken -= charge.amount
            if self.waits:
                self._grant()

    def settle(self, reserved: Iterable[Charge], charged: Iterable[Charge]) -> None:
        """Turn reservations into charges; what is charged stays taken until the database has it as used."""
        leases, lock = self.leases, self.lock
        lock.acquire()
        try:
            for charge in reserved:
                lease = leases.get(charge.bucket)
                if lease is not None:
                    lease.taken -= charge.amount
            for charge in charged:
                if charge.amount:
                    lease = leases.get(charge.bucket)
                    if lease is None:
                        lease = leases[charge.bucket] = Lease(charge.limit)
                    lease.taken += charge.amount
            if self.waits:
                self._grant()
        finally:
            lock.release()

    def wait(self, wait: Wait) -> None:
        """Queue a call that `reserve` did not let in."""
        with self.lock:
            for charge in wait.charges:
                lease = self.leases.get(charge.bucket)
                if lease is None:
                    lease = self.leases[charge.bucket] = Lease(charge.limit)
                lease.waiting += 1
            self.waits.append(wait)
        self._ask()

    def leave(self, wait: Wait) -> bool:
        """It waits no longer; returns whether it had been granted meanwhile."""
        with self.lock:
            if wait in self.waits:
                self._drop(wait)
                self._grant(len(self.waits))  # those behind it may fit
        return wait.granted

    def refuse(self, wait: Wait, error: BaimoError) -> None:
        """Turn a waiting call away."""
        with self.lock:
            if wait in self.waits:
                self._drop(wait)
                wait.end(error)

    def grant(self) -> None:
        """Let in who fits now."""
        with self.lock:
            if self.waits:
                self._grant(len(self.waits))

    def shut(self, error: BaimoError | None) -> None:
        """Reserve nothing any more until it is opened again with None."""
        with self.lock:
            self.closed = error

    def doubt(self, scope: str, name: str) -> None:
        """Somebody's limits were changed: ask the database before the next call is admitted against a lease."""
        with self.lock:
            for bucket, lease in self.leases.items():
                if bucket.startswith(f"{scope}:{name}:"):
                    lease.outside -= lease.limit + 1  # so that `remaining` says what it said
                    lease.limit = -1

    def remaining(self, bucket: str, limit: int) -> int:
        """What is left of a bucket, to the best knowledge of this process."""
        lease = self.leases.get(bucket)
        if lease is None:
            return limit
        left = lease.outside + lease.amount - lease.taken
        if limit != lease.limit:
            left += limit - lease.limit
        return left if left > 0 else 0

    def hopeless(self, charges: Iterable[Charge]) -> Charge | None:
        """The first of these that cannot fit any more, by what is known to be used."""
        for charge in charges:
            if charge.amount > charge.limit - self.used(charge.bucket):
                return charge
        return None

    def used(self, bucket: str) -> int:
        """What the database had as used when it was last asked."""
        lease = self.leases.get(bucket)
        return 0 if lease is None else lease.used

    def tightest(self, charges: Sequence[Charge]) -> Charge:
        """The one of these that lacks most."""
        return max(charges, key=lambda charge: charge.amount - self.leases[charge.bucket].free)

    def adopt(self, bucket: str, amount: int) -> None:
        """A lease that the database has and we did not know of. The caller holds `lock`."""
        lease = self.leases[bucket] = Lease(0)
        lease.amount = amount

    def idle(self, now_ms: int) -> list[str]:
        """Buckets whose window is over and of which nothing is taken."""
        with self.lock:
            return [
                bucket
                for bucket, lease in self.leases.items()
                if not lease.taken and not lease.waiting and parsed(bucket).ends_ms <= now_ms
            ]

    def _drop(self, wait: Wait) -> None:
        self.waits.remove(wait)
        for charge in wait.charges:
            self.leases[charge.bucket].waiting -= 1

    def _grant(self, patience: int = _LOOKED_AT) -> None:
        if self.closed is not None:
            return
        blocked: set[str] = set()
        granted: list[Wait] = []
        for wait in self.waits:
            if not patience:
                break
            short = {
                charge.bucket
                for charge in wait.charges
                if self.leases[charge.bucket].free < charge.amount
                or self.leases[charge.bucket].limit != charge.limit
            }
            if short or any(charge.bucket in blocked for charge in wait.charges):
                blocked |= short  # those behind it must not take what it waits for
                patience -= 1
                continue
            for charge in wait.charges:
                self.leases[charge.bucket].taken += charge.amount
            granted.append(wait)
        for wait in granted:
            wait.granted = True
            self._drop(wait)
            wait.end()
