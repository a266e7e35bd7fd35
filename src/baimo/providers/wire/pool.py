"""All connections of one event loop to models' servers."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from contextvars import Context
from typing import NamedTuple

from baimo.errors import Unreachable
from baimo.providers.wire.answer import Answer
from baimo.providers.wire.connection import NEVER, Connection
from baimo.providers.wire.dial import dial
from baimo.providers.wire.origin import Lines, Origin, lines
from baimo.providers.wire.parked import Parked
from baimo.settings import ServeSettings

TICK_S = 0.1
"""How often time-outs are looked at: one timer for all connections instead of one per request."""
LOOK_AFTER_S = 1.0
"""A connection that rested for longer is looked at before it is used: has the server closed it?"""
MOST_TARGETS = 256


class _Waiter(NamedTuple):
    turn: Parked[Connection]
    deadline: float


class _Pool:
    """The connections to one origin."""

    __slots__ = (
        "_context",
        "_dials",
        "_lines",
        "_loop",
        "_pools",
        "idle",
        "now",
        "open",
        "origin",
        "waiting",
    )

    def __init__(self, origin: Origin, pools: Pools, context: ssl.SSLContext | None) -> None:
        self.origin = origin
        self.open = 0
        self.idle: list[Connection] = []
        self.waiting: deque[_Waiter] = deque()
        self._pools = pools
        self.now = asyncio.get_running_loop().time()
        self._context = context
        self._loop = asyncio.get_running_loop()
        self._dials: set[asyncio.Task[None]] = set()
        self._lines: dict[tuple[bytes, bytes], bytes] = {}

    def first_line(self, method: bytes, target: bytes) -> bytes:
        line = self._lines.get((method, target))
        if line is None:
            line = self.origin.first_line(method, target)
            if len(self._lines) < MOST_TARGETS:
                self._lines[method, target] = line
        return line

    def rested(self) -> Connection | None:
        """The connection that was used last, if it is still good."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if not connection.usable:
                continue
            if self.now - connection.idle_since > LOOK_AFTER_S and connection.stale():
                connection.drop()
                continue
            return connection
        return None

    async def next(self, deadline: float) -> Connection:
        """Wait in line for a connection that becomes free or is made."""
        waiter = _Waiter(Parked(), deadline)
        self.waiting.append(waiter)
        self._dial()
        try:
            return await waiter.turn
        except BaseException as error:
            vars(error)["unsent"] = True
            if waiter in self.waiting:
                self.waiting.remove(waiter)
            elif waiter.turn.done() and isinstance(given := waiter.turn.given, Connection):
                self.back(given)  # it was handed over while its caller went away
            raise

    def back(self, connection: Connection) -> None:
        if self.waiting:
            self.waiting.popleft().turn.set(connection)
        else:
            self.idle.append(connection)

    def made(self, connection: Connection) -> None:
        self.open += 1
        self._pools.remember(connection)

    def gone(self, connection: Connection) -> None:
        self.open -= 1
        self._pools.forget(connection)
        if connection in self.idle:
            self.idle.remove(connection)
        self._dial()

    def check(self, now: float) -> bool:
        """Refuse those that waited too long; True while the pool is of use."""
        self.now = now
        for waiter in [waiter for waiter in self.waiting if now > waiter.deadline]:
            self.waiting.remove(waiter)
            late = Unreachable(
                "wire.pool_wait", sent=False, stage="connect", host=self.origin.name, open=self.open
            )
            waiter.turn.fail(late)
        return bool(self.open or self.waiting or self._dials)

    def close(self) -> None:
        closing = Unreachable("wire.closing", sent=False, stage="connect", host=self.origin.name)
        for task in self._dials:
            task.cancel()
        while self.waiting:
            self.waiting.popleft().turn.fail(closing)

    @property
    def dials(self) -> set[asyncio.Task[None]]:
        return self._dials

    def _dial(self) -> None:
        """One new connection for each that waits, up to the limit."""
        while (
            len(self._dials) < len(self.waiting)
            and self.open + len(self._dials) < self.origin.most_connections
        ):
            # a connection outlives the call that needed it first: it must not carry that call's context
            task = self._loop.create_task(self._dialled(), context=Context())
            self._dials.add(task)
            task.add_done_callback(self._dials.discard)

    async def _dialled(self) -> None:
        limit = self._pools.limit_bytes
        name = self.origin.name
        try:
            connection = await dial(self.origin, lambda: Connection(self.origin, self, limit), self._context)
            if not connection.usable:
                raise Unreachable("wire.closed", sent=False, stage="connect", host=name, problem="EOF")
        except Exception as error:  # whatever it is, it belongs to the call that waits
            self._dialled_up()
            if self.waiting:
                self.waiting.popleft().turn.fail(error)
        else:
            self._dialled_up()
            self.back(connection)

    def _dialled_up(self) -> None:
        # before anybody is told: who goes on from there may wait for the next connection at once
        task = asyncio.current_task()
        assert task is not None
        self._dials.discard(task)


class Pools:
    """Sends requests; keeps, bounds and times every connection. Belongs to one event loop."""

    def __init__(
        self, settings: ServeSettings | None = None, *, context: ssl.SSLContext | None = None
    ) -> None:
        """
        Args:
            settings: for `max_answer_mib`.
            context: certificates to trust; None = those of the system.
        """
        self.limit_bytes = _longest(settings or ServeSettings())
        self._context = context
        self._pools: dict[Origin, _Pool] = {}
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def adopt(self, settings: ServeSettings) -> None:
        """Go on under other settings; they hold for answers that are under way, too."""
        self.limit_bytes = _longest(settings)
        for connection in self._connections:
            connection.limit_bytes = self.limit_bytes

    async def send(
        self,
        origin: Origin,
        method: bytes,
        target: bytes,
        headers: Lines | Sequence[tuple[bytes, bytes]] = (),
        body: bytes = b"",
        *,
        deadline: float | None = None,
    ) -> Answer:
        """Send one request, once; the head of the answer has arrived.

        Args:
            origin: which server; its stages bound the call.
            method: upper case.
            target: path and query, percent-encoded.
            headers: without Host, Content-Length and what else belongs to the framing. `Lines` cost nothing.
            body: as it goes over the wire.
            deadline: seconds of the event loop's clock by which the whole answer must be there; None = no such limit.

        Raises:
            Unreachable: no connection, or no answer in time; `sent` says whether the request may have been taken.
            CancelledError: the caller was cancelled; has `unsent` where it still waited for a connection.
            BadReply: what came is no HTTP.
            RequestRefused: target or headers could not be sent safely.
        """
        pool = self._pools.get(origin) or self._opened(origin)
        until = NEVER if deadline is None else deadline
        block = headers if headers.__class__ is Lines else lines(headers)  # type: ignore[arg-type]
        first = pool.first_line(method, target)
        if body or method == b"POST":
            head = b"%s%scontent-length: %d\r\n\r\n" % (first, block, len(body))
        else:
            head = b"%s%s\r\n" % (first, block)
        connection = (not pool.waiting and pool.rested()) or await pool.next(until)
        answer = connection.ask(head, body, head_only=method == b"HEAD", deadline=until)
        try:
            await answer.turn  # woken first when there is a status, or none will come
        except BaseException:
            answer.close()
            raise
        return answer.opened()

    @property
    def connections(self) -> int:
        """Open connections, idle ones included."""
        return len(self._connections)

    async def aclose(self) -> None:
        """Close every connection; calls under way fail."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        dials = [task for pool in self._pools.values() for task in pool.dials]
        for pool in self._pools.values():
            pool.close()
        for connection in tuple(self._connections):
            connection.stop()
        await asyncio.gather(*dials, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next pass

    def remember(self, connection: Connection) -> None:
        self._connections.add(connection)

    def forget(self, connection: Connection) -> None:
        self._connections.discard(connection)

    def _opened(self, origin: Origin) -> _Pool:
        if self._closed:
            raise Unreachable("wire.closing", sent=False, stage="connect", host=origin.name)
        pool = self._pools[origin] = _Pool(origin, self, self._context)
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(TICK_S, self._tick)
        return pool

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        now = loop.time()
        for connection in tuple(self._connections):
            connection.check(now)
        for origin, pool in tuple(self._pools.items()):
            if not pool.check(now):
                del self._pools[origin]
        self._timer = loop.call_later(TICK_S, self._tick) if self._pools else None


def _longest(settings: ServeSettings) -> int:
    return int(settings.max_answer_mib * 1024 * 1024)
