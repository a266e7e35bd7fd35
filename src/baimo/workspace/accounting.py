"""Tenants and keys as people ask for them: words become rights, rights become words."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from baimo.core import rights
from baimo.core.ids import plain
from baimo.core.moments import DAY_MS, distance_ms, moment_ms, shown
from baimo.core.tenant import OWNER, Key, Tenant
from baimo.errors import UsageError
from baimo.models.catalogue import TUNED
from baimo.store.accounts import Minted
from baimo.store.audit import Actor
from baimo.store.contents import Contents
from baimo.store.files import Files
from baimo.store.spent import spent
from baimo.store.uploads import Uploads
from baimo.workspace.account_options import KeyChanges, KeyOptions, NewKey, TenantChanges, TenantOptions
from baimo.workspace.compare_queue import CompareQueue
from baimo.workspace.forgetting import removed, stopped

if TYPE_CHECKING:
    from baimo.workspace.workspace import Workspace

GRACE_MS = DAY_MS
"""How long a replaced key stays valid unless something else is said."""


class Accounting:
    """The keys and tenants of one workspace. Whoever acts is named in the audit: `by`, else the command line."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._accounts = workspace.accounts

    # tenants

    def tenant(self, name: str) -> Tenant:
        """A tenant by its name, `owner` for the workspace's own.

        Raises:
            NotFound: there is none.
        """
        return self._accounts.tenant(tenant_id(name))

    def create_tenant(self, options: TenantOptions, by: Actor = Actor()) -> Tenant:
        """Keep a new tenant.

        Raises:
            UsageError: a field cannot hold its value.
            Conflict: there is one with this name.
        """
        return self._accounts.create_tenant(Tenant(id=tenant_id(options.id), **_tenant_fields(options)), by)

    def change_tenant(self, options: TenantChanges, by: Actor = Actor()) -> Tenant:
        """Change what is said, take away what is cleared.

        Raises:
            NotFound: there is no such tenant.
            UsageError: a field cannot hold its value.
        """
        cleared = {"limits": (), "contents_days": None}
        changes = {name: cleared[name] for name in _plural(options.clear)} | _tenant_fields(options)
        return self._accounts.change_tenant(tenant_id(options.id), changes, by)

    def disable_tenant(self, name: str, *, disabled: bool = True, by: Actor = Actor()) -> Tenant:
        """Refuse all keys of a tenant from now on, or accept them again.

        Raises:
            NotFound: there is none.
            Conflict: it is the owner's.
        """
        return self._accounts.change_tenant(tenant_id(name), {"disabled": disabled}, by)

    def forget_tenant(self, name: str, by: Actor = Actor()) -> dict[str, int]:
        """Delete everything that a tenant's calls said and were answered, and what was learnt from it; Records stay.

        Returns:
            What was deleted: table → rows.

        Raises:
            NotFound: there is no such tenant.
            Conflict: a tuning job cannot be stopped from here; nothing is deleted yet.
            AdapterError: files of a tuned model lie where nothing is removed; contents are not deleted yet.
        """
        workspace = self._workspace
        id, database = self._accounts.tenant(tenant_id(name)).id, workspace.store.database
        stopped(workspace.tuning.queue, id)
        models = removed(workspace.adapting, id)
        CompareQueue(workspace).forget(id)
        gone = Contents(database).forget_tenant(id, by, {"adapters": models})
        files = Files(database, self._workspace.path / "files")
        files.forget(id)
        Uploads(database, files).forget(id)
        if (
            id != OWNER
        ):  # examples are often taken from what was said; the owner's tasks are files like any others
            shutil.rmtree(workspace.tasks.tasks.home(id).parent, ignore_errors=True)
        return gone

    # keys

    def keys(self, tenant: str | None = None, *, all: bool = False) -> list[Key]:
        """Keys of one tenant or of everybody; `all` includes those that are revoked or expired.

        Raises:
            NotFound: there is no such tenant.
        """
        found = self._accounts.keys(None if tenant is None else tenant_id(tenant))
        return found if all else [key for key in found if standing(key) in ("valid", "replaced")]

    def create_key(self, options: NewKey, by: Actor = Actor()) -> Minted:
        """Make a key; its credential exists only in what is returned.

        Raises:
            NotFound: there is no such tenant.
            UsageError: a field cannot hold its value.
        """
        return self._accounts.create_key(Key(tenant=tenant_id(options.tenant), **_key_fields(options)), by)

    def change_key(self, options: KeyChanges, by: Actor = Actor()) -> Key:
        """Change what is said, take away what is cleared.

        Raises:
            NotFound: there is no such key.
            UsageError: a field cannot hold its value.
            Conflict: it is revoked.
        """
        empty = Key()
        cleared = {name: getattr(empty, name) for name in _plural(options.clear)}
        return self._accounts.change_key(options.key, cleared | _key_fields(options), by)

    def rotate(self, key: str, grace: str | None = None, by: Actor = Actor()) -> Minted:
        """Replace a key by one with the same rights; the old one stays valid for `grace` (`7d`, `0h`; None = a day).

        Raises:
            NotFound: there is no such key.
            UsageError: `grace` is no distance.
            Conflict: it is revoked, expired or replaced already.
        """
        grace_ms = GRACE_MS if grace is None else distance_ms(grace)
        if grace_ms is None:
            raise UsageError("accounts.bad_moment", value=grace)
        return self._accounts.rotate(key, grace_ms, by)

    def spent(self, whose: Key | Tenant) -> dict[str, dict[str, Any]]:
        """Limit, as it is written → what is used and set aside of it in its present window, as JSON-ready data."""
        scope, name = ("key", whose.meter) if isinstance(whose, Key) else ("tenant", whose.id)
        now_ms = time.time_ns() // 1_000_000
        found = spent(self._workspace.store.database, scope, name, whose.limits, now_ms)
        return {
            rights.shown(one.limit): {
                "used": rights.amount(one.limit.counts, one.used),
                "held": rights.amount(one.limit.counts, one.held),
                "until": None if one.limit.window == "total" else shown(one.ends_ms),
            }
            for one in found
        }

    def unmatched(self, patterns: Iterable[str]) -> list[str]:
        """Patterns that fit no model, alias or route that there is now: allowed, but mostly misspelt."""
        patterns = list(patterns)
        if not patterns:
            return []
        names = [*self._workspace.settings.routes, *(one.name for one in self._workspace.catalogue.models())]
        # tuned models come and go
        return [
            one
            for one in patterns
            if not one.startswith(TUNED) and not any(fnmatchcase(name, one) for name in names)
        ]


def tenant_id(name: str) -> str:
    """The id behind a name that people write."""
    return OWNER if name == rights.OWNER_NAME else name


def tenant_row(tenant: Tenant) -> dict[str, Any]:
    """A tenant as JSON-ready data."""
    row = {"id": tenant.id or rights.OWNER_NAME, **{name: getattr(tenant, name) for name in _TENANT_FACTS}}
    return {
        **row,
        "limits": [rights.shown(one) for one in tenant.limits],
        "created": _when(tenant.created_ms),
    }


def key_row(key: Key) -> dict[str, Any]:
    """A key as JSON-ready data: everything but the digest."""
    return {
        "key": key.public,
        "label": key.label,
        "tenant": key.tenant or rights.OWNER_NAME,
        "standing": standing(key),
        "role": key.role,
        **{name: plain(getattr(key, name)) for name in ("models", "surfaces", "networks", "data_class")},
        "limits": [rights.shown(one) for one in key.limits],
        "tags": dict(key.tags),
        "created": _when(key.created_ms),
        "expires": _when(key.expires_ms),
        "revoked": _when(key.revoked_ms),
        "rotated_to": key.rotated_to or None,
    }


def standing(key: Key, now_ms: int | None = None) -> str:
    """valid, replaced (valid for a while yet), expired or revoked."""
    now_ms = time.time_ns() // 1_000_000 if now_ms is None else now_ms
    if key.revoked_ms is not None:
        return "revoked"
    if key.expires_ms is not None and key.expires_ms <= now_ms:
        return "expired"
    return "replaced" if key.rotated_to else "valid"


_TENANT_FACTS = ("title", "data_class", "pii", "keep_contents", "contents_days", "cache", "disabled")


def _tenant_fields(options: TenantOptions) -> dict[str, Any]:
    """Tenant field → value, of what is said."""
    names = ("title", "data_class", "pii", "contents_days", "cache")
    said = {name: value for name in names if (value := getattr(options, name)) is not None}
    if options.keep_contents is not None:
        said["keep_contents"] = options.keep_contents == "on"
    if options.limit:
        said["limits"] = rights.checked_limits([rights.limit(one) for one in options.limit])
    return said


def _key_fields(options: KeyOptions) -> dict[str, Any]:
    """Key field → value, of what is said."""
    names = ("label", "role", "data_class")
    said = {name: value for name in names if (value := getattr(options, name)) is not None}
    several = {"models": options.model, "surfaces": options.surface, "networks": options.network}
    said |= {name: value for name, value in several.items() if value}
    if options.limit:
        said["limits"] = rights.checked_limits([rights.limit(one) for one in options.limit])
    if options.tag:
        said["tags"] = tuple(rights.tag(one) for one in options.tag)
    if options.expires is not None:
        said["expires_ms"] = moment_ms(options.expires, time.time_ns() // 1_000_000, back=False)
    return said


_FIELDS = {
    **{one: f"{one}s" for one in ("model", "surface", "network", "limit", "tag")},
    "expires": "expires_ms",
}


def _plural(options: Iterable[str]) -> list[str]:
    """The fields of a noun behind the names of options."""
    return [_FIELDS.get(option, option) for option in options]


def _when(milliseconds: int | None) -> str | None:
    return None if not milliseconds else shown(milliseconds)
