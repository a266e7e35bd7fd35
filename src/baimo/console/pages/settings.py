"""Settings: language and theme, the configuration as it is read and where it comes from, what is running."""

from __future__ import annotations

import re
from importlib import metadata
from typing import Any

from starlette.responses import Response

from baimo.console.api import Refused
from baimo.console.page import Page
from baimo.console.visit import Visit

_NAME = re.compile(r"[A-Za-z0-9._-]+")


async def settings(visit: Visit) -> Response:
    """Everything that is known here, as far as the visitor may see it."""
    found: Any = await visit.api.get("/api/settings") if visit.may("settings_list") else {"data": []}
    wish = visit.request.query_params.get("text", "").casefold()
    shown = [row for row in found["data"] if wish in row["name"].casefold()]
    health = await visit.api.get("/api/health") if visit.may("health") else None
    return visit.shown("settings.html", page="settings", rows=shown, health=health, wish=wish, parts=_parts())


async def reload(visit: Visit) -> Response:
    """Read the configuration again."""
    try:
        await visit.api.post("/api/settings/reload")
    except Refused as refused:
        return visit.shown("refused.html", refused.status, refused=refused)
    return visit.gone_to("/settings")


def _parts() -> list[tuple[str, str, str]]:
    """Name, version and licence of the libraries that baimo stands on and that are installed."""
    names = {found[0] for line in metadata.requires("baimo") or () if (found := _NAME.match(line))}
    parts: list[tuple[str, str, str]] = []
    for name in sorted(names, key=str.casefold):
        try:
            about = metadata.metadata(name).json
        except metadata.PackageNotFoundError:
            continue
        licence = str(about.get("license_expression") or about.get("license") or "–")
        parts.append((name, str(about["version"]), licence.splitlines()[0][:60]))
    return parts


SETTINGS = Page(
    name="settings",
    path="/settings",
    views=(("GET", "/settings", settings), ("POST", "/settings/reload", reload)),
)
