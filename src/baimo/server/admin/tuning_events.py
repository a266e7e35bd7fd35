"""What happens to a tuning job, as server-sent events: figures, checkpoints, and what its process prints.

Prevents the failure of a reader who misses what happened while a connection was down: every event's id says from where
to go on, in the events and in the log.

Source: html.spec.whatwg.org/multipage/server-sent-events.html
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
from starlette.responses import Response

from baimo.core.moments import shown
from baimo.core.tuning import TuneJob
from baimo.errors import NotFound
from baimo.server.admin.news import News, Said
from baimo.server.admin.operation import Asking
from baimo.server.admin.streams import Events
from baimo.store.jobs import JobEvent
from baimo.text import has, text
from baimo.workspace import tune_views as views
from baimo.workspace.fine_tuning import HIDDEN

MOST = 200
"""Events of one look."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TuneEventTold:
    """The data of an event; its name is the kind: progress, checkpoint, log, notice, succeeded …"""

    at: str | None = None
    """null = a line of the log."""
    message: str = ""
    """For people."""
    facts: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(slots=True)
class _Place:
    """How far a reader has read."""

    event: int = 0
    byte: int = 0

    @classmethod
    def of(cls, id: str) -> _Place:
        """As an event's id says it; from the beginning where it is none."""
        first, _, second = id.partition(".")
        known = first.isdigit() and second.isdigit() and len(id) < 40
        return cls(min(int(first), (1 << 63) - 1), int(second)) if known and first.isascii() else cls()

    def __str__(self) -> str:
        return f"{self.event}.{self.byte}"


async def follow(asking: Asking, found: Callable[[], TuneJob], after: str) -> Response:
    """The stream of a job's events.

    Args:
        asking: who asks.
        found: the job as it is now; raises NotFound when it is not there for who asks.
        after: id of the last event that is known; empty = from the beginning.

    Raises:
        NotFound: there is none, or it is another's.
        Overloaded: too many look on.
    """
    job, place, news = await asyncio.to_thread(found), _Place.of(after), News.of(asking.service)
    news.admit()

    def more() -> Said:
        try:
            now = found()
        except NotFound:  # deleted meanwhile
            return Said(over=True)
        pieces = _news(asking, now, place)
        return Said(pieces, over=not pieces and now.status.ended)

    return Events(news.stream(lambda sign: sign.id == job.spec.id, more))


def _news(asking: Asking, job: TuneJob, place: _Place) -> list[bytes]:
    """What is new since the place, which moves on."""
    tuning = asking.service.tuning
    pieces: list[bytes] = []
    for event in tuning.jobs.since(job.spec.id, place.event, limit=MOST):
        place.event = event.place
        if event.kind not in HIDDEN:
            pieces.append(_piece(place, event.kind, told(event)))
    lines, place.byte = views.log(tuning.queue.at(job.spec.id), place.byte)
    if lines:
        pieces.append(_piece(place, "log", TuneEventTold(facts={"lines": lines})))
    return pieces


def told(event: JobEvent) -> TuneEventTold:
    """An event as it is told."""
    key = f"tune.event_{event.kind}"
    message = str(event.facts.get("message") or "")
    if has(key):
        attempt, step = event.facts.get("attempt", 1), event.facts.get("step", 0)
        model = event.facts.get("model", "")
        message = text(key, message=message, attempt=attempt, step=step, model=model)
    return TuneEventTold(at=shown(event.at_ms), message=message, facts=dict(event.facts))


def _piece(place: _Place, kind: str, what: TuneEventTold) -> bytes:
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        str(place).encode(),
        kind.encode(),
        msgspec.json.encode(what),
    )
