"""Who may call, what for, and how much: tenants, their keys, and the limits on both.

Prevents two failures: a secret that can be read back out of the store (only its hash is kept), and a limit whose
unit nobody can tell: every limit names what it counts and over which calendar window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

DataClass = Literal["public", "internal", "confidential"]
"""public and internal may leave as far as the policy allows; confidential is answered inside or not at all."""
Role = Literal["app", "viewer", "reviewer", "engineer", "admin"]
"""app calls models and nothing else; each further role may do what those before it may."""
Counted = Literal["requests", "tokens", "cost", "concurrency"]
Window = Literal["minute", "hour", "day", "month", "total"]

ROLES: tuple[Role, ...] = ("app", "viewer", "reviewer", "engineer", "admin")
OWNER = ""
"""The tenant of the workspace itself: its admins see every tenant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """At most `amount` of something within one window."""

    counts: Counted
    """requests, tokens (prompt and answer), cost (money.currency), or concurrency (calls at once)."""
    amount: int
    """Requests, tokens, micro-units of money.currency, or calls."""
    window: Window = "total"
    """Calendar window in UTC; total = for ever; concurrency has none and takes total."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenant:
    """A department or customer: pays for its keys, sees its own data and nobody else's."""

    id: str
    """Short name, unique, [a-z0-9-]; empty = the workspace's owner."""
    title: str = ""
    """Name for people."""
    data_class: DataClass = "internal"
    """Of everything that its keys send, unless a key says more."""
    pii: Literal["off", "mask"] = "off"
    """mask: personal data is replaced before an outside call and put back in the answer."""
    keep_contents: bool = False
    """Opted in: prompts and answers are kept with their Records."""
    contents_days: int | None = None
    """Days that contents are kept; None = as configured."""
    cache: Literal["off", "on", "read", "write"] = "off"
    """Exact cache of answers, per tenant."""
    limits: tuple[Limit, ...] = ()
    """On all its keys together."""
    disabled: bool = False
    """Every key is refused."""
    created_ms: int = 0
    """Wall clock, milliseconds since 1970."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A credential `bm-<public>-<secret>`; the secret exists only where it was printed."""

    public: str = ""
    """12 characters that may appear in logs, Records and pages; empty until it is made."""
    digest: str = ""
    """SHA-256 of the secret, 64 hexadecimal digits; empty until it is made."""
    tenant: str = OWNER
    """Tenant.id that pays."""
    label: str = ""
    """What people call it."""
    role: Role = "app"
    """What it may do besides calling models."""
    models: tuple[str, ...] = ()
    """Patterns (`deepseek/*`) of models, aliases and routes that it may use; empty = all."""
    surfaces: tuple[str, ...] = ()
    """Surfaces that it may use: chat, messages, embeddings …; empty = all."""
    networks: tuple[str, ...] = ()
    """CIDR ranges that it may be used from; empty = anywhere."""
    data_class: DataClass | None = None
    """Stricter than the tenant's; None = the tenant's."""
    limits: tuple[Limit, ...] = ()
    """On this key."""
    tags: tuple[tuple[str, str], ...] = ()
    """Labels put on each of its Records."""
    created_ms: int = 0
    """Wall clock, milliseconds since 1970."""
    expires_ms: int | None = None
    """Refused from then on."""
    revoked_ms: int | None = None
    """Refused from then on."""
    rotated_to: str = ""
    """Public part of the key that replaces it; it stays valid until expires_ms."""
    counted_as: str = ""
    """Public part under which its limits are counted; empty = its own. A key that replaces another goes on with what
    that one has used, else rotating it would refill its budget."""

    @property
    def meter(self) -> str:
        """The name of its buckets: `key:<meter>:cost:month:2026-11`."""
        return self.counted_as or self.public
