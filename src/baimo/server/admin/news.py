"""Whether something has happened among jobs and comparisons, told to everybody who has a page open.

Prevents two failures: a database that is asked again and again for every open page (one look a moment serves all of
them, and nobody who watches = no look at all), and a stream that outlives the right to read it (after a while it ends,
and whoever comes back is asked who they are).

Source: html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Hashable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from weakref import WeakKeyDictionary

from baimo.core.ids import digest
from baimo.core.waiting import happened
from baimo.errors import BaimoError, Overloaded
from baimo.store.unended import Unended, kept, look
from baimo.text import text
from baimo.workspace.compare_folder import run_folder
from baimo.workspace.serving import Service

BUSY_S, IDLE_S = 0.5, 1.0
"""How often it is looked, while something works and while nothing does."""
KEPT_S = 5.0
"""How often it is looked whether something came and ended between two looks."""
QUIET_S = 15.0
"""A stream that has nothing to say says so after that: proxies close silent connections; clients notice lost ones."""
LONGEST_S = 600.0
"""A stream ends after that; whoever still looks on comes back with Last-Event-ID."""
WATCHED = 256
"""Streams of one process at once."""
BEGINNING = b"retry: 2000\n\n"
QUIET = b"event: quiet\ndata: {}\n\n"
END = b"event: end\ndata: {}\n\n"

log = logging.getLogger("baimo.serve")


class Sign(NamedTuple):
    """Something that is different as soon as something happens to a thing."""

    room: str
    """tuning or comparisons."""
    tenant: str
    id: str
    """Of the job or comparison; empty = how many there are."""
    now: tuple[Hashable, ...]


Wanted = Callable[[Sign], bool]
"""Whether a reader wants to know of it, and may."""


class Said(NamedTuple):
    """What a stream says now."""

    pieces: Sequence[bytes] = ()
    over: bool = False
    """That was all there will ever be."""
    last_words: bool = False
    """What it is about has ended, and may say a last word that no look shows."""


More = Callable[[], Said]
"""Blocks."""


class News:
    """What one process knows. Belongs to its event loop.

    Args:
        service: whose jobs and comparisons.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._signs: list[Sign] | None = None
        self._kept: list[Sign] = []
        self._kept_at = 0.0
        self._turned = asyncio.Event()
        self._looking: asyncio.Task[None] | None = None
        self.watching = 0
        """How many look on."""
        self.looks = 0
        """How often it was looked."""

    @classmethod
    def of(cls, service: Service) -> News:
        """The one of this process."""
        found = _known.get(service)
        if found is None:
            found = _known[service] = cls(service)
        return found

    def admit(self) -> None:
        """Before a stream is begun.

        Raises:
            Overloaded: too many look on.
        """
        if self.watching >= WATCHED:
            raise Overloaded("admin.watched", limit=WATCHED, retry_after_s=5.0)

    async def state(self, wanted: Wanted) -> str:
        """A word that changes with whatever is wanted.

        Raises:
            StoreError: the database does not answer.
        """
        return _word(await self._known(), wanted)

    async def changes(self, wanted: Wanted, after: str) -> AsyncGenerator[bytes]:
        """A stream that says `changed` when something happened; ids are the words of `state`.

        Args:
            wanted: what is watched.
            after: the word that the reader knows; empty = none.
        """
        known = after

        def told() -> Said:
            nonlocal known
            word = _word(self._signs or (), wanted)
            if word == known:
                return Said()
            known = word
            return Said((b"id: %b\nevent: changed\ndata: {}\n\n" % word.encode(),))

        async for piece in self.stream(wanted, told):
            yield piece

    async def stream(self, wanted: Wanted, more: More) -> AsyncGenerator[bytes]:
        """Whatever `more` says, asked at first and then whenever something happened.

        Args:
            wanted: what is watched.
            more: asked until it says nothing.
        """
        self.watching += 1
        began = spoke = time.monotonic()
        seen, said = "", Said()
        try:
            yield BEGINNING
            while (now := time.monotonic()) < began + LONGEST_S and not self._service.draining.is_set():
                signs, turned = await self._known(), self._turned
                if (word := _word(signs, wanted)) == seen and not said.last_words:
                    if now >= spoke + QUIET_S:
                        spoke = now
                        yield QUIET
                    await happened(turned, spoke + QUIET_S - now)
                    continue
                seen = word
                while (said := await asyncio.to_thread(more)).pieces:
                    spoke = time.monotonic()
                    for piece in said.pieces:
                        yield piece
                if said.over:
                    yield END
                    return
                if said.last_words:
                    await asyncio.sleep(BUSY_S)
        except BaimoError as error:  # the reader comes back, and is told then
            log.warning(text("admin.no_news", problem=error))
        finally:
            self.watching -= 1

    async def _known(self) -> list[Sign]:
        """What the last look found; while somebody looks on, there is a next one."""
        if self._looking is None or self._looking.done():
            self._kept_at = 0.0  # the last look may be long ago
            self._signs = await asyncio.to_thread(self._look)
            if self.watching and (self._looking is None or self._looking.done()):
                self._looking = asyncio.create_task(self._look_on(), name="baimo-news")
        if self._signs is None:
            self._signs = await asyncio.to_thread(self._look)
        return self._signs

    async def _look_on(self) -> None:
        while self.watching:
            busy = any(one.id for one in self._signs or ())
            await happened(self._service.draining, BUSY_S if busy else IDLE_S)
            if self._service.draining.is_set():
                self._turned.set()
                return
            try:
                signs = await asyncio.to_thread(self._look)
            except BaimoError:
                signs = None  # whoever wants to know looks again, and finds out why
            if signs != self._signs:
                self._signs, turned, self._turned = signs, self._turned, asyncio.Event()
                turned.set()

    def _look(self) -> list[Sign]:
        service, database = self._service, self._service.workspace.store.database
        self.looks += 1
        found, now = look(database), time.monotonic()
        if not self._kept_at or now - self._kept_at > KEPT_S:
            rooms = zip(("tuning", "comparisons"), kept(database), strict=True)
            self._kept = [Sign(room, one.tenant, "", tuple(one)) for room, some in rooms for one in some]
            self._kept_at = now
        waiting = [one.id for one in found.jobs if one.status == "queued"]
        jobs = [
            Sign("tuning", one.tenant, one.id, (*one, *_place(waiting, one.id), self._printed(one)))
            for one in found.jobs
        ]
        runs = [
            Sign("comparisons", one.tenant, one.id, (one.status, *_told(service, one)))
            for one in found.comparisons
        ]
        return [*jobs, *runs, *self._kept]

    def _printed(self, job: Unended) -> int:
        """Bytes that its child has printed."""
        if job.status != "running":
            return 0
        return _size(self._service.tuning.queue.at(job.id).path / "log")


_known: WeakKeyDictionary[Service, News] = WeakKeyDictionary()


def _told(service: Service, run: Unended) -> tuple[int, bool]:
    """Bytes that a comparison has told, and whether somebody works on it."""
    folder = run_folder(service.workspace.path, run.id)
    return _size(folder.path / "events.jsonl"), folder.path.exists() and folder.alive


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # not yet, or on another machine
        return 0


def _word(signs: Iterable[Sign], wanted: Wanted) -> str:
    return digest([list(one) for one in signs if wanted(one)])[:16]


def _place(waiting: Sequence[str], id: str) -> tuple[int, ...]:
    """In the queue."""
    return (waiting.index(id),) if id in waiting else ()
