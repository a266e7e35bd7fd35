"""What `GET` and `DELETE /v1/responses/{id}` and `GET /v1/responses/{id}/input_items` answer: bodies, without HTTP.

Source: developers.openai.com/api/reference/resources/responses. Only what this server kept is found, and only by the
tenant that asked for it.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from baimo.errors import CallRefused, NotFound
from baimo.server.surfaces import wirejson
from baimo.server.surfaces.messages_answer import own_id
from baimo.server.surfaces.responses_memory import ResponseMemory, decoded_items
from baimo.store.responses import DAYS, KeptResponse

_LIMIT = 100
"""Most items on one page of a list."""


def retrieved(memory: ResponseMemory, *, tenant: str, id: str) -> bytes:
    """The body of `GET /v1/responses/{id}`.

    Raises:
        NotFound: it is not kept for this tenant.
    """
    return _found(memory, tenant, id).response


def deleted(memory: ResponseMemory, *, tenant: str, id: str) -> bytes:
    """The body of `DELETE /v1/responses/{id}`, which forgets it.

    Raises:
        NotFound: it is not kept for this tenant.
    """
    if not memory.delete(tenant, id):
        raise NotFound("responses.unknown", id=id, days=DAYS)
    return wirejson.written({"id": id, "object": "response", "deleted": True})


def input_items(
    memory: ResponseMemory,
    *,
    tenant: str,
    id: str,
    limit: int = 20,
    order: Literal["asc", "desc"] = "desc",
    after: str = "",
) -> bytes:
    """The body of `GET /v1/responses/{id}/input_items`: what this turn's request brought.

    Args:
        memory: where turns are kept.
        tenant: who asks.
        id: of the response.
        limit: most items of a page, 1 to 100.
        order: asc = as they were sent.
        after: id of the last item of the page before.

    Raises:
        NotFound: it is not kept for this tenant.
        CallRefused: `limit` or `after` is wrong.
    """
    if not 1 <= limit <= _LIMIT:
        raise CallRefused("surfaces.wrong_type", field="limit", expected=f"1 … {_LIMIT}", got=limit)
    rows = [
        _shown(item, id, number)
        for number, item in enumerate(decoded_items(_found(memory, tenant, id).given))
    ]
    if order == "desc":
        rows.reverse()
    if after:
        place = next((number for number, row in enumerate(rows) if row["id"] == after), None)
        if place is None:
            raise CallRefused("surfaces.wrong_type", field="after", expected="id", got=after)
        rows = rows[place + 1 :]
    page = rows[:limit]
    body = {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(rows) > limit,
    }
    return wirejson.written(body)


def _found(memory: ResponseMemory, tenant: str, id: str) -> KeptResponse:
    kept = memory.get(tenant, id)
    if kept is None:
        raise NotFound("responses.unknown", id=id, days=DAYS)
    return kept


def _shown(item: msgspec.Raw, id: str, number: int) -> dict[str, Any]:
    """An item as lists show it: with an id, a type, and its text as a part."""
    row: dict[str, Any] = msgspec.json.decode(item)
    said = {name: value for name, value in row.items() if value is not None}
    shown = {"id": f"{own_id('item', id)}_{number}", "type": "message", "status": "completed", **said}
    if isinstance(row.get("content"), str):
        part: dict[str, Any] = {"type": "input_text", "text": row["content"]}
        if row.get("role") == "assistant":
            part |= {"type": "output_text", "annotations": []}
        shown["content"] = [part]
    return shown
