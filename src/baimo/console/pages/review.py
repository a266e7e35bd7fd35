"""Review: an expert judges answers one after the other, by keyboard; everybody sees how far those who judge agree."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.page import Page
from baimo.console.pages.task_links import gone, linked, whose
from baimo.console.visit import Visit

STATES = ("open", "mine", "done", "all")
REASONS = ("leaders_differ", "unscored", "unsure", "no_reference", "call", "sample")
FILTERS = ("task", "reason", "text", "tenant")
SORTS = ("rank", "task", "read", "created")
SUBSTANTIAL = 0.6


async def review(visit: Visit) -> Response:
    """Figures, the queue, and what can be put on it."""
    asked, cursor = _asked(visit), visit.request.query_params.get("cursor")
    judges = visit.may("reviews_list")
    refused = None
    if visit.request.method == "POST":
        try:
            return await _queued(visit, await visit.form())
        except Refused as error:
            refused = error
    figures, found = await asyncio.gather(
        visit.api.get("/api/review-figures", task=asked.get("task"), **whose(visit)),
        visit.api.get("/api/reviews", **asked, cursor=cursor, limit=50) if judges else _nothing(),
    )
    told = {"figures": figures, "found": found, "asked": asked, "states": STATES, "reasons": REASONS}
    told["first"] = not cursor and asked.keys() <= {"state", "tenant"}
    new = visit.request.query_params.get("new")
    facts: dict[str, Any] = {**told, "to": linked(visit), "refused": refused, "judges": judges, "new": new}
    facts["reading_of"] = reading_of
    return visit.shown("review.html", refused.status if refused else 200, page="review", **facts)


def _asked(visit: Visit) -> dict[str, str]:
    state = visit.request.query_params.get("state", "")
    return {"state": state if state in STATES else "open", **visit.asked(FILTERS, SORTS)}


async def export(visit: Visit) -> Response:
    """The reviews of a question as a file."""
    visit.must("reviews_export")
    form = visit.request.query_params.get("format", "csv")
    return visit.api.forwarded("/api/review-export", query={**_asked(visit), "format": form})


def reading_of(agreement: Mapping[str, Any]) -> str:
    """What an agreement tells, by the interval of its kappa; the end of its message's key.

    From 0.6 on two judges are usually taken as one (Landis & Koch 1977, "The measurement of observer agreement for
    categorical data", Biometrics 33:159: substantial); it is the lower end that has to be there.
    """
    if agreement["kappa_interval"] is None:
        return "none"
    low, high = agreement["kappa_interval"]
    if low >= SUBSTANTIAL:
        return "good"
    return "some" if low > 0 else "against" if high < 0 else "open"


async def _nothing() -> dict[str, Any]:
    return {"data": [], "next": None}


async def _queued(visit: Visit, form: Mapping[str, str]) -> Response:
    wanted: dict[str, Any] = {
        name: form[name] for name in ("run", "task", "since", "model") if form.get(name)
    }
    for name, scale in (("sample", 1), ("second", 100)):
        if form.get(name, "").isdigit():
            wanted[name] = int(form[name]) / scale if scale > 1 else int(form[name])
    made = await visit.api.post("/api/reviews", {**wanted, "records": not form.get("run"), **whose(visit)})
    return gone(visit, "review", new=made["new"])


async def one(visit: Visit) -> Response:
    """An answer to judge; after it comes the next that waits."""
    id, refused, form = str(visit.request.path_params["review"]), None, dict[str, str]()
    path = named("/api/reviews/{review}", review=id)
    if visit.request.method == "POST":
        form = await visit.form()
        try:
            if form.get("said") == "retract":
                await visit.api.send("DELETE", f"{path}/judgement", query=whose(visit))
                return gone(visit, "review", id)
            await visit.api.post(f"{path}/judgement", {**_said(form), **whose(visit)})
            return await _next(visit, form.get("task", ""), id)
        except Refused as error:
            refused = error
    shown = await visit.api.get(path, **whose(visit))
    waiting = await visit.api.get("/api/reviews", task=shown["task"], **whose(visit), limit=3)
    other = next((each["review"] for each in waiting["data"] if each["review"] != id), None)
    mine: dict[str, Any] = shown["mine"] or {}
    filled = {name: form.get(name, mine.get(name, "")) for name in ("correction", "note")}
    facts: dict[str, Any] = {"one": shown, "form": filled, "refused": refused, "following": other}
    facts |= {"to": linked(visit), "can_store": shown["task"] and visit.may("tasks_example_add")}
    return visit.shown("review_one.html", refused.status if refused else 200, page="review", **facts)


def _said(form: Mapping[str, str]) -> dict[str, Any]:
    words = {name: form.get(name, "").replace("\r\n", "\n") for name in ("correction", "note")}
    return {"said": form.get("said", ""), **words, "store": form.get("store") == "1"}


async def _next(visit: Visit, task: str, id: str) -> Response:
    """The first of the queue; the queue itself where nothing waits any more."""
    waiting = await visit.api.get("/api/reviews", task=task, **whose(visit), limit=2)
    following = next((each["review"] for each in waiting["data"] if each["review"] != id), None)
    steps = ("review", following) if following else ("review",)
    return gone(visit, *steps)


REVIEW = Page(
    name="review",
    path="/review",
    needs=("reviews_figures",),
    views=(
        ("GET", "/review", review),
        ("POST", "/review", review),
        ("GET", "/review/+export", export),
        ("GET", "/review/{review}", one),
        ("POST", "/review/{review}", one),
    ),
)
