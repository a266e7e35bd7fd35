"""Tenants and keys: who may call, and who pays."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

from baimo.core import rights
from baimo.core.tenant import Key, Tenant
from baimo.errors import Forbidden, UsageError
from baimo.server.admin.operation import Asking, Operation
from baimo.server.admin.paging import Paged, cut
from baimo.workspace.account_options import KeyChanges, NewKey, TenantChanges, TenantOptions
from baimo.workspace.accounting import key_row, tenant_row

OWN = frozenset({"title", "keep_contents", "contents_days", "cache"})
"""What a tenant's own administrators may change of it; its limits and its data policy are the owner's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantShown:
    """A tenant."""

    id: str
    """`owner` is the workspace's own."""
    title: str
    data_class: str
    pii: str
    keep_contents: bool
    contents_days: int | None
    cache: str
    disabled: bool
    limits: list[str]
    """Such as `cost=20/month`, in money.currency."""
    created: str | None
    """ISO 8601; None = it was always there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantsPage:
    """Some tenants."""

    data: list[TenantShown]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TenantNamed:
    """One tenant."""

    id: str
    """`owner` is the workspace's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Forgotten:
    """What was deleted."""

    deleted: dict[str, int]
    """Table → rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyShown:
    """A key; its secret is nowhere."""

    key: str
    """Public part."""
    label: str
    tenant: str
    standing: str
    """valid, replaced (valid for a while yet), expired or revoked."""
    role: str
    models: list[str]
    surfaces: list[str]
    networks: list[str]
    data_class: str | None
    limits: list[str]
    tags: dict[str, str]
    created: str | None
    expires: str | None
    revoked: str | None
    rotated_to: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyMade(KeyShown):
    """A new key, with its credential: shown this once."""

    credential: str
    unmatched: list[str]
    """Patterns of `model` that fit nothing that there is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyChanged(KeyShown):
    """A changed key."""

    unmatched: list[str]
    """Patterns of `model` that fit nothing that there is now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysPage:
    """Some keys, oldest first."""

    data: list[KeyShown]
    next: str | None
    """Cursor of the next page."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeysAsked(Paged):
    """Which keys."""

    tenant: str | None = None
    """Only this tenant's."""
    text: str = ""
    """Occurs in the label or the public part."""
    all: bool = False
    """Also those that are revoked or expired."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyNamed:
    """One key."""

    key: str
    """Public part."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRotated(KeyNamed):
    """Replace a key by one with the same rights."""

    grace: str | None = None
    """How long the old one stays valid: 7d, 0h; None = a day."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyWanted(NewKey):
    """A new key."""

    tenant: str | None = None  # pyright: ignore[reportIncompatibleVariableOverride]
    """Who pays; None = whoever asks."""


def shown_tenant(tenant: Tenant) -> TenantShown:
    """A tenant as it is shown."""
    return TenantShown(**tenant_row(tenant))


def shown_key(key: Key) -> KeyShown:
    """A key as it is shown."""
    return KeyShown(**key_row(key))


# tenants


def _tenants(asking: Asking, asked: Paged) -> TenantsPage:
    all = asking.service.workspace.accounts.tenants() if asking.owner else [asking.tenant]
    page, after = cut(all, asked, lambda tenant: tenant.id or rights.OWNER_NAME)
    return TenantsPage(data=[shown_tenant(tenant) for tenant in page], next=after)


def _tenant(asking: Asking, asked: TenantNamed) -> TenantShown:
    return shown_tenant(asking.one_tenant(asked.id))


def _create_tenant(asking: Asking, asked: TenantOptions) -> TenantShown:
    if asked.id == rights.OWNER_NAME or not asked.id:
        raise UsageError("accounts.bad_id", value=asked.id)
    return shown_tenant(asking.accounting.create_tenant(asked, asking.actor))


def _change_tenant(asking: Asking, asked: TenantChanges) -> TenantShown:
    asking.one_tenant(asked.id)
    empty = TenantChanges(id=asked.id)
    said = {name for name in TenantChanges.__slots__ if getattr(asked, name) != getattr(empty, name)}
    said |= {name for name in TenantOptions.__slots__ if getattr(asked, name) != getattr(empty, name)}
    closed = sorted((said - OWN - {"clear"}) | (set(asked.clear) - OWN))
    if closed and not asking.owner:
        raise Forbidden("admin.owners_field", field=f"/{closed[0]}")
    return shown_tenant(asking.accounting.change_tenant(asked, asking.actor))


def _disable(asking: Asking, asked: TenantNamed) -> TenantShown:
    asking.one_tenant(asked.id)
    return shown_tenant(asking.accounting.disable_tenant(asked.id, by=asking.actor))


def _enable(asking: Asking, asked: TenantNamed) -> TenantShown:
    asking.one_tenant(asked.id)
    return shown_tenant(asking.accounting.disable_tenant(asked.id, disabled=False, by=asking.actor))


async def _forget(asking: Asking, asked: TenantNamed) -> Forgotten:
    tenant = await asyncio.to_thread(asking.one_tenant, asked.id)
    deleted = await asyncio.to_thread(asking.accounting.forget_tenant, asked.id, asking.actor)
    asking.service.forgot(tenant.id)
    return Forgotten(deleted=deleted)


# keys


def _keys(asking: Asking, asked: KeysAsked) -> KeysPage:
    asking.within(asked.tenant)
    found = asking.accounting.keys(asked.tenant or asking.scope, all=asked.all)
    words = asked.text.casefold()
    found = [key for key in found if words in f"{key.public} {key.label.casefold()}"]
    page, after = cut(found, asked, lambda key: key.public)
    return KeysPage(data=[shown_key(key) for key in page], next=after)


def _key(asking: Asking, asked: KeyNamed) -> KeyShown:
    return shown_key(asking.one_key(asked.key))


def _create_key(asking: Asking, asked: KeyWanted) -> KeyMade:
    asking.within(asked.tenant)
    tenant = asked.tenant or asking.tenant.id or rights.OWNER_NAME
    options: Any = replace(asked, tenant=tenant)
    made = asking.accounting.create_key(options, asking.actor)
    return _made(asking, made.key, made.credential.written())


def _change_key(asking: Asking, asked: KeyChanges) -> KeyChanged:
    asking.one_key(asked.key)
    key = asking.accounting.change_key(asked, asking.actor)
    return KeyChanged(**key_row(key), unmatched=asking.accounting.unmatched(asked.model))


def _revoke(asking: Asking, asked: KeyNamed) -> KeyShown:
    asking.one_key(asked.key)
    return shown_key(asking.service.workspace.accounts.revoke(asked.key, asking.actor))


def _rotate(asking: Asking, asked: KeyRotated) -> KeyMade:
    asking.one_key(asked.key)
    made = asking.accounting.rotate(asked.key, asked.grace, asking.actor)
    return _made(asking, made.key, made.credential.written())


def _made(asking: Asking, key: Key, credential: str) -> KeyMade:
    unmatched = asking.accounting.unmatched(key.models)
    return KeyMade(**key_row(key), credential=credential, unmatched=unmatched)


_TENANT, _KEY = "/api/tenants/{id}", "/api/keys/{key}"

TENANTS = (
    Operation(
        method="GET", path="/api/tenants", role="viewer", takes=Paged, gives=TenantsPage, does=_tenants,
        tag="tenants", summary="admin.tenants_list",
    ),
    Operation(
        method="POST", path="/api/tenants", role="admin", owners=True, takes=TenantOptions, gives=TenantShown,
        does=_create_tenant, tag="tenants", summary="admin.tenants_create", status=201, errors=(409,),
    ),
    Operation(
        method="GET", path=_TENANT, role="viewer", takes=TenantNamed, gives=TenantShown, does=_tenant,
        tag="tenants", summary="admin.tenants_get", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_TENANT, role="admin", takes=TenantChanges, gives=TenantShown,
        does=_change_tenant, tag="tenants", summary="admin.tenants_change", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_TENANT}/disable", role="admin", owners=True, takes=TenantNamed,
        gives=TenantShown, does=_disable, tag="tenants", summary="admin.tenants_disable", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_TENANT}/enable", role="admin", owners=True, takes=TenantNamed,
        gives=TenantShown, does=_enable, tag="tenants", summary="admin.tenants_enable", errors=(404, 409),
    ),
    Operation(
        method="DELETE", path=f"{_TENANT}/contents", role="admin", takes=TenantNamed, gives=Forgotten,
        does=_forget, tag="tenants", summary="admin.tenants_forget", errors=(404,),
    ),
)  # fmt: skip

KEYS = (
    Operation(
        method="GET", path="/api/keys", role="viewer", takes=KeysAsked, gives=KeysPage, does=_keys,
        tag="keys", summary="admin.keys_list", errors=(404,),
    ),
    Operation(
        method="POST", path="/api/keys", role="admin", takes=KeyWanted, gives=KeyMade, does=_create_key,
        tag="keys", summary="admin.keys_create", status=201, errors=(404,),
    ),
    Operation(
        method="GET", path=_KEY, role="viewer", takes=KeyNamed, gives=KeyShown, does=_key,
        tag="keys", summary="admin.keys_get", errors=(404,),
    ),
    Operation(
        method="PATCH", path=_KEY, role="admin", takes=KeyChanges, gives=KeyChanged, does=_change_key,
        tag="keys", summary="admin.keys_change", errors=(404, 409),
    ),
    Operation(
        method="POST", path=f"{_KEY}/revoke", role="admin", takes=KeyNamed, gives=KeyShown, does=_revoke,
        tag="keys", summary="admin.keys_revoke", errors=(404,),
    ),
    Operation(
        method="POST", path=f"{_KEY}/rotate", role="admin", takes=KeyRotated, gives=KeyMade, does=_rotate,
        tag="keys", summary="admin.keys_rotate", status=201, errors=(404, 409),
    ),
)  # fmt: skip
