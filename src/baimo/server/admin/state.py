"""The endpoint itself: how it is, how it is set, what was done to it."""

from __future__ import annotations

import asyncio
import os
import time
from dataclasses import dataclass
from typing import Any, Literal

import baimo
from baimo.core.moments import shown
from baimo.core.rights import OWNER_NAME
from baimo.errors import BaimoError, Conflict
from baimo.server import probes
from baimo.server.admin.operation import Asking, Nothing, Operation
from baimo.server.admin.paging import Paged
from baimo.store import audit
from baimo.store.accounts import EVERYBODY
from baimo.store.cached import Cached
from baimo.store.ledger import Ledger
from baimo.workspace.accounting import tenant_id

_STARTED = time.monotonic()


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthShown:
    """How this process is doing; others of the same endpoint answer for themselves."""

    status: Literal["ready", "not ready"]
    trouble: list[str]
    """Why calls should go elsewhere for now."""
    version: str
    pid: int
    uptime_s: float
    in_flight: int
    """Calls under way."""
    config_hash: str
    """Of the settings in force; every Record carries it."""
    database: str
    """Without its password."""
    ledger_ok: bool
    """The last attempt to move Records into the database succeeded."""
    ledger_problem: str | None
    ledger_since: str | None
    """When it stopped succeeding."""
    ledger_lines: int
    """Number of the newest line."""
    ledger_head: str
    """line:hash of the newest line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingShown:
    """One setting."""

    name: str
    """`serve.port`."""
    value: Any
    """In force; a secret, and what came out of a variable, is not shown."""
    source: str
    """The variable that set it, or file and line; empty = default."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingsShown:
    """All settings in force."""

    config_hash: str
    problem: str | None
    """Why the configuration as it is written now is not used; null = it is."""
    data: list[SettingShown]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reloaded:
    """The settings that are in force now."""

    config_hash: str
    changed: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheCleared:
    """What was deleted."""

    deleted: int
    """Answers in the store; those in memory are gone, too, in other processes a moment later."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheAsked:
    """Whose answers."""

    tenant: str | None = None
    """None = everything that this key may see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditAsked(Paged):
    """Which acts."""

    subject: str | None = None
    """Only on this tenant or key."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ActShown:
    """Who did what."""

    id: str
    at: str
    tenant: str
    """Who acted."""
    key: str | None
    """null = the command line of the machine that holds the workspace."""
    act: str
    subject: str
    facts: dict[str, Any]
    """What changed; never a secret."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditPage:
    """Some acts, newest first."""

    data: list[ActShown]
    next: str | None
    """Cursor of the next page."""


async def _health(asking: Asking, _: Nothing) -> HealthShown:
    service = asking.service
    found, ledger = await probes.state(service), service.books.health()
    database = service.workspace.store.database
    head = await asyncio.to_thread(Ledger(database).head)
    return HealthShown(
        status="ready" if found.ready else "not ready",
        trouble=[one.problem for one in found.reasons],
        version=baimo.__version__,
        pid=os.getpid(),
        uptime_s=round(time.monotonic() - _STARTED, 1),
        in_flight=service.gateway.in_flight,
        config_hash=service.parts.config_hash,
        database=database.where,
        ledger_ok=ledger.ok,
        ledger_problem=ledger.problem or None,
        ledger_since=None if ledger.since_ms is None else shown(ledger.since_ms),
        ledger_lines=head.seq,
        ledger_head=f"{head.seq}:{head.chain.hex()}",
    )


def _settings(asking: Asking, _: Nothing) -> SettingsShown:
    service = asking.service
    problem, origins = None, {}
    try:
        origins = service.origins()
    except BaimoError as error:
        problem = str(error)
    data: list[SettingShown] = []
    for name, value in service.settings.shown():
        found = origins.get(name)
        if found is not None and found.written is not None:
            value = found.written
        data.append(SettingShown(name=name, value=value, source="" if found is None else found.source))
    return SettingsShown(config_hash=service.parts.config_hash, problem=problem, data=data)


async def _reload(asking: Asking, _: Nothing) -> Reloaded:
    service, before = asking.service, asking.service.parts.config_hash
    try:
        service.reread()
    except BaimoError as error:
        raise Conflict("admin.settings_refused", problem=error, advice=error.hint) from error
    after = service.parts.config_hash
    await asyncio.to_thread(_entered, asking, "settings.reload", "", {"hash": after, "before": before})
    return Reloaded(config_hash=after, changed=after != before)


async def _clear_cache(asking: Asking, asked: CacheAsked) -> CacheCleared:
    tenant = await asyncio.to_thread(asking.within, asked.tenant)
    shelf = Cached(asking.service.workspace.store.database)
    deleted = await asyncio.to_thread(shelf.forget, tenant)
    subject = OWNER_NAME if tenant == "" else tenant or ""
    await asyncio.to_thread(_entered, asking, "cache.clear", subject, {"deleted": deleted})
    asking.service.forgot(EVERYBODY if tenant is None else tenant)
    return CacheCleared(deleted=deleted)


def _entered(asking: Asking, act: str, subject: str, facts: dict[str, Any]) -> None:
    with asking.service.workspace.store.database.writing() as connection:
        audit.enter(connection, asking.actor, act, subject, facts, time.time_ns() // 1_000_000)


def _audit(asking: Asking, asked: AuditAsked) -> AuditPage:
    database = asking.service.workspace.store.database
    subject = None if asked.subject is None else tenant_id(asked.subject)
    found = audit.acts(
        database,
        subject=subject,
        before=asked.cursor,
        limit=asked.limit,
        concerning=None if asking.owner else asking.tenant.id,
    )
    after = found[-1].id if len(found) == asked.limit else None
    return AuditPage(data=[_act(one) for one in found], next=after)


def _act(act: audit.Act) -> ActShown:
    return ActShown(
        id=act.id,
        at=shown(act.at_ms),
        tenant=act.tenant or OWNER_NAME,
        key=act.key or None,
        act=act.act,
        subject=act.subject or (OWNER_NAME if act.act.startswith("tenant.") else ""),
        facts=act.facts,
    )


STATE = (
    Operation(
        method="GET", path="/api/health", role="viewer", owners=True, gives=HealthShown, does=_health,
        tag="endpoint", summary="admin.health",
    ),
    Operation(
        method="GET", path="/api/settings", role="engineer", owners=True, gives=SettingsShown,
        does=_settings, tag="endpoint", summary="admin.settings_list",
    ),
    Operation(
        method="POST", path="/api/settings/reload", role="admin", owners=True, gives=Reloaded, does=_reload,
        tag="endpoint", summary="admin.settings_reload", errors=(409,),
    ),
    Operation(
        method="DELETE", path="/api/cache", role="admin", takes=CacheAsked, gives=CacheCleared,
        does=_clear_cache, tag="endpoint", summary="admin.cache_clear", errors=(404,),
    ),
    Operation(
        method="GET", path="/api/audit", role="admin", takes=AuditAsked, gives=AuditPage, does=_audit,
        tag="endpoint", summary="admin.audit_list",
    ),
)  # fmt: skip
