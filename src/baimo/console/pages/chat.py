"""Chat: talk to one model, or to up to four side by side, over the same API as every other client."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from baimo.console.page import Page
from baimo.console.visit import STANDING, Visit

PASS_MINUTES = 10
"""How long the credential works that the page's script keeps in memory."""
MOST = 4
"""Models side by side."""


async def chat(visit: Visit) -> Response:
    """The page; `?model=` may be repeated."""
    offered: Any = await visit.api.get("/v1/models")
    names = [str(one["id"]) for one in offered["data"]]
    wished = [name for name in visit.request.query_params.getlist("model") if name in names][:MOST]
    return visit.shown("chat.html", page="chat", names=names, chosen=wished or names[:1], most=MOST)


async def admission(visit: Visit) -> Response:
    """A credential for the script of this page: short, in no cookie and in no storage."""
    made: Any = await visit.api.post("/api/sessions", {"minutes": PASS_MINUTES})
    body = {"credential": made["credential"], "seconds": PASS_MINUTES * 60}
    return Response(msgspec.json.encode(body), 200, STANDING, media_type="application/json")


CHAT = Page(
    name="chat",
    path="/chat",
    views=(("GET", "/chat", chat), ("POST", "/chat/admission", admission)),
)
