"""Keys and tenants: who may call, for how much; what was done to whom."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from starlette.responses import Response

from baimo.console.api import Refused, named
from baimo.console.page import Page
from baimo.console.pages.usage import since_of
from baimo.console.visit import Visit, words
from baimo.core.rights import OWNER_NAME
from baimo.core.tenant import ROLES

CLASSES = ("public", "internal", "confidential")
SEVERAL = frozenset({"model", "surface", "network", "limit", "tag"})
"""Fields of which there may be several: one a line."""
FIELDS = ("label", "tenant", "role", "model", "limit", "network", "tag", "data_class", "expires")
TENANT_FIELDS = ("id", "title", "data_class", "pii", "keep_contents", "contents_days", "cache", "limit")


def said(form: Mapping[str, str], fields: tuple[str, ...]) -> dict[str, Any]:
    """What a form says: empty fields say nothing, lists come one a line."""
    found: dict[str, Any] = {}
    for name in fields:
        value = form.get(name, "")
        if name in SEVERAL:
            lines = [line.strip() for line in value.splitlines() if line.strip()]
            if lines:
                found[name] = lines
        elif value:
            found[name] = int(value) if name == "contents_days" and value.isdigit() else value
    return found


async def keys(visit: Visit) -> Response:
    """The list."""
    asked = visit.request.query_params
    query = {name: asked.get(name) for name in ("text", "tenant", "cursor")}
    every = "true" if asked.get("all") else None
    found = await visit.api.get("/api/keys", **query, all=every, limit=50)
    return visit.shown("keys.html", page="keys", found=found, asked=asked)


async def new_key(visit: Visit) -> Response:
    """The form, and after it the credential: shown this once."""
    visit.must("keys_create")
    form, refused = dict[str, str](), None
    if visit.request.method == "POST":
        form = await visit.form()
        try:
            made = await visit.api.post("/api/keys", said(form, FIELDS))
            return visit.shown("key_made.html", page="keys", made=made, address=_address(visit))
        except Refused as error:
            refused = error
    found = await visit.api.get("/api/tenants", limit=500)
    tenants = [(one["id"], one["title"] or one["id"]) for one in found["data"] if one["id"] != OWNER_NAME]
    facts: dict[str, Any] = {"form": form, "refused": refused, "classes": _classes(), "roles": _roles(visit)}
    facts["tenants"] = [("", words("own_tenant")), *tenants]
    return visit.shown("key_new.html", refused.status if refused else 200, page="keys", **facts)


def _roles(visit: Visit) -> list[tuple[str, str]]:
    """What a visitor may give away: nothing above the own role."""
    return [(role, words(f"role_{role}")) for role in ROLES[: ROLES.index(visit.me["key"]["role"]) + 1]]


def _classes() -> list[tuple[str, str]]:
    return [("", "–"), *((name, words(f"class_{name}")) for name in CLASSES)]


async def key(visit: Visit) -> Response:
    """One key: what it may, what is left of its limits, what it did."""
    public = str(visit.request.path_params["key"])
    shown, sums, acts = await asyncio.gather(
        visit.api.get(named("/api/keys/{key}", key=public)),
        visit.api.get("/api/ledger/sums", key=public, since=since_of("30d"), by="model"),
        visit.api.get("/api/audit", subject=public, limit=20) if visit.may("audit_list") else _nothing(),
    )
    limits = await visit.api.get("/api/limits", scope="key", tenant=shown["tenant"], whose=public)
    return visit.shown(
        "key.html", page="keys", key=shown, limits=limits["data"], sums=sums["data"], acts=acts["data"]
    )


async def _nothing() -> dict[str, Any]:
    return {"data": []}


async def change_key(visit: Visit) -> Response:
    """Revoke or rotate."""
    public = str(visit.request.path_params["key"])
    if visit.request.url.path.endswith("/revoke"):
        await visit.api.post(named("/api/keys/{key}/revoke", key=public))
        return visit.gone_to(named("/keys/{key}", key=public))
    made = await visit.api.post(named("/api/keys/{key}/rotate", key=public))
    return visit.shown("key_made.html", page="keys", made=made, address=_address(visit))


async def tenants(visit: Visit) -> Response:
    """The list, and the form for another one."""
    form, refused = dict[str, str](), None
    if visit.request.method == "POST":
        visit.must("tenants_create")
        form = await visit.form()
        try:
            made = await visit.api.post("/api/tenants", said(form, TENANT_FIELDS))
            return visit.gone_to(named("/keys/tenants/{id}", id=made["id"]))
        except Refused as error:
            refused = error
    found = await visit.api.get("/api/tenants", cursor=visit.request.query_params.get("cursor"), limit=50)
    facts: dict[str, Any] = {"found": found, "form": form, "refused": refused, "classes": _classes()}
    return visit.shown("tenants.html", refused.status if refused else 200, page="keys", **facts)


async def tenant(visit: Visit) -> Response:
    """One tenant, and the form that changes it."""
    id = str(visit.request.path_params["id"])
    path, refused = named("/api/tenants/{id}", id=id), None
    if visit.request.method == "POST":
        form = await visit.form()
        try:
            act = form.get("act", "")
            if act in ("disable", "enable"):
                await visit.api.post(f"{path}/{act}")
            elif act == "forget":
                await visit.api.delete(f"{path}/contents")
            else:
                await visit.api.patch(path, said(form, TENANT_FIELDS[1:]))
            return visit.gone_to(named("/keys/tenants/{id}", id=id))
        except Refused as error:
            refused = error
    shown = await visit.api.get(path)
    limits = await visit.api.get("/api/limits", scope="tenant", tenant=id)
    facts: dict[str, Any] = {"tenant": shown, "limits": limits["data"], "refused": refused}
    return visit.shown("tenant.html", refused.status if refused else 200, page="keys", **facts)


async def audit(visit: Visit) -> Response:
    """What administrators did, newest first."""
    asked = visit.request.query_params
    found = await visit.api.get(
        "/api/audit", subject=asked.get("subject"), cursor=asked.get("cursor"), limit=50
    )
    return visit.shown("audit.html", page="keys", found=found, asked=asked)


def _address(visit: Visit) -> str:
    return f"{visit.request.url.scheme}://{visit.request.url.netloc}"


KEYS = Page(
    name="keys",
    path="/keys",
    needs=("keys_list",),
    views=(
        ("GET", "/keys", keys),
        ("GET", "/keys/new", new_key),
        ("POST", "/keys/new", new_key),
        ("GET", "/keys/audit", audit),
        ("GET", "/keys/tenants", tenants),
        ("POST", "/keys/tenants", tenants),
        ("GET", "/keys/tenants/{id}", tenant),
        ("POST", "/keys/tenants/{id}", tenant),
        ("GET", "/keys/{key}", key),
        ("POST", "/keys/{key}/revoke", change_key),
        ("POST", "/keys/{key}/rotate", change_key),
    ),
)
