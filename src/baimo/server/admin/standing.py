"""Who asks and what they may, and how much of every limit is used."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal, NamedTuple

from baimo.core import rights
from baimo.core.moments import shown
from baimo.core.tenant import Limit
from baimo.gateway.limits import limit_of
from baimo.server.admin.accounts import KeyShown, TenantShown, shown_key, shown_tenant
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import Paged, cut
from baimo.store.spent import Spent, spent_by_all


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitShown:
    """A limit in the window that runs now. Amounts are decimal text; money is in units of money.currency."""

    scope: str
    """key, tenant, model or route."""
    name: str
    """Whose it is."""
    label: str
    """What people call that; empty = as above."""
    limit: str
    """As it is written: `cost=20/month`."""
    counts: str
    window: str
    amount: str
    used: str
    """By calls that have ended."""
    held: str
    """Set aside by running processes for calls under way and next."""
    remaining: str
    """`amount` less `used`; 0 when calls took more than was reserved for them."""
    until: str | None
    """End of the window, ISO 8601; None = it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsAsked(Paged):
    """Whose limits; a page holds so many keys, tenants, models and routes that have some."""

    scope: Literal["key", "tenant", "model", "route"] | None = None
    """Only limits of these."""
    whose: str | None = None
    """Only of what is called so."""
    tenant: str | None = None
    """Only this tenant's and its keys'."""
    tightest: bool = False
    """Instead of a page: so many of all limits on amounts, the one of which the largest part is used first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitsPage:
    """Some limits."""

    data: list[LimitShown]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Me:
    """Who asks, and what they may."""

    key: KeyShown
    tenant: TenantShown
    may: list[str]
    """Ids of the operations that this key may use."""
    limits: list[LimitShown]
    """Of the key and of its tenant."""


class Limited(NamedTuple):
    """Something that has limits."""

    scope: str
    name: str
    meter: str
    """The name under which its use is counted."""
    limits: Sequence[Limit]
    label: str = ""


def shown_limits(asking: Asking, whose: Sequence[Limited]) -> list[LimitShown]:
    """Their limits and how much of them is used."""
    now_ms = time.time_ns() // 1_000_000
    asked = [(one.scope, one.meter, one.limits) for one in whose]
    found = spent_by_all(asking.service.workspace.store.database, asked, now_ms)
    return [_shown(one, use) for one, uses in zip(whose, found, strict=True) for use in uses]


def _shown(limited: Limited, use: Spent) -> LimitShown:
    limit = use.limit
    written = {
        "amount": limit.amount,
        "used": use.used,
        "held": use.held,
        "remaining": max(0, limit.amount - use.used),
    }
    return LimitShown(
        scope=limited.scope,
        name=limited.name,
        label=limited.label,
        limit=rights.shown(limit),
        counts=limit.counts,
        window=limit.window,
        until=None if limit.window == "total" else shown(use.ends_ms),
        **{name: rights.amount(limit.counts, number) for name, number in written.items()},
    )


def _limits(asking: Asking, asked: LimitsAsked) -> LimitsPage:
    asking.within(asked.tenant)
    every = [
        one
        for one in _limited(asking, asked.tenant)
        if one.limits and asked.scope in (None, one.scope) and asked.whose in (None, one.name)
    ]
    if asked.tightest:
        found = [one for one in shown_limits(asking, every) if one.counts != "concurrency"]
        found.sort(key=lambda one: Decimal(one.used) / Decimal(one.amount), reverse=True)
        return LimitsPage(data=found[: asked.limit], next=None)
    page, after = cut(every, asked, lambda one: f"{one.scope}:{one.name}")
    return LimitsPage(data=shown_limits(asking, page), next=after)


def _limited(asking: Asking, tenant: str | None) -> Iterator[Limited]:
    tenants = asking.service.workspace.accounts.tenants() if asking.owner else [asking.tenant]
    for one in tenants:
        name = one.id or rights.OWNER_NAME
        if tenant in (None, name):
            yield Limited("tenant", name, one.id, one.limits)
    for key in asking.accounting.keys(tenant or asking.scope):
        yield Limited("key", key.public, key.meter, key.limits, key.label)
    if asking.owner and tenant is None:
        settings = asking.service.settings
        for scope, owners in (("model", settings.models), ("route", settings.routes)):
            for name, owner in owners.items():
                yield Limited(scope, name, name, [limit_of(limit) for limit in owner.limits])


def _me(asking: Asking, _: Nothing) -> Me:
    from baimo.server.admin.table import OPERATIONS

    key, tenant = asking.key, asking.tenant
    mine = Limited("key", key.public, key.meter, key.limits, key.label)
    ours = Limited("tenant", tenant.id or rights.OWNER_NAME, tenant.id, tenant.limits)
    return Me(
        key=shown_key(key),
        tenant=shown_tenant(tenant),
        may=[operation.id for operation in OPERATIONS if asking.may(operation)],
        limits=shown_limits(asking, [mine, ours]),
    )


STANDING = (
    Operation(
        method="GET", path="/api/me", role="app", gives=Me, does=_me, tag="me", summary="admin.me",
    ),
    Operation(
        method="GET", path="/api/limits", role="viewer", takes=LimitsAsked, gives=LimitsPage, does=_limits,
        tag="limits", summary="admin.limits_list", errors=(404,),
    ),
)  # fmt: skip
