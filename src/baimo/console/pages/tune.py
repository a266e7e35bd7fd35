"""Tune: what can be adapted, what it will take, how it goes on, what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from markupsafe import Markup
from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.curves import Curve, curves, spoken
from baimo.console.live import events_of
from baimo.console.page import Page
from baimo.console.pages.tune_form import new
from baimo.console.visit import Visit, words

ACTS = ("pause", "resume", "cancel", "delete")
PLOTS: Mapping[str, Sequence[str]] = {
    "loss": ("loss", "valid_loss"),
    "score": ("accuracy", "valid_accuracy", "reward"),
}
"""Picture → figures in it."""
STATUSES = ("unended", "succeeded", "failed", "cancelled", "paused", "queued", "running")
RECIPES = ("sft", "dpo", "grpo", "cpt", "distill", "prompt")
STANDINGS = ("ready", "candidate", "blocked", "retired")
FILTERS = ("text", "status", "recipe", "task", "base", "tenant")
SORTS = ("created", "name", "status", "task", "base", "recipe", "done", "minutes")


async def jobs(visit: Visit) -> Response:
    """The list, with the queue."""
    events = await events_of(visit, "tuning")
    given = visit.request.query_params
    asked = visit.asked(FILTERS, SORTS)
    found, offer = await asyncio.gather(
        visit.api.get("/api/tuning/jobs", **asked, cursor=given.get("cursor"), limit=50),
        visit.api.get("/api/tuning/offer"),
    )
    facts: dict[str, Any] = {"found": found, "asked": asked, "offer": offer, "events": events}
    facts["statuses"] = [(one, words(f"console_tune.status_{one}")) for one in STATUSES]
    facts["known_recipes"] = RECIPES
    facts["recipes"] = [(one, words(f"console_tune.recipe_{one}")) for one in RECIPES]
    for name, known in (("task", offer["tasks"]), ("base", offer["models"])):
        offered = dict.fromkeys([*known, *filter(None, [asked.get(name)])])
        facts[f"{name}s"] = [(one, one) for one in offered]
    return visit.shown("tune.html", page="tune", **facts)


async def export(visit: Visit) -> Response:
    """The jobs of a question as a file."""
    visit.must("tuning_export")
    form = visit.request.query_params.get("format", "csv")
    return visit.api.forwarded(
        "/api/tuning/jobs/export", query={**visit.asked(FILTERS, SORTS), "format": form}
    )


async def job(visit: Visit, refused: Refused | None = None) -> Response:
    """One job: how far it is, its curves, its log, and what came of it."""
    id = str(visit.request.path_params["job"])
    told = await events_of(visit, "tuning", id)
    shown: Any = await visit.api.get(named("/api/tuning/jobs/{job}", job=id))
    routes: Any = {"data": []}
    if shown["model"] and visit.may("releases_promote", "routes_list"):
        routes = await visit.api.get("/api/routes", limit=200)
    facts: dict[str, Any] = {"job": shown, "plots": plots(shown), "refused": refused, "events": told}
    facts["loss"] = change(shown["points"])
    facts["aliases"] = [one["name"] for one in routes["data"]]
    return visit.shown("tune_job.html", refused.status if refused else 200, page="tune", **facts)


def change(points: Sequence[Mapping[str, Any]]) -> dict[str, Any] | None:
    """Where the loss began and ended: of what is only measured where that is known."""
    for name in PLOTS["loss"][::-1]:
        known = [one for one in points if name in one["figures"]]
        if len(known) > 1:
            first, last = known[0], known[-1]
            ends = {"first": first["figures"][name], "last": last["figures"][name]}
            return {"name": name, "begin": first["step"], "end": last["step"], **ends}
    return None


def plots(job: Mapping[str, Any]) -> list[tuple[str, Markup, list[str]]]:
    """Name, picture and legend of every plot that there are figures for."""
    found: list[tuple[str, Markup, list[str]]] = []
    progress: Mapping[str, Any] = job["progress"] or {}
    marks = [int(one["step"]) for one in job["checkpoints"]]
    for name, figures in PLOTS.items():
        drawn = [
            Curve(
                words(f"console_tune.figure_{figure}"),
                [
                    (point["step"], point["figures"][figure])
                    for point in job["points"]
                    if figure in point["figures"]
                ],
            )
            for figure in figures
        ]
        drawn = [curve for curve in drawn if curve.points]
        title = words(f"console_tune.plot_{name}")
        picture = curves(title, spoken(drawn), drawn, int(progress.get("steps") or 1), marks)
        if picture:
            found.append((title, picture, [curve.name for curve in drawn]))
    return found


async def steer(visit: Visit) -> Response:
    """Pause, go on, cancel, delete."""
    id, act = str(visit.request.path_params["job"]), visit.request.url.path.rpartition("/")[2]
    path = named("/api/tuning/jobs/{job}", job=id)
    try:
        if act == "delete":
            await visit.api.delete(path)
            return visit.gone_to("/tune")
        await visit.api.post(f"{path}/{act}")
    except Refused as error:
        if error.status != 409:
            raise
        return await job(visit, error)
    return visit.gone_to(named("/tune/{job}", job=id))


async def events(visit: Visit) -> Response:
    """Everything that happened, event by event."""
    if not visit.may("tuning_events"):
        return await job(visit)  # which says so on a page
    id = str(visit.request.path_params["job"])
    after = visit.request.headers.get("last-event-id", "") or visit.request.query_params.get("after", "")
    return visit.api.forwarded(named("/api/tuning/jobs/{job}/events", job=id), query={"after": after})


async def tuned(visit: Visit) -> Response:
    """Tuned models, and whether they may answer."""
    given = visit.request.query_params
    asked = visit.asked(("text", "status", "tenant"), ())
    found = await visit.api.get("/api/tuning/models", **asked, by="job", cursor=given.get("cursor"), limit=50)
    return visit.shown("tune_models.html", page="tune", found=found, asked=asked, standings=STANDINGS)


TUNE = Page(
    name="tune",
    path="/tune",
    needs=("tuning_list", "tuning_offer"),
    views=(
        ("GET", "/tune", jobs),
        ("GET", "/tune/new", new),
        ("POST", "/tune/new", new),
        ("GET", "/tune/export", export),
        ("GET", "/tune/models", tuned),
        ("GET", "/tune/{job}", job),
        ("GET", "/tune/{job}/events", events),
        *(("POST", f"/tune/{{job}}/{act}", steer) for act in ACTS),
    ),
)
