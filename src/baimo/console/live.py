"""Parts of pages that are drawn anew as soon as something has happened: events say that, the page itself says what.

Prevents a page that misses what happened between its drawing and its first event: it says how things stood before it
was drawn, and is told if they stand otherwise.
"""

from __future__ import annotations

from starlette.responses import Response

from baimo.console.figures import query
from baimo.console.visit import Visit


async def events_of(visit: Visit, about: str = "all", thing: str = "") -> str:
    """Address of the events that concern a page; ask before whatever the page shows.

    Args:
        visit: whose page.
        about: all, tuning or comparisons.
        thing: only this job or comparison.

    Returns:
        Below /console; empty = this visitor may not be told.
    """
    if not visit.may("live"):
        return ""
    asked = {"about": about, "thing": thing}
    found = await visit.api.get("/api/live", **asked)
    return f"/live?{query(asked, after=found['now'])}"


async def live(visit: Visit) -> Response:
    """The stream, for the script of pages; without wish for a stream, how things stand."""
    visit.must("live")
    given, headers = visit.request.query_params, visit.request.headers
    asked = {name: given.get(name) for name in ("about", "thing")}
    after = headers.get("last-event-id", "") or given.get("after", "")
    return visit.api.forwarded("/api/live", query={**asked, "after": after}, accept=headers.get("accept", ""))
