"""Works on orders beside everything else: takes those that nobody works on, a few at a time, and gives them back.

Prevents the failure of an order that is forgotten: whatever a process was doing when it ended, the next one that looks
(the same one after a restart, or another worker) goes on with it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from baimo.core.waiting import happened
from baimo.errors import BaimoError, StoreError
from baimo.store.held import HeldOrders, Order
from baimo.text import text

LOOK_S = 1.0
"""How often it is looked whether an order waits."""
REST_S = 30.0
"""After database or disk have refused, an order is left alone for so long."""

log = logging.getLogger("baimo.serve")

Held = TypeVar("Held", bound=Order)


class Work(Protocol):
    """One order while this process works on it."""

    def leave(self) -> None:
        """Begin nothing any more; another process goes on, or this one after its restart."""
        ...

    def interrupt(self) -> None:
        """Give up what is in flight."""
        ...

    async def done(self) -> None:
        """Work until it has ended, or `leave` was called, or another process has it.

        Raises:
            StoreError: database or disk refuse; nothing is lost, and it can be tried again.
        """
        ...


@dataclass(kw_only=True)
class Crew(Generic[Held]):
    """Works on the orders of one kind. Belongs to one event loop."""

    orders: HeldOrders[Held]
    """Where they are kept."""
    holder: str
    """`Books.holder` of this process."""
    work: Callable[[Held], Work]
    """Begins to work on one."""
    at_once: int
    """Orders of one process."""
    wanted: Callable[[Held], bool] = lambda order: True
    """Whether one can be worked on here."""
    paused: str
    """Message when one waits: its id, and the problem."""
    faulty: str
    """Message when one broke off: its id."""
    _working: dict[str, tuple[Work, asyncio.Task[None]]] = field(
        default_factory=dict[str, tuple[Work, asyncio.Task[None]]]
    )
    _resting: dict[str, float] = field(default_factory=dict[str, float])
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to look for orders."""
        self._looking = asyncio.create_task(self._look(), name="baimo-orders")

    def nudge(self) -> None:
        """There is a new one, or one is to be cancelled."""
        self._news.set()

    async def stop(self, patience_s: float) -> None:
        """Begin nothing any more, wait for what is in flight, give every order back.

        Args:
            patience_s: after that, what is in flight is broken off.
        """
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait([self._looking])
        for work, _ in self._working.values():
            work.leave()
        tasks = [task for _, task in self._working.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=patience_s)
            for work, _ in self._working.values():
                work.interrupt()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            try:
                while len(self._working) < self.at_once and (order := await self._claimed()) is not None:
                    work = self.work(order)
                    task = asyncio.create_task(self._worked(order, work), name=f"baimo-{order.id}")
                    self._working[order.id] = (work, task)
            except BaimoError as error:
                log.warning(text(self.paused, id="–", problem=error))
            await happened(self._news, LOOK_S)
            self._news.clear()

    async def _claimed(self) -> Held | None:
        now = asyncio.get_running_loop().time()
        self._resting = {id: until for id, until in self._resting.items() if until > now}
        return await asyncio.to_thread(self.orders.claim, self.holder, self._possible)

    def _possible(self, order: Held) -> bool:
        return order.id not in self._resting and order.id not in self._working and self.wanted(order)

    async def _worked(self, order: Held, work: Work) -> None:
        try:
            await work.done()
        except StoreError as error:
            log.warning(text(self.paused, id=order.id, problem=error))
            self._resting[order.id] = asyncio.get_running_loop().time() + REST_S
        except Exception:
            log.exception(text(self.faulty, id=order.id))
            self._resting[order.id] = asyncio.get_running_loop().time() + REST_S
        finally:
            self._working.pop(order.id, None)
            with suppress(StoreError):  # its holder is gone when this process is
                await asyncio.to_thread(self.orders.release, self.holder, order)
            self.nudge()
