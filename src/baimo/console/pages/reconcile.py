"""Usage: a provider's invoice against the ledger."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from starlette.responses import Response

from baimo.console.api import Refused
from baimo.console.upload import sent
from baimo.console.visit import Visit, words
from baimo.text import text

FIGURES = ("tokens_in", "tokens_cached", "tokens_cache_write", "tokens_out", "cost")
NAMED = ("statement", "tolerance", "api_key", "project")
"""Fields of the form that the API calls so, too."""


class Difference(NamedTuple):
    """A figure of one day and model, on both sides."""

    day: str
    model: str
    figure: str
    """For people."""
    statement: str | int | None
    ledger: str | int | None
    more: str
    """What the ledger has more, or less."""
    differs: bool


async def reconcile(visit: Visit) -> Response:
    """The form, and after it what differs."""
    visit.must("ledger_reconcile")
    form, refused, found = dict[str, str](), None, None
    if visit.request.method == "POST":
        given = await sent(visit.request)
        form = dict(given.fields) if given else await visit.form()
        file = given.files.get("file") if given else None
        body: dict[str, Any] = {name: form[name] for name in NAMED if form.get(name)}
        body["vendor"] = form.get("vendor", "").replace(",", " ").split()
        try:
            if file is not None:
                body |= {"statement": file.data.decode("utf-8-sig"), "name": file.name}
            elif not body.get("statement"):
                raise Refused(400, {"message": words("console_usage.no_file"), "field": "/file"})
            found = await visit.api.post("/api/ledger/reconcile", body)
        except UnicodeDecodeError:
            refused = Refused(400, {"message": words("console_usage.not_text"), "field": "/file"})
        except Refused as error:
            refused = error
    everything = bool(form.get("all"))
    rows = [one for one in _figures(found) if everything or one.differs] if found else []
    facts: dict[str, Any] = {"form": form, "refused": refused, "found": found, "rows": rows}
    return visit.shown("usage_reconcile.html", refused.status if refused else 200, page="usage", **facts)


def _figures(found: Mapping[str, Any]) -> Iterator[Difference]:
    for row in found["rows"]:
        for name in FIGURES:
            theirs, ours = (_side(row, side).get(name) for side in ("statement", "ledger"))
            if theirs is None and name not in row["differs"]:
                continue
            yield Difference(
                row["day"],
                row["model"],
                text(f"bookkeeping.figure_{name}"),
                theirs,
                ours,
                f"{Decimal(ours or 0) - Decimal(theirs or 0):+f}",
                name in row["differs"],
            )


def _side(row: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    return row[side] or {}
