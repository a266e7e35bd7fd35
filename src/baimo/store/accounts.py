"""Tenants and their keys: who may call. Secrets pass through here once and are never kept.

Prevents three failures: a change of rights that nobody can trace (every act leaves an audit row in its own
transaction), one that a running gateway does not notice (every act raises the revision), and two administrators who
overwrite each other's change (acts on one database happen one after the other).
"""

from __future__ import annotations

import dataclasses
import difflib
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import msgspec
from sqlalchemy import Connection, case, insert, select

from baimo.core.credential import ENTROPY_BYTES, Credential, digest_of, minted, presented
from baimo.core.ids import plain
from baimo.core.moments import shown
from baimo.core.rights import OWNER_NAME, checked_key, checked_tenant
from baimo.core.tenant import OWNER, Key, Limit, Tenant
from baimo.errors import Conflict, NotFound, UsageError
from baimo.store import audit, tables
from baimo.store.audit import Actor
from baimo.store.buckets import bucket_of
from baimo.store.chain import locked_head
from baimo.store.dialects import inserting
from baimo.store.draws import catch_up
from baimo.store.shelf import Shelf
from baimo.typed import from_json

REVISION = "accounts"
"""Row of the table revisions that every act raises."""
FORGOTTEN = "forgotten:"
"""Before a tenant's id: row of the table revisions that is raised when what it said is deleted."""
FORGOTTEN_AT = "forgotten_at:"
"""Before a tenant's id: row of the table revisions that says until when what it said is not kept any more; milliseconds
since 1970."""
EVERYBODY = "*"
"""In place of a tenant's id: what all of them said."""

_FIXED = {"id", "public", "digest", "tenant", "created_ms", "revoked_ms", "rotated_to", "counted_as"}
"""Fields that no change may name: they follow from other acts, or hold for good."""

_Noun = TypeVar("_Noun", Tenant, Key)


class Minted(NamedTuple):
    """A key that was made, and the only copy of its credential."""

    key: Key
    credential: Credential


class Everybody(NamedTuple):
    """All tenants and keys as one revision has them."""

    revision: int
    tenants: dict[str, Tenant]
    """By id; the owner's is always there."""
    keys: dict[str, Key]
    """By public part."""


class Accounts(Shelf):
    """Reads and changes tenants and keys. Every method is one transaction."""

    # everybody

    def revision(self) -> int:
        """Rises with every change; cheap to ask for."""
        table = tables.revisions
        with self._database.reading() as connection:
            found = connection.execute(select(table.c.revision).where(table.c.name == REVISION)).scalar()
        return int(found or 0)

    def forgotten(self) -> dict[str, int]:
        """How often what a tenant said was deleted, by its id: whoever holds some of it in memory compares."""
        table = tables.revisions
        query = select(table.c.name, table.c.revision).where(table.c.name.startswith(FORGOTTEN))
        with self._database.reading() as connection:
            return {name.removeprefix(FORGOTTEN): times for name, times in connection.execute(query)}

    def everybody(self) -> Everybody:
        """All tenants and keys. They may be newer than the revision says, never older: whoever compares revisions
        later reads once too often, and misses nothing."""
        revision = self.revision()
        return Everybody(
            revision,
            {tenant.id: tenant for tenant in self.tenants()},
            {key.public: key for key in self.keys()},
        )

    # tenants

    def tenant(self, id: str) -> Tenant:
        """A tenant by its id; the owner's exists without having been created.

        Raises:
            NotFound: there is none.
        """
        with self._database.reading() as connection:
            return _tenant(connection, id)

    def tenants(self) -> list[Tenant]:
        """Every tenant by id, the owner's first."""
        table = tables.tenants
        with self._database.reading() as connection:
            found = connection.execute(select(table.c.tenant).order_by(table.c.id)).scalars().all()
        kept = sorted((from_json(each, Tenant) for each in found), key=lambda one: one.id)
        return kept if kept and kept[0].id == OWNER else [Tenant(id=OWNER), *kept]

    def create_tenant(self, tenant: Tenant, by: Actor = Actor()) -> Tenant:
        """Keep a new tenant; its time of creation is set here.

        Raises:
            UsageError: a field cannot hold its value.
            Conflict: there is one with this id.
        """
        made = replace(checked_tenant(tenant), created_ms=self.now_ms())
        with self._acting(by, "tenant.create", made.id, _facts(made)) as connection:
            table = tables.tenants
            if made.id == OWNER or connection.execute(select(table).where(table.c.id == made.id)).first():
                raise Conflict("accounts.tenant_exists", name=made.id or OWNER_NAME)
            connection.execute(insert(table).values(_tenant_row(made)))
        return made

    def change_tenant(self, id: str, changes: Mapping[str, Any], by: Actor = Actor()) -> Tenant:
        """Change fields of a tenant.

        Args:
            id: the tenant's.
            changes: field → new value; `disabled` refuses all its keys.
            by: who acts.

        Raises:
            NotFound: there is none.
            UsageError: a field cannot hold its value.
            Conflict: the owner's tenant cannot be disabled.
        """
        facts = dict[str, Any]()
        with self._acting(by, "tenant.change", id, facts) as connection:
            before = _tenant(connection, id)
            after = checked_tenant(_changed(before, changes))
            if after.disabled and id == OWNER:
                raise Conflict("accounts.owner_exists")
            facts.update(_differences(before, after))
            self._put(connection, tables.tenants, _tenant_row(after))
            self._set_again(connection, "tenant", id, before.limits, after.limits)
        return after

    # keys

    def key(self, name: str) -> Key:
        """A key by its public part, its whole credential, or its label where no other key in use has it.

        Raises:
            NotFound: there is none.
            UsageError: several keys have this label.
        """
        credential = presented(name)
        public = credential.public if credential else name.removeprefix("bm-")
        with self._database.reading() as connection:
            table = tables.keys
            found = connection.execute(select(table.c.key).where(table.c.public == public)).scalar()
        if found is not None:
            return from_json(found, Key)
        labelled = [key for key in self.keys() if key.label == name]
        usable = [key for key in labelled if key.revoked_ms is None and not key.rotated_to] or labelled
        if not usable:
            raise NotFound("accounts.unknown_key", name=public if credential else name)
        if len(usable) > 1:
            near = ", ".join(key.public for key in usable)
            raise UsageError("accounts.several_keys", count=len(usable), name=name, near=near)
        return usable[0]

    def keys(self, tenant: str | None = None) -> list[Key]:
        """Every key, or those of one tenant, in the order of their making; revoked and expired ones too.

        Raises:
            NotFound: there is no such tenant.
        """
        table = tables.keys
        query = select(table.c.key).order_by(table.c.created_ms, table.c.public)
        with self._database.reading() as connection:
            if tenant is not None:
                query = query.where(table.c.tenant == _tenant(connection, tenant).id)
            return [from_json(each, Key) for each in connection.execute(query).scalars()]

    def any_key(self) -> bool:
        """Whether a key was ever made."""
        with self._database.reading() as connection:
            return connection.execute(select(tables.keys.c.public).limit(1)).first() is not None

    def create_key(self, rights: Key, by: Actor = Actor()) -> Minted:
        """Make a key.

        Args:
            rights: everything but what is made here: public part, digest, time of creation.
            by: who acts.

        Raises:
            NotFound: there is no such tenant.
            UsageError: a field cannot hold its value.
        """
        made = self._minted(rights)
        with self._acting(by, "key.create", made.key.public, _facts(made.key)) as connection:
            made = made._replace(key=self._checked(connection, made.key))
            connection.execute(insert(tables.keys).values(_key_row(made.key)))
        return made

    def change_key(self, name: str, changes: Mapping[str, Any], by: Actor = Actor()) -> Key:
        """Change fields of a key: limits, models, networks, expires_ms, label …

        Raises:
            NotFound: there is none.
            UsageError: a field cannot hold its value.
            Conflict: it is revoked.
        """
        public, facts = self.key(name).public, dict[str, Any]()
        with self._acting(by, "key.change", public, facts) as connection:
            before = self._usable(connection, public, expired=True)
            after = self._checked(connection, _changed(before, changes), new_expiry="expires_ms" in changes)
            facts.update(_differences(before, after))
            self._put(connection, tables.keys, _key_row(after))
            self._set_again(connection, "key", after.meter, before.limits, after.limits)
        return after

    def revoke(self, name: str, by: Actor = Actor()) -> Key:
        """Refuse a key from now on, for good; one that is revoked already stays as it is.

        Raises:
            NotFound: there is none.
        """
        key = self.key(name)
        if key.revoked_ms is not None:
            return key
        with self._acting(by, "key.revoke", key.public, {"label": key.label}) as connection:
            key = replace(_key(connection, key.public), revoked_ms=self.now_ms())
            self._put(connection, tables.keys, _key_row(key))
        return key

    def replaced_by(self, key: Key) -> list[Key]:
        """The keys that this one has replaced and that are still valid."""
        return [
            old
            for old in self.keys()
            if old.rotated_to == key.public
            and old.revoked_ms is None
            and (old.expires_ms or 0) > self.now_ms()
        ]

    def rotate(self, name: str, grace_ms: int, by: Actor = Actor()) -> Minted:
        """Make a key with the same rights; the old one stays valid for a while.

        The new key goes on with what the old one has used of its limits. Where the old one was given a time to live,
        the new one gets as much, from now.

        Args:
            name: the key to replace.
            grace_ms: how long the old one stays valid, at most until it expires anyway.
            by: who acts.

        Raises:
            NotFound: there is none.
            Conflict: it is revoked, expired, or replaced already.
        """
        public, facts, now_ms = self.key(name).public, dict[str, Any](), self.now_ms()
        with self._acting(by, "key.rotate", public, facts) as connection:
            old = self._usable(connection, public)
            if old.rotated_to:
                raise Conflict("accounts.key_rotated", name=public, successor=old.rotated_to)
            lifetime = None if old.expires_ms is None else now_ms + old.expires_ms - old.created_ms
            made = self._minted(replace(old, expires_ms=lifetime, counted_as=old.meter))
            ends_ms = min(now_ms + grace_ms, old.expires_ms or now_ms + grace_ms)
            old = replace(old, expires_ms=ends_ms, rotated_to=made.key.public)
            facts.update(to=made.key.public, until=shown(ends_ms))
            connection.execute(insert(tables.keys).values(_key_row(made.key)))
            self._put(connection, tables.keys, _key_row(old))
        return made

    def _minted(self, rights: Key) -> Minted:
        credential = minted(secrets.token_bytes(ENTROPY_BYTES))
        digest = digest_of(credential.secret)
        key = replace(rights, public=credential.public, digest=digest, created_ms=self.now_ms())
        return Minted(replace(key, revoked_ms=None, rotated_to=""), credential)

    def _checked(self, connection: Connection, key: Key, *, new_expiry: bool = True) -> Key:
        if new_expiry and key.expires_ms is not None and key.expires_ms <= self.now_ms():
            raise UsageError("accounts.in_the_past", value=shown(key.expires_ms))
        return checked_key(key, _tenant(connection, key.tenant))

    def _usable(self, connection: Connection, public: str, *, expired: bool = False) -> Key:
        """A key that was not revoked, and has not expired unless that does not matter."""
        key = _key(connection, public)
        if key.revoked_ms is not None:
            raise Conflict("accounts.key_revoked", name=public, when=shown(key.revoked_ms))
        if not expired and key.expires_ms is not None and key.expires_ms <= self.now_ms():
            raise Conflict("accounts.key_expired", name=public, when=shown(key.expires_ms))
        return key

    # writing

    @contextmanager
    def _acting(self, by: Actor, act: str, subject: str, facts: dict[str, Any]) -> Generator[Connection]:
        """A transaction that raises the revision first, which makes every other act wait, and ends with the audit."""
        with self._database.writing() as connection:
            raise_revision(connection)
            yield connection
            audit.enter(connection, by, act, subject, facts, self.now_ms())

    def _set_again(
        self, connection: Connection, scope: str, name: str, before: Sequence[Limit], after: Sequence[Limit]
    ) -> None:
        """A limit that is new may have been there in this window already: it knows what was used since."""
        had = {(limit.counts, limit.window) for limit in before}
        fresh = [limit for limit in after if (limit.counts, limit.window) not in had]
        if fresh:
            locked_head(connection)
            catch_up(connection, [bucket_of(scope, name, limit, self.now_ms()) for limit in fresh])

    def _put(self, connection: Connection, table: Any, row: dict[str, Any]) -> None:
        new = inserting(self._database.dialect, table).values(row)
        id, *rest = row
        replaced = {name: new.excluded[name] for name in rest}
        connection.execute(new.on_conflict_do_update(index_elements=[id], set_=replaced))


def raise_revision(connection: Connection, name: str = REVISION) -> None:
    """Whoever holds keys, or what this row stands for, in memory looks again when the transaction ends."""
    new: Any = inserting(connection.dialect.name, tables.revisions).values(name=name, revision=1)
    raised = {"revision": tables.revisions.c.revision + 1}
    connection.execute(new.on_conflict_do_update(index_elements=["name"], set_=raised))


def raise_forgotten(connection: Connection, tenant: str) -> None:
    """Whoever holds in memory what a tenant, or `EVERYBODY`, said drops it a moment after the transaction ends."""
    raise_revision(connection, f"{FORGOTTEN}{tenant}")
    raise_revision(connection)


def forget_until(connection: Connection, tenant: str, until_ms: int) -> None:
    """From here on nothing is kept of a call of a tenant, or of `EVERYBODY`, that began until then."""
    table = tables.revisions
    new: Any = inserting(connection.dialect.name, table).values(
        name=f"{FORGOTTEN_AT}{tenant}", revision=until_ms
    )
    known, said = table.c.revision, new.excluded.revision
    latest = {"revision": case((known > said, known), else_=said)}
    connection.execute(new.on_conflict_do_update(index_elements=["name"], set_=latest))


def forgotten_until(connection: Connection) -> Callable[[str], int]:
    """Of a tenant: calls that began until then are not kept; milliseconds since 1970, -1 = all are."""
    table = tables.revisions
    query = select(table.c.name, table.c.revision).where(table.c.name.startswith(FORGOTTEN_AT))
    found = {name.removeprefix(FORGOTTEN_AT): int(until_ms) for name, until_ms in connection.execute(query)}
    everybody = found.get(EVERYBODY, -1)
    return lambda tenant: max(found.get(tenant, -1), everybody)


def holding_revision(connection: Connection) -> None:
    """On PostgreSQL, who forgets a tenant waits for the rest of this transaction, or we wait for him."""
    held = select(tables.revisions.c.revision).where(tables.revisions.c.name == REVISION)
    connection.execute(held.with_for_update(read=True))


def _tenant(connection: Connection, id: str) -> Tenant:
    table = tables.tenants
    found = connection.execute(select(table.c.tenant).where(table.c.id == id)).scalar()
    if found is not None:
        return from_json(found, Tenant)
    if id == OWNER:
        return Tenant(id=OWNER)
    near = difflib.get_close_matches(id, connection.execute(select(table.c.id)).scalars().all(), n=3)
    key = "accounts.unknown_tenant_near" if near else "accounts.unknown_tenant"
    raise NotFound(key, name=id, near=", ".join(near))


def _key(connection: Connection, public: str) -> Key:
    table = tables.keys
    found = connection.execute(select(table.c.key).where(table.c.public == public)).scalar_one()
    return from_json(found, Key)


def _changed(noun: _Noun, changes: Mapping[str, Any]) -> _Noun:
    if fixed := _FIXED & changes.keys():
        raise ValueError(f"not to be changed: {', '.join(sorted(fixed))}")
    return replace(noun, **changes)


def _tenant_row(tenant: Tenant) -> dict[str, Any]:
    return {"id": tenant.id, "tenant": _encoded(tenant), "created_ms": tenant.created_ms}


def _key_row(key: Key) -> dict[str, Any]:
    row = {"public": key.public, "tenant": key.tenant, "key": _encoded(key)}
    return {**row, "created_ms": key.created_ms}


def _encoded(noun: object) -> str:
    return msgspec.json.encode(plain(noun)).decode()


def _facts(noun: Tenant | Key) -> dict[str, Any]:
    """What the audit says of something new: never the digest."""
    return {name: value for name, value in plain(noun).items() if name not in ("id", "public", "digest")}


def _differences(before: Tenant | Key, after: Tenant | Key) -> dict[str, Any]:
    """Field → value before and after, of those that differ."""
    names = [field.name for field in dataclasses.fields(before)]
    pairs = {name: (getattr(before, name), getattr(after, name)) for name in names}
    return {name: [plain(old), plain(new)] for name, (old, new) in pairs.items() if old != new}
