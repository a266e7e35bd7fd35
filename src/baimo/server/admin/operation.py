"""What one operation of the admin API is, and who asks for it.

Prevents two failures: an operation that forgets to ask whose things it shows (everything goes through `Asking`, which
knows what its key may see), and another tenant's object that is told from one that does not exist.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

from baimo.core.rights import OWNER_NAME
from baimo.core.tenant import OWNER, ROLES, Key, Role, Tenant
from baimo.errors import Forbidden, NotFound, UsageError
from baimo.server.admin.reading import LONGEST_BODY
from baimo.store.audit import Actor
from baimo.workspace.accounting import Accounting, tenant_id
from baimo.workspace.bookkeeping import Bookkeeping
from baimo.workspace.serving import Service


@dataclass(frozen=True, slots=True, kw_only=True)
class Nothing:
    """Nothing is asked or answered."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation: its route, its check and its description follow from these facts."""

    method: Literal["GET", "POST", "PATCH", "DELETE"]
    path: str
    """`/api/keys/{key}`; what stands in braces is a field of `takes`."""
    role: Role
    """The least role that may."""
    owners: bool = False
    """Only for keys of the workspace itself, whatever their role."""
    takes: type[Any] = Nothing
    """Dataclass of what is asked: fields from the path; the rest from the query, or from the body of POST and PATCH."""
    gives: type[Any]
    """Dataclass of the answer; of one line where the answer is a stream."""
    does: Callable[[Asking, Any], Any]
    """Runs in a thread, or on the event loop if it is a coroutine function."""
    tag: str
    """Group of operations: the noun that it is about."""
    summary: str
    """Key of its one line in the catalogue; its last part is the operation's id."""
    status: int = 200
    """Of success."""
    media: tuple[str, ...] = ("application/json",)
    """Forms of the answer; the first is the usual one."""
    errors: tuple[int, ...] = ()
    """Statuses of refusals besides those that every operation has."""
    longest: int = LONGEST_BODY
    """Bytes of a body."""
    browser: bool = False
    """A page for people: the key may also come as the password of HTTP Basic."""

    @property
    def id(self) -> str:
        """`keys_create`."""
        return self.summary.partition(".")[2]


class Asking:
    """Who asks, and what there is to answer with."""

    def __init__(
        self,
        service: Service,
        key: Key,
        tenant: Tenant,
        request_id: str,
        accept: str = "",
        last_event: str = "",
    ) -> None:
        self.service = service
        self.key = key
        self.tenant = tenant
        self.request_id = request_id
        self.accept = accept
        """Forms of the answer that are wanted."""
        self.last_event = last_event
        """Last-Event-ID: where a stream that broke off is to go on."""

    @property
    def owner(self) -> bool:
        """Whether every tenant's things are shown."""
        return self.tenant.id == OWNER

    @property
    def actor(self) -> Actor:
        """For the audit."""
        return Actor(self.tenant.id, self.key.public)

    @property
    def accounting(self) -> Accounting:
        """Tenants and keys."""
        return self.service.workspace.accounting

    @property
    def books(self) -> Bookkeeping:
        """The ledger."""
        return self.service.workspace.bookkeeping

    def within(self, name: str | None) -> str | None:
        """The id of the tenant that is meant; None = all of them.

        Args:
            name: as people write it; None = whatever this key may see.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        if not self.owner:
            if name is not None and tenant_id(name) != self.tenant.id:
                raise NotFound("admin.no_tenant", field="/tenant")
            return self.tenant.id
        if name is None:
            return None
        return self.one_tenant(name).id

    def one_tenant(self, name: str) -> Tenant:
        """A tenant that this key may see.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        if name == OWNER or (not self.owner and tenant_id(name) != self.tenant.id):
            raise NotFound("admin.no_tenant", field="/tenant")
        try:
            return self.accounting.tenant(name)
        except NotFound:
            raise NotFound("admin.no_tenant", field="/tenant") from None

    def one_key(self, public: str) -> Key:
        """A key that this key may see, by its public part.

        Raises:
            NotFound: there is none, or it is somebody else's.
        """
        try:
            key = self.service.workspace.accounts.key(public)
        except (NotFound, UsageError):  # of labels it is not told whose they are
            raise NotFound("admin.no_key", field="/key") from None
        if key.public != public or not (self.owner or key.tenant == self.tenant.id):
            raise NotFound("admin.no_key", field="/key")
        return key

    @property
    def scope(self) -> str | None:
        """The name of the only tenant that is shown; None = all."""
        return None if self.owner else self.tenant.id or OWNER_NAME

    def may(self, operation: Operation) -> bool:
        """Whether this key's role and tenant suffice."""
        enough = ROLES.index(self.key.role) >= ROLES.index(operation.role)
        return enough and (self.owner or not operation.owners)

    def check(self, operation: Operation) -> None:
        """
        Raises:
            Forbidden: this key's role or tenant does not suffice.
        """
        if ROLES.index(self.key.role) < ROLES.index(operation.role):
            raise Forbidden("serve.role", key=self.key.public, role=self.key.role, wanted=operation.role)
        if operation.owners and not self.owner:
            raise Forbidden("admin.owners_only")
