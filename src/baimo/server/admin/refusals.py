"""Refusals of the admin API: `{"error": {"code", "message", "hint", "field"}}`.

`code` is the message's key and stays the same in every language; `field` is the JSON pointer of what to mend.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import msgspec

from baimo.errors import BaimoError, StoreError
from baimo.text import LANGUAGES

log = logging.getLogger("baimo.serve")

FIELDS: Mapping[str, str] = {
    **dict.fromkeys(("accounts.bad_id", "accounts.tenant_exists"), "/id"),
    **dict.fromkeys(("accounts.bad_limit", "accounts.limit_too_fine", "accounts.limit_amount"), "/limit"),
    **dict.fromkeys(("accounts.limit_window", "accounts.limit_twice"), "/limit"),
    **dict.fromkeys(("accounts.bad_network", "accounts.loose_network"), "/network"),
    "accounts.bad_tag": "/tag",
    "accounts.bad_pattern": "/model",
    "accounts.bad_days": "/contents_days",
    "accounts.laxer": "/data_class",
    "accounts.in_the_past": "/expires",
    "ledger.unknown_group": "/by",
}
"""Where a message of another room says what is wrong with one field."""
_SINGULAR = {"surfaces": "surface", "models": "model", "tags": "tag"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """What is wrong, and what to do about it."""

    code: str
    """The same in every language."""
    message: str
    """What is wrong."""
    hint: str | None = None
    """What to do next."""
    field: str | None = None
    """JSON pointer into what was sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The body of every refusal."""

    error: Problem
    request_id: str | None = None
    """Quote it when asking for help."""


def refusal(error: BaimoError, *, request_id: str) -> bytes:
    """The body of an error answer."""
    if isinstance(error, StoreError):
        # addresses of databases and paths of this machine are for the log
        log.error("%s: %s", request_id, error)
        error = StoreError("admin.store")
    field = error.facts.get("field")
    pointer = FIELDS.get(error.key) if field is None else str(field)
    if pointer and not pointer.startswith("/"):
        pointer = f"/{_SINGULAR.get(pointer, pointer)}"
    problem = Problem(code=error.key, message=str(error), hint=error.hint or None, field=pointer)
    return msgspec.json.encode(Refusal(error=problem, request_id=request_id or None))


def preferred(accepted: str) -> str:
    """The language of ours that a reader likes best (RFC 9110, 12.5.4); empty = nothing is said of ours."""
    best, most = "", 0.0
    for one in accepted.split(",")[:32]:
        tag, _, quality = one.strip().partition(";")
        name = tag.strip().lower().partition("-")[0]
        try:
            weight = float(quality.strip().removeprefix("q=")) if quality else 1.0
        except ValueError:
            continue
        if name in LANGUAGES and weight > most:
            best, most = name, weight
    return best
