"""Keys and tenants in memory: who is calling, and may they.

Prevents four failures: a database question per call, a comparison whose time tells how much of a secret was right,
a revoked key that goes on working in a process that has not heard of it, and a key that was made a moment ago in
another process and is refused in this one.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from functools import lru_cache
from hmac import compare_digest
from typing import Protocol

import msgspec

from baimo.core.addresses import Network, address, network
from baimo.core.session import Session
from baimo.core.tenant import OWNER, Key, Tenant
from baimo.errors import BaimoError, Forbidden, Unauthenticated

POLL_S = 0.5
"""How often the accounts are asked whether something changed."""
PAUSE_S = 0.05
"""Between two looks for keys that are not known, so that guesses cost no more than 20 questions a second."""
PATIENCE_S = 2.0
"""Longest wait for such a look."""
_FORM = re.compile(rb"bm-[0-9A-Za-z]{12}-[0-9A-Za-z]{48}")
_NOBODY = hashlib.sha256(b"").hexdigest()

_address = lru_cache(maxsize=4096)(address)


class Accounts(Protocol):
    """Where tenants and keys are kept."""

    def revision(self) -> int:
        """Raised by every change."""
        ...

    def keys(self) -> Iterable[Key]: ...

    def tenants(self) -> Iterable[Tenant]: ...

    def forgotten(self) -> Mapping[str, int]:
        """How often what a tenant said was deleted; raises the revision."""
        ...


class _Held(msgspec.Struct, frozen=True):
    """What a credential opens."""

    digest: str
    key: Key
    tenant: Tenant
    networks: tuple[Network, ...]
    until_ms: int | None = None
    """End of a session; None = it is the key itself."""


class Keyring:
    """All keys, sessions and tenants, as they were at most a second ago."""

    def __init__(
        self,
        accounts: Accounts,
        *,
        wall: Callable[[], float],
        sessions: Callable[[], Iterable[Session]] = tuple[Session],
        relimited: Callable[[str, str], None] = lambda scope, name: None,
        forgot: Callable[[str], None] = lambda tenant: None,
    ) -> None:
        """
        Args:
            accounts: where they are kept; read at once.
            wall: seconds since 1970.
            sessions: those that have not ended; they raise the accounts' revision.
            relimited: told scope and name of whose limits have changed, before they hold.
            forgot: told by `watch` of every tenant of whom nothing that it said may be held any more; `*` = of all.
        """
        self._sessions = sessions
        self._relimited = relimited
        self._forgot = forgot
        self._forgotten: Mapping[str, int] = {}
        self._accounts = accounts
        self._wall = wall
        self._revision: int | None = None
        self._held: dict[bytes, _Held] = {}
        self._tenants: dict[str, Tenant] = {}
        self._reading = threading.Lock()
        self._look: asyncio.Task[None] | None = None
        self._looking = asyncio.Lock()
        self._looked = float("-inf")
        self.trouble: BaimoError | None = None
        """Why the accounts could not be read again; None = they could."""
        self.refresh()

    def authenticate(self, presented: bytes | None, ip: str) -> tuple[Key, Tenant]:
        """The key that was presented, and its tenant.

        Args:
            presented: what the client sent as its key; None = nothing.
            ip: the client's address.

        Raises:
            Unauthenticated: no key, or none that is valid (now).
            Forbidden: it may not be used from there, or its tenant is disabled.
        """
        if presented is None:
            raise Unauthenticated("gateway.no_key")
        prefix, _, parts = presented.partition(b"-")
        public, _, secret = parts.partition(b"-")
        found = self._held.get(public) if prefix == b"bm" else None
        digest = hashlib.sha256(secret).hexdigest()
        # an unknown key takes as long as a wrong secret
        right = compare_digest(digest, _NOBODY if found is None else found.digest)
        if found is None or not right:
            if _FORM.fullmatch(presented) is None:
                raise Unauthenticated("gateway.malformed_key")
            raise Unauthenticated("gateway.unknown_key", key=public.decode())
        key, tenant = found.key, found.tenant
        if found.until_ms is not None and found.until_ms <= int(self._wall() * 1000):
            raise Unauthenticated("gateway.ended_session")
        if key.expires_ms is not None or key.revoked_ms is not None:
            self._in_time(key)
        if tenant.disabled:
            raise Forbidden("gateway.tenant_disabled", tenant=tenant.id)
        if found.networks and not _within(ip, found.networks):
            raise Forbidden("gateway.wrong_network", key=key.public, ip=ip)
        return key, tenant

    def unknown(self, presented: bytes | None) -> bool:
        """Whether it has the form of a key or session, and is none that is held: it may have been made elsewhere."""
        if presented is None or _FORM.fullmatch(presented) is None:
            return False
        return presented.split(b"-", 2)[1] not in self._held

    async def looked_up(self, presented: bytes | None, ip: str) -> tuple[Key, Tenant]:
        """`authenticate`, after a look at the accounts where that may help; for who has been refused.

        Raises:
            Unauthenticated, Forbidden: as there.
        """
        if self.unknown(presented):
            await self.catch_up()
        return self.authenticate(presented, ip)

    async def catch_up(self) -> None:
        """Return after a look at the accounts that began later than this call; callers at the same time share one.

        Where the accounts cannot be read (in time), everything stays as it was.
        """
        if self.trouble is not None:
            return
        if self._look is None:
            self._look = asyncio.create_task(self._looked_once(), name="baimo-key")
        with suppress(TimeoutError):
            async with asyncio.timeout(PATIENCE_S):
                await asyncio.shield(self._look)

    async def _looked_once(self) -> None:
        async with self._looking:
            await asyncio.sleep(self._looked + PAUSE_S - time.monotonic())
            self._look = None  # whoever comes from now on may mean a key that this look misses
            with suppress(BaimoError):  # `watch` says so
                await asyncio.to_thread(self.refresh)
            self._looked = time.monotonic()

    def standing(self, public: str) -> tuple[Key, Tenant]:
        """A key that ordered work which goes on without its owner, or the one that has replaced it.

        Raises:
            Unauthenticated: it is gone, revoked, or has expired.
            Forbidden: its tenant is disabled.
        """
        found = self._held.get(public.encode())
        if found is None or found.until_ms is not None:
            raise Unauthenticated("batches.no_key", key=public)
        key, tenant = found.key, found.tenant
        if key.rotated_to and key.expires_ms is not None and key.expires_ms <= int(self._wall() * 1000):
            return self.standing(key.rotated_to)
        self._in_time(key)
        if tenant.disabled:
            raise Forbidden("gateway.tenant_disabled", tenant=tenant.id)
        return key, tenant

    async def ordered_by(self, public: str) -> tuple[Key, Tenant]:
        """`standing`, after a look at the accounts where the key may have been made a moment ago in another process.

        Raises:
            Unauthenticated, Forbidden: as there.
        """
        if self.known(public) is None:
            await self.catch_up()
        return self.standing(public)

    def known(self, public: str) -> Key | None:
        """A key by its public part, whether or not it is still valid; None = it is held no more."""
        found = self._held.get(public.encode())
        return None if found is None else found.key

    def tenant(self, id: str) -> Tenant | None:
        """A tenant by its id."""
        return self._tenants.get(id)

    def every_key(self) -> list[Key]:
        """Every key, also those that are refused by now."""
        return [held.key for held in self._held.values() if held.until_ms is None]

    def every_tenant(self) -> list[Tenant]:
        """Every tenant, the owner too."""
        return list(self._tenants.values())

    def refresh(self) -> bool:
        """Read everything again if something changed; blocks. True = it did.

        Raises:
            StoreError: the accounts cannot be read.
        """
        with self._reading:  # else who began earlier and ends later puts back what was
            return self._refreshed()

    def _refreshed(self) -> bool:
        revision = self._accounts.revision()
        if revision == self._revision:
            return False
        tenants = {tenant.id: tenant for tenant in self._accounts.tenants()}
        tenants.setdefault(OWNER, Tenant(id=OWNER))
        held: dict[bytes, _Held] = {}
        for key in self._accounts.keys():  # noqa: SIM118
            tenant = tenants.get(key.tenant)
            if tenant is not None:  # a key whose tenant is gone opens nothing
                networks = tuple(network(written, strict=False) for written in key.networks)
                held[key.public.encode()] = _Held(key.digest, key, tenant, networks)
        for session in self._sessions():
            behind = held.get(session.key.encode())
            if behind is not None:
                held[session.public.encode()] = msgspec.structs.replace(
                    behind, digest=session.digest, until_ms=session.expires_ms
                )
        self._tell(held, tenants)
        self._forgotten = self._accounts.forgotten()
        self._held, self._tenants, self._revision = held, tenants, revision
        return True

    def _tell(self, held: dict[bytes, _Held], tenants: dict[str, Tenant]) -> None:
        """A limit may have been taken away and be back: what is left of it is not what it was then."""
        for public, old in self._held.items():
            new = held.get(public)
            if new is not None and new.key.limits != old.key.limits:
                self._relimited("key", new.key.meter)
        for id, before in self._tenants.items():
            after = tenants.get(id)
            if after is not None and after.limits != before.limits:
                self._relimited("tenant", id)

    async def watch(self) -> None:
        """Follow changes until cancelled. Accounts that cannot be read for a while leave the keys as they were."""
        told = self._forgotten
        while True:
            await asyncio.sleep(POLL_S)
            try:
                await asyncio.to_thread(self.refresh)
                self.trouble = None
            except BaimoError as error:
                self.trouble = error
            before, told = told, self._forgotten  # somebody else may have refreshed
            for tenant, times in told.items():
                if times != before.get(tenant):
                    self._forgot(tenant)

    def _in_time(self, key: Key) -> None:
        now_ms = int(self._wall() * 1000)
        if key.revoked_ms is not None and key.revoked_ms <= now_ms:
            raise Unauthenticated("gateway.revoked_key", key=key.public)
        if key.expires_ms is not None and key.expires_ms <= now_ms:
            replaced = bool(key.rotated_to)
            known = "gateway.rotated_key" if replaced else "gateway.expired_key"
            raise Unauthenticated(known, key=key.public, successor=key.rotated_to)


def permits_name(key: Key, name: str) -> bool:
    """Whether one of the key's patterns covers the name of a model, alias or route."""
    return not key.models or any(fnmatchcase(name, pattern) for pattern in key.models)


def permits_surface(key: Key, surface: str) -> bool:
    """Whether the key may use this operation."""
    return not key.surfaces or surface in key.surfaces


def _within(ip: str, networks: tuple[Network, ...]) -> bool:
    found = _address(ip)
    return found is not None and any(found in one for one in networks)
