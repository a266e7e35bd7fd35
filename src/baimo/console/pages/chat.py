"""Chat: talk to one model, or to up to four side by side; what is kept of it, and how people voted."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, cast

import msgspec
from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.page import Page
from baimo.console.visit import STANDING, Visit
from baimo.core.tuned_name import briefs

PASS_MINUTES = 10
"""How long the credential works that the page's script keeps in memory."""
MOST = 4
"""Models side by side."""
LOOKS, LOOK_S = 8, 0.1
"""How often, and after which pauses, it is looked for a Record that is on its way into the ledger."""


async def chat(visit: Visit) -> Response:
    """The page; `?model=` may be repeated, `?share=` begins with what somebody shares."""
    share = visit.request.query_params.get("share", "")
    begun = await visit.api.get(named("/api/shares/{share}", share=share)) if share else None
    return await _page(visit, begun, source=f"/api/shares/{share}" if share else "")


async def kept(visit: Visit) -> Response:
    """A conversation of one's own."""
    id = str(visit.request.path_params["conversation"])
    path = named("/api/conversations/{conversation}", conversation=id)
    return await _page(visit, await visit.api.get(path), source=path)


async def _page(visit: Visit, begun: Mapping[str, Any] | None, *, source: str) -> Response:
    offered: Any = await visit.api.get("/v1/models")
    sees = {str(one["id"]): "vision" in one["abilities"] for one in offered["data"]}
    said = readable(begun["content"]) if begun else None
    wished = said["models"] if said else visit.request.query_params.getlist("model")
    chosen = [name for name in wished if name in sees][:MOST]
    own = begun if begun and source.startswith("/api/conversations/") else None
    return visit.shown(
        "chat.html",
        page="chat",
        sees=sees,
        read_as=briefs(sees),
        chosen=chosen or list(sees)[:1],
        most=MOST,
        said=said,
        own=own,
        source=source,
        keeps=visit.me["tenant"]["keep_contents"],
    )


def readable(content: Mapping[str, Any]) -> dict[str, Any]:
    """A conversation as templates show it; whatever else a client may have kept in its place is left out."""
    rounds: list[dict[str, Any]] = []
    for one in _rows(content.get("rounds")):
        answers = [
            {name: str(each.get(name) or "") for name in ("model", "text", "note")}
            for each in _rows(one.get("answers"))
        ]
        attached = [str(name) for name in _list(one.get("attached"))]
        text = str(one.get("text") or "")
        rounds.append({"text": text, "attached": attached, "chosen": one.get("chosen"), "answers": answers})
    models = [str(name) for name in _list(content.get("models"))]
    return {"system": str(content.get("system") or ""), "models": models, "rounds": rounds}


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _rows(value: Any) -> list[dict[str, Any]]:
    return [cast("dict[str, Any]", one) for one in _list(value) if isinstance(one, dict)]


async def account(visit: Visit) -> Response:
    """The Record of an answer that has just ended, as soon as it is there; null where one may not look."""
    path = named("/api/ledger/records/{record}", record=str(visit.request.path_params["record"]))
    found: Any = None
    for attempt in range(LOOKS if visit.may("ledger_record") else 0):
        try:
            found = await visit.api.get(path)
            break
        except Refused as refused:
            if refused.status != 404:
                raise
            await asyncio.sleep(LOOK_S * (attempt + 1))
    return Response(msgspec.json.encode(found), 200, STANDING, media_type="application/json")


async def admission(visit: Visit) -> Response:
    """A credential for the script of this page: short, in no cookie and in no storage."""
    made: Any = await visit.api.post("/api/sessions", {"minutes": PASS_MINUTES})
    body = {"credential": made["credential"], "seconds": PASS_MINUTES * 60}
    return Response(msgspec.json.encode(body), 200, STANDING, media_type="application/json")


async def history(visit: Visit) -> Response:
    """What is kept, by words."""
    asked = visit.request.query_params
    found = await visit.api.get(
        "/api/conversations", text=asked.get("text"), cursor=asked.get("cursor"), limit=50
    )
    keeps = visit.me["tenant"]["keep_contents"]
    return visit.shown("chat_history.html", page="chat", found=found, asked=asked, keeps=keeps)


async def change(visit: Visit) -> Response:
    """Share, stop sharing, or delete."""
    form = await visit.form()
    path = named("/api/conversations/{conversation}", conversation=form.get("conversation", ""))
    if form.get("act") == "delete":
        await visit.api.delete(path)
    else:
        await visit.api.patch(path, {"share": form.get("act") == "share"})
    return visit.gone_to("/chat/history")


async def keeping(visit: Visit) -> Response:
    """Let the visitor's tenant keep what is said from now on."""
    path = named("/api/tenants/{id}", id=visit.me["tenant"]["id"])
    await visit.api.patch(path, {"keep_contents": "on"})
    return visit.gone_to("/chat/history")


async def shared(visit: Visit) -> Response:
    """What somebody of the tenant shares, to be read."""
    share = str(visit.request.path_params["share"])
    begun = await visit.api.get(named("/api/shares/{share}", share=share))
    facts: dict[str, Any] = {"begun": begun, "said": readable(begun["content"]), "share": share}
    return visit.shown("chat_shared.html", page="chat", **facts)


async def votes(visit: Visit) -> Response:
    """How often each model was preferred, and the newest votes."""
    asked = visit.request.query_params
    which = {"tenant": asked.get("tenant"), "model": asked.get("model")}
    rates, found = await asyncio.gather(
        visit.api.get("/api/votes/rates", tenant=which["tenant"]),
        visit.api.get("/api/votes", **which, cursor=asked.get("cursor"), limit=25),
    )
    return visit.shown("chat_votes.html", page="chat", rates=rates["data"], found=found, asked=asked)


async def export(visit: Visit) -> Response:
    """Preferences as a file that tuning reads."""
    visit.must("votes_export")
    return visit.api.forwarded(
        "/api/votes/export", query={"tenant": visit.request.query_params.get("tenant")}
    )


CHAT = Page(
    name="chat",
    path="/chat",
    views=(
        ("GET", "/chat", chat),
        ("POST", "/chat/admission", admission),
        ("GET", "/chat/history", history),
        ("POST", "/chat/history", change),
        ("POST", "/chat/keeping", keeping),
        ("GET", "/chat/votes", votes),
        ("GET", "/chat/votes/export", export),
        ("GET", "/chat/shared/{share}", shared),
        ("POST", "/chat/record/{record}", account),
        ("GET", "/chat/{conversation}", kept),
    ),
)
