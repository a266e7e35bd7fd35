"""What pages that show work under way are told: that something has happened, never what. They ask again then."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from baimo.server.admin.news import News, Sign
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.streams import Events

_STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveAsked:
    """What is watched."""

    about: Literal["all", "tuning", "comparisons"] = "all"
    """Jobs, comparisons, or both."""
    thing: str | None = None
    """Only this job or comparison, by its id."""
    after: str = ""
    """The word that is known, `now` of an answer or the id of the last event; `Last-Event-ID` says the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveShown:
    """How things stand."""

    now: str
    """Different as soon as something happens; says nothing else."""


async def _live(asking: Asking, asked: LiveAsked) -> Any:
    tenant = asking.within(None)

    def wanted(sign: Sign) -> bool:
        mine = tenant is None or sign.tenant == tenant
        return mine and asked.about in ("all", sign.room) and asked.thing in (None, sign.id)

    news = News.of(asking.service)
    if _STREAM not in asking.accept:
        return LiveShown(now=await news.state(wanted))
    news.admit()
    return Events(news.changes(wanted, asking.last_event or asked.after))


LIVE = (
    Operation(
        method="GET", path="/api/live", role="viewer", takes=LiveAsked, gives=LiveShown, does=_live, tag="live",
        summary="admin.live", media=("application/json", _STREAM), errors=(503,),
    ),
)  # fmt: skip
