"""Models: what can be called, for how much, which names lead where, and what was released to them."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.page import Page
from baimo.console.picture import picture
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
    found = await visit.api.get("/api/models", **asked, ability=abilities, limit=50)
    return visit.shown(
        "models.html",
        page="models",
        found=found,
        asked=asked,
        chosen=abilities,
        abilities=ABILITIES,
        truths=TRUTHS,
    )


async def model(visit: Visit, tried: Mapping[str, Any] | None = None) -> Response:
    """One model, what it did here, the routes that lead to it, and its weights where it has some."""
    name = str(visit.request.path_params["model"])
    shown: Any = await visit.api.get(named("/api/models/{model}", model=name))
    sums, routes = await asyncio.gather(
        visit.api.get("/api/ledger/sums", model=shown["name"], since="30d", by="status"),
        visit.api.get("/api/routes", limit=200),
    )
    leading = [route for route in routes["data"] if shown["name"] in route["leads_to"]]
    weights, pull = await _weights(visit, shown["name"])
    facts: dict[str, Any] = {"model": shown, "sums": sums["data"], "weights": weights, "pull": pull}
    pictures = [(route, picture(route)) for route in leading]
    return visit.shown("model.html", page="models", routes=pictures, tried=tried, **facts)


async def _weights(visit: Visit, name: str) -> tuple[bool | None, Any]:
    """Whether a model's weights are here, None = it has none; and the newest fetch of them."""
    if not visit.may("pulls_list"):
        return None, None
    found: Any = await visit.api.get("/api/pulls")
    here = next((one["here"] for one in found["weights"] if one["model"] == name), None)
    return here, next((one for one in found["pulls"] if one["model"] == name), None)


async def act(visit: Visit) -> Response:
    """Call it once, or fetch its weights."""
    name, form = str(visit.request.path_params["model"]), await visit.form()
    if form.get("act") == "pull":
        await visit.api.post("/api/pulls", {"model": name})
        return visit.gone_to(named("/models/{model}", model=name))
    return await model(visit, await visit.api.post("/api/trials", {"model": name}))


async def releases(visit: Visit, refused: Refused | None = None, form: Mapping[str, str] = {}) -> Response:
    """Names and where they lead, as a picture; what was released to them, and the way back."""
    given = visit.request.query_params
    asked = {name: given[name] for name in ("alias", "cursor") if given.get(name)}
    routes, found = await asyncio.gather(
        visit.api.get("/api/routes", limit=200), visit.api.get("/api/releases", **asked, limit=50)
    )
    tuned: Any = {"data": []}
    if visit.may("releases_promote", "tuning_models"):
        tuned = await visit.api.get("/api/tuning/models", tenant=visit.me["tenant"]["id"], limit=200)
    facts: dict[str, Any] = {
        "pictures": [(route, picture(route)) for route in routes["data"]],
        "tuned": [one["model"] for one in tuned["data"] if one["can_promote"]],
        "form": form or visit.asked(("model",), ()),
    }
    status = refused.status if refused else 200
    return visit.shown(
        "releases.html", status, page="models", found=found, asked=asked, refused=refused, **facts
    )


async def promote(visit: Visit) -> Response:
    """Let a model answer to an alias."""
    form = await visit.form()
    said = {name: form[name] for name in ("alias", "model", "why", "run") if form.get(name)}
    try:
        await visit.api.post("/api/releases", said)
    except Refused as refused:
        if refused.status == 403:
            raise
        return await releases(visit, refused, form)
    return visit.gone_to("/models/releases")


async def roll_back(visit: Visit) -> Response:
    """Let the one before answer again."""
    id = str(visit.request.path_params["release"])
    try:
        await visit.api.post(named("/api/releases/{release}/roll-back", release=id))
    except Refused as refused:
        if refused.status != 409:
            raise
        return await releases(visit, refused)
    return visit.gone_to("/models/releases")


MODELS = Page(
    name="models",
    path="/models",
    needs=("models_list", "routes_list"),
    views=(
        ("GET", "/models", models),
        ("GET", "/models/releases", releases),
        ("POST", "/models/releases", promote),
        ("POST", "/models/releases/{release}/roll-back", roll_back),
        ("GET", "/models/{model:path}", model),
        ("POST", "/models/{model:path}", act),
    ),
)
