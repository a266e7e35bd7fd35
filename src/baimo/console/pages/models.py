"""Models: what can be called, for how much, and which names lead where."""

from __future__ import annotations

import asyncio
from typing import Any

from starlette.responses import Response

from baimo.console.api import named
from baimo.console.page import Page
from baimo.console.pages.usage import since_of
from baimo.console.visit import Visit

ABILITIES = ("tools", "vision", "json_schema", "reasoning", "embeddings", "rerank", "audio", "images")
TRUTHS = ("usable", "inside", "open_weights")


async def models(visit: Visit) -> Response:
    """The catalogue, by what one looks for; what can be called from here comes unasked."""
    given = visit.request.query_params
    asked = {
        name: given[name] for name in ("text", "vendor", "country", "max_price", "cursor") if given.get(name)
    }
    asked |= {name: "true" for name in TRUTHS if given.get(name)}
    if not given:
        asked["usable"] = "true"
    abilities = [one for one in given.getlist("ability") if one in ABILITIES]
    found, routes = await asyncio.gather(
        visit.api.get("/api/models", **asked, ability=abilities, limit=50),
        visit.api.get("/api/routes", limit=200),
    )
    return visit.shown(
        "models.html",
        page="models",
        found=found,
        routes=routes["data"],
        asked=asked,
        chosen=abilities,
        abilities=ABILITIES,
        truths=TRUTHS,
    )


async def model(visit: Visit) -> Response:
    """One model, what it did here, and the routes that lead to it."""
    name = str(visit.request.path_params["model"])
    shown: Any = await visit.api.get(named("/api/models/{model}", model=name))
    sums, routes = await asyncio.gather(
        visit.api.get("/api/ledger/sums", model=shown["name"], since=since_of("30d"), by="status"),
        visit.api.get("/api/routes", limit=200),
    )
    leading = [route for route in routes["data"] if shown["name"] in route["leads_to"]]
    return visit.shown("model.html", page="models", model=shown, sums=sums["data"], routes=leading)


MODELS = Page(
    name="models",
    path="/models",
    needs=("models_list", "routes_list"),
    views=(("GET", "/models", models), ("GET", "/models/{model:path}", model)),
)
