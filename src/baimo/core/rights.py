"""What tenants and keys may say: limits as people write them, and the checks before anything is kept.

Prevents a right that looks strict and is none: a misspelt surface that never matches, a network that holds fewer
addresses than meant, two limits of which only one is looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import cast, get_args

from baimo.core.addresses import network
from baimo.core.money import MICROS
from baimo.core.tenant import OWNER, ROLES, Counted, DataClass, Key, Limit, Tenant, Window
from baimo.errors import UsageError

SURFACES = (
    *("chat", "completions", "responses", "messages", "count_tokens", "embeddings", "rerank"),
    *(
        "moderations",
        "transcriptions",
        "translations",
        "speech",
        "images",
        "files",
        "batches",
        "models",
        "evals",
    ),
)
"""Names that `Key.surfaces` may hold."""
OWNER_NAME = "owner"
"""How people write the owner's tenant, whose id is empty; no other tenant may be called so."""

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_TAG = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_LIMIT = re.compile(r"([a-z]+)=([^/]+)(?:/([a-z]+))?")
_LARGEST = 10**15
_MOST_DAYS = 36_525
_CLASSES: tuple[DataClass, ...] = get_args(DataClass)


def limit(source: str) -> Limit:
    """The limit that `cost=20/month`, `requests=60/minute`, `tokens=100000/day` or `concurrency=8` says.

    The amount of a cost is in units of money.currency; without a window the limit holds for ever.

    Raises:
        UsageError: it cannot be read, or makes no sense.
    """
    found = _LIMIT.fullmatch(source.replace(" ", ""))
    if found is None or found[1] not in get_args(Counted) or (found[3] or "total") not in get_args(Window):
        raise UsageError("accounts.bad_limit", value=source)
    counts, window = cast("Counted", found[1]), cast("Window", found[3] or "total")
    try:
        exact = Decimal(found[2].replace("_", "")) * (MICROS if counts == "cost" else 1)
        whole = int(exact)
    except (InvalidOperation, ValueError, OverflowError):
        raise UsageError("accounts.bad_limit", value=source) from None
    if whole != exact:
        raise UsageError("accounts.limit_too_fine", value=source)
    return checked_limits([Limit(counts=counts, amount=whole, window=window)])[0]


def shown(limit: Limit) -> str:
    """A limit as `limit` reads it."""
    window = "" if limit.window == "total" else f"/{limit.window}"
    return f"{limit.counts}={amount(limit.counts, limit.amount)}{window}"


def amount(counts: Counted, number: int) -> str:
    """An amount of what a limit counts, as people write it: money in units, not micro-units."""
    written = f"{Decimal(number) / MICROS:f}" if counts == "cost" else str(number)
    return written.rstrip("0").rstrip(".") if "." in written else written


def checked_limits(limits: Sequence[Limit]) -> tuple[Limit, ...]:
    """The limits, if every one can be kept.

    Raises:
        UsageError: an amount is not above 0, a window does not fit, or two limit the same thing.
    """
    seen = set[tuple[str, str]]()
    for one in limits:
        _choice("counts", one.counts, get_args(Counted))
        _choice("window", one.window, get_args(Window))
        if not 0 < one.amount <= _LARGEST:
            raise UsageError("accounts.limit_amount", value=shown(one))
        if one.counts == "concurrency" and one.window != "total":
            raise UsageError("accounts.limit_window", value=shown(one))
        if (one.counts, one.window) in seen:
            raise UsageError("accounts.limit_twice", value=shown(one))
        seen.add((one.counts, one.window))
    return tuple(limits)


def checked_tenant(tenant: Tenant) -> Tenant:
    """The tenant, if it can be kept.

    Raises:
        UsageError: says which field cannot hold its value.
    """
    if tenant.id != OWNER and (not _ID.fullmatch(tenant.id) or tenant.id == OWNER_NAME):
        raise UsageError("accounts.bad_id", value=tenant.id)
    _line("title", tenant.title)
    _choice("data_class", tenant.data_class, _CLASSES)
    _choice("pii", tenant.pii, ("off", "mask"))
    _choice("cache", tenant.cache, ("off", "on", "read", "write"))
    if tenant.contents_days is not None and not 1 <= tenant.contents_days <= _MOST_DAYS:
        raise UsageError("accounts.bad_days", value=tenant.contents_days)
    checked_limits(tenant.limits)
    return tenant


def checked_key(key: Key, tenant: Tenant) -> Key:
    """The key with its networks in canonical form, if it can be kept.

    Raises:
        UsageError: says which field cannot hold its value.
    """
    _line("label", key.label)
    _choice("role", key.role, ROLES)
    for surface in key.surfaces:
        _choice("surfaces", surface, SURFACES)
    for pattern in key.models:
        if not pattern.strip() or " " in pattern or len(pattern) > 200:
            raise UsageError("accounts.bad_pattern", value=pattern)
        _line("models", pattern)
    for name, value in key.tags:
        if not _TAG.fullmatch(name):
            raise UsageError("accounts.bad_tag", value=f"{name}={value}")
        _line("tags", value)
    if len({name for name, _ in key.tags}) < len(key.tags):
        raise UsageError("accounts.bad_tag", value=", ".join(f"{name}={value}" for name, value in key.tags))
    if key.data_class is not None:
        _choice("data_class", key.data_class, _CLASSES)
        # the owner's class is policy.data_class of the settings, which is not known here; a call takes the strictest
        if tenant.id != OWNER and _CLASSES.index(key.data_class) < _CLASSES.index(tenant.data_class):
            facts = {"value": key.data_class, "least": tenant.data_class, "tenant": tenant.id or OWNER_NAME}
            raise UsageError("accounts.laxer", **facts)
    checked_limits(key.limits)
    return replace(key, networks=networks(key.networks))


def networks(ranges: Iterable[str]) -> tuple[str, ...]:
    """CIDR ranges in canonical form; a single address is a range of one.

    Raises:
        UsageError: one is no range, or its address lies inside the range instead of at its beginning.
    """
    found: list[str] = []
    for source in ranges:
        try:
            found.append(str(network(source.strip())))
        except ValueError:
            try:
                near = str(network(source.strip(), strict=False))
            except ValueError:
                raise UsageError("accounts.bad_network", value=source) from None
            raise UsageError("accounts.loose_network", value=source, near=near) from None
    return tuple(found)


def tag(source: str) -> tuple[str, str]:
    """The name and value of `team=search`.

    Raises:
        UsageError: there is no `=`.
    """
    name, equals, value = source.partition("=")
    if not equals:
        raise UsageError("accounts.bad_tag", value=source)
    return name, value


def _choice(field: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise UsageError("accounts.bad_choice", field=field, value=value, known=", ".join(known))


def _line(field: str, value: str) -> None:
    if len(value) > 200 or _CONTROL.search(value):
        raise UsageError("accounts.bad_line", field=field, value=_CONTROL.sub("\ufffd", value)[:40])
